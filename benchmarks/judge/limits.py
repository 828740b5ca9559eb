"""What is asked of the numbers."""

from collections.abc import Mapping
from typing import Any

from helpers import flatten

Limits = Mapping[str, tuple[float | None, float | None]]
ACCEPTANCE: Limits = {
    "astrometry.rms_ra_mas": (None, 40.0),
    "astrometry.rms_dec_mas": (None, 40.0),
    "astrometry.corners.rms_ra_mas": (None, 50.0),
    "astrometry.corners.rms_dec_mas": (None, 50.0),
    "photometry.mid_bias": (-0.04, 0.04),
    "fwhm.ratio": (None, 1.05),
    "frames.bad_recognised": (1, None),
    "transient.missed": (None, 0),
}
"""Lowest and highest allowed value, by dotted name, for a full-size chip."""
WINDOW: Limits = {
    "astrometry.rms_ra_mas": (None, 40.0),
    "astrometry.rms_dec_mas": (None, 40.0),
    "photometry.mid_excess": (None, 0.04),
    "fwhm.ratio": (None, 1.05),
    "frames.bad_recognised": (1, None),
    "transient.missed": (None, 0),
}
"""The same for the window of a small chip, which holds some ten bright stars."""


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
