"""The sources of a stack: found, measured in apertures and with the PSF, with true errors."""

from dataclasses import dataclass, field

import numpy as np
from astropy.table import Table, hstack

from photometrus.config import Config
from photometrus.errors import UsageError
from photometrus.frame import Image, Progress, Stack
from photometrus.pointspread import Psf
from photometrus.stages.apertures import measure_apertures
from photometrus.stages.detection import Detections, detect
from photometrus.stages.growth import GrowthCurve, growth_curve
from photometrus.stages.noise import Noise, measure_noise
from photometrus.stages.psf import fit_psf
from photometrus.stages.psfphotometry import measure_psf, psf_noise_factor, subtract_stars
from photometrus.workers import Each

GROWTH_NODES = 12
GROWTH_ERROR = 0.01
"""Of the fractions that come from the PSF alone."""


@dataclass(frozen=True, eq=False)
class Measures:
    """What was measured on a stack, in ADU.

    sources : of /all/ detections, columns as `sourcetable` has them
    left : float32 (ny, nx), the image less background and stars
    noise_factor : true error of a faint PSF flux over its formal one; in `sources` already
    """

    found: Detections
    psf: Psf
    noise: Noise
    growth: GrowthCurve
    sources: Table
    left: Image
    noise_factor: float
    notes: list[str] = field(default_factory=list)

    @property
    def stack(self) -> Stack:
        """The stack less its residual background."""
        return self.found.stack


def measure_sources(stack: Stack, config: Config, each: Each, progress: Progress) -> Measures:
    """All sources of a stack with true weights."""
    progress("sources", 0, 1)
    found = detect(stack, config.detection, each)
    clean, info = found.stack, stack.info
    progress("PSF", 0, 1)
    psf = fit_psf(
        clean.data, clean.weight, clean.flags, found.table, info.saturation_adu, config.psf
    )
    notes = list(psf.notes)
    noise = measure_noise(found, config.noise)
    growth = _growth(found, psf, config, notes)
    progress("fluxes", 0, 1)
    table = measure_apertures(found, growth, noise, config.apertures, each)
    fluxes = measure_psf(
        clean.data, clean.weight, found.table, psf, info.gain_e_per_adu, config.psf_photometry, each
    )
    sources = hstack([table, fluxes], join_type="exact")
    left = subtract_stars(clean.data, sources, psf)
    factor = psf_noise_factor(left, clean.weight, found.segments > 0, psf)
    if not np.isfinite(factor):
        factor = 1.0
        notes.append("no empty place for the noise of PSF fluxes: their errors are the formal ones")
    sources["flux_psf_err"] *= factor
    progress("fluxes", 1, 1)
    return Measures(found, psf, noise, growth, sources, left, factor, notes)


def _growth(found: Detections, psf: Psf, config: Config, notes: list[str]) -> GrowthCurve:
    """The growth curve of the stars; of the PSF when they are too few."""
    try:
        return growth_curve(found, config=config.growth)
    except UsageError as error:
        notes.append(f"{error}; the growth curve is that of the PSF")
    radii = np.linspace(psf.reference_pix / GROWTH_NODES, psf.reference_pix, GROWTH_NODES)
    x, y = psf.frame[0], psf.frame[1]
    fractions = np.array([psf.enclosed(x, y, radius) for radius in radii])
    fractions = np.clip(np.maximum.accumulate(fractions / fractions[-1]), 1e-6, 1.0)
    missing = np.zeros((radii.size, 6))
    missing[:, 0] = -np.log(fractions)
    errors = np.where(fractions < 1, GROWTH_ERROR, 0.0)
    used = np.zeros(radii.size, int)
    return GrowthCurve(radii, fractions, errors, missing, found.stack.data.shape, used)
