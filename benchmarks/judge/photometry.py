"""How bright the stars of the stack are, against the truth."""

import numpy as np

from helpers import MEDIAN_ERROR, Array, Numbers, robust_sigma
from judge.flux import aperture_flux, zero_point
from judge.place import by_place
from judge.scene import Scene

MID_MAG = (16.0, 18.0)
FAINT_END_MAG = 1.0
"""Stars count up to so much above the 5-sigma limit."""


def bias(ratio: Array) -> tuple[float, float]:
    """Median magnitude error of measured / true fluxes (positive: too faint), and its error."""
    middle = float(np.median(ratio))
    if middle <= 0:
        return float("inf"), float("inf")
    spread = MEDIAN_ERROR * robust_sigma(ratio) / np.sqrt(len(ratio))
    return -2.5 * float(np.log10(middle)), 1.0857 * spread / middle


def magnitude_bins(mag: Array, ratio: Array, limit: float) -> list[Numbers]:
    """Median (mag - truth - zero point) in half-magnitude bins down to `limit`."""
    bins = []
    for low in np.arange(np.floor(2 * mag.min()) / 2, min(limit, mag.max()), 0.5):
        here = ratio[(mag >= low) & (mag < low + 0.5)]
        if len(here) < 5:
            continue
        middle, error = bias(here)
        bins.append(
            {
                "mag": low + 0.25,
                "n": len(here),
                "bias": middle,
                "error": error,
                "scatter": 1.0857 * robust_sigma(here) / max(float(np.median(here)), 1e-9),
            }
        )
    return bins


def worst_bin(bins: list[Numbers], faintest: float, zp_error: float) -> Numbers:
    """The largest bias of the bins down to `faintest` that counting statistics do not explain.

    Statistics are two standard errors of the bin and of the zero point.
    """
    whole = [one for one in bins if one["mag"] + 0.25 <= faintest]
    if not whole:
        return {}
    excess = [
        max(0.0, abs(one["bias"]) - 2 * float(np.hypot(one["error"], zp_error))) for one in whole
    ]
    worst = int(np.argmax(excess))
    return {
        "faint_end_mag": faintest,
        "worst_excess": excess[worst],
        "worst_excess_mag": whole[worst]["mag"],
    }


def photometry(scene: Scene, limit_mag: float) -> Numbers:
    """Zero point, magnitude errors by brightness, and by place on the chip."""
    radius = scene.aperture_pix
    zp, zp_error, n_zp = zero_point(scene, radius)
    stars = scene.stars(scene.truth.saturation_mag, min(limit_mag, 99.0))
    flux, whole = aperture_flux(scene, stars, radius)
    stars, flux = stars[whole], flux[whole]
    mag = scene.truth.mag[stars]
    ratio = flux / 10 ** (-0.4 * (mag - zp))
    bins = magnitude_bins(mag, ratio, limit_mag)
    numbers: Numbers = {
        "aperture_arcsec": radius * scene.stack.pixel_arcsec,
        "zero_point": zp,
        "zero_point_error": zp_error,
        "n_zero_point": n_zp,
        "brightest_mag": scene.truth.saturation_mag,
        "bins": bins,
    }
    low, high = MID_MAG[0], min(MID_MAG[1], limit_mag - 0.5)
    middle = (mag >= low) & (mag < high)
    if middle.sum() >= 5:
        numbers["mid_faintest_mag"] = high
        numbers["mid_bias"], numbers["mid_error"] = bias(ratio[middle])
        # What cannot be chance at two sigma: for windows that hold too few stars.
        sure = abs(numbers["mid_bias"]) - 2 * np.hypot(numbers["mid_error"], zp_error)
        numbers["mid_excess"] = max(0.0, float(sure))
        numbers["n_mid"] = int(middle.sum())
        worst = [b["bias"] for b in bins if low <= b["mag"] <= high]
        numbers["mid_worst_bin"] = max(worst, key=abs, default=float("nan"))
    numbers |= worst_bin(bins, limit_mag - FAINT_END_MAG, zp_error)
    numbers["place"] = by_place(scene)
    return numbers
