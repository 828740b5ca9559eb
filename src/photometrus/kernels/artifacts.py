"""What does not come from the sky: saturated cores, outliers against an expectation, lines."""

from typing import Any, NamedTuple

import numpy as np

from photometrus.compiled import njit
from photometrus.kernels.resample import row_of_nodes
from photometrus.kernels.search import STRETCH, any_above, any_set

FLAT = 0.1
"""Neighbours as alike as this, relative, make a flat top: on no star do six of the eight neighbours
of a pixel differ by so little (Gaussian of 6 pixels FWHM, wherever its centre is: four)."""
STEEP_PIX = 2
"""Beyond a flat top its star falls to half in this distance; the light of a galaxy does not."""
NEAR_FULL = 0.85
"""Of the flat top's height: what is above belongs to the core."""
ACROSS_PIX = 14
"""A pixel with parts of a core so near on all four sides lies inside it, whatever it says."""


@njit(nogil=True, cache=True)
def saturated_cores(data, bad, unsolved, height, core):
    """Find the pixels that stars saturated, by either sign of it.

    data : float32 (ny, nx), sky subtracted; bad : uint8 (ny, nx)
    unsolved : the bit of pixels whose ramps could not be fitted
    height : what a flat top, or a good pixel beside unsolved ones, must reach
    core : uint8 (ny, nx), zeros; set to 1 in saturated cores

    Five unsolved pixels or more within 5 x 5 with a bright one beside them; or a flat top with
    steep sides, and what lies inside it (a ramp that saturates early in the exposure may come out
    as anything).
    """
    ny, nx = data.shape
    every = np.uint8(255)
    for y in range(ny):
        for x0 in range(0, nx, STRETCH):
            end = min(nx, x0 + STRETCH)
            if not (any_set(bad[y, x0:end], unsolved) or any_above(data[y, x0:end], height)):
                continue
            for x in range(x0, end):
                if bad[y, x] & unsolved != 0:
                    if _is_lit(data, bad, unsolved, height, y, x):
                        core[y, x] = 1
                elif core[y, x] == 0 and data[y, x] > height and _is_flat(data, y, x):
                    _mark_top(data, core, y, x)
    for y in range(ny):
        for x0 in range(0, nx, STRETCH):
            end = min(nx, x0 + STRETCH)
            if not any_set(core[y, x0:end], every):
                continue
            for x in range(x0, end):
                if core[y, x] == 1:
                    _mark_inside(core, y, x)
    for y in range(ny):
        line = core[y]
        for x in range(nx):
            line[x] = (line[x] == 1) | (line[x] == 2)


@njit(nogil=True, cache=True)
def _mark_inside(core, y, x):
    """Set `core` to 2 in pixels near one of a core that lie inside it."""
    ny, nx = core.shape
    for b in range(max(0, y - 1), min(ny, y + 2)):
        for a in range(max(0, x - ACROSS_PIX), min(nx, x + ACROSS_PIX + 1)):
            if core[b, a] == 0 and _is_inside(core, b, a):
                core[b, a] = 2


