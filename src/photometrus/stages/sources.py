"""Stars of one frame: found with a matched filter, measured with windowed moments."""

from dataclasses import dataclass

import numpy as np
from astropy.table import Table

from photometrus.frame import EXTENDED, ON_BAD, Flags, Image
from photometrus.instrument import GAIN_E_PER_ADU
from photometrus.kernels.detect import measure_peaks, peaks, smooth


@dataclass(frozen=True)
class SourcesConfig:
    """What may be tuned in the finding of stars."""

    threshold_sigma: float = 5.0  # of the filtered image
    filter_fwhm_pix: float = 3.0
    max_sources: int = 120_000
    max_sharpness: float = 0.80  # above: a hot pixel or a cosmic ray
    max_extent: float = 1.8  # of a star's major axis, from which a source is flagged as extended
    max_on_bad: float = 0.05  # share of a star's weight on bad pixels from which it is flagged
    border_pix: int = 6


def find_sources(
    data: Image, bad: Flags, noise: float, reads: int, config: SourcesConfig = SourcesConfig()
) -> Table:
    """Stars and other small things of a sky-subtracted frame.

    data : float32 (ny, nx), ADU per frame, finite (bad pixels filled); bad : uint8 flags
    noise : scatter of a sky pixel, ADU; reads : frames in the ramp, for the photon noise
    returns a table, brightest first: x, y (0-based pixels), x_err (pixels, per axis), flux,
    flux_err (ADU), fwhm_pix, ellipticity, angle_deg, snr, flags (ON_BAD: its core is on bad
    pixels; EXTENDED: it is no star)
    """
    sigma = config.filter_fwhm_pix / 2.3548
    reach = int(np.ceil(3 * sigma))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2).astype(np.float32)
    taps /= taps.sum()
    smoothed = np.empty_like(data)
    smooth(data, taps, smoothed)
    sample = smoothed[3::11, 2::7]
    sample = sample[np.isfinite(sample)]
    smooth_noise = 1.4826 * float(np.median(np.abs(sample - np.median(sample))))
    ys = np.empty(config.max_sources, np.int32)
    xs = np.empty(config.max_sources, np.int32)
    level, height = float(np.median(sample)), config.threshold_sigma * smooth_noise
    n = peaks(smoothed, np.float32(level + height), config.border_pix, ys, xs)
    while n == config.max_sources:
        # Too many: the faintest are left out, not the last rows.
        height *= 1.2
        n = peaks(smoothed, np.float32(level + height), config.border_pix, ys, xs)
    ys, xs = ys[:n], xs[:n]
    # A slope per frame averages over the ramp: its electrons are those of all reads.
    gain = GAIN_E_PER_ADU * max(1, reads - 1)

    def measure(sigma: float, radius: float, ys, xs) -> np.ndarray:
        out = np.empty((ys.size, 10))
        measure_peaks(data, bad, ys, xs, sigma, radius, noise, gain, out)
        return out

    order = np.argsort(-smoothed[ys, xs])
    bright = order[:600]
    first = measure(2.0, 6.0, ys[bright], xs[bright])
    fwhm = _seeing(first, config)
    if not np.isfinite(fwhm):
        fwhm = config.filter_fwhm_pix
    measured = measure(fwhm / 2.3548, 2.0 * fwhm, ys[order], xs[order])
    x, y, x_err, flux, flux_err, major, minor, angle, sharp, on_bad = measured.T
    with np.errstate(invalid="ignore", divide="ignore"):
        fwhm_pix = 2.3548 * np.sqrt(0.5 * (major**2 + minor**2))
        keep = (flux > 3 * flux_err) & (sharp < config.max_sharpness) & np.isfinite(x_err)
        # Longer than any star of this frame: a satellite's trail, a galaxy, a saturated star.
        # In a trailed frame nothing is round, and nothing is longer than its stars.
        stars = major[_round(measured, config)][:300]
        extended = (
            ~(major < config.max_extent * np.median(stars)) if stars.size else np.zeros(n, bool)
        )
        # Narrower than any star of this frame: what a cosmic ray leaves.
        keep &= ~(fwhm_pix < 0.55 * fwhm)
        table = Table(
            {
                "x": x,
                "y": y,
                "x_err": x_err,
                "flux": flux,
                "flux_err": flux_err,
                "fwhm_pix": np.nan_to_num(fwhm_pix, nan=0.0),
                "ellipticity": np.nan_to_num(1 - minor / major, nan=0.0),
                "angle_deg": np.degrees(angle),
                "snr": flux / flux_err,
                "flags": (on_bad > config.max_on_bad) * ON_BAD + extended * EXTENDED,
            }
        )[keep]
    table.sort("flux", reverse=True)
    return table


def _round(measured: np.ndarray, config: SourcesConfig) -> np.ndarray:
    """Which measured peaks are clean and not long: neither bad pixels nor a satellite's trail."""
    major, minor = measured[:, 5], measured[:, 6]
    with np.errstate(invalid="ignore"):
        return (
            (measured[:, 9] <= config.max_on_bad)
            & (measured[:, 8] < config.max_sharpness)
            & (minor > 0.5 * major)
            & (minor > 0.5)
        )


def _seeing(measured: np.ndarray, config: SourcesConfig) -> float:
    """Median FWHM, pixels, of clean bright peaks; NaN without any."""
    major, minor = measured[_round(measured, config)][:, 5:7].T
    return float(np.median(2.3548 * np.sqrt(0.5 * (major**2 + minor**2)))) if major.size else np.nan


def seeing_and_ellipticity(table: Table) -> tuple[float, float]:
    """Median FWHM in pixels, and the ellipticity that all stars share, of a frame's good stars.

    The shared ellipticity is the length of the mean (e cos 2t, e sin 2t): noise and galaxies,
    which point anywhere, average out; a trailed frame does not.
    """
    good = (table["flags"] == 0) & (table["snr"] > 30) & (table["fwhm_pix"] > 0)
    stars = table[good][:2000]
    if len(stars) < 5:
        stars = table[table["fwhm_pix"] > 0][:50]
    if len(stars) == 0:
        return float("nan"), float("nan")
    twice = np.radians(2 * np.asarray(stars["angle_deg"]))
    e = np.asarray(stars["ellipticity"])
    shared = np.hypot(np.median(e * np.cos(twice)), np.median(e * np.sin(twice)))
    return float(np.median(stars["fwhm_pix"])), float(shared)
