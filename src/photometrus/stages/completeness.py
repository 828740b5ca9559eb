"""What is found of stars that are put in: the check of detection, fluxes, errors and limits.

Stars of known flux are added to tiles of the stack at random places, far enough from each other not
to matter, and the tiles go through the same detection and measurement as the stack itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from astropy.table import Table, vstack
from scipy.spatial import cKDTree
from scipy.special import log_ndtr

from photometrus.errors import UsageError
from photometrus.frame import Image, Stack
from photometrus.workers import Each

LEAST_SEEN = 0.5
"""A tile is used when that share of it has a weight."""


class Star(Protocol):
    """A star's image, wherever it is in the stack."""

    @property
    def fwhm_pix(self) -> float:
        """Its width."""
        ...

    def stamp(self, x: float, y: float, half: int) -> Image:
        """Float32 (2 half + 1, 2 half + 1), of sum 1, about the pixel nearest to x, y."""
        ...


Measure = Callable[[Stack, tuple[int, int]], Table]
"""Finds and measures a tile, whose corner (x, y) in the stack is given: columns x, y (in the tile),
flux, flux_err (total light, ADU)."""


@dataclass(frozen=True)
class CompletenessConfig:
    """What may be tuned in injecting stars."""

    factors: tuple[float, ...] = (0.4, 0.6, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 2.0, 4.0)  # of the limit
    n_sigma: float = 5.0  # from which a star counts as recovered
    stars: int = 3000  # about so many, as long as there are tiles for them
    tile_pix: int = 640
    spacing_fwhm: float = 12.0  # between injected stars; never less than 0.6 of it
    half_fwhm: float = 5.0  # of a star's image
    match_fwhm: float = 0.75  # a star is recovered within that
    seed: int = 1


@dataclass(frozen=True, eq=False)
class Completeness:
    """What became of the injected stars.

    fluxes : float64 (m,), ADU, injected; injected, recovered : int (m,), stars
    half_flux, half_flux_err : where half are recovered, ADU; NaN when that was not reached
    width : of the curve, ADU: one sigma of a Gaussian's integral
    reached : share that is recovered of stars of any flux: what bright ones do not hide
    bias, bias_err : float64 (m,), mean of (flux - injected) / error of those that were found
    pull_width : float64 (m,), scatter of the same
    stars : table of all: x, y, flux_in, found, flux, flux_err, recovered
    """

    fluxes: Image
    injected: Image
    recovered: Image
    half_flux: float
    half_flux_err: float
    width: float
    reached: float
    bias: Image
    bias_err: Image
    pull_width: Image
    stars: Table

    @property
    def fraction(self) -> Image:
        """Share of the stars of each flux that is recovered."""
        return self.recovered / np.maximum(self.injected, 1)


