"""A frame's own background: how much sky it has, and what it has beside the sky.

Beside the sky image, which all frames share, a frame has a smooth residual (the airglow's shape at
its moment, scattered light), an offset for each of the readout channels, which come and go from
ramp to ramp, and offsets of whole rows. All are fitted to the pixels that hide no star.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy import ndimage

from photometrus.frame import Flags, Image, Pixels
from photometrus.instrument import BORDER_PIXELS, CHANNEL_PIXELS
from photometrus.kernels.mesh import (
    cell_medians,
    cell_modes,
    mesh_nodes,
    residual,
    row_sums,
    subtract_sky,
    vote,
)

Mask = Callable[[int, int], Flags]
"""Rows y0 to y1 of a mask, uint8, not 0 where a star is."""


class Rows(Protocol):
    """Rows of a float32 image, in memory or on disk."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(ny, nx)."""
        ...

    def __getitem__(self, rows: Any) -> Image:
        """The image's ``[y0:y1]``."""
        ...


STRIP_ROWS = 128
"""Rows that are looked at at once, about: they stay in the cache."""
SMOOTH_CHANNELS = 10.0
"""Penalty on the curvature of what is smooth over the channels: in three rounds half of a wave of
sixteen channels is taken for airglow, shorter ones for the channels' own."""
MIN_CHANNELS = 6
"""With fewer (a window of the chip) airglow and channels cannot be told apart."""
MIN_ROW_EXCESS = 0.1
"""Rows are corrected when they scatter by more than their pixels' noise explains, by this
fraction: 2.5 times what 4000 rows differ by chance."""


@dataclass(frozen=True)
class BackgroundConfig:
    """What may be tuned in a frame's own background."""

    mesh_pix: int = 128  # cell of the smooth residual; 128, 64...: aligned with the channels
    mesh_filter: int = 3  # median filter over that many cells
    min_cell_fraction: float = 0.15  # a cell with fewer sky pixels is interpolated
    channels: bool = True  # take out the offsets of the readout channels
    rows: bool = True  # take out offsets of rows, when the rows show any


@dataclass(frozen=True, eq=False)
class Background:
    """What a frame has beside its stars: `scale` times the sky image, and what is its own."""

    scale: float
    mesh: Image
    """Smooth residual, ADU, at the centres of the cells."""
    cell: int
    columns: Image
    """Offset of each column's readout channel, ADU: float32 (nx,)."""
    rows: Image
    """Offset of each row, ADU: float32 (ny,)."""

    def subtract(self, data: Image, sky: Rows, y0: int) -> None:
        """Take all of it out of rows y0... of a frame, in place (`data` is the caller's own)."""
        y1 = y0 + data.shape[0]
        subtract_sky(
            data, sky[y0:y1], np.float32(self.scale),
            self.mesh, self.cell, self.columns, self.rows[y0:y1], y0, BORDER_PIXELS,
        )  # fmt: skip

    def vote(self, data: Image, bad: Flags, hide: Flags, y0: int, out: Image) -> None:
        """What rows y0... say of the sky, in units of its level: sets `out`, NaN for nothing.

        What is the frame's own is left out. bad, hide : not 0 where it has no vote
        """
        vote(
            data, bad, hide, np.float32(self.scale),
            self.mesh, self.cell, self.columns, self.rows[y0 : y0 + data.shape[0]], y0,
            BORDER_PIXELS, out,
        )  # fmt: skip


def flat_background(scale: float, shape: tuple[int, int], cell: int) -> Background:
    """A background that is all sky."""
    ny, nx = shape
    zeros = np.zeros(_cells(shape, cell), np.float32)
    return Background(scale, zeros, cell, np.zeros(nx, np.float32), np.zeros(ny, np.float32))


