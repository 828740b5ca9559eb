"""PSF photometry: stars are fitted in groups, on images without all others."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy.special import erf

from photometrus.frame import Image
from photometrus.kernels.groupfit import (
    CHI2,
    DRAWN,
    ERROR,
    FLUX,
    PIXELS,
    SKY_ERROR,
    SPREAD,
    SPREAD_ERROR,
    X,
    Y,
    draw_all,
    matched_fluxes,
)
from photometrus.pointspread import Psf
from photometrus.sourcetable import SourceFlag, flagged
from photometrus.starfit import COLUMNS, FitConfig, StarFit, single_pixel_variance
from photometrus.workers import Each

Array = NDArray[Any]
SAME_FWHM = 0.5
"""A neighbour closer than this to a forced position is what is to be measured there."""


@dataclass(frozen=True)
class PsfPhotometryConfig(FitConfig):
    """What may be tuned in PSF photometry."""

    mesh_fwhm: float = 16.0  # cell in which the background between the stars is measured
    spread_floor: float = 0.002  # differences of PSF and stars that are not noise
    galaxy_spread: float = 0.03  # spreads of galaxies are taken as anything up to this
    annulus_fwhm: tuple[float, float] = (2.5, 6.0)  # around a forced position: its background


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
    sources : x, y (0-based) and flags; a saturated one is fitted by its wings
    gain_e_per_adu : for photon noise; NaN or 0: none
    columns : flux_psf, flux_psf_err (ADU), psf_dx, psf_dy (pix), psf_chi2, spread, spread_err,
        stellarity, group; NaN where hardly a pixel of the core is good
    """
    x, y = np.asarray(sources["x"], float), np.asarray(sources["y"], float)
    fit = StarFit(data, without_plateaus(data, weight, sources), x, y, psf, gain_e_per_adu, config)
    fit.run(config.mesh_fwhm, each)
    out = fit.measures(each)
    # As many good pixels as the core's half, or the flux is a guess.
    core = 0.5 * np.pi * (0.5 * psf.fwhm_pix) ** 2
    lost = ~(out[:, PIXELS] >= max(core, 4))
    out[lost] = fit.stars[lost] = np.nan
    columns = {
        "flux_psf": fit.stars[:, FLUX],
        "flux_psf_err": out[:, ERROR],
        "psf_dx": fit.stars[:, X] - x,
        "psf_dy": fit.stars[:, Y] - y,
        "psf_chi2": out[:, CHI2] / single_pixel_variance(fit.left, fit.weight),
        "spread": out[:, SPREAD],
        "spread_err": out[:, SPREAD_ERROR],
        "stellarity": stellarity(out, config),
        "group": fit.group,
    }
    return Table(columns)


def force_psf(
    data: Image,
    weight: Image,
    positions: tuple[Array, Array],
    psf: Psf,
    gain_e_per_adu: float,
    neighbours: Table | None = None,
    config: PsfPhotometryConfig = PsfPhotometryConfig(),
) -> Table:
    """The flux at exact positions, whether or not there is a star.

    positions : x, y (0-based), float (n,); they do not move
    neighbours : sources (x, y), fitted simultaneously; those at a position itself are left out
    columns : x, y, flux_psf (may be negative), flux_psf_err (with that of the background),
        background (ADU per pixel, taken away), psf_chi2; NaN without good pixels
    """
    xs, ys = (np.atleast_1d(np.asarray(p, float)) for p in positions)
    near_x = np.empty(0) if neighbours is None else np.asarray(neighbours["x"], float)
    near_y = np.empty(0) if neighbours is None else np.asarray(neighbours["y"], float)
    for a, b in zip(xs, ys, strict=True):
        other = np.hypot(near_x - a, near_y - b) > SAME_FWHM * psf.fwhm_pix
        near_x, near_y = near_x[other], near_y[other]
    rows = [
        _forced(data, weight, (k, xs, ys), (near_x, near_y), psf, gain_e_per_adu, config)
        for k in range(len(xs))
    ]
    values = np.array(rows).reshape(-1, 4)
    names = ("flux_psf", "flux_psf_err", "background", "psf_chi2")
    return Table({"x": xs, "y": ys} | {n: values[:, k] for k, n in enumerate(names)})