def inject(
    stack: Stack,
    known: Table,
    psf: Star,
    limit_adu: float,
    measure: Measure,
    config: CompletenessConfig = CompletenessConfig(),
    each: Each = map,
) -> Completeness:
    """Put stars into tiles of a stack, find and measure them as everything else.

    stack : as it is detected on, with true weights; known : what `measure` finds in it, with
    x, y, flux, flux_err: a star that falls on another is recovered when it adds `n_sigma` to it
    limit_adu : the flux of which half shall be recovered
    Raises UsageError when no tile of the stack has weights.
    """
    rs = np.random.RandomState(config.seed)
    spacing = config.spacing_fwhm * psf.fwhm_pix
    corners = _tiles(stack, config, rs)
    per_tile = max(1, int((min(config.tile_pix, *stack.data.shape) / spacing) ** 2))
    corners = corners[: max(1, -(-config.stars // per_tile))]
    if not corners:
        raise UsageError(
            f"{stack.info.name}: no tile of it has weights; nothing to inject stars into"
        )
    seeds = rs.randint(0, 2**31 - 1, len(corners))

    def tile(job: tuple[tuple[int, int], int]) -> Table:
        return _one_tile(stack, known, psf, limit_adu, measure, config, job)

    stars = vstack(
        list(each(tile, list(zip(corners, seeds, strict=True)))), metadata_conflicts="silent"
    )
    return _summary(stars, limit_adu * np.asarray(config.factors))


def _tiles(
    stack: Stack, config: CompletenessConfig, rs: np.random.RandomState
) -> list[tuple[int, int]]:
    """Corners (x, y) of tiles with weights, in random order."""
    ny, nx = stack.data.shape
    side = config.tile_pix
    ys, xs = (max(1, n // side) for n in (ny, nx))
    corners = []
    for k in rs.permutation(ys * xs):
        j, i = divmod(int(k), xs)
        x, y = i * max(0, nx - side) // max(1, xs - 1), j * max(0, ny - side) // max(1, ys - 1)
        part = stack.weight[y : y + side : 4, x : x + side : 4]
        if np.count_nonzero(part) >= LEAST_SEEN * part.size:
            corners.append((x, y))
    return corners


def _one_tile(
    stack: Stack,
    known: Table,
    psf: Star,
    limit_adu: float,
    measure: Measure,
    config: CompletenessConfig,
    job: tuple[tuple[int, int], int],
) -> Table:
    """What became of one tile's stars."""
    corner, seed = job
    rs = np.random.RandomState(seed)
    before = cut(stack, corner, config.tile_pix)
    half = int(np.ceil(config.half_fwhm * psf.fwhm_pix))
    x, y = _places(before.data.shape, config.spacing_fwhm * psf.fwhm_pix, half // 2, rs)
    seen = before.weight[np.rint(y).astype(int), np.rint(x).astype(int)] > 0
    x, y = x[seen], y[seen]
    flux = limit_adu * rs.permutation(np.resize(config.factors, x.size))
    data = before.data.copy()
    for star in zip(x, y, flux, strict=True):
        _add(data, before.weight, psf, star, (corner, half, stack.info.gain_e_per_adu, rs))
    after = Stack(data, before.weight, before.flags, before.wcs, before.info)
    reach = config.match_fwhm * psf.fwhm_pix
    value, error, found = _nearest(measure(after, corner), x, y, reach)
    was, _, _ = _nearest(known, x + corner[0], y + corner[1], reach)
    with np.errstate(divide="ignore", invalid="ignore"):
        recovered = found & ((value - was) / error >= config.n_sigma)
    return Table(
        {
            "x": x + corner[0],
            "y": y + corner[1],
            "flux_in": flux,
            "found": found & (was == 0),
            "flux": value - was,
            "flux_err": error,
            "recovered": recovered,
        }
    )


def cut(stack: Stack, corner: tuple[int, int], side: int) -> Stack:
    """A square part of a stack; corner : x, y of its first pixel."""
    x, y = corner
    part = np.s_[y : y + side, x : x + side]
    return Stack(
        np.ascontiguousarray(stack.data[part]),
        np.ascontiguousarray(stack.weight[part]),
        np.ascontiguousarray(stack.flags[part]),
        stack.wcs[part],
        stack.info,
    )


def _places(
    shape: tuple[int, int], spacing: float, border: int, rs: np.random.RandomState
) -> tuple[Image, Image]:
    """Random places on a lattice itself shifted at random, never closer than 0.6 spacing."""
    ny, nx = shape
    first = border + rs.uniform(0, 0.2 * spacing, 2)
    gx = np.arange(first[0] + 0.2 * spacing, nx - border - 0.2 * spacing, spacing)
    gy = np.arange(first[1] + 0.2 * spacing, ny - border - 0.2 * spacing, spacing)
    x, y = (grid.ravel() for grid in np.meshgrid(gx, gy))
    dx, dy = rs.uniform(-0.2, 0.2, (2, x.size)) * spacing
    return x + dx, y + dy


def _add(data: Image, weight: Image, psf: Star, star: Any, how: Any) -> None:
    """Add one star (x, y, flux) with its photon noise to a tile, in place."""
    x, y, flux = star
    corner, half, gain, rs = how
    ny, nx = data.shape
    light = flux * np.asarray(psf.stamp(x + corner[0], y + corner[1], half), float)
    half = light.shape[0] // 2  # a PSF may end before
    if gain > 0:
        light += rs.normal(0, 1, light.shape) * np.sqrt(np.maximum(light, 0) / gain)
    iy, ix = round(y + corner[1]) - corner[1], round(x + corner[0]) - corner[0]
    y0, y1, x0, x1 = (
        max(0, iy - half),
        min(ny, iy + half + 1),
        max(0, ix - half),
        min(nx, ix + half + 1),
    )
    part = light[y0 - iy + half : y1 - iy + half, x0 - ix + half : x1 - ix + half]
    data[y0:y1, x0:x1] += np.where(weight[y0:y1, x0:x1] > 0, part, 0)


def _nearest(table: Table, x: Image, y: Image, reach: float) -> tuple[Image, Image, Image]:
    """Flux, error and whether there is one, of the nearest source within reach; 0 where none is."""
    if len(table) == 0:
        return np.zeros(x.size), np.ones(x.size), np.zeros(x.size, bool)
    tree = cKDTree(np.stack([table["x"], table["y"]], axis=1))
    distance, row = tree.query(np.stack([x, y], axis=1), distance_upper_bound=reach)
    row = np.where(np.isfinite(distance), row, 0)
    flux, error = np.asarray(table["flux"], float)[row], np.asarray(table["flux_err"], float)[row]
    good = np.isfinite(distance) & np.isfinite(flux) & (error > 0)
    return np.where(good, flux, 0.0), np.where(good, error, 1.0), good


def _summary(stars: Table, fluxes: Image) -> Completeness:
    level = np.argmin(np.abs(np.asarray(stars["flux_in"])[:, None] - fluxes), axis=1)
    recovered, found = np.asarray(stars["recovered"]), np.asarray(stars["found"])
    pull = (stars["flux"] - stars["flux_in"]) / stars["flux_err"]
    m = fluxes.size
    injected = np.bincount(level, minlength=m)
    seen = np.bincount(level[recovered], minlength=m)
    bias, bias_err, width = np.full((3, m), np.nan)
    for k in range(m):
        here = np.asarray(pull[found & (level == k)])
        if here.size >= 5:
            middle = np.median(here)
            width[k] = 1.4826 * np.median(np.abs(here - middle))
            # A few sit on something else; the mean is that of the others.
            good = here[np.abs(here - middle) < 5 * width[k]]
            bias[k], bias_err[k] = np.mean(good), np.std(good) / np.sqrt(good.size)
    half, half_err, scale, reached = _fit_curve(fluxes, injected, seen)
    return Completeness(
        fluxes, injected, seen, half, half_err, scale, reached, bias, bias_err, width, stars
    )


def _fit_curve(
    fluxes: Image, injected: Image, recovered: Image
) -> tuple[float, float, float, float]:
    """Where half are recovered, its error, the width and the share reached at the bright end.

    reached * Phi((flux - middle) / width) by maximum likelihood of binomial counts; the error is
    that of the likelihood's curvature. Half: of all that were injected, hidden ones included.
    """
    unit = float(np.median(fluxes))
    lost = injected - recovered

    def cost(p: Image) -> float:
        middle, log_width, logit = p
        log_share = log_ndtr((fluxes / unit - middle) / np.exp(log_width)) - np.log1p(
            np.exp(-logit)
        )
        rest = np.log(np.maximum(-np.expm1(log_share), 1e-12))
        return -float(np.sum(recovered * log_share + lost * rest))

    # Imported here: it takes a tenth of a second, which every command would pay.
    from scipy.optimize import minimize

    best = minimize(cost, [1.0, np.log(0.2), 3.0], method="Nelder-Mead", options={"maxiter": 2000})
    middle, width, reached = best.x[0], float(np.exp(best.x[1])), 1 / (1 + np.exp(-best.x[2]))
    if not reached > 0.5 or not fluxes[0] / 4 < middle * unit < fluxes[-1] * 4:
        return np.nan, np.nan, np.nan, float(reached)
    # Phi(z) = 1 / (2 reached), found on a fine grid.
    grid = np.linspace(middle - 5 * width, middle + 8 * width, 4001)
    half = float(np.interp(0.5, reached * np.exp(log_ndtr((grid - middle) / width)), grid))
    step = 0.1 * width
    curve = [cost(np.array([middle + d, best.x[1], best.x[2]])) for d in (-step, 0.0, step)]
    bend = (curve[0] - 2 * curve[1] + curve[2]) / step**2
    error = 1 / np.sqrt(bend) if bend > 0 else np.nan
    return half * unit, float(error) * unit, width * unit, float(reached)
