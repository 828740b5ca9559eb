"""How flat the sky of the stack is."""

from itertools import pairwise

import numpy as np

from helpers import Array, Numbers, robust_sigma
from judge.flux import zero_point
from judge.scene import Scene


def background(scene: Scene, mask: Array, bin_pix: int = 64) -> Numbers:
    """Scatter of the source-free stack in bins, beside what the pixel noise alone would leave."""
    stack = scene.stack
    full = stack.weight > 0.5 * np.median(stack.weight[stack.used])
    good = ~mask & full
    ny, nx = (n // bin_pix for n in good.shape)

    def sums(values: Array) -> Array:
        cut = values[: ny * bin_pix, : nx * bin_pix]
        return cut.reshape(ny, bin_pix, nx, bin_pix).sum(axis=(1, 3), dtype=float)

    count = sums(good)
    level = sums(np.where(good, stack.data, 0)) / np.maximum(count, 1)
    random = np.sqrt(sums(np.where(good, scene.noise.astype(float) ** 2, 0)))
    use = count > 0.3 * bin_pix**2
    if use.sum() < 4:
        return {"n_bins": int(use.sum())}
    exposure = scene.truth.exposures[0]
    sky = exposure["sky_e"] / scene.truth.args.get("gain", 2.0) / exposure["nframes"]
    values = level[use]
    numbers: Numbers = {
        "n_bins": int(use.sum()),
        "median_adu": float(np.median(values)),
        "rms_adu": float(np.std(values)),
        "robust_rms_adu": robust_sigma(values),
        "white_noise_adu": float(np.median((random / np.maximum(count, 1))[use])),
        "range_98_adu": float(np.ptp(np.quantile(values, [0.01, 0.99]))),
    }
    numbers["rms_of_sky"] = numbers["rms_adu"] / sky
    numbers["halo"] = halos(scene, numbers["median_adu"])
    return numbers


def halos(scene: Scene, level_adu: float, n_stars: int = 12) -> Numbers:
    """Mean profile of the brightest stars beyond 5 arcsec; holes are oversubtracted sky.

    `profile` holds (radius in arcsec, surface brightness per arcsec^2 in millionths of the star's
    flux, the same in sigma of one pixel of the stack).
    """
    truth, stack = scene.truth, scene.stack
    edges = np.array([5, 7, 10, 14, 20, 28, 40.0]) / stack.pixel_arcsec
    reach = int(np.ceil(edges[-1]))
    ny, nx = stack.data.shape
    room = (scene.x > reach) & (scene.x < nx - reach - 1)
    room &= (scene.y > reach) & (scene.y < ny - reach - 1) & scene.inside
    stars = np.flatnonzero(truth.constant_star & room & (truth.mag < 13))
    stars = stars[np.argsort(truth.mag[stars])][:n_stars]
    if len(stars) == 0:
        return {"n_stars": 0}
    zp, _, _ = zero_point(scene, scene.aperture_pix)
    oy, ox = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    profiles = []
    for star in stars:
        cx, cy = round(scene.x[star]), round(scene.y[star])
        cut = np.s_[cy - reach : cy + reach + 1, cx - reach : cx + reach + 1]
        radius = np.hypot(ox + cx - scene.x[star], oy + cy - scene.y[star])
        own = scene.segments[cy, cx]
        free = ((scene.segments[cut] == 0) | (scene.segments[cut] == own)) & stack.used[cut]
        rings = [stack.data[cut][free & (radius >= a) & (radius < b)] for a, b in pairwise(edges)]
        # A neighbour may cover a whole ring: that ring then says nothing.
        known = [np.median(ring) if ring.size else np.nan for ring in rings]
        profiles.append(np.array(known) - level_adu)
    adu = np.array(profiles)
    adu = adu[np.isfinite(adu).all(axis=1)]
    stars = stars[np.isfinite(np.array(profiles)).all(axis=1)]
    if len(stars) == 0:
        return {"n_stars": 0}
    flux = 10 ** (-0.4 * (truth.mag[stars] - zp))
    light = np.median(adu / flux[:, None], axis=0) / stack.pixel_arcsec**2 * 1e6
    sigma = float(np.median(scene.noise[stack.used]))
    middle = np.median(adu, axis=0) / sigma
    radii = np.sqrt(edges[1:] * edges[:-1]) * stack.pixel_arcsec
    return {
        "n_stars": len(stars),
        "deepest_sigma": float(middle.min()),
        "deepest_adu": float(np.median(adu, axis=0).min()),
        "profile": [list(row) for row in zip(radii, light, middle, strict=True)],
    }
