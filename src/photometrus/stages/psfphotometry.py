"""PSF photometry: stars are fitted in groups, on images without all others."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy.ndimage import median_filter, zoom
from scipy.special import erf

from photometrus.frame import Image
from photometrus.groups import Batch, batches, friends
from photometrus.kernels.groupfit import (
    CHI2,
    DRAWN,
    ERROR,
    FLUX,
    HOLD,
    PIXELS,
    RADIUS,
    SPREAD,
    SPREAD_ERROR,
    X0,
    Y0,
    X,
    Y,
    draw_all,
    fit_groups,
    matched_fluxes,
    measure_groups,
)
from photometrus.pointspread import Psf
from photometrus.workers import Each

Array = NDArray[Any]
SATURATED = 4
"""Flag of a source."""
COLUMNS = 8
MEASURES = 6
SPREAD_SCALE = 1 / 16
"""The exponential disc to which `spread` refers has this scale length, in FWHM."""


@dataclass(frozen=True)
class PsfPhotometryConfig:
    """What may be tuned in PSF photometry."""

    radius_fwhm: tuple[float, float] = (1.5, 2.75)  # of the pixels fitted: faint, bright stars
    bright_snr: float = 100.0  # from here on a star's radius is the larger one
    link_fwhm: float = 1.5  # stars closer than this are fitted together
    max_group: int = 12  # stars
    sweeps: int = 5  # over all groups
    hold_fwhm: float = 0.15  # 1 sigma, how firmly faint stars are held where they were detected
    max_shift_fwhm: float = 0.5
    mesh_fwhm: float = 16.0  # cell in which the background between the stars is measured
    spread_floor: float = 0.002  # differences of PSF and stars that are not noise
    galaxy_spread: float = 0.03  # spreads of galaxies are taken as anything up to this


@dataclass(frozen=True, eq=False)
class Fit:
    """Stars as they were fitted, see `kernels.groupfit`; images less background and less stars."""

    stars: Array
    group: Array
    batches: list[list[Batch]]
    data: Image
    left: Image
    error: Array


def measure_psf(
    data: Image,
    weight: Image,
    sources: Table,
    psf: Psf,
    gain_e_per_adu: float,
    config: PsfPhotometryConfig = PsfPhotometryConfig(),
    each: Each = map,
) -> Table:
    """PSF fluxes of all sources, one row each, fitted simultaneously with their neighbours.

    data : float32 (ny, nx), ADU, sky subtracted; weight : float32, inverse variance, 0 = bad
    sources : x, y (0-based) and flags
    gain_e_per_adu : for photon noise; NaN or 0: none
    columns : flux_psf, flux_psf_err (ADU), psf_dx, psf_dy (pix), psf_chi2, spread, spread_err,
        stellarity, group; NaN where hardly a pixel of the core is good
    """
    x, y = np.asarray(sources["x"], float), np.asarray(sources["y"], float)
    weight = without_plateaus(data, weight, sources)
    fit = fit_stars(data, weight, x, y, psf, gain_e_per_adu, config, each)
    out = np.full((len(x), MEASURES), np.nan)
    measured(fit, weight, psf, out, each)
    stars = fit.stars
    # As many good pixels as the core's half, or the flux is a guess.
    core = 0.5 * np.pi * (0.5 * psf.fwhm_pix) ** 2
    lost = ~(out[:, PIXELS] >= max(core, 4))
    chi2 = out[:, CHI2] / single_pixel_variance(fit.left, weight)
    table = Table()
    table["flux_psf"] = np.where(lost, np.nan, stars[:, FLUX])
    table["flux_psf_err"] = np.where(lost, np.nan, out[:, ERROR])
    table["psf_dx"] = np.where(lost, np.nan, stars[:, X] - x)
    table["psf_dy"] = np.where(lost, np.nan, stars[:, Y] - y)
    table["psf_chi2"] = np.where(lost, np.nan, chi2)
    table["spread"] = np.where(lost, np.nan, out[:, SPREAD])
    table["spread_err"] = np.where(lost, np.nan, out[:, SPREAD_ERROR])
    table["stellarity"] = np.where(lost, np.nan, stellarity(out, config))
    table["group"] = fit.group
    return table


def subtract_stars(data: Image, sources: Table, psf: Psf) -> Image:
    """The image without its stars: float32 (ny, nx).

    sources : x, y, flux_psf; psf_dx, psf_dy where there are
    """
    stars = np.zeros((len(sources), COLUMNS))
    flux = np.asarray(sources["flux_psf"], float)
    for column, name, shift in ((X, "x", "psf_dx"), (Y, "y", "psf_dy")):
        moved = np.asarray(sources[shift], float) if shift in sources.colnames else 0.0
        stars[:, column] = np.asarray(sources[name], float) + np.nan_to_num(moved)
    stars[:, FLUX] = np.nan_to_num(flux)
    stars[:, DRAWN] = psf.half
    left = np.array(data, np.float32)
    draw_all(left, psf.cube, psf.step, psf.frame, stars, np.arange(len(stars)), -1.0)
    return left


def fit_stars(
    data: Image,
    weight: Image,
    x: Array,
    y: Array,
    psf: Psf,
    gain_e_per_adu: float,
    config: PsfPhotometryConfig,
    each: Each = map,
) -> Fit:
    """Fluxes and positions of all stars; in several sweeps, brighter stars first.

    A star whose core is without good pixels (saturated) is fitted farther out.
    """
    stars = np.zeros((len(x), COLUMNS))
    stars[:, X] = stars[:, X0] = x
    stars[:, Y] = stars[:, Y0] = y
    stars[:, HOLD] = 1 / (config.hold_fwhm * psf.fwhm_pix) ** 2
    radius = max(config.radius_fwhm[0] * psf.fwhm_pix, 2.0)
    blind = blind_radius(weight, x, y, psf.half)
    stars[:, RADIUS] = np.minimum(radius + blind, psf.half - 1)
    stars[:, DRAWN] = np.floor(stars[:, RADIUS]) + 1
    light = brightness(data, x, y)
    group = friends(x, y, config.link_fwhm * psf.fwhm_pix, config.max_group)
    tiles = batches(x, y, light, group, psf.half + 2.0)
    left = np.array(data, np.float32)
    data = left.copy()
    gain = gain_e_per_adu if np.isfinite(gain_e_per_adu) and gain_e_per_adu > 0 else np.inf
    error = np.array([gain, np.clip(psf.residual_rms, 0.002, 0.05)])
    profile = mean_profile(psf)
    known = weight[::7, ::7][weight[::7, ::7] > 0]
    noise = 1 / np.sqrt(np.median(known)) if known.size else 1.0
    limits = np.array([0.1 * noise, 0.3, config.max_shift_fwhm * psf.fwhm_pix])

    def step(batch: Batch) -> None:
        fit_groups(
            data,
            left,
            weight,
            psf.cube,
            psf.step,
            psf.frame,
            stars,
            batch.starts,
            batch.members,
            error,
            profile,
            limits,
        )

    for sweep in range(config.sweeps):
        for colour in tiles:
            list(each(step, colour))
        if sweep == 0:
            area = psf.noise_area(psf.frame[0], psf.frame[1])
            snr = stars[:, FLUX] / (noise * np.sqrt(area))
            radius = np.interp(snr, (0, config.bright_snr), config.radius_fwhm) * psf.fwhm_pix
            stars[:, RADIUS] = np.minimum(np.maximum(radius, 2.0) + blind, psf.half - 1)
        if sweep == 1:
            level = between_stars(left, weight, config.mesh_fwhm * psf.fwhm_pix)
            data -= level
            left -= level
    return Fit(stars, group, tiles, data, left, error)


def measured(fit: Fit, weight: Image, psf: Psf, out: Array, each: Each = map) -> None:
    """Fill out (n, 6) with errors, chi^2 and spreads of fitted stars."""
    blur = 3 * (SPREAD_SCALE * psf.fwhm_pix) ** 2

    def measure(batch: Batch) -> None:
        measure_groups(
            fit.data,
            fit.left,
            weight,
            psf.cube,
            psf.step,
            psf.frame,
            fit.stars,
            batch.starts,
            batch.members,
            fit.error,
            blur,
            out,
        )

    for colour in fit.batches:
        list(each(measure, colour))


def brightness(data: Image, x: Array, y: Array) -> Array:
    """The sum of the nine pixels around each position."""
    ny, nx = data.shape
    column = np.clip(np.floor(x + 0.5).astype(int), 1, nx - 2)
    row = np.clip(np.floor(y + 0.5).astype(int), 1, ny - 2)
    block = [data[row + b, column + a] for b in (-1, 0, 1) for a in (-1, 0, 1)]
    result: Array = np.sum(block, axis=0, dtype=float)
    return result


def mean_profile(psf: Psf) -> Array:
    """The PSF's mean brightness at 0, 1, 2 ... `half` pixels from its middle."""
    image = psf.stamp(float(np.round(psf.frame[0])), float(np.round(psf.frame[1])))
    axis = np.arange(-psf.half, psf.half + 1)
    distance = np.floor(np.hypot(axis[:, None], axis[None, :]) + 0.5).astype(int).ravel()
    sums = np.bincount(distance, np.abs(image.ravel()).astype(float))
    result: Array = (sums / np.bincount(distance))[: psf.half + 1]
    return result


