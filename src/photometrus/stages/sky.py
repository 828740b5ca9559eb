"""The infrared sky: its image from the dithered frames."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photometrus.errors import TooFewFrames
from photometrus.frame import Bad, Flags, Image, Pixels
from photometrus.instrument import BORDER_PIXELS
from photometrus.kernels.combine import (
    clipped_average,
    clipped_median,
    shrink,
    undo_share,
)
from photometrus.kernels.lines import box_means, line_means
from photometrus.kernels.mesh import add_mesh_rows, cell_modes
from photometrus.stages.background import Background, BackgroundConfig, Mask, Rows, smooth_mesh
from photometrus.workers import Each

HIDDEN_SIGMA = 4.0
"""Where stars are hidden there is less to reject: at 3 sigma of nine values 3 % of good ones go."""


@dataclass(frozen=True)
class SkyConfig:
    """What may be tuned in the sky."""

    clip_sigma: float = 3.0  # rejection among the frames, in units of the pixel's scatter
    min_frames: int = 3  # fewer cannot tell stars from sky
    enough_frames: int = 12  # with fewer in the stack, those that were left out vote, too
    min_window: int = 9  # a running sky has at least so many frames
    min_drift: float = 0.5  # change of the sky, relative to its noise, from which it is running
    min_votes: int = 3  # frames that must have seen sky at a pixel (2 of fewer than six frames)
    block_mb: float = 12.0  # memory for one block of rows of all frames: it stays in the cache
    smooth_pix: int = 32  # cell of the smooth sky, which fills what no frame saw
    hot_sigma: float = 8.0  # a pixel of the sky this far above its neighbours is hot


STRIP_ROWS = 256
"""Rows of the sky that a thread works on."""
WIDE_BOX, NEAR_BOX = 31, 9
"""Sides of the boxes of neighbours that a hot pixel is compared with."""


def no_mask(shape: tuple[int, int]) -> Mask:
    """A mask that hides nothing."""
    return lambda y0, y1: np.zeros((y1 - y0, shape[1]), np.uint8)


@dataclass(frozen=True, eq=False)
class Votes:
    """What the frames say of the sky, in units of its level."""

    image: Image
    """float32 (ny, nx); NaN where too few frames saw sky."""
    count: NDArray[Any]
    """uint16 (ny, nx), frames that were used."""
    noise: float
    """Scatter of one frame's pixel; NaN when it was not asked for."""


@dataclass(frozen=True, eq=False)
class Sky:
    """The sky as it is subtracted, in units of its own level: float32 (ny, nx), finite."""

    image: Rows
    share: Rows | None = None
    """By which part of itself the residual of a frame that voted is too small; None: not at all."""

    def give_back(self, data: Image, bad: Flags, mask: Mask, y0: int) -> None:
        """Undo what a frame's own vote took from rows y0... of its residual, in place.

        bad, mask : where the frame did not vote
        """
        if self.share is not None:
            y1 = y0 + data.shape[0]
            undo_share(data, self.share[y0:y1], bad, mask(y0, y1))


