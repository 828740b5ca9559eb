"""Ramps to calibrated frames: trim, flag, divide by the flat; and the making of flats."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Protocol

import numpy as np
from scipy import ndimage

from photometrus.errors import TooFewFrames
from photometrus.frame import NO_MARKS, ArrayPixels, Bad, Flags, Image, Marks, Pixels
from photometrus.instrument import BORDER_PIXELS, UNSOLVED_LIMIT_ADU
from photometrus.kernels.combine import clipped_average, clipped_median
from photometrus.kernels.detrend import calibrate
from photometrus.kernels.mesh import add_mesh_rows, cell_modes
from photometrus.stages.background import BackgroundConfig, smooth_mesh

STRIP_ROWS = 64
"""Rows that are read and calibrated at once: they stay in the cache on the way."""


@dataclass(frozen=True)
class FlatConfig:
    """What may be tuned in the flats."""

    clip_sigma: float = 4.0  # rejection among the pairs (or frames) of a flat
    min_response: float = 0.3  # pixels below are dead
    max_response: float = 2.5  # pixels above are odd
    max_local_deviation: float = 0.25  # from the median of the neighbourhood: dead or odd
    min_pair_contrast: float = 0.02  # a pair of FLATs closer in level than this says nothing
    min_pair_share: float = 0.3  # nor one with less than this share of the best pair's difference
    shape_pix: int = 64  # cell in which the differences of the FLATs give the shape of the response
    own_sigma: float = 4.0  # a pixel whose differences are this far from it has dark current
    max_days_away: int = 400  # a flat further in time than this is not taken


class Raw(Protocol):
    """Rows of a ramp as they are on disk, border included: float32 (y1 - y0, nx)."""

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx) with the border."""
        ...

    def rows(self, y0: int, y1: int) -> Image:
        """Rows y0 to y1 with the border columns."""
        ...

    def strips(self, y0: int, y1: int, height: int) -> Iterator[Image]:
        """Rows y0 to y1, with the border columns, in strips that are overwritten by the next."""
        ...


@dataclass(frozen=True, eq=False)
class Flat:
    """Relative response of a chip, trimmed: float32 (ny, nx), median 1; and its flags."""

    response: Image
    bad: Flags
    source: str

    def window(self, shape: tuple[int, int]) -> "Flat":
        """The part that a smaller frame sees (it starts at the detector's first pixel)."""
        ny, nx = shape
        return Flat(self.response[:ny, :nx], self.bad[:ny, :nx], self.source)


@lru_cache(maxsize=2)  # every frame starts with it: one copy for all of them
def unit_flat(shape: tuple[int, int]) -> Flat:
    """A flat that changes nothing, for data that are already flat (``-no_FF``)."""
    return Flat(np.ones(shape, np.float32), np.zeros(shape, np.uint8), "none")


