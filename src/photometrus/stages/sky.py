"""The infrared sky: its image from the dithered frames, its level and gradient in each of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from photometrus.errors import TooFewFrames
from photometrus.frame import Bad, Flags, Image, Pixels
from photometrus.kernels.combine import clipped_median
from photometrus.kernels.mesh import add_mesh_rows, cell_modes
from photometrus.workers import Each

Mask = Callable[[int, int], Flags]
"""Rows y0 to y1 of a mask, uint8, not 0 where a star is."""


@dataclass(frozen=True)
class SkyConfig:
    """What may be tuned in the sky."""

    clip_sigma: float = 3.0  # rejection among the frames, in units of the pixel's scatter
    min_frames: int = 3  # fewer cannot tell stars from sky
    min_votes: int = 3  # frames that must have seen sky at a pixel (2 of fewer than six frames)
    block_mb: float = 96.0  # memory for one block of rows of all frames
    mesh_pix: int = 128  # cell of the residual background
    mesh_filter: int = 3  # median filter over that many cells
    min_cell_fraction: float = 0.15  # a cell with fewer sky pixels is interpolated
    hot_sigma: float = 8.0  # a pixel of the sky this far above its neighbours is hot


@dataclass(frozen=True, eq=False)
class Background:
    """What a frame's sky is: `scale` times the sky image plus a smooth residual on a mesh."""

    scale: float
    mesh: Image
    cell: int

    def subtract(self, data: Image, sky: Image, y0: int) -> None:
        """Take the sky out of rows y0... of a frame, in place (`data` is the caller's own)."""
        data -= np.float32(self.scale) * sky[y0 : y0 + data.shape[0]]
        add_mesh_rows(data, self.mesh, self.cell, y0, -1.0)


def flat_background(scale: float, shape: tuple[int, int], cell: int) -> Background:
    """A background without residual."""
    ny, nx = shape
    return Background(scale, np.zeros((-(-ny // cell), -(-nx // cell)), np.float32), cell)


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
            add_mesh_rows(data, background.mesh, background.cell, y0, -1.0)
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
    cell = max(8, config.mesh_pix // 2)
    shape = (-(-ny // cell), -(-nx // cell))
    values, scatter = np.empty(shape, np.float32), np.empty(shape, np.float32)
    count = np.empty(shape, np.int32)
    cell_modes(np.where(holes, np.float32(0), sky), holes.astype(np.uint8), cell, 0,
               values, scatter, count)  # fmt: skip
    smooth = np.zeros_like(sky)
    add_mesh_rows(smooth, smooth_mesh(values, count, config), cell, 0, 1.0)
    return np.where(holes, smooth, sky)


def fit_background(
    pixels: Pixels, sky: Image, mask: Mask, scale: float, config: SkyConfig = SkyConfig()
) -> tuple[Background, float]:
    """How much sky a frame has: a scale fitted to it and a smooth residual; and its noise, ADU.

    The scale is where the residual does not follow the sky image's own structure any more: a
    robust regression of the frame on the sky over the pixels that hide no star.
    """
    ny, nx = pixels.shape
    cell = config.mesh_pix
    shape = (-(-ny // cell), -(-nx // cell))
    values, scatter = np.empty(shape, np.float32), np.empty(shape, np.float32)
    count = np.empty(shape, np.int32)
    for y0 in range(0, ny, cell):
        y1 = min(ny, y0 + cell)
        data, bad = pixels.rows(y0, y1)
        data -= np.float32(scale) * sky[y0:y1]
        cell_modes(data, bad | mask(y0, y1), cell, y0, values, scatter, count)
    # What follows the sky image in the residual belongs to the scale, and not to the mesh.
    structure = _cell_medians(sky, cell)
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = (values / structure)[count > 0]
    excess = excess[np.isfinite(excess)]
    common = float(np.median(excess)) if excess.size else 0.0
    mesh = smooth_mesh(values - np.float32(common) * structure, count, config)
    noise = float(np.nanmedian(scatter[count > 0])) if (count > 0).any() else float("nan")
    return Background(scale + common, mesh, cell), noise


def _cell_medians(sky: Image, cell: int) -> Image:
    """The sky image's own level in each cell, from every eighth pixel: float32 (gy, gx)."""
    ny, nx = sky.shape
    out = np.empty((-(-ny // cell), -(-nx // cell)), np.float32)
    for j in range(out.shape[0]):
        for i in range(out.shape[1]):
            part = sky[j * cell : (j + 1) * cell, i * cell : (i + 1) * cell]
            y, x = min(4, part.shape[0] // 2), min(4, part.shape[1] // 2)
            out[j, i] = np.median(part[y::8, x::8])
    return out


def smooth_mesh(values: Image, count: Any, config: SkyConfig = SkyConfig()) -> Image:
    """Cells with too few sky pixels filled from their neighbours, then median-filtered."""
    enough = np.isfinite(values) & (count >= config.min_cell_fraction * max(1, int(count.max())))
    if not enough.any():
        return np.zeros_like(values)
    weight = enough.astype(float)
    filled = np.where(enough, values, 0.0).astype(float)
    sigma = 0.7
    result = np.where(enough, filled, np.nan)
    while np.isnan(result).any():
        norm = ndimage.gaussian_filter(weight, sigma, mode="nearest")
        near = ndimage.gaussian_filter(filled, sigma, mode="nearest")
        can = np.isnan(result) & (norm > 1e-3)
        result[can] = near[can] / norm[can]
        sigma *= 1.5
    if min(result.shape) >= config.mesh_filter:
        result = ndimage.median_filter(result, size=config.mesh_filter, mode="nearest")
    return result.astype(np.float32)
