"""Fluxes in apertures, corrected to the total light of a star: circles and Kron's ellipse."""

from dataclasses import dataclass

import numpy as np
from astropy.table import Table

from photometrus.frame import Image, Stack
from photometrus.kernels.apertures import circle_sums, kron
from photometrus.sourcetable import SourceFlag
from photometrus.stages.detection import Detections
from photometrus.stages.growth import GrowthCurve
from photometrus.stages.noise import Noise
from photometrus.wcs import pixel_scale_arcsec
from photometrus.workers import Each

PART = 500
"""Sources measured in one go of a thread."""
MAX_REPLACED = 0.1
"""Share of AUTO's ellipse on neighbours from which they may bias it (SExtractor's 10 %)."""


@dataclass(frozen=True)
class AperturesConfig:
    """What may be tuned in aperture photometry."""

    diameters_arcsec: tuple[float, ...] = (1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)
    main_arcsec: float = 2.5  # diameter of the aperture that is published
    least_radius_pix: float = 1.8  # of it: in less, flux depends on where in a pixel a star is
    kron_factor: float = 2.5  # AUTO's ellipse in units of Kron's first moment
    kron_least: float = 3.5  # its least size in units of a source's rms


def aperture_radii(stack: Stack, config: AperturesConfig = AperturesConfig()) -> Image:
    """Radii of the apertures, pixels, increasing: also the growth curve's nodes."""
    scale = pixel_scale_arcsec(stack.wcs)
    return 0.5 * _diameters(config) / scale


def _diameters(config: AperturesConfig) -> Image:
    return np.unique([*config.diameters_arcsec, config.main_arcsec])


def published(diameters: Image, radii: Image, config: AperturesConfig = AperturesConfig()) -> int:
    """Which of the apertures is published: the main one, or the first that is wide enough."""
    enough = (diameters >= config.main_arcsec) & (radii >= config.least_radius_pix)
    return int(np.argmax(enough)) if enough.any() else len(radii) - 1


def measure_apertures(
    found: Detections,
    growth: GrowthCurve,
    noise: Noise,
    config: AperturesConfig = AperturesConfig(),
    each: Each = map,
) -> Table:
    """The table of sources with AUTO, the apertures, Kron radii and half-light radii.

    All fluxes are total fluxes of a star in ADU: what the growth curve says lies outside is added.
    Errors hold the sky's true noise, the source's photons and the growth curve's own error.
    """
    diameters, radii = _diameters(config), aperture_radii(found.stack, config)
    table = found.table.copy()
    x, y = (np.asarray(table[name], float) for name in ("x", "y"))
    sums, variances, _ = sum_circles(found, x, y, radii, each)
    ellipse = _kron(found, config, each)
    size, flux, variance, half_light, foreign = ellipse.T
    wide = size * np.sqrt(np.asarray(table["a"]) * np.asarray(table["b"]))
    total, error = _total(
        found,
        growth,
        noise,
        np.column_stack([sums, flux]),
        np.column_stack([variances, variance]),
        np.column_stack([np.broadcast_to(radii, sums.shape), wide]),
    )
    main = published(diameters, radii, config)
    flags = np.asarray(table["flags"]).copy()
    flags |= np.where(
        foreign > MAX_REPLACED * np.pi * wide**2, SourceFlag.NEIGHBOURS.value, 0
    ).astype(np.int32)
    table["flags"] = flags
    table["kron_radius"] = size * np.asarray(table["a"])
    table["flux_radius"] = np.where(np.isfinite(half_light), half_light, 0.0)
    for name, value in (("", total), ("_err", error)):
        table[f"flux_auto{name}"] = value[:, -1]
        table[f"flux_aper{name}"] = value[:, main]
        table[f"flux_apers{name}"] = value[:, :-1]
    table.meta["aper_diameters_arcsec"] = [float(d) for d in diameters]
    return table


def sum_circles(
    found: Detections, x: Image, y: Image, radii: Image, each: Each = map
) -> tuple[Image, Image, Image]:
    """Sums over circles about the sources, of 1 / weight, areas replaced: float64 (n, m) each."""
    sums, variances, replaced = np.empty((3, x.size, radii.size))
    numbers = np.asarray(found.table["number"], np.int32)

    def part(these: slice) -> None:
        circle_sums(
            found.stack.data,
            found.stack.weight,
            found.segments,
            x[these],
            y[these],
            numbers[these],
            radii,
            sums[these],
            variances[these],
            replaced[these],
        )

    list(each(part, [slice(k, k + PART) for k in range(0, x.size, PART)]))
    return sums, variances, replaced


def _kron(found: Detections, config: AperturesConfig, each: Each) -> Image:
    table = found.table
    columns = [np.asarray(table[name], float) for name in ("x", "y", "a", "b", "theta_deg")]
    columns[4] = np.radians(columns[4])
    numbers = np.asarray(table["number"], np.int32)
    out = np.empty((len(table), 5))

    def part(these: slice) -> None:
        x, y, a, b, theta = (column[these] for column in columns)
        kron(
            found.stack.data,
            found.stack.weight,
            found.segments,
            x,
            y,
            numbers[these],
            a,
            b,
            theta,
            config.kron_factor,
            config.kron_least,
            out[these],
        )

    list(each(part, [slice(k, k + PART) for k in range(0, len(table), PART)]))
    return out


def _total(
    found: Detections,
    growth: GrowthCurve,
    noise: Noise,
    sums: Image,
    variances: Image,
    radii: Image,
) -> tuple[Image, Image]:
    """Total fluxes and errors, (n, m), of sums over circles, variances and radii (pixels)."""
    x = np.asarray(found.table["x"], float) + found.corner[0]
    y = np.asarray(found.table["y"], float) + found.corner[1]
    gain = found.stack.info.gain_e_per_adu
    fraction, fraction_err = growth.fraction(x, y, radii)
    sky = variances * noise.factor(radii, x[:, None], y[:, None]) ** 2
    photons = np.maximum(sums, 0.0) / gain if gain > 0 else 0.0
    total = sums / fraction
    return total, np.sqrt((sky + photons) / fraction**2 + (total * fraction_err / fraction) ** 2)
