"""Clipped median and average of stacks of pixels; the average shrunk to what is smooth."""

import numpy as np

from photometrus.compiled import njit
from photometrus.kernels.sorting import CHUNK, exchanges, mean_of_two, middle_of, sort_columns

WORTH_IT = 8
"""From so many pixels of a chunk on it is quicker to do the whole chunk at once."""


@njit(nogil=True, cache=True)
def _sorted_chunk(stack, y, x0, rows, count, pairs):
    """A chunk of pixels with their values sorted, those that are missing (NaN) at the end, as inf.

    rows : float32 (n, CHUNK), set; count : int32 (CHUNK,), set: how many values each has
    pairs : of `exchanges`
    returns the number of pixels
    """
    n, _, nx = stack.shape
    width = min(CHUNK, nx - x0)
    count[:] = 0
    for i in range(n):
        source = stack[i, y, x0 : x0 + width]
        row = rows[i]
        for x in range(width):
            known = source[x] == source[x]
            row[x] = source[x] if known else np.float32(np.inf)
            count[x] += known
    sort_columns(rows, pairs)
    return width


@njit(nogil=True, cache=True)
def _clip_chunk(rows, n, sigma, keep, middle):
    """Where none of a pixel's n sorted values is to be rejected: sets `keep` and the median.

    The same numbers as in `_clip`, for many pixels at once.
    """
    half = n // 2
    if n < 4:
        for x in range(CHUNK):
            keep[x] = True
            middle[x] = rows[half, x] if n % 2 else mean_of_two(rows[half - 1, x], rows[half, x])
        return
    a = 0.1587 * (n - 1)
    ia = int(a)
    fa = np.float32(a - ia)
    fb = np.float32(1) - fa
    first, last, upper, lower = rows[0], rows[n - 1], rows[half], rows[half - 1 + n % 2]
    l0, l1, h0, h1 = rows[ia], rows[ia + 1], rows[n - 1 - ia], rows[n - 2 - ia]
    for x in range(CHUNK):
        centre = upper[x] if n % 2 else mean_of_two(lower[x], upper[x])
        low = l0[x] * fb + l1[x] * fa
        high = h0[x] * fb + h1[x] * fa
        limit = np.float32(sigma) * np.float32(0.5) * (high - low)
        middle[x] = centre
        keep[x] = (first[x] >= centre - limit) & (last[x] <= centre + limit)


@njit(nogil=True, cache=True)
def _clip(rows, x, m, sigma, max_rounds, values):
    """Reject outliers among a pixel's m sorted values: (first, last + 1) of those that stay.

    The scatter is half the distance of the 16 and 84 % points (interpolated), so that a star in
    a few of the dithers does not set it.
    """
    if m == 0:
        return 0, 0
    for i in range(m):
        values[i] = rows[i, x]
    lo, hi = 0, m
    for _ in range(max_rounds):
        k = hi - lo
        if k < 4:
            break
        middle = middle_of(values, lo, hi)
        a = 0.1587 * (k - 1)
        ia = int(a)
        fa = np.float32(a - ia)
        low = values[lo + ia] * (1 - fa) + values[lo + ia + 1] * fa
        high = values[hi - 1 - ia] * (1 - fa) + values[hi - 2 - ia] * fa
        limit = np.float32(sigma) * np.float32(0.5) * (high - low)
        new_lo, new_hi = lo, hi
        while values[new_lo] < middle - limit:
            new_lo += 1
        while values[new_hi - 1] > middle + limit:
            new_hi -= 1
        if new_lo == lo and new_hi == hi:
            break
        lo, hi = new_lo, new_hi
    return lo, hi


@njit(nogil=True, cache=True)
def clipped_median(stack, sigma, max_rounds, out, count):
    """Median of each pixel after rejecting outliers; NaN marks a missing value.

    stack : float32 (n, ny, nx), not changed
    sigma : rejection limit in units of the scatter of the pixel's values
    out : float32 (ny, nx), NaN where no value is left
    count : uint16 (ny, nx), how many values were used
    """
    n, ny, nx = stack.shape
    rows = np.zeros((n, CHUNK), np.float32)
    values = np.empty(n, np.float32)
    # One by one: rows of one array would not be known to be contiguous.
    known = np.empty(CHUNK, np.int32)
    used = np.empty(CHUNK, np.int32)
    keep = np.empty(CHUNK, np.bool_)
    middle = np.empty(CHUNK, np.float32)
    result = np.empty(CHUNK, np.float32)
    others = np.empty(CHUNK, np.int32)
    pairs = exchanges(n)
    for y in range(ny):
        for x0 in range(0, nx, CHUNK):
            width = _sorted_chunk(stack, y, x0, rows, known, pairs)
            used[:] = -1
            for m in range(n, 2, -1):
                if _pixels_with(known, width, m) > WORTH_IT:
                    _clip_chunk(rows, m, sigma, keep, middle)
                    _take(keep, known, m, used)
                    _take_values(used, m, middle, result)
            for k in range(_not_yet(used, width, others)):
                x = others[k]
                lo, hi = _clip(rows, x, known[x], sigma, max_rounds, values)
                result[x] = middle_of(values, lo, hi) if hi > lo else np.float32(np.nan)
                used[x] = hi - lo
            _write(result, used, out[y, x0 : x0 + width], count[y, x0 : x0 + width])