def _forced(
    data: Image,
    weight: Image,
    target: tuple[int, Array, Array],
    near: tuple[Array, Array],
    psf: Psf,
    gain_e_per_adu: float,
    config: PsfPhotometryConfig,
) -> tuple[float, float, float, float]:
    """One of the positions, on the part of the image around it."""
    nothing = (np.nan, np.nan, np.nan, np.nan)
    k, xs, ys = target
    reach = int(config.annulus_fwhm[1] * psf.fwhm_pix + psf.half) + 2
    if not (-1 < xs[k] < data.shape[1] and -1 < ys[k] < data.shape[0]):
        return nothing
    x0, y0 = max(0, int(xs[k]) - reach), max(0, int(ys[k]) - reach)
    part = np.s_[y0 : int(ys[k]) + reach + 1, x0 : int(xs[k]) + reach + 1]
    # The target first, other positions, neighbours.
    order = np.r_[k, np.delete(np.arange(len(xs)), k)]
    x = np.concatenate([xs[order], near[0]]) - x0
    y = np.concatenate([ys[order], near[1]]) - y0
    inside = (np.abs(x - x[0]) <= reach) & (np.abs(y - y[0]) <= reach)
    here = psf.moved(x0, y0)
    fit = StarFit(
        data[part],
        np.ascontiguousarray(weight[part]),
        x[inside],
        y[inside],
        here,
        gain_e_per_adu,
        config,
    )
    fit.hold(np.arange(np.count_nonzero(inside[: len(xs)])))
    fit.run()
    row, column = np.indices(fit.left.shape)
    distance = np.hypot(column - x[0], row - y[0]) / psf.fwhm_pix
    inner, outer = config.annulus_fwhm
    ring = (distance > inner) & (distance < outer) & (fit.weight > 0)
    background, background_error = 0.0, 0.0
    if np.count_nonzero(ring) > 20:
        values = fit.left[ring]
        background = float(np.median(values))
        scatter = 1.4826 * float(np.median(np.abs(values - background)))
        # A median is noisier than a mean, by sqrt(pi / 2).
        background_error = 1.2533 * scatter / np.sqrt(np.count_nonzero(ring))
        fit.lower(np.full((1, 1), background, np.float32), max(fit.left.shape))
        fit.sweep(config.sweeps)
    out = fit.measures()[0]
    if not out[PIXELS] >= 4:
        return nothing
    error = float(np.hypot(out[ERROR], background_error * out[SKY_ERROR]))
    chi2 = float(out[CHI2] / single_pixel_variance(fit.left, fit.weight))
    return float(fit.stars[0, FLUX]), error, background, chi2


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


def matched(
    left: Image,
    weight: Image,
    places: tuple[Array, ...],
    psf: Psf,
    config: PsfPhotometryConfig = PsfPhotometryConfig(),
) -> tuple[Array, Array]:
    """The PSF's flux at places of an image without stars, and its formal error: float64 (n,), ADU.

    left : float32 (ny, nx), an image less its stars; places : x, y, 0-based, they do not move
    Where there is hardly a good pixel both are NaN.
    """
    x, y = places
    out = np.empty((len(x), 2))
    radius = config.radius_fwhm[0] * psf.fwhm_pix
    matched_fluxes(left, weight, psf.cube, psf.step, psf.frame, x, y, radius, out)
    return out[:, 0], out[:, 1]


def psf_noise_factor(
    left: Image,
    weight: Image,
    mask: Array,
    psf: Psf,
    positions: int = 4000,
    config: PsfPhotometryConfig = PsfPhotometryConfig(),
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
    flux, error = matched(left, weight, (x, y), psf, config)
    pulls = (flux / error)[np.isfinite(flux)]
    if len(pulls) < 50:
        return float("nan")
    low, high = np.percentile(pulls, [15.865, 84.135])
    return float(0.5 * (high - low))


def without_plateaus(data: Image, weight: Image, sources: Table) -> Image:
    """Weights without saturated cores: where a saturated source is flat, its top says nothing."""
    saturated = np.flatnonzero(flagged(sources, SourceFlag.SATURATED))
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
