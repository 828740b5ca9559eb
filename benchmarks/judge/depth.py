"""How deep the stack is, beside what it claims and what the photons allow."""

import numpy as np
import sep

from helpers import Array, Numbers, robust_sigma, within
from judge.flux import zero_point
from judge.scene import Scene
from judge.truth import Truth, moffat_within

DEPTH_RADIUS_ARCSEC = 1.5


def depth(scene: Scene, mask: Array, frames: list[str], n_apertures: int = 4000) -> Numbers:
    """5-sigma limit from empty apertures, the weight map's own claim, and what photons allow."""
    truth, stack = scene.truth, scene.stack
    radius = DEPTH_RADIUS_ARCSEC / stack.pixel_arcsec
    draw = np.random.RandomState(20240606)
    ny, nx = stack.data.shape
    x = draw.uniform(radius + 1, nx - radius - 2, 20 * n_apertures)
    y = draw.uniform(radius + 1, ny - radius - 2, 20 * n_apertures)
    full = stack.weight > 0.7 * np.median(stack.weight[stack.used])
    blocked, _, _ = sep.sum_circle((mask | ~full).astype(np.float32), x, y, radius + 1, subpix=1)
    x, y = x[blocked == 0][:n_apertures], y[blocked == 0][:n_apertures]
    numbers: Numbers = {"n_apertures": len(x)}
    if len(x) < 30:
        return numbers
    # Whole pixels (subpix=1): with parts of pixels the sum of variances is not that of the flux.
    flux, _, _ = sep.sum_circle(scene.sub, x, y, radius, subpix=1)
    variance = np.where(stack.used, 1 / np.where(stack.used, stack.weight, 1), 0)
    claimed, _, _ = sep.sum_circle(variance.astype(np.float32), x, y, radius, subpix=1)
    sigma = robust_sigma(flux)
    zp, _, _ = zero_point(scene, radius)
    numbers["sigma_adu"] = sigma
    numbers["limit_mag"] = zp - 2.5 * np.log10(5 * sigma)
    numbers["mean_flux_sigma"] = float(np.mean(flux[within(flux, 5.0)]) / sigma)
    numbers["sigma_over_weight_map"] = sigma / float(np.sqrt(np.median(claimed)))
    numbers["noise_correlation"] = stack.noise_correlation
    numbers["weight_map_ratio"] = numbers["sigma_over_weight_map"] / stack.noise_correlation
    empty = ~mask & full
    numbers["pixel_sigma_over_weight_map"] = robust_sigma(
        (scene.sub * np.sqrt(stack.weight))[empty][::5]
    )
    numbers |= at_stars(scene, zp, float(numbers["limit_mag"]), sigma)
    numbers["expected_mag"] = expected_limit(truth, frames)
    numbers["lost_mag"] = numbers["expected_mag"] - numbers["limit_mag"]
    return numbers


def at_stars(scene: Scene, zp: float, limit_mag: float, sigma_empty: float) -> Numbers:
    """The noise where faint stars are, beside that of empty apertures.

    A sky made from few frames takes part of a frame's own noise away where it may vote, and not
    where stars are hidden from it: empty apertures then look quieter than stars are.
    """
    stars = scene.stars(limit_mag - 1.5, limit_mag + 1.5, stray=0.05)
    if len(stars) < 30:
        return {"n_stars": len(stars)}
    radius = DEPTH_RADIUS_ARCSEC / scene.stack.pixel_arcsec
    flux, _, _ = sep.sum_circle(scene.sub, scene.x[stars], scene.y[stars], radius, subpix=1)
    sigma = robust_sigma(flux - 10 ** (-0.4 * (scene.truth.mag[stars] - zp)))
    return {"n_stars": len(stars), "sigma_at_stars_over_empty": sigma / sigma_empty}


def expected_limit(truth: Truth, frames: list[str]) -> float:
    """5-sigma limit of a 1.5" aperture from sky photons and read noise of the frames used.

    The frames are added with their best weights.
    """
    signal_to_noise2 = 0.0
    pixel = truth.meta["pix"]
    area = np.pi * (DEPTH_RADIUS_ARCSEC / pixel) ** 2
    halo = truth.meta.get("aureole", 0.0)
    for exposure in (e for e in truth.exposures if truth.name(e) in frames):
        star, variance = truth.seen(exposure)
        caught = moffat_within(
            DEPTH_RADIUS_ARCSEC, exposure["fwhm_px"] * pixel, exposure["beta"]
        ) * (1 - halo)
        signal_to_noise2 += (caught * star) ** 2 / (area * variance)
    if signal_to_noise2 == 0:
        return float("nan")
    return -2.5 * float(np.log10(5 / np.sqrt(signal_to_noise2)))
