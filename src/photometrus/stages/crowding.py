"""The zero of a stack in a crowded field, where hardly a pixel is without a star.

What the faintest stars leave between the others gets into the frames' backgrounds and is taken
out with them: everything comes out too dark by the same small amount. The darkest pixels of the
stack know the true zero: their lower tail is noise alone, and how wide that is, is known.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr

from photometrus.frame import Image
from photometrus.kernels.mesh import add_mesh_rows
from photometrus.kernels.resample import pixel_scatter
from photometrus.stages.background import BackgroundConfig, smooth_mesh

BIN = 2
"""The stack is binned: half the noise, and a star still covers no more."""
SAME_WEIGHT = 0.2
"""Pixels whose weight differs from the usual by less are taken."""


@dataclass(frozen=True)
class CrowdingConfig:
    """What may be tuned in crowded fields."""

    from_fraction: float = 0.4  # of the sky hidden by stars: from there a field is crowded
    mesh_pix: int = 512  # cell in which the zero is measured
    tail: tuple[float, float] = (0.02, 0.10)  # quantiles between which only noise is


def zero_level(data: Image, weight: Image, config: CrowdingConfig = CrowdingConfig()) -> Image:
    """The level of a stack's darkest pixels: float32 (gy, gx), ADU, on cells of `mesh_pix`.

    data, weight : float32 (ny, nx), the stack and its inverse variance, 0 = no value
    """
    cell = config.mesh_pix // BIN
    ny, nx = (n // BIN * BIN for n in data.shape)
    blocks = (ny // BIN, BIN, nx // BIN, BIN)
    value = data[:ny, :nx].reshape(blocks).mean(axis=(1, 3))
    least = weight[:ny, :nx].reshape(blocks).min(axis=(1, 3))
    full = float(np.median(least[least > 0])) if (least > 0).any() else np.inf
    factor = pixel_scatter(BIN)
    shape = (-(-data.shape[0] // config.mesh_pix), -(-data.shape[1] // config.mesh_pix))
    levels, count = np.full(shape, np.nan, np.float32), np.zeros(shape, np.int32)
    for j, i in np.ndindex(shape):
        part = np.s_[j * cell : (j + 1) * cell, i * cell : (i + 1) * cell]
        # Where fewer frames saw the sky the noise is another.
        seen = np.abs(least[part] / full - 1) < SAME_WEIGHT
        count[j, i] = np.count_nonzero(seen)
        if count[j, i] > 1000:
            sigma = factor / np.sqrt(float(np.median(least[part][seen])))
            levels[j, i] = tail_level(value[part][seen], sigma, config.tail)
    return smooth_mesh(levels, count, BackgroundConfig())


def tail_level(values: Image, sigma: float, tail: tuple[float, float]) -> float:
    """The level of the darkest part of some pixels, whose noise is known; NaN when there is none.

    values : float (n,); sigma : of their noise
    A part f of the pixels is at the level L, the others above it. Far enough below, the fraction
    of pixels under x is f Phi((x - L) / sigma): two quantiles give both.
    """
    low, high = np.quantile(values, tail)

    def excess(level: float) -> float:
        return float(
            log_ndtr((low - level) / sigma)
            - log_ndtr((high - level) / sigma)
            - np.log(tail[0] / tail[1])
        )

    # At the level where all pixels would be dark, and far above it.
    bottom, top = float(low), float(high + 4 * sigma)
    if excess(bottom) * excess(top) > 0:
        return float("nan")
    # Imported here: it takes a tenth of a second, and few fields are crowded.
    from scipy.optimize import brentq

    return float(brentq(excess, bottom, top, xtol=1e-4))


def subtract_zero(data: Image, weight: Image, levels: Image, config: CrowdingConfig) -> Image:
    """The stack less its zero; 0 stays where there is no value. A new array."""
    smooth = np.zeros_like(data)
    add_mesh_rows(smooth, levels, config.mesh_pix, 0, 1.0)
    return np.where(weight > 0, data - smooth, np.float32(0))
