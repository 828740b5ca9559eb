"""What is in the stack and not in the sky."""

from collections import Counter
from collections.abc import Callable

import numpy as np
from scipy import ndimage

from helpers import Array, Numbers
from judge.scene import Scene, well_inside

Why = Callable[[Array, Array], list[str]]
MARGIN_PIX = 20
AREA_STEP = 8
"""The area that was searched is counted on every eighth pixel."""
N_WORST = 20


def spurious(scene: Scene, ratio: Array, lit: Array, why: Why, n_sigma: float = 5.0) -> Numbers:
    """Detections above `n_sigma` where no true source shines, and equally deep holes.

    ratio : float32 (ny, nx), signal to noise of the matched filter
    lit : bool (ny, nx), pixels that a true source may light up
    why : gives the likely cause of each of the detections at pixels (x, y)
    """
    size = 2 * int(np.ceil(scene.fwhm_pix)) + 1
    ny, nx = lit.shape
    rows, columns = np.mgrid[0:ny:AREA_STEP, 0:nx:AREA_STEP]
    searched = well_inside(scene.stack, columns.ravel(), rows.ravel(), MARGIN_PIX)
    searched &= ~lit[rows.ravel(), columns.ravel()]
    arcmin2 = searched.sum() * (AREA_STEP * scene.stack.pixel_arcsec / 60) ** 2
    numbers: Numbers = {"area_arcmin2": float(arcmin2)}
    for name, sign in (("detections", 1), ("holes", -1)):
        image = sign * ratio
        peak = (image > n_sigma) & (image == ndimage.maximum_filter(image, size)) & ~lit
        py, px = np.nonzero(peak)
        here = well_inside(scene.stack, px, py, MARGIN_PIX)
        py, px = py[here], px[here]
        order = np.argsort(-image[py, px])
        py, px = py[order], px[order]
        words = why(px, py)
        numbers[f"n_{name}"] = len(px)
        numbers[f"causes_of_{name}"] = dict(Counter(words).most_common())
        numbers[f"worst_{name}"] = [
            [int(x), int(y), float(image[y, x]), word]
            for x, y, word in zip(px[:N_WORST], py[:N_WORST], words, strict=False)
        ]
    numbers["per_10_arcmin2"] = numbers["n_detections"] / max(numbers["area_arcmin2"], 1e-9) * 10
    return numbers
