"""What a frame shows that is not the sky's, pixel by pixel and each for its reason.

Saturated cores; satellite trails; cosmic rays, by comparison with the other dithers (with the
only frame there is: by their sharpness); and the persistence of stars that saturated the same
pixels in earlier frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astroscrappy import detect_cosmics
from numpy.typing import NDArray

from photometrus.frame import NO_MARKS, Bad, Flags, Image, Marks
from photometrus.kernels.artifacts import (
    Expectation,
    bin_sums,
    line_sums,
    mark_outliers,
    not_usable,
    saturated_cores,
)

Array = Any  # float64 array
BIN = 8
"""Pixels on a side of the bins in which lines are looked for."""
CLIP = 3.0
"""A bin counts no more than this many sigma: a line is long, a star is bright."""
REACH_PIX = 24
"""A trail's curve is looked for at this distance from a straight line."""
WIDEST_PIX = 60
SEGMENTS = 32


@dataclass(frozen=True)
class ArtifactsConfig:
    """What may be tuned in the masks of what is not the sky's."""

    cosmic_sigma: float = 5.5  # above what the other frames say, in units of the pixel's noise
    cosmic_detail: float = 3.0
    """Plus this times the range of the stack's nearest pixels: a frame of 1.2 arcsec sticks out of
    a stack of 1.5 arcsec, on double pixels, by twice that."""
    cosmic_reach_sigma: float = 2.5  # of the neighbours that belong to it
    hot_fraction: float = 0.4  # an outlier in more of the frames (and in 3) is a hot pixel
    trail_sigma: float = 10.0  # significance of a line through the chip
    max_trails: int = 8  # per frame
    core_sigma: float = 100.0  # height of a flat top, or beside unsolved pixels
    core_grow_pix: int = 2  # around a saturated core
    persistence_s: float = 1800.0  # saturated cores are remembered so long
    persistence_sigma: float = 0.2  # afterglow above this, in units of the noise, is masked


@dataclass(frozen=True)
class Trail:
    """A satellite's: where its straight line begins and ends, and how wide it is, pixels."""

    x0: float
    y0: float
    x1: float
    y1: float
    half_width: float
    peak_sigma: float


@dataclass(frozen=True, eq=False)
class Found:
    """What was found in a frame."""

    marks: Marks
    trails: tuple[Trail, ...]
    afterglow: tuple[tuple[int, float, float, float], ...]
    """Of earlier frames' saturated cores: the frame, seconds since, mean excess here, its error."""


def find_cores(
    data: Image, bad: Flags, noise: float, config: ArtifactsConfig = ArtifactsConfig()
) -> NDArray[np.int64]:
    """Flat indices of the pixels that stars saturated: int64 (n,), sorted.

    data : float32 (ny, nx), sky subtracted, ADU; bad : uint8 flags; noise : of a sky pixel
    """
    core = np.zeros(data.shape, np.uint8)
    height = np.float32(config.core_sigma * noise)
    saturated_cores(data, bad, np.uint8(Bad.UNSOLVED), height, core)
    return np.flatnonzero(core.view(bool))


@dataclass(frozen=True, eq=False)
class Compared:
    """A frame beside what the other frames say of it.

    left : float32 (ny, nx), sky subtracted, ADU, less what the others say (`subtract_expected`),
        NaN where they say nothing; the only frame there is stays as it is
    bad : uint8 (ny, nx), gets more flags
    seen : what the others say; None for the only frame
    hide : uint8, not 0 where stars are; noise : of a sky pixel, ADU; gain : electrons per ADU
    floor : what the range of an expectation is of noise alone, ADU
    """

    left: Image
    bad: Flags
    seen: Expectation | None
    hide: Flags
    noise: float
    gain: float
    floor: float = 0.0

    def unusable(self) -> NDArray[np.bool_]:
        """Where nothing can be said, or stars would disturb: bool (ny, nx).

        They were not taken from an only frame, and do not disturb there.
        """
        out = np.empty(self.left.shape, bool)
        not_usable(self.left, self.bad, self.bad if self.seen is None else self.hide, out)
        return out


