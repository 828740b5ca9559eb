"""Where the sky is empty, and what the matched filter sees there."""

import numpy as np
from scipy import ndimage

from helpers import Array, robust_sigma
from judge.scene import FWHM_TO_SIGMA, Scene


def glow_arcsec(mag: Array) -> Array:
    """How far a star's light reaches: 3" at magnitude 19, 12" at 13, at most 60"."""
    return np.clip(3 * 10 ** (0.1 * (19 - np.asarray(mag))), 2.0, 60.0)


def truth_mask(scene: Scene) -> Array:
    """Pixels that a true source may light up; bool (ny, nx)."""
    mask = np.zeros(scene.sub.shape, dtype=bool)
    ny, nx = mask.shape
    extent = glow_arcsec(scene.truth.mag) + 2 * np.asarray(scene.truth.table["RE"], dtype=float)
    for x, y, radius in zip(scene.x, scene.y, extent / scene.stack.pixel_arcsec, strict=True):
        reach = int(np.ceil(radius))
        if not (-reach < x < nx + reach and -reach < y < ny + reach):
            continue
        left, low = max(0, int(x) - reach), max(0, int(y) - reach)
        box = mask[low : int(y) + reach + 2, left : int(x) + reach + 2]
        row = np.arange(low, low + box.shape[0])[:, None] - y
        column = np.arange(left, left + box.shape[1])[None, :] - x
        box |= row**2 + column**2 <= radius**2
    return mask


def significance(scene: Scene, lit: Array) -> Array:
    """Matched-filter signal to noise, scaled to unit scatter where the sky is empty.

    lit : bool (ny, nx), pixels with light of true sources
    returns float32 (ny, nx)

    The scaling makes 5 sigma mean 5 sigma although resampling has correlated the noise of
    neighbouring pixels.
    """
    sigma = scene.fwhm_pix * FWHM_TO_SIGMA
    weight = scene.stack.weight
    signal = ndimage.gaussian_filter(scene.sub * weight, sigma)
    variance = ndimage.gaussian_filter(weight, sigma / np.sqrt(2)) / (4 * np.pi * sigma**2)
    ratio = np.where(scene.stack.used, signal / np.sqrt(np.maximum(variance, 1e-30)), 0)
    empty = scene.stack.used & ~lit
    return (ratio / robust_sigma(ratio[empty][::5])).astype(np.float32)


def not_empty(scene: Scene, lit: Array, ratio: Array) -> Array:
    """Pixels with light of a true source or of a 5-sigma detection, or without data; bool.

    Fainter detections stay: leaving out the positive half of the noise would flatter the depth.
    """
    detected = ndimage.maximum_filter((ratio > 5).astype(np.uint8), 9) > 0
    return lit | detected | ~scene.stack.used
