"""What the rejection of outliers does to the cores of stars."""

from pathlib import Path

import numpy as np
import sep

from helpers import Numbers
from judge.astrometry import bright_stars
from judge.photometry import bias
from judge.scene import Scene
from judge.stack import read_stack
from photometrus.errors import MissingInput


def clipping(scene: Scene, unclipped: Path) -> Numbers:
    """Fluxes of bright stars relative to those in a stack of the same frames without clipping.

    unclipped : the product tree of that stack, on the same grid (``coadd.clip_sigma = 1e9``)
    """
    other = read_stack(unclipped, scene.truth.chip)
    if other.data.shape != scene.stack.data.shape:
        raise MissingInput(
            f"{other.path}: {other.data.shape} pixels, the judged stack has "
            f"{scene.stack.data.shape}; give one of the same frames"
        )
    _, x, y = bright_stars(scene)
    radius = scene.aperture_pix
    ours, _, _ = sep.sum_circle(scene.stack.data, x, y, radius, subpix=0)
    theirs, _, _ = sep.sum_circle(other.data, x, y, radius, subpix=0)
    ratio = (ours / theirs)[(ours > 0) & (theirs > 0)]
    return {
        "n_stars": len(ratio),
        "bright_change": float(np.median(ratio)) - 1,
        "bright_change_error": bias(ratio)[1] / 1.0857,
        "worst_5_percent": float(np.quantile(ratio, 0.05)) - 1,
    }