def find_artifacts(
    frame: Compared,
    cores: NDArray[np.int64],
    earlier: Sequence[tuple[int, float, NDArray[np.int64]]] = (),
    config: ArtifactsConfig = ArtifactsConfig(),
) -> Found:
    """Trails, cosmic rays and saturated cores of one frame; and the afterglow of earlier cores.

    cores : of `find_cores`
    earlier : (number of the frame, seconds since, its cores) of frames before this one
    """
    known = frame.bad != 0
    grow_cores(frame.bad, cores, config.core_grow_pix)
    left = frame.left
    trails = find_trails(left, frame.unusable(), frame.noise, config)
    for trail in trails:
        draw_trail(frame.bad, trail)
    mark_cosmic_rays(frame, config)
    flat, hidden, bad = left.reshape(-1), frame.hide.reshape(-1), frame.bad.reshape(-1)
    glow = []
    for number, seconds, where in earlier:
        value = flat[where][(bad[where] == 0) & (hidden[where] == 0)]
        value = value[np.isfinite(value)]
        if value.size >= 10:
            mean = float(np.mean(np.clip(value, -3 * frame.noise, 10 * frame.noise)))
            glow.append((number, seconds, mean, frame.noise / np.sqrt(value.size)))
    new = np.flatnonzero((frame.bad != 0) > known)
    return Found(Marks(new, bad[new]), tuple(line.trail for line in trails), tuple(glow))


def mark_cosmic_rays(frame: Compared, config: ArtifactsConfig) -> None:
    """Flag cosmic rays: what the other frames do not show; in an only frame what is too sharp.

    The latter by L.A.Cosmic (van Dokkum 2001) as astroscrappy has it.
    """
    if frame.seen is not None:
        mark_outliers(
            frame.left, frame.bad, frame.seen, np.float32(frame.noise), np.float32(frame.gain),
            np.float32(config.cosmic_detail), np.float32(frame.floor),
            np.float32(config.cosmic_sigma), np.float32(config.cosmic_reach_sigma),
            np.uint8(Bad.COSMIC),
        )  # fmt: skip
        return
    found, _ = detect_cosmics(
        frame.left * np.float32(frame.gain),
        inmask=frame.bad != 0,
        invar=np.full(frame.left.shape, (frame.noise * frame.gain) ** 2, np.float32)
        + np.maximum(frame.left, 0) * np.float32(frame.gain),
        sigclip=config.cosmic_sigma,
        objlim=5.0,
        niter=1,
        gain=1.0,
        readnoise=0.0,
        satlevel=np.inf,
        cleantype="medmask",
    )
    frame.bad[found & (frame.bad == 0)] |= np.uint8(Bad.COSMIC)


def grow_cores(bad: Flags, cores: NDArray[np.int64], reach: int) -> None:
    """Flag saturated cores and what is within `reach` pixels of them, in place."""
    ny, nx = bad.shape
    y, x = np.divmod(cores, nx)
    flat = bad.reshape(-1)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            if dx * dx + dy * dy <= reach * reach + 1:
                a, b = np.clip(x + dx, 0, nx - 1), np.clip(y + dy, 0, ny - 1)
                flat[b * nx + a] |= np.uint8(Bad.SATURATED)


# ---------------------------------------------------------------- satellites


@dataclass(frozen=True, eq=False)
class Line:
    """A trail with the curve that it really follows."""

    trail: Trail
    bend: Array
    """Polynomial of the distance from the straight line, pixels, over 0..1 along it."""
    extent: tuple[float, float]


def find_trails(
    left: Image, unusable: NDArray[np.bool_], noise: float, config: ArtifactsConfig
) -> list[Line]:
    """Lines that cross a frame from which the stars were taken.

    left : float32 (ny, nx), ADU; unusable : bool (ny, nx); noise : of a pixel, ADU
    The straight line that is most significant over bins of 8 pixels; then its curve, extent and
    width from the pixels. A line that is not a narrow ridge in its pixels is none.
    """
    z, valid = _binned(left, unusable, noise)
    found: list[Line] = []
    for _ in range(config.max_trails):
        significance, ends = _best_line(z, valid)
        if significance < config.trail_sigma:
            break
        line = _trace(left, unusable, noise, ends)
        if line is not None:
            found.append(line)
        _blank(z, valid, ends)
    return found


