"""Whether the injected transient is there."""

import numpy as np
import sep

from helpers import Numbers, from_plane, to_plane
from judge.flux import annulus_background, zero_point
from judge.scene import FWHM_TO_SIGMA, Scene, to_sky, well_inside


def transient(scene: Scene) -> Numbers:
    """Whether the injected transient is there, how far from its place, how far off in magnitude."""
    true = scene.truth.meta.get("transient")
    if not true or int(true.get("chip") or scene.truth.chip) != scene.truth.chip:
        return {"on_chip": False, "missed": False}
    ra, dec = (np.array([true[key]]) for key in ("ra", "dec"))
    east, north = to_plane(ra, dec, scene.truth.centre)
    there = from_plane(east + scene.offset[0], north + scene.offset[1], scene.truth.centre)
    x, y = (np.asarray(a) for a in scene.stack.wcs.all_world2pix(*there, 0, quiet=True))
    if not well_inside(scene.stack, x, y, 2)[0]:
        return {"on_chip": False, "missed": False}
    numbers: Numbers = {"on_chip": True}
    distance = np.hypot(scene.found["x"] - x[0], scene.found["y"] - y[0])
    nearest = int(np.argmin(distance))
    numbers["missed"] = bool(distance[nearest] * scene.stack.pixel_arcsec >= 1.0)
    if numbers["missed"]:
        return numbers
    sigma = scene.fwhm_pix * FWHM_TO_SIGMA
    wx, wy, _ = sep.winpos(
        scene.sub, scene.found["x"][[nearest]], scene.found["y"][[nearest]], sigma
    )
    off = np.array(to_sky(scene.stack, scene.truth, wx, wy)).ravel() - np.ravel([east, north])
    numbers["offset_ra_mas"], numbers["offset_dec_mas"] = (off * 1000).tolist()
    radius = scene.aperture_pix
    flux, _, _ = sep.sum_circle(scene.stack.data, x, y, radius, subpix=0)
    flux = flux - annulus_background(scene, x, y, radius) * np.pi * radius**2
    zp, _, _ = zero_point(scene, radius)
    numbers["mag"] = zp - 2.5 * float(np.log10(max(flux[0], 1e-9)))
    numbers["true_mag"] = float(true["mag"])
    numbers["mag_error"] = numbers["mag"] - numbers["true_mag"]
    return numbers