def make_sky(
    frames: Sequence[Pixels],
    backgrounds: Sequence[Background],
    masks: Sequence[Mask],
    config: SkyConfig = SkyConfig(),
    *,
    average: bool = False,
    each: Each = map,
) -> Votes:
    """The sky of a sequence of frames in units of its own level, about 1.

    Each frame, less what is its own, is divided by its level; stars are hidden by `masks` and by
    clipping; the rest is the median over the frames, or, with `average`, their mean: less noisy,
    for frames in which all stars are hidden. Where fewer than `min_votes` frames (of six or more;
    else two) saw sky it is NaN: a frame alone would be subtracted from itself.
    Raises TooFewFrames for fewer than `min_frames`.
    """
    if len(frames) < config.min_frames:
        raise TooFewFrames(
            f"sky: {len(frames)} frames, need {config.min_frames}; "
            "add ramps, lower sky.min_frames or give -sky_override"
        )
    ny, nx = frames[0].shape
    out = np.empty((ny, nx), np.float32)
    count = np.empty((ny, nx), np.uint16)
    rows = max(4, int(config.block_mb * 1e6 // (4 * len(frames) * nx)))
    votes = config.min_votes if len(frames) >= 6 else min(2, config.min_votes)

    def block(y0: int) -> NDArray[Any]:
        y1 = min(ny, y0 + rows)
        stack = _votes(frames, backgrounds, masks, y0, y1)
        scatter = np.zeros(2)
        if average:
            clipped_average(
                stack, max(config.clip_sigma, HIDDEN_SIGMA), 5, out[y0:y1], count[y0:y1], scatter
            )
        else:
            clipped_median(stack, config.clip_sigma, 5, out[y0:y1], count[y0:y1])
        out[y0:y1][count[y0:y1] < votes] = np.nan
        return scatter

    total, n = np.sum(list(each(block, range(0, ny, rows))), axis=0)
    return Votes(out, count, float(np.sqrt(total / n)) if n else float("nan"))


def _votes(
    frames: Sequence[Pixels],
    backgrounds: Sequence[Background],
    masks: Sequence[Mask],
    y0: int,
    y1: int,
) -> NDArray[Any]:
    """What each frame says of rows y0 to y1 of the sky: float32 (n, y1 - y0, nx), NaN: nothing."""
    stack = np.empty((len(frames), y1 - y0, frames[0].shape[1]), np.float32)
    for k, (frame, background, mask) in enumerate(zip(frames, backgrounds, masks, strict=True)):
        data, bad = frame.rows(y0, y1)
        background.vote(data, bad, mask(y0, y1), y0, stack[k])
    return stack


def window(
    frames: Sequence[Pixels],
    backgrounds: Sequence[Background],
    masks: Sequence[Mask],
    config: SkyConfig = SkyConfig(),
) -> int:
    """From how many neighbours in time a frame's sky is best made: all, unless the sky changes.

    What is smooth follows each frame anyway. From some of the rows: by how much more than their
    noise the means of the first and of the last third differ, pixel by pixel. A sky of w frames has
    1 / w of a frame's variance as noise; one that drifts by a random walk of variance d over N
    frames is by d w / 4 N wrong at its ends. The sum is least for w = sqrt(4 N noise / d).
    """
    n = len(frames)
    if n < 2 * config.min_window:
        return n
    third = n // 3
    pairs, noises = [], []
    for y0 in range(64, frames[0].shape[0] - 8, max(256, frames[0].shape[0] // 16)):
        stack = _votes(frames, backgrounds, masks, y0, y0 + 8)
        ends = (stack[:third], stack[-third:])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # pixels that nobody saw
            early, late = (np.nanmedian(end, axis=0) for end in ends)
            noises.append(np.nanmedian(np.abs(np.diff(stack, axis=0))))
        counts = [np.isfinite(end).sum(axis=0) for end in ends]
        seen = (counts[0] > third // 2) & (counts[1] > third // 2)
        difference = (late - early)[seen]
        pairs.append(difference - np.median(difference))
    difference = np.concatenate(pairs)
    if difference.size < 1000:
        return n
    noise2 = (1.4826 * float(np.median(noises))) ** 2 / 2
    found = (1.4826 * float(np.median(np.abs(difference)))) ** 2
    # Two medians of a third of the frames, less what masks hide of them.
    drift = found - 2 * (np.pi / 2) * noise2 / third * 1.25
    if drift <= config.min_drift * noise2 / third:
        return n
    best = round(float(np.sqrt(4 * n * noise2 / (1.5 * drift))))
    return n if best > n / 1.5 else max(config.min_window, best)


def windows(n: int, width: int) -> list[tuple[range, range]]:
    """Of a sequence of n frames: (those that a sky is made of, those from which it is subtracted).

    Each is made of `width` neighbours and serves the quarter of them in its middle; the first and
    the last serve to the ends.
    """
    if width >= n:
        return [(range(n), range(n))]
    hop = max(1, width // 4)
    out = []
    for first in range(0, n, hop):
        last = min(n, first + hop)
        start = min(max(0, (first + last - width) // 2), n - width)
        out.append((range(start, start + width), range(first, last)))
    return out


def settle(votes: Votes, config: SkyConfig = SkyConfig(), each: Each = map) -> Sky:
    """The sky to subtract: each pixel as far from what is smooth around it as it deserves.

    A sky of N frames brings 1 / N of their variance into each of them. Where the flat has taken
    out what distinguishes the pixels, most of that is needless: how much the pixels truly differ
    is measured, and the votes count as much as they know better (James & Stein 1961).
    `votes` is used up: its image becomes the sky's.
    """
    image = votes.image
    smooth = _smooth(image, config, each)
    sample = (image[3::7, 2::5] - smooth[3::7, 2::5]).ravel()
    sample = sample[np.isfinite(sample)]
    spread = 1.4826 * float(np.median(np.abs(sample - np.median(sample)))) if sample.size else 0.0
    # What whole columns and rows have in common is known far better than a pixel.
    columns, rows = np.empty(image.shape[1]), np.empty(image.shape[0])
    line_means(image, smooth, np.float32(3 * spread), columns, rows)
    noise2 = votes.noise**2 if np.isfinite(votes.noise) else 0.0
    typical = float(np.median(noise2 / np.maximum(votes.count[3::7, 2::5], 1)))
    share = np.empty_like(image)
    variance = max(spread**2 - typical, 0.0)

    def strip(y0: int) -> None:
        own = slice(y0, y0 + STRIP_ROWS)
        smooth[own] += columns.astype(np.float32)
        smooth[own] += rows.astype(np.float32)[own, None]
        shrink(image[own], smooth[own], votes.count[own], noise2, variance, share[own])

    for _ in each(strip, range(0, image.shape[0], STRIP_ROWS)):
        pass
    return Sky(image, share)


def hot_pixels(sky: Image, config: SkyConfig = SkyConfig(), each: Each = map) -> Flags:
    """Flags of pixels whose sky is far from their neighbours': uint8 with Bad.HOT.

    sky : float32 (ny, nx), NaN where no frame saw it (not flagged here)
    """
    excess = np.empty_like(sky)

    def strip(y0: int) -> None:
        # A strip with the rows that its pixels' boxes reach.
        top = max(0, y0 - WIDE_BOX)
        work = sky[top : y0 + STRIP_ROWS + WIDE_BOX]
        work = np.where(np.isfinite(work), work, np.float32(1))
        # Clipped twice, so that a few hot neighbours do not make a good pixel look dead.
        around = np.empty_like(work)
        low, high = (np.broadcast_to(np.float32(limit), work.shape) for limit in (0.5, 2.0))
        box_means(work, low, high, WIDE_BOX, around)
        low, high = around - np.float32(0.05), around + np.float32(0.05)
        box_means(work, low, high, NEAR_BOX, around)
        own = slice(y0 - top, y0 - top + STRIP_ROWS)
        np.subtract(work[own], around[own], out=excess[y0 : y0 + STRIP_ROWS])

    for _ in each(strip, range(0, sky.shape[0], STRIP_ROWS)):
        pass
    sample = excess[::7, ::5]
    limit = config.hot_sigma * 1.4826 * float(np.median(np.abs(sample - np.median(sample))))
    hot = np.abs(excess, out=excess) > max(limit, 0.02)
    return hot * np.uint8(Bad.HOT)


def fill_sky(sky: Image, config: SkyConfig = SkyConfig(), each: Each = map) -> Image:
    """The sky with its holes filled, so that it can be subtracted: float32, finite.

    A hole gets the smooth sky around it: after the flat there is no finer structure to guess.
    """
    holes = ~np.isfinite(sky)
    if not holes.any():
        return sky.copy()
    return np.where(holes, _smooth(sky, config, each), sky)


def _smooth(sky: Image, config: SkyConfig, each: Each) -> Image:
    """What is smooth in a sky with holes (NaN): float32, finite."""
    cell = config.smooth_pix
    shape = tuple(-(-(n + BORDER_PIXELS) // cell) for n in sky.shape)
    values, scatter = np.empty(shape, np.float32), np.empty(shape, np.float32)
    count = np.empty(shape, np.int32)
    smooth = np.zeros_like(sky)
    tops = range(-BORDER_PIXELS, sky.shape[0], STRIP_ROWS // cell * cell or cell)

    def look(top: int) -> None:
        y0 = max(0, top)
        strip = sky[y0 : top + tops.step]
        # What is hidden is not looked at: NaN may stay in the holes.
        holes = (~np.isfinite(strip)).view(np.uint8)
        cell_modes(strip, holes, cell, y0, values, scatter, count, BORDER_PIXELS)

    for _ in each(look, tops):
        pass
    mesh = smooth_mesh(values, count, BackgroundConfig(mesh_filter=1))

    def fill(top: int) -> None:
        y0 = max(0, top)
        add_mesh_rows(smooth[y0 : top + tops.step], mesh, cell, y0, 1.0, BORDER_PIXELS)

    for _ in each(fill, tops):
        pass
    return smooth