def blind_radius(weight: Image, x: Array, y: Array, most: int) -> Array:
    """Radius around each position within which most pixels are bad: 0 for usual stars."""
    ny, nx = weight.shape
    radius = np.zeros(len(x))
    column = np.clip(np.floor(x + 0.5).astype(int), 0, nx - 1)
    row = np.clip(np.floor(y + 0.5).astype(int), 0, ny - 1)
    axis = np.arange(-most, most + 1)
    distance = np.hypot(axis[:, None], axis[None, :])
    for k in np.flatnonzero(weight[row, column] <= 0):
        for r in range(1, most):
            b, a = np.nonzero((distance > r - 1) & (distance <= r))
            rows, columns = row[k] + b - most, column[k] + a - most
            inside = (rows >= 0) & (columns >= 0) & (rows < ny) & (columns < nx)
            bad = weight[rows[inside], columns[inside]] <= 0
            if np.count_nonzero(bad) < 0.5 * max(len(bad), 1):
                break
            radius[k] = r
    return radius


def without_plateaus(data: Image, weight: Image, sources: Table) -> Image:
    """Weights without saturated cores: where a saturated source is flat, its top says nothing."""
    saturated = np.flatnonzero(np.asarray(sources["flags"]) & SATURATED)
    if not len(saturated):
        return weight
    weight = weight.copy()
    for k in saturated:
        x, y = int(sources["x"][k] + 0.5), int(sources["y"][k] + 0.5)
        part = np.s_[max(0, y - 15) : y + 16, max(0, x - 15) : x + 16]
        if not data[part].size:
            continue
        top = data[part] > 0.8 * data[max(0, y - 3) : y + 4, max(0, x - 3) : x + 4].max(initial=0)
        # A star's top is one or a few pixels, and seen in some frames at least.
        if np.count_nonzero(top) > 9:
            weight[part][top] = 0
    return weight


