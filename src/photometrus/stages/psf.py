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
from photometrus.kernels.groupfit import X, Y, draw_all
from photometrus.pointspread import Psf
from photometrus.psfstars import FEW, Found, StarsConfig, candidates
from photometrus.starfit import StarFit

Array = NDArray[Any]


@dataclass(frozen=True)
class PsfConfig(StarsConfig):
    """What may be tuned in the PSF."""

    max_degree: int = 3  # of the polynomial in (x, y)
    stars_per_term: float = 8.0  # a polynomial must have so many for each of its terms
    reference_fwhm: float = 4.0  # radius within which the PSF sums to 1, in FWHM
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
    if found is None:
        return without_stars(sources, frame, config)
    geometry = geometry_for(found.fwhm_pix, frame, config)
    images = cut_out(data, usable, found, geometry.half)
    degree = choose_degree(images, geometry, config)
    first = as_psf(images, learn(images, degree, geometry, config.rounds), degree, geometry)
    images = without_neighbours(data, usable, sources, found, images, first)
    images = images.part(stellar(images.stars))
    psf = as_psf(images, learn(images, degree, geometry, config.rounds), degree, geometry)
    if psf.n_stars < FEW:
        psf.notes.append(f"only {psf.n_stars} PSF stars")
    return psf


def as_psf(images: Images, grids: Array, degree: int, geometry: Geometry) -> Psf:
    """What was learned from some stars."""
    cube = spline(grids)
    stars = images.stars
    table = Table(
        {
            "x": stars[:, 0] + stars[:, 2],
            "y": stars[:, 1] + stars[:, 3],
            "flux": stars[:, 4],
            "chi2": stars[:, 5],
        }
    )
    psf = Psf(
        cube,
        geometry.step,
        np.array(geometry.frame),
        geometry.half,
        geometry.fwhm_pix,
        geometry.reference_pix,
        len(stars),
        degree,
        residual_rms(images, cube, geometry),
        table,
    )
    return replace(psf, fwhm_pix=psf.fwhm_at(geometry.frame[0], geometry.frame[1]))


def without_neighbours(
    data: Image, weight: Image, sources: Table, found: Found, images: Images, psf: Psf
) -> Images:
    """The stars' images again, when all sources that touch them are taken away."""
    x, y = np.asarray(sources["x"], float), np.asarray(sources["y"], float)
    where = np.stack([x, y], axis=1)
    stars = cKDTree(where[found.index])
    distance, _ = stars.query(where, distance_upper_bound=2.0 * psf.half)
    near = np.flatnonzero(np.isfinite(distance))
    fit = StarFit(data, weight, x[near], y[near], psf, np.nan)
    fit.run()
    clean = cut_out(fit.left, weight, found, psf.half)
    clean.stars[:] = images.stars
    own = fit.stars[np.searchsorted(near, found.index)]
    corner = clean.stars[:, :2] - psf.half
    own[:, [X, Y]] -= corner
    for k, image in enumerate(clean.data):
        here = psf.moved(*corner[k])
        draw_all(image, here.cube, here.step, here.frame, own, np.array([k]), 1.0)
    return clean


def geometry_for(
    fwhm: float, frame: tuple[float, float, float, float], config: PsfConfig
) -> Geometry:
    """The grid for stars of this width: about seven points per FWHM."""
    step = int(np.clip(np.ceil(6.0 / fwhm), 1, 5))
    reference = float(np.ceil(config.reference_fwhm * fwhm))
    return Geometry(step, int(reference) + 1, reference, fwhm, frame)


def cut_out(data: Image, weight: Image, found: Found, half: int) -> Images:
    """The stars' images; pixels beyond the image's edge have no weight."""
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