@njit(nogil=True, cache=True)
def clipped_average(stack, sigma, max_rounds, out, count, scatter):
    """Mean of each pixel after rejecting outliers; and how its values scatter.

    stack, sigma, max_rounds, out, count : as in `clipped_median`
    scatter : float64 (2,), added to: the sum of the pixels' variances, and how many pixels have one
    """
    n, ny, nx = stack.shape
    rows = np.zeros((n, CHUNK), np.float32)
    values = np.empty(n, np.float32)
    known = np.empty(CHUNK, np.int32)
    used = np.empty(CHUNK, np.int32)
    keep = np.empty(CHUNK, np.bool_)
    middle = np.empty(CHUNK, np.float32)
    mean = np.empty(CHUNK, np.float32)
    square = np.empty(CHUNK, np.float32)
    result = np.empty(CHUNK, np.float32)
    squares = np.empty(CHUNK, np.float32)
    others = np.empty(CHUNK, np.int32)
    pairs = exchanges(n)
    for y in range(ny):
        for x0 in range(0, nx, CHUNK):
            width = _sorted_chunk(stack, y, x0, rows, known, pairs)
            used[:] = -1
            for m in range(n, 2, -1):
                if _pixels_with(known, width, m) > WORTH_IT:
                    _clip_chunk(rows, m, sigma, keep, middle)
                    _mean_and_square(rows, m, mean, square)
                    _take(keep, known, m, used)
                    _take_values(used, m, mean, result)
                    _take_values(used, m, square, squares)
            for k in range(_not_yet(used, width, others)):
                x = others[k]
                lo, hi = _clip(rows, x, known[x], sigma, max_rounds, values)
                used[x], result[x], squares[x] = _mean_of(values, lo, hi)
            for x in range(width):
                if used[x] > 2:
                    scatter[0] += squares[x] / (used[x] - 1)
                    scatter[1] += 1
            _write(result, used, out[y, x0 : x0 + width], count[y, x0 : x0 + width])


@njit(nogil=True, cache=True)
def _pixels_with(known, width, m):
    """How many of a chunk's first `width` pixels have m values."""
    pixels = np.int32(0)
    for x in range(width):
        pixels += np.int32(known[x] == m)
    return pixels


@njit(nogil=True, cache=True)
def _take(keep, known, m, used):
    """Of pixels with m values, those are settled of which all are to be kept: sets `used` to m."""
    for x in range(CHUNK):
        used[x] = m if keep[x] & (known[x] == m) else used[x]


@njit(nogil=True, cache=True)
def _take_values(used, m, values, result):
    """Copy the values of the pixels that used m of theirs."""
    for x in range(CHUNK):
        result[x] = values[x] if used[x] == m else result[x]


@njit(nogil=True, cache=True)
def _not_yet(used, width, others):
    """Which of a chunk's pixels are not settled: sets `others`, returns how many."""
    n = 0
    for x in range(width):
        others[n] = x
        n += used[x] < 0
    return n


@njit(nogil=True, cache=True)
def _write(result, used, out, count):
    """A chunk's results to where they belong."""
    for x in range(out.size):
        out[x] = result[x]
    for x in range(out.size):
        count[x] = used[x]


@njit(nogil=True, cache=True)
def _mean_of(values, lo, hi):
    """Of values[lo:hi]: how many they are, their mean (NaN for none), and the sum of squares."""
    total = np.float32(0)
    for i in range(lo, hi):
        total += values[i]
    mean = total / np.float32(hi - lo) if hi > lo else np.float32(np.nan)
    squares = np.float32(0)
    for i in range(lo, hi):
        squares += (values[i] - mean) ** 2
    return hi - lo, mean, squares


@njit(nogil=True, cache=True)
def _mean_and_square(rows, n, mean, square):
    """The mean of each column of rows[:n], and the sum of the squares of what differs from it."""
    mean[:] = 0
    square[:] = 0
    for i in range(n):
        row = rows[i]
        for x in range(CHUNK):
            mean[x] += row[x]
    for x in range(CHUNK):
        mean[x] /= np.float32(n)
    for i in range(n):
        row = rows[i]
        for x in range(CHUNK):
            d = row[x] - mean[x]
            square[x] += d * d


@njit(nogil=True, cache=True)
def shrink(image, smooth, count, noise2, variance, share):
    """Pull each pixel of an average towards what is smooth around it, as far as it is noise.

    image : float32 (ny, nx), changed; NaN becomes smooth
    smooth : float32 (ny, nx); count : uint16 (ny, nx), values in each average
    noise2 : variance of one value; variance : how much pixels truly differ from what is smooth
    share : float32 (ny, nx), set: by which part of itself a value's own vote has made its
        difference from the average too small

    The best linear estimate (James & Stein 1961) for all but those pixels that stand out by more
    than three of their sigma, which are believed.
    """
    ny, nx = image.shape
    for y in range(ny):
        for x in range(nx):
            n = count[y, x]
            base = smooth[y, x]
            if n == 0 or image[y, x] != image[y, x]:
                image[y, x] = base
                share[y, x] = 0
                continue
            error2 = noise2 / n
            d = image[y, x] - base
            if d * d <= 9 * (variance + error2):
                w = variance / (variance + error2)
            else:
                w = 1 - error2 / (d * d)
            image[y, x] = base + np.float32(w) * d
            share[y, x] = w / (n - 1) if n > 1 else 0.0


@njit(nogil=True, cache=True)
def undo_share(data, share, bad, hide):
    """Give back what a frame's own vote took from its difference to an average, in place.

    data, share : float32 (rows, nx); bad, hide : uint8, not 0 where the frame did not vote
    """
    rows, nx = data.shape
    for y in range(rows):
        for x in range(nx):
            voted = (bad[y, x] | hide[y, x]) == 0
            data[y, x] *= np.float32(1) + (share[y, x] if voted else np.float32(0))