@njit(nogil=True, cache=True)
def _mark_top(data, core, y0, x0):
    """Set `core` in the pixels of a top: to 1, or to 3 when its sides are not steep.

    They hang together, and are above NEAR_FULL of the one that it begins with.
    """
    ny, nx = data.shape
    limit = NEAR_FULL * data[y0, x0]
    queue = np.empty(1 << 14, np.int64)
    queue[0] = y0 * nx + x0
    core[y0, x0] = 3
    n = 1
    low_y, high_y, low_x, high_x = y0, y0, x0, x0
    k = 0
    while k < n:
        y, x = queue[k] // nx, queue[k] % nx
        k += 1
        low_y, high_y = min(low_y, y), max(high_y, y)
        low_x, high_x = min(low_x, x), max(high_x, x)
        for b in range(max(0, y - 1), min(ny, y + 2)):
            for a in range(max(0, x - 1), min(nx, x + 2)):
                if core[b, a] == 0 and data[b, a] > limit and n < queue.size:
                    core[b, a] = 3
                    queue[n] = b * nx + a
                    n += 1
    y, x = (low_y + high_y) // 2, (low_x + high_x) // 2
    half = np.float32(0.5) * data[y0, x0]
    steep = 0
    for b, a in (
        (low_y - STEEP_PIX, x),
        (high_y + STEEP_PIX, x),
        (y, low_x - STEEP_PIX),
        (y, high_x + STEEP_PIX),
    ):
        steep += not (0 <= b < ny and 0 <= a < nx and data[b, a] > half)
    if steep >= 3:
        for k in range(n):
            core[queue[k] // nx, queue[k] % nx] = 1


@njit(nogil=True, cache=True)
def _is_lit(data, bad, unsolved, height, y, x):
    """Whether an unsolved pixel is one of many, beside a bright one."""
    ny, nx = data.shape
    count = 0
    for b in range(max(0, y - 2), min(ny, y + 3)):
        for a in range(max(0, x - 2), min(nx, x + 3)):
            if bad[b, a] & unsolved != 0:
                count += 1
    if count < 5:
        return False
    # The middle of a large core sees no rim nearby.
    reach = 3 if count < 20 else 12
    for b in range(max(0, y - reach), min(ny, y + reach + 1)):
        for a in range(max(0, x - reach), min(nx, x + reach + 1)):
            if bad[b, a] == 0 and data[b, a] > height:
                return True
    return False


@njit(nogil=True, cache=True)
def _is_flat(data, y, x):
    """Whether six of a pixel's eight neighbours are about as bright as it is."""
    ny, nx = data.shape
    if y == 0 or x == 0 or y == ny - 1 or x == nx - 1:
        return False
    alike = 0
    for b in range(y - 1, y + 2):
        for a in range(x - 1, x + 2):
            alike += abs(data[b, a] - data[y, x]) < FLAT * data[y, x]
    return alike >= 7


@njit(nogil=True, cache=True)
def _is_inside(core, y, x):
    """Whether parts of a core are on all four sides of a pixel."""
    ny, nx = core.shape
    left = right = up = down = False
    for d in range(1, ACROSS_PIX + 1):
        left = left or (x - d >= 0 and core[y, x - d] == 1)
        right = right or (x + d < nx and core[y, x + d] == 1)
        up = up or (y - d >= 0 and core[y - d, x] == 1)
        down = down or (y + d < ny and core[y + d, x] == 1)
    return left and right and up and down


class Expectation(NamedTuple):
    """What a stack says of a frame, at any of its pixels.

    stack : float32 (my, mx); ranges : float32 (my, mx), of its 3 x 3 neighbours
    map_x, map_y : float64 (gy, gx), pixel of `stack` at the frame's nodes, `step` pixels apart
    factor : float32, from the stack's flux scale to the frame's
    """

    stack: Any
    ranges: Any
    map_x: Any
    map_y: Any
    step: int
    factor: Any


@njit(nogil=True, cache=True)
def subtract_expected(image, seen):
    """Take what is expected of a frame out of it, in place; what nothing is known of becomes NaN.

    image : float32 (ny, nx), changed; seen : Expectation, interpolated bilinearly
    """
    my, mx = seen.stack.shape
    ny, nx = image.shape
    step = seen.step
    line_x = np.empty(seen.map_x.shape[1], np.float64)
    line_y = np.empty(seen.map_x.shape[1], np.float64)
    for y in range(ny):
        row_of_nodes(seen.map_x, seen.map_y, y / step, line_x, line_y)
        for i in range((nx + step - 1) // step):
            x0, y0 = line_x[i], line_y[i]
            slope_x = (line_x[i + 1] - x0) / step
            slope_y = (line_y[i + 1] - y0) / step
            n = min(step, nx - i * step)
            # A line between two pixels inside the stack is inside.
            inside = _has_neighbours(x0, y0, mx, my)
            inside &= _has_neighbours(x0 + slope_x * (n - 1), y0 + slope_y * (n - 1), mx, my)
            for k in range(n):
                px, py = x0 + slope_x * k, y0 + slope_y * k
                if inside or _has_neighbours(px, py, mx, my):
                    image[y, i * step + k] -= seen.factor * _between(seen.stack, px, py)
                else:
                    image[y, i * step + k] = np.nan


@njit(nogil=True, cache=True, inline="always")
def _has_neighbours(x, y, nx, ny):
    """Whether a place is far enough inside an image to be interpolated."""
    return x >= 1 and y >= 1 and x < nx - 2 and y < ny - 2


@njit(nogil=True, cache=True, inline="always")
def _between(image, px, py):
    """An image between its pixels, bilinear."""
    a, b = np.uint32(px), np.uint32(py)
    fx, fy = np.float32(px - a), np.float32(py - b)
    low, high = image[b], image[b + np.uint32(1)]
    below = low[a] + fx * (low[a + np.uint32(1)] - low[a])
    above = high[a] + fx * (high[a + np.uint32(1)] - high[a])
    return below + fy * (above - below)


@njit(nogil=True, cache=True)
def _expected_at(seen, y, x):
    """What is expected of a pixel inside the stack, and its range there."""
    i = x // seen.step
    row = y / seen.step
    j = min(int(row), seen.map_x.shape[0] - 2)
    v = row - j
    x0 = (1 - v) * seen.map_x[j, i] + v * seen.map_x[j + 1, i]
    y0 = (1 - v) * seen.map_y[j, i] + v * seen.map_y[j + 1, i]
    slope_x = ((1 - v) * seen.map_x[j, i + 1] + v * seen.map_x[j + 1, i + 1] - x0) / seen.step
    slope_y = ((1 - v) * seen.map_y[j, i + 1] + v * seen.map_y[j + 1, i + 1] - y0) / seen.step
    px, py = x0 + slope_x * (x - i * seen.step), y0 + slope_y * (x - i * seen.step)
    spread = seen.ranges[np.uint32(py + 0.5), np.uint32(px + 0.5)]
    return seen.factor * _between(seen.stack, px, py), seen.factor * spread


@njit(nogil=True, cache=True)
def not_usable(image, bad, hide, out):
    """Where an image is flagged, hidden or NaN: float32 and uint8 (ny, nx); sets bool `out`."""
    for y in range(image.shape[0]):
        line, flags, stars, mark = image[y], bad[y], hide[y], out[y]
        for x in range(line.size):
            mark[x] = (flags[x] | stars[x]) != 0
        for x in range(line.size):
            mark[x] |= line[x] != line[x]


@njit(nogil=True, cache=True)
def bin_sums(image, unusable, side, limit, total, count):
    """Sums of an image's pixels in square bins, each pixel clipped to +-limit.

    image : float32 (ny, nx); unusable : bool (ny, nx), pixels that do not count
    total : float32 (ny // side, nx // side); count : int32, how many pixels made each sum
    """
    total[:] = 0
    count[:] = 0
    for j in range(total.shape[0]):
        for y in range(j * side, (j + 1) * side):
            for i in range(total.shape[1]):
                add = np.float32(0)
                n = np.int32(0)
                for x in range(np.uint64(i * side), np.uint64((i + 1) * side)):
                    good = not unusable[y, x]
                    v = min(max(image[y, x], -limit), limit)
                    add += v if good else np.float32(0)
                    n += np.int32(good)
                total[j, i] += add
                count[j, i] += n


@njit(nogil=True, cache=True)
def mark_outliers(left, bad, seen, noise, gain, detail, floor, high, low, flag):
    """Flag pixels far above what is expected of them, and their neighbours that stick out, too.

    left : float32 (ny, nx), ADU, of `subtract_expected`; NaN: not judged
    bad : uint8 (ny, nx), `flag` is set in it
    seen : Expectation, that was subtracted
    noise : of a sky pixel, ADU; gain : electrons per ADU
    detail, floor : what exceeds `floor` of the expectation's range is real, and a pixel may differ
        from its expectation by `detail` times that: the seeing varies
    high, low : in units of a pixel's noise, beyond that: where an outlier begins, and how far it
        reaches into its neighbours
    returns how many pixels were flagged
    """
    ny, nx = left.shape
    size = 1 << 16
    queue = np.empty(size, np.int64)
    total = 0
    for y0 in range(ny):
        for begin in range(0, nx, STRETCH):
            end = min(nx, begin + STRETCH)
            # Most stretches end here, before the expectation is asked for.
            if not any_above(left[y0, begin:end], high * noise):
                continue
            for x0 in range(begin, end):
                if not (left[y0, x0] > high * noise) or bad[y0, x0] != 0:
                    continue
                if left[y0, x0] <= _limit(seen, y0, x0, noise, gain, detail, floor, high):
                    continue
                bad[y0, x0] |= flag
                queue[0] = y0 * nx + x0
                n = 1
                while n > 0:
                    n -= 1
                    total += 1
                    y, x = queue[n] // nx, queue[n] % nx
                    for b in range(max(0, y - 1), min(ny, y + 2)):
                        for a in range(max(0, x - 1), min(nx, x + 2)):
                            if not (left[b, a] > low * noise) or bad[b, a] != 0 or n >= size:
                                continue
                            if left[b, a] > _limit(seen, b, a, noise, gain, detail, floor, low):
                                bad[b, a] |= flag
                                queue[n] = b * nx + a
                                n += 1
    return total


@njit(nogil=True, cache=True)
def _limit(seen, y, x, noise, gain, detail, floor, sigmas):
    """By how much a pixel may exceed its expectation."""
    expected, spread = _expected_at(seen, y, x)
    slack = detail * max(spread - floor, np.float32(0))
    return sigmas * np.sqrt(noise * noise + max(expected, np.float32(0)) / gain) + slack


@njit(nogil=True, cache=True)
def line_sums(image, out):
    """Sums along all straight lines from the first to the last row that lean 0 to 45 degrees.

    image : float32 (n, m), n a power of two
    out : float32 (n, m + n); out[s, n + x] is the line that starts in column x of the first row
        and ends s columns to the right in the last; columns outside are 0. (x may be negative.)

    The approximate discrete Radon transform (Brady 1998; for satellites: Nir, Zackay & Ofek 2018).
    """
    n, m = image.shape
    width = m + n
    now = np.zeros((n, width), np.float32)
    new = np.zeros((n, width), np.float32)
    now[:, n:] = image
    height = 1  # now[k * height + s]: lines of slope s through rows k * height ...
    while height < n:
        for k in range(0, n, 2 * height):
            for s in range(2 * height):
                half = s // 2
                shift = (s + 1) // 2
                upper = now[k + height + half]
                lower = now[k + half]
                line = new[k + s]
                for x in range(width - shift):
                    line[x] = lower[x] + upper[x + shift]
                for x in range(width - shift, width):
                    line[x] = lower[x]
        now, new = new, now
        height *= 2
    out[:] = now
