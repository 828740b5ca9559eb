"""One frame alone, fitted to the catalogue: where the joint solution starts."""

from dataclasses import replace
from typing import Any

import numpy as np
from astropy.table import Table
from astropy.wcs import WCS

from photometrus.adjustment import tukey
from photometrus.instrument import PIXEL_SCALE_ARCSEC
from photometrus.optics import SHARED, Optics, degrees, displacement, solve, template_prior
from photometrus.reference import match_catalog, position_errors
from photometrus.stages.astrometry import AstrometryConfig
from photometrus.wcs import crval, pixel_to_sky, to_plane

Array = Any  # float64 array


def refine_alone(
    sources: Table,
    reference: Table,
    base: WCS,
    chip: int,
    config: AstrometryConfig = AstrometryConfig(),
) -> tuple[WCS, int, float]:
    """A frame's own fit: match, correct the template, match closer. (wcs, matched, rms).

    base : the chip's template where the frame was found; all corrections are to it, so that the
        priors hold however often it is matched
    """
    wcs, n, rms = base, 0, float("nan")
    n_bright = max(200, min(len(sources), 1500))
    stars = _brightest(sources[np.asarray(sources["flags"]) == 0], n_bright)
    for radius, order in ((8.0, 1), (6.0, 3), (3.0, 4), (1.5, 4), (1.0, 4)):
        i, j = match_catalog(stars, reference, wcs, radius, n_bright)
        if i.size < config.min_matched:
            return wcs, int(i.size), rms
        optics = Optics(chip, order)
        wcs, rms = _fit_correction(stars[i], reference[j], base, optics, config)
        n = int(i.size)
    return wcs, n, rms


def refine_shift(
    sources: Table,
    reference: Table,
    wcs: WCS,
    chip: int,
    config: AstrometryConfig = AstrometryConfig(),
) -> WCS:
    """A WCS whose optics are known, moved and slightly turned onto the catalogue's stars."""
    optics = Optics(chip, 1)
    fixed = replace(config, prior_shared=(1e-3, 1e-3))
    stars = _brightest(sources[np.asarray(sources["flags"]) == 0], 800)
    for radius in (5.0, 2.5, 1.5):
        i, j = match_catalog(stars, reference, wcs, radius, 800)
        if i.size < config.min_matched:
            break
        wcs, _ = _fit_correction(stars[i], reference[j], wcs, optics, fixed)
    return wcs


def _fit_correction(
    stars: Table, reference: Table, base: WCS, optics: Optics, config: AstrometryConfig
) -> tuple[WCS, float]:
    """Robust fit of a correction, with priors, to matched stars; (wcs, rms per axis in arcsec)."""
    centre = crval(base)
    # Arithmetic with a table's columns costs more than the arithmetic.
    x, y, x_err = (np.asarray(stars[name]) for name in ("x", "y", "x_err"))
    xi, eta = to_plane(*pixel_to_sky(base, x, y), centre)
    ref_xi, ref_eta = to_plane(reference["ra_deg"], reference["dec_deg"], centre)
    target = np.stack([ref_xi - xi, ref_eta - eta], axis=1)
    error = np.hypot(
        position_errors(reference, config.catalog_floor_arcsec),
        np.hypot(x_err, config.centroid_floor_pix) * PIXEL_SCALE_ARCSEC,
    )
    basis = optics.basis(x, y)
    shared = optics.shared(base, x, y, centre)
    design = np.concatenate([basis, shared], axis=1)
    sigma = np.asarray(config.prior_arcsec)[degrees(optics.degree)]
    belief = template_prior(sigma, base, config.prior_shared, config.prior_shear_arcsec)
    terms, factors = np.zeros((basis.shape[1], 2)), np.zeros(SHARED)
    residual = target - np.median(target, axis=0)
    for _ in range(8):
        scatter = max(1.4826 * float(np.median(np.abs(residual))), 1e-4)
        scale = np.maximum(scatter, error)
        weight = tukey(np.hypot(residual[:, 0], residual[:, 1]) / scale) / scale**2
        weighted = weight[:, None] * design
        terms, factors, _ = solve(design.T @ weighted, weighted.T @ target, belief)
        residual = target - basis @ terms - displacement(shared, factors)
    used = weight > 0
    rms = float(np.sqrt(np.mean(residual[used] ** 2))) if used.any() else float("nan")
    return optics.apply(base, terms, factors, centre), rms


def _brightest(sources: Table, n: int) -> Table:
    return sources[np.argsort(-np.asarray(sources["flux"]))[:n]]
