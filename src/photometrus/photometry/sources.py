"""The sources of a stack: found, measured in apertures and with the PSF, with true errors."""

from dataclasses import dataclass, field, replace

import numpy as np
from astropy.table import Table, hstack

from photometrus.config import Config
from photometrus.errors import UsageError
from photometrus.frame import Image, Progress, Stack
from photometrus.pointspread import Psf
from photometrus.stages.apertures import measure_apertures
from photometrus.stages.detection import Detections, add_sources, detect
from photometrus.stages.growth import GrowthCurve, growth_curve
from photometrus.stages.hiddenstars import beside_stars, find_hidden
from photometrus.stages.noise import Noise, measure_noise
from photometrus.stages.psf import fit_psf
from photometrus.stages.psfphotometry import (
    matched,
    measure_psf,
    psf_noise_factor,
    subtract_stars,
)
from photometrus.stages.psfwidths import follow_widths
from photometrus.stages.widths import measure_widths
from photometrus.workers import Each

GROWTH_NODES, GROWTH_TERMS = 12, 8
FIRST_SWEEPS = 3
"""Of the fit that is only to show what hides behind the stars."""
FAINT_SNR = 12.0
MIN_FAINT = 30
GROWTH_ERROR = 0.01
"""Of the fractions that come from the PSF alone."""


@dataclass(frozen=True, eq=False)
class Measures:
    """What was measured on a stack, in ADU.

    sources : of /all/ detections, columns as `sourcetable` has them
    left : float32 (ny, nx), the image less background and stars
    noise_factor : true error of a PSF flux at a given empty place over its formal one
    fit_factor : the same for fluxes of fits; in `sources` already
    crowded : whether stars were sought behind all others
    """

    found: Detections
    psf: Psf
    noise: Noise
    growth: GrowthCurve
    sources: Table
    left: Image
    noise_factor: float
    fit_factor: float
    crowded: bool
    notes: list[str] = field(default_factory=list)
    limit_factor: float = 1.0
    """By what injected stars correct the limits that the noise gives."""

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
    crowded = is_crowded(found, config)
    found = with_hidden(found, psf, config, each, crowded=crowded)
    table = measure_apertures(found, growth, noise, config.apertures, each)
    fluxes = measure_psf(
        clean.data, clean.weight, found.table, psf, info.gain_e_per_adu, config.psf_photometry, each
    )
    sources = hstack([table, fluxes], join_type="exact")
    left = subtract_stars(clean.data, sources, psf)
    factor = psf_noise_factor(
        left, clean.weight, found.segments > 0, psf, config=config.psf_photometry
    )
    fit_factor = 1.0
    if np.isfinite(factor):
        fit_factor = factor / _formal_ratio(sources, left, clean.weight, psf, config)
    else:
        factor = 1.0
        notes.append("no empty place for the noise of PSF fluxes: their errors are the formal ones")
    sources["flux_psf_err"] *= fit_factor
    _follow_widths(sources, growth, psf, config)
    add_floor(sources, config.photometry.floor_mag)
    progress("fluxes", 1, 1)
    return Measures(found, psf, noise, growth, sources, left, factor, fit_factor, crowded, notes)


def is_crowded(found: Detections, config: Config) -> bool:
    """Whether stars hide so much of the sky that others hide behind them."""
    hide = found.empty.hide
    ny, nx = hide.shape
    seen = found.stack.weight[: 2 * ny : 2, : 2 * nx : 2] > 0
    return float(np.mean(hide[seen] > 0)) > config.crowding.from_fraction


def with_hidden(
    found: Detections, psf: Psf, config: Config, each: Each = map, *, crowded: bool
) -> Detections:
    """The detections, and the sources that show when these are taken away.

    crowded : take all; else only those next to a star that would be measured wrong without
    """
    clean = found.stack
    quick = replace(config.psf_photometry, sweeps=FIRST_SWEEPS)
    gain = clean.info.gain_e_per_adu
    fluxes = measure_psf(clean.data, clean.weight, found.table, psf, gain, quick, each)
    stars = hstack([found.table["x", "y", "flags"], fluxes], join_type="exact")
    left = subtract_stars(clean.data, stars, psf)
    more = find_hidden(clean.data, left, clean.weight, stars, psf, config.hidden)
    if not crowded:
        more = beside_stars(more, stars, psf, config.hidden)
    return add_sources(found, np.asarray(more["x"]), np.asarray(more["y"]), each)


def _follow_widths(sources: Table, growth: GrowthCurve, psf: Psf, config: Config) -> None:
    """PSF fluxes as wide as stars are where fewer frames see them, in place."""
    factor, relative = follow_widths(sources, growth.widths, psf, config.psf_widths)
    flux = np.asarray(sources["flux_psf"], float) * factor
    error = np.asarray(sources["flux_psf_err"], float) * factor
    sources["flux_psf"], sources["flux_psf_err"] = flux, np.hypot(error, relative * flux)


def _formal_ratio(sources: Table, left: Image, weight: Image, psf: Psf, config: Config) -> float:
    """Formal error of faint stars' fits over that of a flux at a given place, which was checked.

    The fit knows of the star's place and surroundings; for single faint stars both should be one.
    """
    flux, error = (np.asarray(sources[name], float) for name in ("flux_psf", "flux_psf_err"))
    with np.errstate(invalid="ignore", divide="ignore"):
        snr = flux / error
    alone = np.bincount(np.asarray(sources["group"]))[np.asarray(sources["group"])] == 1
    faint = alone & (np.asarray(sources["flags"]) == 0) & (snr > 3) & (snr < FAINT_SNR)
    if np.count_nonzero(faint) < MIN_FAINT:
        return 1.0
    places = np.asarray(sources["x"], float)[faint], np.asarray(sources["y"], float)[faint]
    _, formal = matched(left, weight, places, psf, config.psf_photometry)
    ratio = float(np.nanmedian(error[faint] / formal))
    return ratio if np.isfinite(ratio) and ratio > 0 else 1.0


def add_floor(sources: Table, floor_mag: float) -> None:
    """Add the floor to all flux errors of a table, in place."""
    for name in ("flux_psf", "flux_aper", "flux_auto", "flux_apers"):
        error = np.asarray(sources[f"{name}_err"], float)
        sources[f"{name}_err"] = with_floor(np.asarray(sources[name], float), error, floor_mag)


def with_floor(flux: Image | float, error: Image | float, floor_mag: float) -> Image:
    """Errors with what flats and PSFs leave whatever the light: a part of the flux."""
    return np.hypot(error, floor_mag * np.log(10) / 2.5 * flux)


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
    missing = np.zeros((radii.size, GROWTH_TERMS))
    missing[:, 0] = -np.log(fractions)
    errors = np.where(fractions < 1, GROWTH_ERROR, 0.0)
    used = np.zeros(radii.size, int)
    widths = measure_widths(found.table[:0], found.stack.weight, found.fwhm_pix)
    return GrowthCurve(radii, fractions, errors, missing, widths, used)
