"""Which sources are fit to tell the point-spread function."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from photometrus.frame import Image
from photometrus.kernels.moffat import fit_moffats
from photometrus.sourcetable import SourceFlag, flagged

Array = NDArray[Any]
UNFIT = SourceFlag.SATURATED | SourceFlag.EDGE | SourceFlag.BAD_PIXELS
"""Flags of sources that are no PSF stars."""
FEW = 30
"""Stars; with fewer, blended ones are better than none."""


@dataclass(frozen=True)
class StarsConfig:
    """What may be tuned in the choice of PSF stars."""

    min_snr: float = 40.0  # of a PSF star
    max_stars: int = 500
    cells: int = 8  # per axis: each gives its best stars
    contamination: float = 0.03  # neighbours' light in a PSF star's core, as a fraction


@dataclass(frozen=True, eq=False)
class Found:
    """PSF stars: which sources they are, their Moffat functions (see `fit_moffats`) and what
    these have in common.
    """

    index: Array
    moffats: Array
    fwhm_pix: float
    beta: float


def candidates(
    data: Image, weight: Image, sources: Table, saturation_adu: float, config: StarsConfig
) -> Found | None:
    """Bright, unsaturated, isolated stars all over the image; None when there is none."""
    ny, nx = data.shape
    x, y = np.asarray(sources["x"], float), np.asarray(sources["y"], float)
    size = np.asarray(sources["fwhm"], float)
    if not len(x):
        return None
    column = np.clip(np.floor(x + 0.5).astype(int), 1, nx - 2)
    row = np.clip(np.floor(y + 0.5).astype(int), 1, ny - 2)
    block = [data[row + b, column + a] for b in (-1, 0, 1) for a in (-1, 0, 1)]
    noise = 1 / np.sqrt(np.maximum(weight[row, column], 1e-30))
    core, peak = np.sum(block, axis=0), np.max(block, axis=0)
    good = ~flagged(sources, UNFIT)
    good &= (core / (3 * noise) > config.min_snr) & (weight[row, column] > 0)
    if np.isfinite(saturation_adu):
        good &= peak < 0.8 * saturation_adu
    good &= np.isfinite(size) & (size > 0)
    if not good.any():
        return None
    # Half of all bright sources at least are stars, and galaxies and blends are wider.
    fwhm = float(np.percentile(size[good], 30))
    clean = contamination(x, y, core, fwhm)
    chosen = spread_out(x, y, core, good, clean, (nx, ny), config)
    radius = max(1.6 * fwhm, 2.5)
    free = moffats(data, weight, x[chosen], y[chosen], fwhm, None, radius)
    beta = (
        float(np.clip(np.median(free[on_locus(free), 6]), 1.5, 8.0))
        if on_locus(free).any()
        else 3.0
    )
    held = moffats(data, weight, x[chosen], y[chosen], fwhm, beta, radius)
    stars = on_locus(held)
    if not stars.any():
        return None
    return Found(chosen[stars], held[stars], float(np.median(moffat_fwhm(held[stars]))), beta)


def moffats(
    data: Image, weight: Image, x: Array, y: Array, fwhm: float, beta: float | None, radius: float
) -> Array:
    """A Moffat function for each star (see `fit_moffats`); beta None: each has its own."""
    first = 3.0 if beta is None else beta
    start = np.array([np.log(0.5 * fwhm / np.sqrt(2 ** (1 / first) - 1)), first])
    out = np.empty((len(x), 9))
    fit_moffats(data, weight, x, y, start, beta is None, radius, out)
    return out


def moffat_fwhm(fits: Array) -> Array:
    """Their full widths at half maximum, pixels."""
    result: Array = 2 * np.exp(fits[:, 3]) * np.sqrt(2 ** (1 / fits[:, 6]) - 1)
    return result


def contamination(x: Array, y: Array, core: Array, fwhm: float) -> Array:
    """Light of neighbours in each source's core, relative to its own."""
    light = np.zeros(len(x))
    tree = cKDTree(np.stack([x, y], axis=1))
    pairs = tree.query_pairs(4 * fwhm, output_type="ndarray")
    if len(pairs):
        apart = np.hypot(*(np.stack([x, y])[:, pairs[:, 0]] - np.stack([x, y])[:, pairs[:, 1]]))
        share = (1 + (apart / fwhm) ** 2) ** -2.5
        np.add.at(light, pairs[:, 0], share * np.maximum(core[pairs[:, 1]], 0))
        np.add.at(light, pairs[:, 1], share * np.maximum(core[pairs[:, 0]], 0))
    result: Array = light / np.maximum(core, 1e-30)
    return result


def spread_out(
    x: Array,
    y: Array,
    core: Array,
    good: Array,
    dirt: Array,
    shape: tuple[int, int],
    config: StarsConfig,
) -> Array:
    """Indices of the brightest clean ones of each cell of the image."""
    for limit in (config.contamination, 0.1, 0.3, np.inf):
        clean = good & (dirt < limit)
        if np.count_nonzero(clean) >= FEW:
            break
    index = np.flatnonzero(clean)
    index = index[np.lexsort((index, -core[index]))]
    n = config.cells
    cell = np.clip((x[index] * n / shape[0]).astype(int), 0, n - 1) * n
    cell += np.clip((y[index] * n / shape[1]).astype(int), 0, n - 1)
    rank = np.zeros(len(index), int)
    for k in range(n * n):
        here = cell == k
        rank[here] = np.arange(np.count_nonzero(here))
    # The best of all cells first, then the second best ...
    return index[np.lexsort((np.arange(len(index)), rank))][: 2 * config.max_stars]


def mode(values: Array) -> float:
    """The half-sample mode: the middle of where values crowd (Robertson & Cryer 1974)."""
    values = np.sort(values)
    while len(values) > 3:
        half = (len(values) + 1) // 2
        widths = values[half - 1 :] - values[: len(values) - half + 1]
        first = int(np.argmin(widths))
        values = values[first : first + half]
    return float(np.mean(values)) if len(values) else float("nan")


def on_locus(fits: Array) -> Array:
    """Which are stars by their width: near the most frequent one, which may vary over the image."""
    size = np.log(moffat_fwhm(fits))
    whole = (fits[:, 8] > 0.95) & (fits[:, 0] > 0)
    near = whole & (np.abs(size - mode(size[whole])) < 0.25)
    for _ in range(5):
        count = np.count_nonzero(near)
        degree = 2 if count >= 60 else 1 if count >= 20 else 0
        x, y = fits[:, 1], fits[:, 2]
        u = (x - x.mean()) / max(np.ptp(x), 1)
        v = (y - y.mean()) / max(np.ptp(y), 1)
        columns = [u**i * v**j for i in range(degree + 1) for j in range(degree + 1 - i)]
        matrix = np.stack(columns, axis=1)
        if not count:
            break
        fitted = np.linalg.lstsq(matrix[near], size[near], rcond=None)[0]
        left = size - matrix @ fitted
        sigma = 1.4826 * np.median(np.abs(left[near]))
        near = whole & (np.abs(left) < np.clip(3 * sigma, 0.03, 0.15))
    shape = np.hypot(fits[:, 4], fits[:, 5])
    if near.any():
        near &= shape < np.median(shape[near]) + 0.15
    return near