@dataclass(frozen=True, eq=False)
class CalibratedPixels:
    """A ramp's pixels, trimmed, flagged and flat-fielded while they are read."""

    raw: Raw
    flat: Flat
    marks: Marks = NO_MARKS
    """What is wrong with pixels of this frame only."""

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx) without the border."""
        ny, nx = self.raw.shape
        return ny - 2 * BORDER_PIXELS, nx - 2 * BORDER_PIXELS

    def rows(self, y0: int, y1: int) -> tuple[Image, Flags]:
        """Calibrated rows y0 to y1, float32 ADU per frame, and their flags."""
        nx = self.shape[1]
        out = np.empty((y1 - y0, nx), np.float32)
        bad = np.empty((y1 - y0, nx), np.uint8)
        top = y0
        for strip in self.raw.strips(y0 + BORDER_PIXELS, y1 + BORDER_PIXELS, STRIP_ROWS):
            end = top + strip.shape[0]
            calibrate(
                strip,
                BORDER_PIXELS,
                self.flat.response[top:end],
                self.flat.bad[top:end],
                np.float32(UNSOLVED_LIMIT_ADU),
                np.uint8(Bad.UNSOLVED),
                np.uint8(Bad.DEAD),
                out[top - y0 : end - y0],
                bad[top - y0 : end - y0],
            )
            top = end
        self.marks.add_to(bad, y0)
        return out, bad


def every_nth(pixels: Pixels, every: int = 32) -> ArrayPixels:
    """Every n-th row, in memory: to look at a frame more than once without reading it again."""
    rows = [pixels.rows(y, y + 1) for y in range(every // 2, pixels.shape[0], every)]
    data, bad = zip(*rows, strict=True)
    return ArrayPixels(np.concatenate(data), np.concatenate(bad))


def level(pixels: Pixels, *, every: int = 16) -> float:
    """Median of the good pixels, ADU, from every n-th row; NaN when there is none."""
    sample = []
    for y in range(every // 2, pixels.shape[0], every):
        data, bad = pixels.rows(y, y + 1)
        sample.append(data[bad == 0])
    values = np.concatenate(sample) if sample else np.empty(0)
    return float(np.median(values)) if values.size else float("nan")


def bad_fraction(pixels: Pixels, *, every: int = 16) -> float:
    """Fraction of unusable pixels in every n-th row."""
    rows = range(every // 2, pixels.shape[0], every)
    return float(np.mean([np.mean(pixels.rows(y, y + 1)[1] != 0) for y in rows]))


def flat_bad_pixels(response: Image, config: FlatConfig = FlatConfig()) -> Flags:
    """Pixels whose response is out of bounds or far from their neighbourhood's.

    response : float32 (ny, nx), NaN allowed; returns uint8 (ny, nx) with Bad.DEAD set
    """
    filled = np.where(np.isfinite(response), response, 0).astype(np.float32)
    # A median in 5 x 5 of every second pixel is as good a neighbourhood, at a quarter of the cost.
    coarse = ndimage.median_filter(filled[::2, ::2], size=5, mode="nearest")
    around = np.repeat(np.repeat(coarse, 2, 0), 2, 1)[: response.shape[0], : response.shape[1]]
    with np.errstate(invalid="ignore"):
        good = (
            (response > config.min_response)
            & (response < config.max_response)
            & (np.abs(filled - around) < config.max_local_deviation * np.maximum(around, 0.1))
        )
    return np.where(good, 0, Bad.DEAD).astype(np.uint8)


def _combine(
    layers: Sequence[Callable[[int, int], Image]],
    shape: tuple[int, int],
    sigma: float,
    *,
    average: bool = True,
) -> Image:
    """Clipped mean (or median) of images that give their rows on demand, block by block."""
    out = np.empty(shape, np.float32)
    count = np.empty(shape, np.uint16)
    rows = max(1, int(2e8 // (4 * len(layers) * shape[1])))
    for y0 in range(0, shape[0], rows):
        y1 = min(shape[0], y0 + rows)
        stack = np.stack([layer(y0, y1) for layer in layers])
        if average:
            clipped_average(stack, sigma, 5, out[y0:y1], count[y0:y1], np.zeros(2))
        else:
            clipped_median(stack, sigma, 5, out[y0:y1], count[y0:y1])
    return out


def make_flat(frames: Sequence[Pixels], config: FlatConfig = FlatConfig()) -> Flat:
    """Master flat from FLAT frames by pairwise subtraction, first half against second half.

    frames : uncalibrated pixels (unit flat), in order of time
    The difference of two exposures at different levels is free of dark, bias and glow, but has
    little of their light: it gives the shape of the response, the frames themselves the pixels.
    Pairs whose levels differ by less than `min_pair_contrast` carry noise only and are left out;
    when no pair is left, the frames alone are combined (and `source` says so).
    Raises TooFewFrames when there is no usable frame.
    """
    levels = [level(frame) for frame in frames]
    usable = [k for k, value in enumerate(levels) if np.isfinite(value) and value > 0]
    if not usable:
        raise TooFewFrames(f"flat: none of {len(frames)} FLAT ramps has light; give -flat_dir")
    half = len(usable) // 2
    pairs = [
        (i, j)
        for i, j in zip(usable[:half], usable[half:], strict=False)
        if abs(levels[i] - levels[j]) > config.min_pair_contrast * max(levels[i], levels[j])
    ]
    best = max((abs(levels[i] - levels[j]) for i, j in pairs), default=0.0)
    pairs = [(i, j) for i, j in pairs if abs(levels[i] - levels[j]) > config.min_pair_share * best]
    shape = frames[0].shape

    def good(k: int, y0: int, y1: int) -> Image:
        data, bad = frames[k].rows(y0, y1)
        data[bad != 0] = np.nan
        return data

    def difference(i: int, j: int, y0: int, y1: int) -> Image:
        return (good(i, y0, y1) - good(j, y0, y1)) / np.float32(levels[i] - levels[j])

    def single(k: int, y0: int, y1: int) -> Image:
        return good(k, y0, y1) / np.float32(levels[k])

    layers: list[Callable[[int, int], Image]]
    light = _combine([partial(single, k) for k in usable], shape, config.clip_sigma)
    if not pairs:
        source = f"{len(usable)} FLAT ramps of equal level, not subtracted"
        return finish_flat(light, source, config)
    layers = [partial(difference, i, j) for i, j in pairs]
    clean = _combine(layers, shape, config.clip_sigma)
    source = f"{len(pairs)} pairs of FLAT ramps"
    return finish_flat(shaped(light, clean, config), source, config)


def shaped(light: Image, clean: Image, config: FlatConfig = FlatConfig()) -> Image:
    """The pixels' own response from all the light, its shape from the differences.

    light : float32 (ny, nx), mean of the FLATs: little noise, but dark current and glow are in it
    clean : float32 (ny, nx), of differences of FLATs: free of them, but of several times the noise
    What `light` has too much of is smooth (glow), and found in their ratio; a pixel of its own
    dark current stands out from it and is believed to `clean`.
    """
    ny, nx = light.shape
    cell = config.shape_pix
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = clean / light
    hide = ~np.isfinite(ratio)
    ratio[hide] = 0
    values, scatter = np.empty((2, -(-ny // cell), -(-nx // cell)), np.float32)
    count = np.empty(values.shape, np.int32)
    cell_modes(ratio, hide.astype(np.uint8), cell, 0, values, scatter, count)
    smooth = np.zeros_like(light)
    mesh = smooth_mesh(values, count, BackgroundConfig(mesh_filter=1))
    add_mesh_rows(smooth, mesh, cell, 0, 1.0)
    noise = float(np.nanmedian(scatter[count > 0])) if (count > 0).any() else 0.0
    out = light * smooth
    own = np.abs(clean - out) > config.own_sigma * noise * np.abs(light)
    return np.where(own | hide, clean, out).astype(np.float32)


def make_sky_flat(frames: Sequence[Pixels], config: FlatConfig = FlatConfig()) -> Flat:
    """A flat from dithered science frames: the fallback when there are no FLAT ramps.

    The sky's own colour and gradient get into it; stars are rejected by clipping and median.
    Frames without light are left out. Raises TooFewFrames for fewer than 3 frames: the stars would
    stay in.
    """
    lit = [(frame, value) for frame in frames if (value := level(frame)) > 0]
    if len(lit) < 3:
        raise TooFewFrames(
            f"flat: {len(lit)} science frames with light cannot make one, need 3; give -flat_dir"
        )

    def layer(frame: Pixels, value: float, y0: int, y1: int) -> Image:
        data, bad = frame.rows(y0, y1)
        data[bad != 0] = np.nan
        return data / np.float32(value)

    layers = [partial(layer, frame, value) for frame, value in lit]
    sigma = min(config.clip_sigma, 2.5)
    combined = _combine(layers, frames[0].shape, sigma, average=False)
    return finish_flat(combined, f"{len(lit)} science frames", config)


def finish_flat(response: Image, source: str, config: FlatConfig = FlatConfig()) -> Flat:
    """Normalise to median 1, flag bad pixels and give them a response of 1."""
    response = response / np.float32(np.nanmedian(response))
    bad = flat_bad_pixels(response, config)
    return Flat(np.where(bad != 0, np.float32(1), response), bad, source)
