"""Aperture fluxes of the stack and their zero point."""

import numpy as np
import sep

from helpers import MEDIAN_ERROR, Array, robust_sigma, within
from judge.scene import Scene

ZERO_POINT_MAG = 15.5


def ring_pix(scene: Scene, radius_pix: float) -> tuple[float, float]:
    """Inner and outer radius of the ring around an aperture."""
    inner = max(3 * scene.fwhm_pix, radius_pix + scene.fwhm_pix)
    return inner, inner + 2.5 * scene.fwhm_pix


def annulus_background(scene: Scene, x: Array, y: Array, radius_pix: float) -> Array:
    """Clipped median of the raw stack in a ring around apertures; ADU, float (n,).

    The ring begins 1 FWHM outside the aperture, at least at 3 FWHM, and is 2.5 FWHM wide.
    Pixels of other detected objects, and those without data, are left out.
    """
    inner, outer = ring_pix(scene, radius_pix)
    reach = int(np.ceil(outer))
    oy, ox = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    ring = (np.hypot(ox, oy) >= inner) & (np.hypot(ox, oy) <= outer)
    oy, ox = oy[ring], ox[ring]
    ny, nx = scene.sub.shape
    result = np.empty(len(x))
    for start in range(0, len(x), 2000):
        part = slice(start, start + 2000)
        cx, cy = np.round(x[part]).astype(int), np.round(y[part]).astype(int)
        px = np.clip(cx[:, None] + ox, 0, nx - 1)
        py = np.clip(cy[:, None] + oy, 0, ny - 1)
        own = scene.segments[np.clip(cy, 0, ny - 1), np.clip(cx, 0, nx - 1)]
        label = scene.segments[py, px]
        free = ((label == 0) | (label == own[:, None])) & scene.stack.used[py, px]
        values = np.where(free, scene.stack.data[py, px], np.nan).astype(float)
        values[~free.any(axis=1), 0] = 0.0
        for _ in range(3):
            middle = np.nanmedian(values, axis=1)[:, None]
            spread = 1.4826 * np.nanmedian(np.abs(values - middle), axis=1)[:, None]
            values[np.abs(values - middle) > 3 * spread + 1e-12] = np.nan
        result[part] = np.nanmedian(values, axis=1)
    return result


def aperture_flux(scene: Scene, stars: Array, radius_pix: float) -> tuple[Array, Array]:
    """Flux at the true places, local background removed, in ADU; and whether it is whole."""
    x, y = scene.x[stars], scene.y[stars]
    flux, _, _ = sep.sum_circle(scene.stack.data, x, y, radius_pix, subpix=0)
    holes = (~scene.stack.used).astype(np.float32)
    missing, _, _ = sep.sum_circle(holes, x, y, radius_pix, subpix=0)
    area = np.pi * radius_pix**2
    return flux - annulus_background(scene, x, y, radius_pix) * area, missing < 1e-3


def zero_point(scene: Scene, radius_pix: float) -> tuple[float, float, int]:
    """Magnitude of 1 ADU/frame in an aperture, from the bright stars; its error; their number."""
    bright, faint = scene.truth.saturation_mag, ZERO_POINT_MAG
    stars = scene.stars(bright, faint)
    while len(stars) < 10 and faint < 18:
        faint += 0.5
        stars = scene.stars(bright, faint)
    flux, whole = aperture_flux(scene, stars, radius_pix)
    good = whole & (flux > 0)
    values = scene.truth.mag[stars][good] + 2.5 * np.log10(flux[good])
    values = values[within(values, 5.0)]
    if len(values) == 0:
        return float("nan"), float("nan"), 0
    error = MEDIAN_ERROR * robust_sigma(values) / np.sqrt(len(values))
    return float(np.median(values)), error, len(values)
