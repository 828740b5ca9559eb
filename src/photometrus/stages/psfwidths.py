"""PSF fluxes where fewer frames see a star: its image is as wide as in those frames.

The PSF is that of the whole stack. At its edges the seeing of one or two frames makes stars wider
or narrower, and the PSF's flux is off by a few per cent. How wide stars are there is known from
their neighbours (`widths`), what a width does to the flux from all bright stars.
"""

from dataclasses import dataclass

import numpy as np
from astropy.table import Table

from photometrus.frame import Image
from photometrus.pointspread import Psf
from photometrus.stages.widths import Widths

LATTICE_PIX = 256.0


@dataclass(frozen=True)
class PsfWidthsConfig:
    """What may be tuned in following the width of stars."""

    weight_ratio: float = 0.8  # from where on the whole stack's PSF holds
    least_snr: float = 50.0  # of the stars that say what a width does
    least_stars: int = 20
    model_err: float = 0.5  # of what is foretold: the slope is that of usual stars
    max_slope: float = 2.0  # of the log of flux against the log of width


def follow_widths(
    sources: Table, widths: Widths, psf: Psf, config: PsfWidthsConfig = PsfWidthsConfig()
) -> tuple[Image, Image]:
    """What PSF fluxes are to be multiplied by, and the relative error of that: float64 (n,) each.

    sources : x, y, flags, weight_ratio, flux_psf, flux_psf_err, flux_aper, flux_aper_err
    widths : log of stars' widths, anywhere on the stack

    1 and 0 where the weight is that of the whole stack, and everywhere when too few bright stars
    tell the slope.
    """
    n = len(sources)
    x, y = (np.asarray(sources[name], float) for name in ("x", "y"))
    ratio = np.asarray(sources["weight_ratio"], float)
    width, width_err = widths.at(x, y)
    off = width - np.log(_psf_fwhm(psf, x, y) / psf.fwhm_pix)
    flux, error = (np.asarray(sources[name], float) for name in ("flux_psf", "flux_psf_err"))
    aperture = np.asarray(sources["flux_aper"], float)
    with np.errstate(invalid="ignore", divide="ignore"):
        more = np.log(aperture / flux)
        bright = (np.asarray(sources["flags"]) == 0) & (flux > config.least_snr * error)
    bright &= np.isfinite(more) & np.isfinite(off)
    inner = bright & (ratio >= config.weight_ratio)
    if np.count_nonzero(inner) < config.least_stars or np.all(ratio >= config.weight_ratio):
        return np.ones(n), np.zeros(n)
    # Against the stars that the PSF is of: what all have in common is the zero point's.
    off = off - np.median(off[inner])
    more = more - np.median(more[inner])
    slope, slope_err = _slope(off[bright], more[bright], config.max_slope)
    foretold = np.clip(slope * off, -0.3, 0.3)
    unsure = np.hypot(slope * width_err, np.hypot(slope_err * off, config.model_err * foretold))
    # A bright star's own aperture tells more: how far out it was fitted depends on its light.
    clean = (np.asarray(sources["flags"]) == 0) & np.isfinite(more)
    with np.errstate(invalid="ignore", divide="ignore"):
        own_err = np.asarray(sources["flux_aper_err"], float) / aperture
    trust = np.where(clean & (own_err > 0), 1 / own_err**2, 0.0)
    weight = 1 / np.maximum(unsure, 1e-4) ** 2
    both = (weight * foretold + trust * np.where(clean, more, 0.0)) / (weight + trust)
    outer = ratio < config.weight_ratio
    factor = np.where(outer, np.exp(np.clip(both, -0.5, 0.5)), 1.0)
    return factor, np.where(outer, 1 / np.sqrt(weight + trust), 0.0)


def _psf_fwhm(psf: Psf, x: Image, y: Image) -> Image:
    """The PSF's own width, which changes slowly: on a coarse lattice."""
    places = np.stack([np.round(x / LATTICE_PIX), np.round(y / LATTICE_PIX)], axis=1) * LATTICE_PIX
    nodes, which = np.unique(places, axis=0, return_inverse=True)
    return np.array([psf.fwhm_at(a, b) for a, b in nodes])[which.ravel()]


def _slope(off: Image, more: Image, limit: float) -> tuple[float, float]:
    """Robust slope through the origin, and its error: Tukey's biweight."""
    weight = np.ones(off.size)
    slope, scale = 0.0, 1.0
    for _ in range(10):
        norm = float(np.sum(weight * off**2))
        if norm <= 0:
            return 0.0, 0.0
        slope = float(np.sum(weight * off * more)) / norm
        left = more - slope * off
        scale = max(1.4826 * float(np.median(np.abs(left))), 1e-4)
        weight = np.maximum(1 - (left / (6 * scale)) ** 2, 0.0) ** 2
    error = scale / np.sqrt(max(float(np.sum(weight * off**2)), 1e-12))
    return float(np.clip(slope, -limit, limit)), float(error)