def fit_background(
    pixels: Pixels,
    sky: Rows,
    mask: Mask,
    scale: float,
    config: BackgroundConfig = BackgroundConfig(),
) -> tuple[Background, float]:
    """A frame's background against a sky image; and the scatter of its sky pixels, ADU.

    The scale is where the residual does not follow the sky image's own structure any more: a
    robust regression of the frame on the sky over the pixels that hide no star.
    """
    ny, nx = pixels.shape
    cell = config.mesh_pix
    shape = _cells((ny, nx), cell)
    values, scatter = np.empty(shape, np.float32), np.empty(shape, np.float32)
    count = np.empty(shape, np.int32)
    sums = np.empty((ny, shape[1]), np.float32)
    n_row = np.empty((ny, shape[1]), np.int32)
    step = max(1, STRIP_ROWS // cell)
    room = np.empty((step * cell, nx), np.float32), np.empty((step * cell, nx), np.uint8)
    for j in range(0, shape[0], step):
        y0, y1 = max(0, j * cell - BORDER_PIXELS), min(ny, (j + step) * cell - BORDER_PIXELS)
        data, hide = room[0][: y1 - y0], room[1][: y1 - y0]
        residual(*pixels.rows(y0, y1), mask(y0, y1), sky[y0:y1], np.float32(scale), data, hide)
        cell_modes(data, hide, cell, y0, values, scatter, count, BORDER_PIXELS)
        row_sums(data, hide, cell, y0, values, scatter, sums, n_row, BORDER_PIXELS)
    # What follows the sky image in the residual belongs to the scale, and not to the mesh.
    structure = _cell_medians(sky, cell)
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = (values / structure)[count > 0]
    excess = excess[np.isfinite(excess)]
    common = np.float32(np.median(excess) if excess.size else 0.0)
    values -= common * structure
    sums -= common * n_row * np.repeat(structure, cell, axis=0)[BORDER_PIXELS:][:ny]
    noise = float(np.nanmedian(scatter[count > 0])) if (count > 0).any() else float("nan")
    offsets = channel_offsets(values, count, config) if config.channels else np.zeros(shape[1])
    offsets = offsets.astype(np.float32)
    mesh = smooth_mesh(values - offsets, count, config)
    rows = np.zeros(ny, np.float32)
    if config.rows and noise > 0:
        smooth = np.empty_like(sums)
        mesh_nodes(mesh, cell, smooth, BORDER_PIXELS)
        rows = row_offsets(sums - n_row * (smooth + offsets), n_row, noise)
    columns = np.repeat(offsets, cell)[BORDER_PIXELS:][:nx]
    return Background(scale + float(common), mesh, cell, columns, rows), noise


def _cells(shape: tuple[int, int], cell: int) -> tuple[int, int]:
    """How many cells of the detector, border included, an image has."""
    return tuple(-(-(n + BORDER_PIXELS) // cell) for n in shape)  # type: ignore[return-value]


def _cell_medians(sky: Rows, cell: int) -> Image:
    """The sky image's own level in each cell, from every eighth pixel: float32 (gy, gx)."""
    ny, nx = sky.shape
    out = np.empty(_cells((ny, nx), cell), np.float32)
    for j in range(out.shape[0]):
        strip = sky[max(0, j * cell - BORDER_PIXELS) : (j + 1) * cell - BORDER_PIXELS]
        cell_medians(np.ascontiguousarray(strip), cell, 8, out[j], BORDER_PIXELS)
    return out


def channel_offsets(
    values: Image, count: Image, config: BackgroundConfig = BackgroundConfig()
) -> Image:
    """The offset of each column of cells that its readout channel has: float64 (gx,), ADU.

    values : float32 (gy, gx), levels of the cells; count : how many pixels made each
    A plane with curvature is taken out (a cubic along the channels, whose ends would bend else),
    the median over a channel's cells is its level, and what is smooth from channel to channel is
    left to the mesh (Whittaker 1923). 0 for fewer than
    MIN_CHANNELS channels, or cells that do not fit into them.
    """
    per_channel, rest = divmod(CHANNEL_PIXELS, config.mesh_pix)
    gy, gx = values.shape
    n = -(-gx // per_channel) if per_channel else 0
    good = np.isfinite(values) & (count >= config.min_cell_fraction * max(1, int(count.max())))
    if rest or n < MIN_CHANNELS or np.count_nonzero(good) < 4 * n:
        return np.zeros(gx)
    channel = np.arange(gx) // per_channel
    y, x = np.meshgrid(np.linspace(-1, 1, gy), np.linspace(-1, 1, gx), indexing="ij")
    design = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y, x**3], axis=-1)
    offsets = np.zeros(n)
    for _ in range(3):
        flat = np.where(good, values - offsets[channel], np.nan)
        flat = flat - design @ _robust_fit(design[good], flat[good])
        offsets += _rough(_channel_medians(flat, n, per_channel))
    return offsets[channel]


def _channel_medians(values: Image, n: int, per_channel: int) -> Image:
    """The median over each channel's cells, float64 (n,); NaN for fewer than three good ones."""
    gy, gx = values.shape
    whole = np.full((gy, n * per_channel), np.nan)
    whole[:, :gx] = values
    # Sorted, NaN last: for so few numbers quicker than numpy's nanmedian.
    cells = np.sort(whole.reshape(gy, n, per_channel).transpose(1, 0, 2).reshape(n, -1), axis=1)
    good = np.isfinite(cells).sum(axis=1)
    every = np.arange(n)
    middle = 0.5 * (cells[every, np.maximum(good - 1, 0) // 2] + cells[every, good // 2])
    return np.where(good >= 3, middle, np.nan)


def _robust_fit(design: Image, target: Image) -> Image:
    """Coefficients of a least-squares fit, clipped three times at 3 sigma."""
    keep = np.ones(target.size, bool)
    for _ in range(3):
        terms = np.linalg.lstsq(design[keep], target[keep], rcond=None)[0]
        left = np.abs(target - design @ terms)
        keep = left <= 3 * 1.4826 * np.median(left[keep]) + 1e-12
        if keep.sum() <= 2 * design.shape[1]:
            break
    return terms


def _rough(level: Image) -> Image:
    """A line of numbers less what is smooth in it; 0 where it is NaN."""
    known = np.isfinite(level)
    bend = np.diff(np.eye(level.size), n=2, axis=0)
    matrix = np.diag(known.astype(float)) + SMOOTH_CHANNELS * bend.T @ bend
    smooth = np.linalg.solve(matrix, np.where(known, level, 0.0))
    return np.where(known, level - smooth, 0.0)


def row_offsets(sums: Image, count: Image, noise: float) -> Image:
    """Offset of each row, ADU, float32 (ny,); zeros when the rows' scatter is their pixels' noise.

    sums, count : float32, int32 (ny, gx), of the residuals of each row's sky pixels, per cell
    noise : of a pixel. What noise explains of the scatter is left in (James & Stein 1961).
    """
    n = count.sum(axis=1)
    enough = n > 0.1 * max(1, int(n.max()))
    if np.count_nonzero(enough) < 100:
        return np.zeros(n.size, np.float32)
    mean = np.where(enough, sums.sum(axis=1) / np.maximum(n, 1), 0.0)
    # From neighbours' differences: a gradient that is left over is not the rows' own.
    pairs = enough[1:] & enough[:-1]
    difference = np.diff(mean)[pairs]
    variance = 0.5 * (1.4826 * float(np.median(np.abs(difference)))) ** 2
    expected = noise**2 / np.maximum(n, 1)
    typical = float(np.median(expected[enough]))
    if variance < (1 + MIN_ROW_EXCESS) * typical:
        return np.zeros(n.size, np.float32)
    excess = variance - typical
    mean -= np.median(mean[enough])
    return np.where(enough, mean * excess / (excess + expected), 0.0).astype(np.float32)


def smooth_mesh(
    values: Image, count: Image, config: BackgroundConfig = BackgroundConfig()
) -> Image:
    """Cells with too few sky pixels filled from their neighbours, then median-filtered."""
    enough = np.isfinite(values) & (count >= config.min_cell_fraction * max(1, int(count.max())))
    if not enough.any():
        return np.zeros(values.shape, np.float32)
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
