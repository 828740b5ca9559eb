"""What is asked of the numbers."""

from collections.abc import Mapping
from typing import Any

from helpers import flatten

Limits = Mapping[str, tuple[float | None, float | None]]

COMMON: Limits = {
    "astrometry.rms_ra_mas": (None, 40.0),
    "astrometry.rms_dec_mas": (None, 40.0),
    "fwhm.ratio": (None, 1.05),
    "frames.bad_recognised": (1, None),
    "transient.missed": (None, 0),
}
ACCEPTANCE: Limits = COMMON | {
    "astrometry.corners.rms_ra_mas": (None, 50.0),
    "astrometry.corners.rms_dec_mas": (None, 50.0),
    "photometry.mid_bias": (-0.04, 0.04),
}
"""Lowest and highest allowed value, by dotted name, for a full-size chip."""
WINDOW: Limits = COMMON | {"photometry.mid_excess": (None, 0.04)}
"""The same for the window of a small chip, which holds some ten bright stars."""
ISSUE3: Limits = {
    "astrometry.rms_ra_mas": (None, 12.0),
    "astrometry.rms_dec_mas": (None, 12.0),
    "astrometry.corners.rms_ra_mas": (None, 16.0),
    "astrometry.corners.rms_dec_mas": (None, 16.0),
    "photometry.worst_excess": (None, 0.015),
    "depth.lost_mag": (None, 0.05),
    "depth.weight_map_ratio": (0.95, 1.05),
    "fwhm.ratio": (None, 1.03),
    "fwhm.ellipticity_added": (None, 0.01),
    "total_flux.stars.excess": (None, 0.01),
    "total_flux.galaxies.excess": (None, 0.01),
    "spurious.per_10_arcmin2": (None, 1.0),
    "frames.bad_recognised": (1, None),
    "frames.good_lost": (None, 0),
    "transient.missed": (None, 0),
}
"""The deepest, sharpest stack the photons allow: nine ramps of a sparse field, full size."""
REFERENCE: Limits = {
    "reference.beyond_catalog_ra_excess_mas": (None, 6.0),
    "reference.beyond_catalog_dec_excess_mas": (None, 6.0),
}
"""Added to `ISSUE3` when a reference catalogue was given."""
UNCLIPPED: Limits = {"clipping.bright_change": (-0.002, 0.002)}
"""Added to `ISSUE3` when a stack without clipping was given."""

ISSUE4: Limits = {
    "psf.bright.rms": (None, 0.010),
    "aper.bright.rms": (None, 0.010),
    "psf.corners.rms": (None, 0.010),
    "aper.corners.rms": (None, 0.010),
    "psf.snr_10_20.offset": (-0.02, 0.02),
    "psf.pull_width": (0.95, 1.10),
    "psf.pull_excess": (None, 0.0),
    "aper.pull_width": (0.95, 1.10),
    "aper.pull_excess": (None, 0.0),
}
"""Magnitudes, errors and limits of a full-size stack."""
DEEP: Limits = {"psf.bright.offset": (-0.005, 0.005)}
SHALLOW: Limits = {"psf.zero_point_pull": (-2.0, 2.0)}
"""Added to `ISSUE4`: the zero point by a deep catalogue, or by one of 2MASS's kind."""
SPARSE: Limits = {"limit.completeness": (0.8, None), "limit.at_5sigma_excess": (None, 0.0)}
CROWDED: Limits = {"crowded_bright.rms": (None, 0.02)}
"""In place of `ISSUE4`, whose numbers are of isolated stars in a sparse field."""


def limits_of(numbers: Mapping[str, Any], name: str) -> Limits:
    """The limits called `name` (main, issue3, issue4) that apply to these numbers."""
    if name == "main":
        return WINDOW if numbers["size"] < 2048 else ACCEPTANCE
    if name == "issue4":
        return _of_photometry(numbers)
    limits = dict(ISSUE3)
    if "reference" in numbers:
        limits |= REFERENCE
    if "clipping" in numbers:
        limits |= UNCLIPPED
    return limits


def _of_photometry(numbers: Mapping[str, Any]) -> Limits:
    limits = dict(CROWDED) if numbers["crowded"] else ISSUE4 | SPARSE
    limits |= SHALLOW if "2MASS" in numbers["survey"].upper() else DEEP
    if "run" in numbers:
        seconds = 60.0 if numbers["crowded"] else 15.0
        limits |= {"run.wall_s": (None, seconds), "run.memory_gb": (None, 2.0)}
    return limits


def check(numbers: Mapping[str, Any], limits: Limits = ACCEPTANCE) -> list[str]:
    """One sentence for every number that is absent or outside its limits; empty when all is well.

    limits : dotted name -> (lowest, highest), both allowed, None for no limit; True counts as 1
    """
    leaves = dict(flatten(numbers))
    failures = []
    for name, (low, high) in limits.items():
        value = leaves.get(name)
        if value is None or isinstance(value, str):
            failures.append(f"{name} was not measured")
        elif low is not None and value < low:
            failures.append(f"{name} = {value:.4g}, at least {low:g} required")
        elif high is not None and value > high:
            failures.append(f"{name} = {value:.4g}, at most {high:g} allowed")
    return failures