def _binned(left: Image, unusable: NDArray[np.bool_], noise: float) -> tuple[Image, Image]:
    """Significance of each bin, clipped, and 1 where there is one; sides a power of two."""
    total = np.empty([n // BIN for n in left.shape], np.float32)
    count = np.empty(total.shape, np.int32)
    bin_sums(left, unusable, BIN, np.float32(10 * noise), total, count)
    side = 1 << int(np.ceil(np.log2(max(total.shape))))
    z, valid = np.zeros((2, side, side), np.float32)
    seen = count >= BIN * BIN // 4
    part = np.clip(total / (noise * np.sqrt(np.maximum(count, 1))), -CLIP, CLIP)
    part -= np.median(part[seen]) if seen.any() else 0.0
    z[: part.shape[0], : part.shape[1]] = np.where(seen, part, 0)
    valid[: part.shape[0], : part.shape[1]] = seen
    return z, valid


def _best_line(z: Image, valid: Image) -> tuple[float, Array]:
    """The most significant line over the bins: (sigma, its ends ((x, y), (x, y)) in bins)."""
    n = z.shape[0]
    best, ends = 0.0, np.zeros((2, 2))
    sums, lengths = np.empty((2, n, 2 * n), np.float32)
    for steep in (True, False):
        for mirrored in (False, True):

            def turned(image: Image, steep=steep, mirrored=mirrored) -> Image:
                image = image if steep else image.T
                return np.ascontiguousarray(image[:, ::-1] if mirrored else image)

            line_sums(turned(z), sums)
            line_sums(turned(valid), lengths)
            ratio = np.where(
                lengths >= n / 8, sums / np.sqrt(np.maximum(lengths, 1)), np.float32(0)
            )
            place = int(ratio.argmax())
            if ratio.flat[place] > best:
                best = float(ratio.flat[place])
                lean, start = divmod(place, 2 * n)
                x0 = start - n
                xs = np.array([x0, x0 + lean], float)
                xs = n - 1 - xs if mirrored else xs
                ys = np.array([0.0, n - 1.0])
                ends = np.stack([xs, ys] if steep else [ys, xs], axis=1)
    return best, ends


def _blank(z: Image, valid: Image, ends: Array) -> None:
    """Take a line, three bins to either side, out of the search."""
    n = z.shape[0]
    along = np.linspace(0, 1, 4 * n)[:, None]
    x, y = (ends[0] + along * (ends[1] - ends[0])).T
    for d in range(-3, 4):
        for a, b in ((np.round(x) + d, np.round(y)), (np.round(x), np.round(y) + d)):
            inside = (a >= 0) & (a < n) & (b >= 0) & (b < n)
            rows, columns = b[inside].astype(int), a[inside].astype(int)
            z[rows, columns] = 0
            valid[rows, columns] = 0


def _trace(left: Image, unusable: NDArray[np.bool_], noise: float, ends: Array) -> Line | None:
    """The curve, the extent and the width of a line found in bins; None if it is no ridge."""
    start, end = ((point + 0.5) * BIN - 0.5 for point in ends)
    start, end = _inside(start, end, left.shape)
    length = float(np.hypot(*(end - start)))
    if length < 8 * SEGMENTS:
        return None
    straight = Line(_trail(start, end, 0.0, 0.0), np.zeros(1), (0.0, 1.0))
    along = (np.arange(int(length)) + 0.5) / length
    across = np.arange(-REACH_PIX, REACH_PIX + 1.0)
    part = np.minimum((along * SEGMENTS).astype(int), SEGMENTS - 1)
    pixels = _sampled(left, unusable, straight, along, across)
    where, offset, sure = [], [], []
    for k in range(SEGMENTS):
        profile, error = _profile(pixels[part == k], noise)
        three = np.convolve(profile, np.ones(3) / 3, mode="same")
        peak = int(np.argmax(three[1:-1])) + 1
        if error > 0 and three[peak] > 4 * error / np.sqrt(3):
            near = slice(max(0, peak - 4), peak + 5)
            light = np.maximum(profile[near], 0)
            where.append((k + 0.5) / SEGMENTS)
            offset.append(float((light * across[near]).sum() / light.sum()))
            sure.append(three[peak])
    if len(where) < 4:
        return None
    bend = _robust_curve(np.array(where), np.array(offset))
    wide = np.arange(-WIDEST_PIX, WIDEST_PIX + 1.0)
    curve = Line(straight.trail, bend, (0.0, 1.0))
    pixels = _sampled(left, unusable, curve, along, wide)
    profile, error = _profile(pixels, noise)
    middle = profile[WIDEST_PIX - 3 : WIDEST_PIX + 4].max()
    aside = np.median(np.abs(np.r_[profile[:20], profile[-20:]]))
    if middle < 5 * error or middle < 5 * aside:
        return None
    limit = max(3 * error, 0.002 * middle)
    wings = np.maximum(profile[WIDEST_PIX:], profile[WIDEST_PIX::-1])
    two = 0.5 * (wings[:-1] + wings[1:])
    below = np.flatnonzero(two[2:] < limit)
    half_width = float(below[0] + 4 if below.size else WIDEST_PIX)
    near = np.abs(wide) <= 2
    lit = []
    for k in range(SEGMENTS):
        profile, error = _profile(pixels[part == k][:, near], noise)
        lit.append(error > 0 and np.mean(profile) > 3 * error / np.sqrt(near.sum()))
    if sum(lit) < 4:
        return None
    first, last = (float(f) for f in (np.flatnonzero(lit)[0] - 1, np.flatnonzero(lit)[-1] + 2))
    # What ends near the frame's edge goes over it.
    extent = (
        0.0 if first < 2 else first / SEGMENTS,
        1.0 if last > SEGMENTS - 2 else last / SEGMENTS,
    )
    return Line(_trail(start, end, half_width, float(middle / noise)), bend, extent)


def _trail(start: Array, end: Array, half_width: float, peak: float) -> Trail:
    (x0, y0), (x1, y1) = start, end
    return Trail(float(x0), float(y0), float(x1), float(y1), half_width, peak)


def _inside(start: Array, end: Array, shape: tuple[int, int]) -> tuple[Array, Array]:
    """The part of a line that lies on the frame (Liang & Barsky 1984)."""
    low, high = 0.0, 1.0
    step = end - start
    for k, size in enumerate(shape[::-1]):
        if step[k] == 0:
            continue
        a, b = sorted(((0 - start[k]) / step[k], (size - 1 - start[k]) / step[k]))
        low, high = max(low, a), min(high, b)
    return start + low * step, start + max(low, high) * step


def _places(line: Line, along: Array, across: Array) -> tuple[Array, Array]:
    """Pixel positions (x, y), each (along, across), on and beside a line's curve."""
    t = line.trail
    step = np.array([t.x1 - t.x0, t.y1 - t.y0])
    side = np.array([-step[1], step[0]]) / np.hypot(*step)
    away = np.polyval(line.bend, along)[:, None] + across[None, :]
    x = t.x0 + along[:, None] * step[0] + away * side[0]
    y = t.y0 + along[:, None] * step[1] + away * side[1]
    return x, y


def _sampled(
    left: Image, unusable: NDArray[np.bool_], line: Line, along: Array, across: Array
) -> Array:
    """Pixels nearest to positions beside a line; NaN where there is none."""
    x, y = (np.round(v).astype(int) for v in _places(line, along, across))
    ny, nx = left.shape
    inside = (x >= 0) & (y >= 0) & (x < nx) & (y < ny)
    x, y = np.clip(x, 0, nx - 1), np.clip(y, 0, ny - 1)
    return np.where(inside & ~unusable[y, x], left[y, x], np.nan)


def _profile(pixels: Array, noise: float) -> tuple[Array, float]:
    """Median across a line, and the error of one of its values; 0, 0 where nothing was seen."""
    seen = np.isfinite(pixels)
    count = seen.sum(axis=0)
    if count.size == 0 or np.median(count) < 5:
        return np.zeros(pixels.shape[1]), 0.0
    clipped = np.where(count >= 5, np.nan_to_num(pixels, nan=0.0), 0.0)
    clipped[~seen] = np.nan
    profile = np.zeros(pixels.shape[1])
    profile[count >= 5] = np.nanmedian(clipped[:, count >= 5], axis=0)
    return profile, float(1.25 * noise / np.sqrt(np.median(count)))


def _robust_curve(where: Array, offset: Array) -> Array:
    """A parabola (a constant for few points) through most of the points."""
    degree = 2 if where.size >= 8 else 0
    keep = np.ones(where.size, bool)
    for _ in range(4):
        bend = np.polyfit(where[keep], offset[keep], degree)
        left = np.abs(offset - np.polyval(bend, where))
        keep = left <= max(1.5, 3 * 1.4826 * float(np.median(left)))
        if keep.sum() <= degree + 2:
            break
    return bend


def draw_trail(bad: Flags, line: Line) -> None:
    """Flag a trail's pixels, in place."""
    t = line.trail
    length = np.hypot(t.x1 - t.x0, t.y1 - t.y0)
    along = np.arange(line.extent[0], line.extent[1], 0.5 / length)
    across = np.arange(-t.half_width, t.half_width + 0.5, 0.5)
    x, y = (np.round(v).astype(int) for v in _places(line, along, across))
    inside = (x >= 0) & (y >= 0) & (x < bad.shape[1]) & (y < bad.shape[0])
    bad[y[inside], x[inside]] |= np.uint8(Bad.TRAIL)


# ---------------------------------------------------------------- over the sequence


def without_hot(found: Sequence[Marks], config: ArtifactsConfig) -> list[Marks]:
    """The frames' marks, with what is an outlier in many of the frames called hot instead."""
    cosmic = [marks.index[(marks.flags & Bad.COSMIC) != 0] for marks in found]
    if not cosmic:
        return []
    index, count = np.unique(np.concatenate(cosmic), return_counts=True)
    hot = index[count >= max(3, config.hot_fraction * len(found))]
    out = []
    for marks in found:
        often = np.isin(marks.index, hot) & ((marks.flags & Bad.COSMIC) != 0)
        flags = np.where(often, (marks.flags & ~Bad.COSMIC) | Bad.HOT, marks.flags)
        out.append(Marks(marks.index, flags.astype(np.uint8)))
    return out


@dataclass(frozen=True)
class Afterglow:
    """How saturated pixels glow: ADU just afterwards, and the time in which it falls to 1/e."""

    amplitude_adu: float
    decay_s: float

    def after(self, seconds: float) -> float:
        """Mean excess, ADU, of a core's pixels."""
        return self.amplitude_adu * float(np.exp(-seconds / self.decay_s))


def fit_afterglow(measured: Sequence[tuple[float, float, float]]) -> Afterglow | None:
    """An exponential decay through (seconds, mean excess, error); None when there is no glow.

    The decay times of H4RGs are of minutes; among 5 s to 2 h the best in the least-squares sense.
    """
    if not measured:
        return None
    seconds, excess, error = np.array(measured).T
    weight = 1 / error**2
    best = None
    for decay in np.geomspace(5.0, 7200.0, 60):
        shape = np.exp(-seconds / decay)
        norm = float((weight * shape**2).sum())
        amplitude = float((weight * shape * excess).sum()) / norm
        chi2 = float((weight * (excess - amplitude * shape) ** 2).sum())
        if best is None or chi2 < best[0]:
            best = (chi2, amplitude, float(decay), amplitude * np.sqrt(norm))
    assert best is not None
    _, amplitude, decay, significance = best
    return Afterglow(amplitude, decay) if significance > 5 else None


def persistence(
    glow: Sequence[tuple[int, float, float, float]],
    cores: Sequence[NDArray[np.int64]],
    model: Afterglow | None,
    shape: tuple[int, int],
    noise: float,
    config: ArtifactsConfig,
) -> Marks:
    """The pixels of one frame in which earlier frames' saturated stars still glow.

    glow : of `Found`; cores : of all frames; noise : of a sky pixel, ADU
    By what all frames together say of the decay, or by what is seen here.
    """
    limit = config.persistence_sigma * noise
    glowing = [
        cores[number]
        for number, seconds, mean, error in glow
        if (mean > limit and mean > 5 * error)
        or (model is not None and model.after(seconds) > limit)
    ]
    if not glowing:
        return NO_MARKS
    bad = np.zeros(shape, np.uint8)
    grow_cores(bad, np.concatenate(glowing), 1)
    index = np.flatnonzero(bad != 0)
    return Marks(index, np.full(index.size, Bad.PERSISTENCE, np.uint8))