def between_stars(left: Image, weight: Image, side: float) -> Image:
    """The level of an image without its stars: medians of cells, smooth: float32 (ny, nx)."""
    ny, nx = left.shape
    cell = max(int(side), 16)
    rows, columns = max(ny // cell, 1), max(nx // cell, 1)
    level = np.zeros((rows, columns))
    for j in range(rows):
        for i in range(columns):
            part = np.s_[
                j * ny // rows : (j + 1) * ny // rows : 2,
                i * nx // columns : (i + 1) * nx // columns : 2,
            ]
            values = left[part][weight[part] > 0]
            level[j, i] = np.median(values) if values.size > 50 else 0.0
    level = median_filter(level, 3, mode="nearest")
    smooth: Image = zoom(
        level, (ny / rows, nx / columns), np.float32, order=1, mode="nearest", grid_mode=True
    )
    return smooth


def single_pixel_variance(left: Image, weight: Image) -> float:
    """Of pixels without stars, in units of what their weights say."""
    part = np.s_[::5, ::5]
    good = weight[part] > 0
    if not good.any():
        return 1.0
    pulls = left[part][good] * np.sqrt(weight[part][good])
    return max(float((1.4826 * np.median(np.abs(pulls - np.median(pulls)))) ** 2), 1e-6)


def stellarity(measures: Array, config: PsfPhotometryConfig) -> Array:
    """The probability that a source is a star, by its spread; as many galaxies as stars assumed."""
    spread = measures[:, SPREAD]
    error = np.hypot(measures[:, SPREAD_ERROR], config.spread_floor)
    error = np.where(np.isfinite(error), error, 1e6)
    star = np.exp(-0.5 * (spread / error) ** 2) / (np.sqrt(2 * np.pi) * error)
    top = (config.galaxy_spread - spread) / error
    galaxy = 0.5 * (erf(top / np.sqrt(2)) + erf(spread / error / np.sqrt(2))) / config.galaxy_spread
    galaxy = np.where(spread > config.galaxy_spread, 1 / config.galaxy_spread, galaxy)
    result: Array = star / np.maximum(star + galaxy, 1e-300)
    return result


def psf_noise_factor(
    left: Image, weight: Image, mask: Array, psf: Psf, positions: int = 4000
) -> float:
    """How much a faint star's flux scatters, relative to its formal error; NaN without room.

    left : float32 (ny, nx), an image less its stars; mask : bool, True where sources are
    The PSF is fitted at random places without sources. Noise that the resampling correlates is in
    it as it is in the stars.
    """
    ny, nx = left.shape
    draw = np.random.default_rng(20240825)
    half = int(1.5 * psf.fwhm_pix) + 1
    x = draw.uniform(half, nx - half - 1, 8 * positions)
    y = draw.uniform(half, ny - half - 1, 8 * positions)
    hidden = mask[np.floor(y + 0.5).astype(int), np.floor(x + 0.5).astype(int)]
    x, y = x[~hidden][:positions], y[~hidden][:positions]
    out = np.empty((len(x), 2))
    radius = 1.5 * psf.fwhm_pix
    matched_fluxes(left, weight, psf.cube, psf.step, psf.frame, x, y, radius, out)
    pulls = (out[:, 0] / out[:, 1])[np.isfinite(out[:, 0])]
    if len(pulls) < 50:
        return float("nan")
    low, high = np.percentile(pulls, [15.865, 84.135])
    return float(0.5 * (high - low))
