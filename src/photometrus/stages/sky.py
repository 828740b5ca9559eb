"""The infrared sky: its image from the dithered frames."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from photometrus.errors import TooFewFrames
from photometrus.frame import Bad, Flags, Image, Pixels
from photometrus.kernels.combine import clipped_median
from photometrus.kernels.mesh import add_mesh_rows, cell_modes
from photometrus.stages.background import Background, Mask, smooth_mesh
from photometrus.workers import Each


@dataclass(frozen=True)
class SkyConfig:
    """What may be tuned in the sky."""

    clip_sigma: float = 3.0  # rejection among the frames, in units of the pixel's scatter
    min_frames: int = 3  # fewer cannot tell stars from sky
    min_votes: int = 3  # frames that must have seen sky at a pixel (2 of fewer than six frames)
    block_mb: float = 96.0  # memory for one block of rows of all frames
    hole_mesh_pix: int = 64  # cell of the smooth sky that fills what no frame saw
    hot_sigma: float = 8.0  # a pixel of the sky this far above its neighbours is hot


def no_mask(shape: tuple[int, int]) -> Mask:
    """A mask that hides nothing."""
    return lambda y0, y1: np.zeros((y1 - y0, shape[1]), np.uint8)


def make_sky(
    frames: Sequence[Pixels],
    backgrounds: Sequence[Background],
    masks: Sequence[Mask],
    config: SkyConfig = SkyConfig(),
    *,
    each: Each = map,
) -> Image:
    """The sky of a sequence of frames in units of its own level: float32 (ny, nx), about 1.

    Each frame, less its own smooth residual, is divided by its level; stars are hidden by `masks`
    and by clipping; the rest is the median over the frames. Where fewer than `min_votes` frames
    (of six or more; else two) saw sky it is NaN: a frame alone would be subtracted from itself.
    Raises TooFewFrames for fewer than `min_frames`.
    """
    if len(frames) < config.min_frames:
        raise TooFewFrames(
            f"sky: {len(frames)} frames, need {config.min_frames}; "
            "add ramps, lower sky.min_frames or give -sky_override"
        )
    ny, nx = frames[0].shape
    out = np.empty((ny, nx), np.float32)
    rows = max(4, int(config.block_mb * 1e6 // (4 * len(frames) * nx)))
    votes = config.min_votes if len(frames) >= 6 else min(2, config.min_votes)

    def block(y0: int) -> None:
        y1 = min(ny, y0 + rows)
        stack = np.empty((len(frames), y1 - y0, nx), np.float32)
        for k, (frame, background, mask) in enumerate(zip(frames, backgrounds, masks, strict=True)):
            data, bad = frame.rows(y0, y1)
            background.subtract_own(data, y0)
            np.divide(data, np.float32(background.scale), out=stack[k])
            stack[k][(bad | mask(y0, y1)) != 0] = np.nan
        count = np.empty((y1 - y0, nx), np.uint16)
        clipped_median(stack, config.clip_sigma, 5, out[y0:y1], count)
        out[y0:y1][count < votes] = np.nan

    for _ in each(block, range(0, ny, rows)):
        pass
    return out


def hot_pixels(sky: Image, config: SkyConfig = SkyConfig()) -> Flags:
    """Flags of pixels whose sky is far from their neighbours': uint8 with Bad.HOT.

    sky : float32 (ny, nx), NaN where no frame saw it (not flagged here)
    """
    work = np.where(np.isfinite(sky), sky, np.float32(1))
    # Clipped twice, so that a few hot neighbours do not make a good pixel look dead.
    wide = ndimage.uniform_filter(np.clip(work, 0.5, 2.0), size=31, mode="nearest")
    around = ndimage.uniform_filter(np.clip(work, wide - 0.05, wide + 0.05), 9, mode="nearest")
    excess = work - around
    sample = excess[::7, ::5]
    limit = config.hot_sigma * 1.4826 * float(np.median(np.abs(sample - np.median(sample))))
    return np.where(np.abs(excess) > max(limit, 0.02), Bad.HOT, 0).astype(np.uint8)


def fill_sky(sky: Image, config: SkyConfig = SkyConfig()) -> Image:
    """The sky with its holes filled, so that it can be subtracted: float32, finite.

    A hole gets the smooth sky around it: after the flat there is no finer structure to guess.
    """
    holes = ~np.isfinite(sky)
    if not holes.any():
        return sky.copy()
    ny, nx = sky.shape
    cell = config.hole_mesh_pix
    shape = (-(-ny // cell), -(-nx // cell))
    values, scatter = np.empty(shape, np.float32), np.empty(shape, np.float32)
    count = np.empty(shape, np.int32)
    cell_modes(np.where(holes, np.float32(0), sky), holes.astype(np.uint8), cell, 0,
               values, scatter, count)  # fmt: skip
    smooth = np.zeros_like(sky)
    add_mesh_rows(smooth, smooth_mesh(values, count), cell, 0, 1.0)
    return np.where(holes, smooth, sky)
