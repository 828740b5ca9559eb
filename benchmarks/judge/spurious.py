"""What is in the stack and not in the sky."""

from collections import Counter
from collections.abc import Callable

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from helpers import Array, Numbers
from judge.empty import glow_arcsec
from judge.scene import Scene, well_inside

Why = Callable[[Array, Array], list[str]]


def spurious(scene: Scene, ratio: Array, why: Why, n_sigma: float = 5.0) -> Numbers:
    """Detections above `n_sigma` that no true source explains, and equally deep holes.

    ratio : float32 (ny, nx), signal to noise of the matched filter
    why : gives the likely cause of each of the detections at pixels (x, y)
    """
    scale = scene.stack.pixel_arcsec
    size = 2 * int(np.ceil(scene.fwhm_pix)) + 1
    near = scene.inside | (scene.truth.mag < 17)
    tree = cKDTree(np.stack([scene.x[near], scene.y[near]], axis=1))
    reach = (
        np.where(scene.truth.mag[near] < 17, glow_arcsec(scene.truth.mag[near]), 2.0)
        + 2 * np.asarray(scene.truth.table["RE"], dtype=float)[near]
    )
    numbers: Numbers = {}
    for name, sign in (("detections", 1), ("holes", -1)):
        image = sign * ratio
        peak = (image > n_sigma) & (image == ndimage.maximum_filter(image, size))
        py, px = np.nonzero(peak)
        here = well_inside(scene.stack, px, py, margin_pix=20)
        px, py = px[here], py[here]
        candidates = tree.query_ball_point(np.stack([px, py], axis=1), reach.max() / scale)
        explained = np.zeros(len(px), dtype=bool)
        for i, others in enumerate(candidates):
            gap = np.hypot(tree.data[others, 0] - px[i], tree.data[others, 1] - py[i]) * scale
            explained[i] = bool((gap < reach[others]).any())
        left = np.flatnonzero(~explained)
        left = left[np.argsort(-image[py[left], px[left]])]
        words = why(px[left], py[left])
        numbers[f"n_{name}"] = len(left)
        numbers[f"causes_of_{name}"] = dict(Counter(words).most_common())
        numbers[f"worst_{name}"] = [
            [int(px[i]), int(py[i]), float(image[py[i], px[i]]), word]
            for i, word in zip(left[:20], words, strict=False)
        ]
    area = (scene.stack.weight > 0.5 * np.median(scene.stack.weight[scene.stack.used])).sum()
    arcmin2 = float(area) * (scale / 60) ** 2
    numbers["area_arcmin2"] = arcmin2
    numbers["per_10_arcmin2"] = numbers["n_detections"] / arcmin2 * 10
    return numbers
