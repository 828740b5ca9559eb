"""The point-spread function of a stack, from its stars."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from photometrus.epsf import (
    MODEL_ERROR,
    Geometry,
    Images,
    learn,
    n_terms,
    residuals,
    spline,
    varying_moffat,
)
from photometrus.frame import Flags, Image
from photometrus.kernels.psf import fit_moffats
from photometrus.pointspread import Psf

Array = NDArray[Any]
UNFIT = 4 | 8 | 16
"""Flags of sources that are no PSF stars: saturated, at the edge, on bad pixels."""
FEW = 30
"""Stars; with fewer, blended ones are better than none."""


@dataclass(frozen=True)
class PsfConfig:
    """What may be tuned in the PSF."""

    min_snr: float = 40.0  # of a PSF star
    max_stars: int = 500
    cells: int = 8  # per axis: each gives its best stars
    max_degree: int = 3  # of the polynomial in (x, y)
    stars_per_term: float = 8.0  # a polynomial must have so many for each of its terms
    reference_fwhm: float = 4.0  # radius within which the PSF sums to 1, in FWHM
    contamination: float = 0.03  # neighbours' light in a PSF star's core, as a fraction
    rounds: int = 4  # of learning what the Moffat function leaves


def fit_psf(
    data: Image,
    weight: Image,
    flags: Flags,
    sources: Table,
    saturation_adu: float,
    config: PsfConfig = PsfConfig(),
) -> Psf:
    """The PSF, varying over the stack.

    data : float32 (ny, nx), ADU, sky subtracted; weight : float32, inverse variance, 0 = no value
    flags : uint8, bits of Bad: a flagged pixel says nothing on the PSF
    sources : x, y, fwhm (pix) and flags of what was detected
    saturation_adu : of a pixel; NaN when unknown
    Without a usable star it is a Moffat function as wide as the sources; `notes` says so.
    """
    usable = np.where(flags == 0, weight, np.float32(0))
    ny, nx = data.shape
    frame = (0.5 * (nx - 1), 0.5 * (ny - 1), 0.5 * nx, 0.5 * ny)
    found = candidates(data, usable, sources, saturation_adu, config)
    notes: list[str] = []
    if found is None:
        return without_stars(sources, frame, config)
    geometry = geometry_for(found.fwhm_pix, frame, config)
    images = cut_out(data, usable, found, geometry)
    degree = choose_degree(images, geometry, config)
    grids = learn(images, degree, geometry, config.rounds)
    images = images.part(stellar(images.stars))
    grids = learn(images, degree, geometry, config.rounds)
    cube = spline(grids)
    stars = images.stars
    if len(stars) < FEW:
        notes.append(f"only {len(stars)} PSF stars")
    table = Table(
        {
            "x": np.floor(stars[:, 0] + 0.5) + stars[:, 2],
            "y": np.floor(stars[:, 1] + 0.5) + stars[:, 3],
            "flux": stars[:, 4],
            "chi2": stars[:, 5],
        }
    )
    psf = Psf(
        cube,
        geometry.step,
        np.array(frame),
        geometry.half,
        0.0,
        geometry.reference_pix,
        len(stars),
        degree,
        residual_rms(images, cube, geometry),
        table,
        notes,
    )
    return replace(psf, fwhm_pix=psf.fwhm_at(frame[0], frame[1]))


@dataclass(frozen=True, eq=False)
class Found:
    """PSF stars: position, Moffat's A, x, y, s, e1, e2, beta ... (see fit_moffats); common FWHM."""

    moffats: Array
    fwhm_pix: float
    beta: float


