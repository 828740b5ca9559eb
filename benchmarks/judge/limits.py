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


def limits_of(numbers: Mapping[str, Any], name: str) -> Limits:
    """The limits called `name` ("main" or "issue3") that apply to these numbers."""
    if name == "main":
        return WINDOW if numbers["size"] < 2048 else ACCEPTANCE
    limits = dict(ISSUE3)
    if "reference" in numbers:
        limits |= REFERENCE
    if "clipping" in numbers:
        limits |= UNCLIPPED
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