def candidates(
    data: Image, weight: Image, sources: Table, saturation_adu: float, config: PsfConfig
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
    good = (np.asarray(sources["flags"]) & UNFIT) == 0
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
    held = held[on_locus(held)]
    if not len(held):
        return None
    return Found(held, float(np.median(moffat_fwhm(held))), beta)


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
    config: PsfConfig,
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


def geometry_for(
    fwhm: float, frame: tuple[float, float, float, float], config: PsfConfig
) -> Geometry:
    """The grid for stars of this width: about seven points per FWHM."""
    step = int(np.clip(np.ceil(6.0 / fwhm), 1, 5))
    reference = float(np.ceil(config.reference_fwhm * fwhm))
    return Geometry(step, int(reference) + 1, reference, fwhm, frame)


def cut_out(data: Image, weight: Image, found: Found, geometry: Geometry) -> Images:
    """The stars' images; pixels beyond the image's edge have no weight."""
    half = geometry.half
    n = len(found.moffats)
    size = 2 * half + 1
    stamps = np.zeros((2, n, size, size), np.float32)
    stars = np.zeros((n, 6))
    for k, row in enumerate(found.moffats):
        x, y = int(np.floor(row[1] + 0.5)), int(np.floor(row[2] + 0.5))
        x0, x1 = max(0, x - half), min(data.shape[1], x + half + 1)
        y0, y1 = max(0, y - half), min(data.shape[0], y + half + 1)
        part = np.s_[y0 - y + half : y1 - y + half, x0 - x + half : x1 - x + half]
        stamps[0, k][part] = data[y0:y1, x0:x1]
        stamps[1, k][part] = weight[y0:y1, x0:x1]
        # pi alpha^2 / (beta - 1) is the integral of a round Moffat function of peak 1.
        flux = row[0] * np.pi * np.exp(2 * row[3]) / (row[6] - 1)
        stars[k] = x, y, row[1] - x, row[2] - y, flux, 1.0
    return Images(stamps[0], stamps[1], stars, found.moffats[:, 3:6], found.beta)


def stellar(stars: Array) -> Array:
    """Those whose chi^2 is like that of others of their brightness."""
    chi2 = stars[:, 5]
    usual = np.median(chi2)
    sigma = 1.4826 * np.median(np.abs(chi2 - usual))
    keep: Array = chi2 <= usual + np.maximum(4 * sigma, 0.3 * usual)
    return keep


def choose_degree(images: Images, geometry: Geometry, config: PsfConfig) -> int:
    """The degree whose PSF, learned from one half of the stars, fits the other half best."""
    most = 0
    while most < config.max_degree and len(images.stars) >= config.stars_per_term * n_terms(
        most + 1
    ):
        most += 1
    if most == 0:
        return 0
    half = int(np.ceil(2 * geometry.fwhm_pix))
    small = replace(geometry, half=half, reference_pix=half - 1.0)
    core = images.core(half)
    odd = np.arange(len(core.stars)) % 2 == 1
    badness = []
    for degree in range(most + 1):
        chi2 = []
        for here in (odd, ~odd):
            cube = spline(learn(core.part(here), degree, small, 2))
            others = core.part(~here)
            residuals(others, cube, small)
            chi2.append(others.stars[:, 5])
        both = np.concatenate(chi2)
        badness.append(float(np.mean(np.minimum(both, 5 * np.median(both)))))
    return int(np.argmin(badness))


def residual_rms(images: Images, cube: Array, geometry: Geometry) -> float:
    """How wrong the PSF is in the brightest stars' cores, as a fraction, noise taken out.

    sum d^2 - s^2 / weight over sum model^2, with s^2 the scatter of a pixel in units of its weight
    where the model is less than the noise.
    """
    bright = np.argsort(-images.stars[:, 4], kind="stable")[: max(len(images.stars) // 10, 5)]
    left = residuals(images.part(bright), cube, geometry)
    good = left.weight > 0
    model2 = left.errors / MODEL_ERROR**2
    pull2 = left.data.astype(float) ** 2 * left.weight
    faint = good & (model2 * left.weight < 1)
    scatter = np.median(pull2[faint]) / 0.4549 if np.count_nonzero(faint) > 50 else 1.0
    core = good & (model2 > 0.01 * model2.max(axis=(1, 2), keepdims=True))
    if not core.any():
        return 0.0
    excess = left.data[core].astype(float) ** 2 - scatter / left.weight[core]
    return float(np.sqrt(max(np.sum(excess) / np.sum(model2[core]), 0.0)))


def without_stars(
    sources: Table, frame: tuple[float, float, float, float], config: PsfConfig
) -> Psf:
    """A round Moffat function, as wide as the narrower sources."""
    size = np.asarray(sources["fwhm"], float) if len(sources) else np.empty(0)
    size = size[np.isfinite(size) & (size > 0)]
    fwhm = float(np.percentile(size, 30)) if len(size) else 3.0
    beta = 3.0
    geometry = geometry_for(fwhm, frame, config)
    shape = np.array([[np.log(0.5 * fwhm / np.sqrt(2 ** (1 / beta) - 1)), 0.0, 0.0]])
    nothing = np.empty((0, 1, 1), np.float32)
    images = Images(nothing, nothing, np.array([[frame[0], frame[1], 0, 0, 1, 1]]), shape, beta)
    cube = spline(varying_moffat(images, 0, geometry))
    note = f"no star is fit for a PSF; a Moffat function of FWHM {fwhm:.2f} pix instead"
    return Psf(
        cube,
        geometry.step,
        np.array(frame),
        geometry.half,
        fwhm,
        geometry.reference_pix,
        notes=[note],
    )
