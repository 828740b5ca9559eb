"""Clipped combination of stacks of pixels."""

import numpy as np
from numba import njit

CHUNK = 256
"""Neighbouring pixels that are combined at once: their values stay in the cache."""


@njit(nogil=True, cache=True)
def _sort(values, n):
    """Insertion sort of values[:n] in place: the fastest for a few tens of nearly sorted values."""
    for i in range(1, n):
        v = values[i]
        j = i - 1
        while j >= 0 and values[j] > v:
            values[j + 1] = values[j]
            j -= 1
        values[j + 1] = v


@njit(nogil=True, cache=True)
def _middle(values, lo, hi):
    """Median of sorted values[lo:hi]."""
    n = hi - lo
    half = lo + n // 2
    if n % 2:
        return values[half]
    return np.float32(0.5) * (values[half - 1] + values[half])


@njit(nogil=True, cache=True)
def _sort_columns(rows, n):
    """Sort each column of rows[:n] in place: float32 (at least n, CHUNK), without NaN.

    Batcher's merge exchange (Knuth 5.2.2 M): what is exchanged does not depend on the values, so
    that many columns are sorted at once.
    """
    top = 1
    while top < n:
        top *= 2
    p = top // 2
    while p > 0:
        q, r, d = top // 2, 0, p
        while True:
            for i in range(n - d):
                if i & p == r:
                    a, b = rows[i], rows[i + d]
                    for x in range(CHUNK):
                        low = a[x] if a[x] < b[x] else b[x]
                        high = b[x] if a[x] < b[x] else a[x]
                        a[x] = low
                        b[x] = high
            if q == p:
                break
            d = q - p
            q //= 2
            r = p
        p //= 2


@njit(nogil=True, cache=True)
def _sorted_chunk(stack, y, x0, rows, count):
    """A chunk of pixels with their values sorted, those that are missing (NaN) at the end, as inf.

    rows : float32 (n, CHUNK), set; count : int32 (CHUNK,), set: how many values each has
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
    _sort_columns(rows, n)
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
            middle[x] = rows[half, x] if n % 2 else _mean_of_two(rows[half - 1, x], rows[half, x])
        return
    a = 0.1587 * (n - 1)
    ia = int(a)
    fa = np.float32(a - ia)
    fb = np.float32(1) - fa
    first, last, upper, lower = rows[0], rows[n - 1], rows[half], rows[half - 1 + n % 2]
    l0, l1, h0, h1 = rows[ia], rows[ia + 1], rows[n - 1 - ia], rows[n - 2 - ia]
    for x in range(CHUNK):
        centre = upper[x] if n % 2 else _mean_of_two(lower[x], upper[x])
        low = l0[x] * fb + l1[x] * fa
        high = h0[x] * fb + h1[x] * fa
        limit = np.float32(sigma) * np.float32(0.5) * (high - low)
        middle[x] = centre
        keep[x] = (first[x] >= centre - limit) & (last[x] <= centre + limit)


@njit(nogil=True, cache=True, inline="always")
def _mean_of_two(a, b):
    return np.float32(0.5) * (a + b)


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
        middle = _middle(values, lo, hi)
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


@njit(nogil=True, cache=True, error_model="numpy")
def vote(data, bad, hide, scale, out):
    """What a frame says of the sky: its pixels in units of its level, NaN where it says nothing.

    data : float32 (rows, nx), ADU; bad, hide : uint8 (rows, nx), not 0 where it has no vote
    scale : float32, the level, ADU; out : float32 (rows, nx), set
    """
    rows, nx = data.shape
    for y in range(rows):
        for x in range(nx):
            share = data[y, x] / scale
            out[y, x] = share if (bad[y, x] | hide[y, x]) == 0 else np.float32(np.nan)


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
    known = np.empty(CHUNK, np.int32)
    keep = np.empty(CHUNK, np.bool_)
    middle = np.empty(CHUNK, np.float32)
    for y in range(ny):
        for x0 in range(0, nx, CHUNK):
            width = _sorted_chunk(stack, y, x0, rows, known)
            _clip_chunk(rows, n, sigma, keep, middle)
            for x in range(width):
                if keep[x] and known[x] == n:
                    out[y, x0 + x] = middle[x]
                    count[y, x0 + x] = n
                    continue
                lo, hi = _clip(rows, x, known[x], sigma, max_rounds, values)
                out[y, x0 + x] = _middle(values, lo, hi) if hi > lo else np.float32(np.nan)
                count[y, x0 + x] = hi - lo


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
    keep = np.empty(CHUNK, np.bool_)
    middle, mean, square = np.empty((3, CHUNK), np.float32)
    for y in range(ny):
        for x0 in range(0, nx, CHUNK):
            width = _sorted_chunk(stack, y, x0, rows, known)
            _clip_chunk(rows, n, sigma, keep, middle)
            _mean_and_square(rows, n, mean, square)
            for x in range(width):
                if keep[x] and known[x] == n:
                    out[y, x0 + x] = mean[x]
                    count[y, x0 + x] = n
                    if n > 2:
                        scatter[0] += square[x] / (n - 1)
                        scatter[1] += 1
                    continue
                lo, hi = _clip(rows, x, known[x], sigma, max_rounds, values)
                count[y, x0 + x] = hi - lo
                if hi == lo:
                    out[y, x0 + x] = np.nan
                    continue
                total = np.float32(0)
                for i in range(lo, hi):
                    total += values[i]
                average = total / np.float32(hi - lo)
                out[y, x0 + x] = average
                if hi - lo > 2:
                    squares = 0.0
                    for i in range(lo, hi):
                        squares += (values[i] - average) ** 2
                    scatter[0] += squares / (hi - lo - 1)
                    scatter[1] += 1


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


@njit(nogil=True, cache=True)
def _sorted_values(stack, weight, y, x, values):
    """A pixel's values that have weight, sorted into values[:m]; returns m."""
    m = 0
    for i in range(stack.shape[0]):
        if weight[i, y, x] > 0:
            values[m] = stack[i, y, x]
            m += 1
    _sort(values, m)
    return m


@njit(nogil=True, cache=True)
def middles(stack, weight, out):
    """The middle of each pixel's values: what its values are compared with.

    stack, weight : float32 (n, ny, nx); weight 0 = no value
    out : float32 (ny, nx), the median; of two values the lower, since what spoils a value adds
        light; NaN where there is none
    """
    n, ny, nx = stack.shape
    rows = np.zeros((n, CHUNK), np.float32)
    known = np.empty(CHUNK, np.int32)
    for y in range(ny):
        for x0 in range(0, nx, CHUNK):
            width = min(CHUNK, nx - x0)
            known[:] = 0
            for i in range(n):
                value, w = stack[i, y, x0 : x0 + width], weight[i, y, x0 : x0 + width]
                row = rows[i]
                for x in range(width):
                    row[x] = value[x] if w[x] > 0 else np.float32(np.inf)
                    known[x] += w[x] > 0
            _sort_columns(rows, n)
            for x in range(width):
                m = known[x]
                half = m // 2
                if m == 0:
                    out[y, x0 + x] = np.nan
                elif m % 2 or m == 2:
                    out[y, x0 + x] = rows[half - (m == 2), x]
                else:
                    out[y, x0 + x] = _mean_of_two(rows[half - 1, x], rows[half, x])


@njit(nogil=True, cache=True, inline="always")
def _relief(middle, y, x):
    """How much the middles of a pixel and its eight neighbours differ."""
    ny, nx = middle.shape
    low = middle[y, x]
    high = low
    for b in range(max(0, y - 1), min(ny, y + 2)):
        for a in range(max(0, x - 1), min(nx, x + 2)):
            v = middle[b, a]
            # NaN is neither.
            if v < low:
                low = v
            if v > high:
                high = v
    return high - low


@njit(nogil=True, cache=True)
def clipped_mean(stack, weight, middle, first, sigma, tolerance, out, out_weight, rejected):
    """Inverse-variance weighted mean of each pixel after rejecting outliers from the middle.

    stack : float32 (n, rows, nx), values on one flux scale
    weight : float32 (n, rows, nx), inverse variance; 0 = no value
    middle : float32 (rows, nx), of `middles`
    first : row of these with which the output begins
    sigma : rejection limit, in units of each value's own error
    tolerance : further limit, as a fraction of what the pixel's middle is, and of by how much it
        differs from its neighbours': where there is a star the values differ because the seeing
        does, on its flanks by more than they are, and that is no reason to reject
    out, out_weight : float32 (ny, nx); 0 and 0 where there is no value
    rejected : int64 (n,), counts of rejected values per frame, added to

    Of two values only the higher can be rejected, when it is far beyond the lower: that has an
    error of its own, and its star may be the blurred one. One value is believed.
    """
    n = stack.shape[0]
    ny, nx = out.shape
    values = np.empty(n, np.float32)
    total_of, norm_of, worst = np.empty((3, nx), np.float32)
    known = np.empty(nx, np.int32)
    for y in range(ny):
        r = first + y
        # As most pixels need it: nothing is rejected, and there are more than two values.
        _mean_of_all(
            stack, weight, middle[r], r, np.float32(sigma), np.float32(tolerance),
            total_of, norm_of, known, worst,
        )  # fmt: skip
        _ratios(total_of, norm_of, out[y], out_weight[y])
        for x in range(nx):
            if known[x] > 0 and (known[x] < 3 or worst[x] > 0):
                out[y, x], out_weight[y, x] = _careful_mean(
                    stack, weight, middle, r, x, known[x], sigma, tolerance, values, rejected
                )


@njit(nogil=True, cache=True)
def _careful_mean(stack, weight, middle, r, x, m, sigma, tolerance, values, rejected):
    """The mean of a pixel with m values, some of which may have to be rejected; and its weight."""
    centre = middle[r, x]
    limit = np.float32(sigma) if m > 2 else np.float32(1.5 * sigma)
    share = np.float32(tolerance) if m > 2 else np.float32(1.0)
    total = np.float32(0)
    norm = np.float32(0)
    for attempt in range(2):
        slack = share * abs(centre)
        for i in range(stack.shape[0]):
            w = weight[i, r, x]
            if w > 0:
                v = stack[i, r, x]
                beyond = abs(v - centre) - limit / np.sqrt(w) - slack
                # Most values need no look at the neighbours.
                if m == 1 or beyond <= 0 or beyond <= share * _relief(middle, r, x):
                    total += w * v
                    norm += w
                elif attempt == 0:
                    rejected[i] += 1
        if norm > 0:
            return total / norm, norm
        # Two low, two high: nobody is near their middle. What spoils a value adds light,
        # so the lower half is believed.
        _sorted_values(stack, weight, r, x, values)
        centre = values[(m - 1) // 2]
    return np.float32(0), np.float32(0)


@njit(nogil=True, cache=True, error_model="numpy")
def _ratios(total, norm, out, out_norm):
    """Means from sums; 0 where there is nothing."""
    for x in range(total.size):
        ratio = total[x] / norm[x]
        out[x] = ratio if norm[x] > 0 else np.float32(0)
        out_norm[x] = norm[x]


@njit(nogil=True, cache=True, error_model="numpy")
def _mean_of_all(stack, weight, centre, r, sigma, tolerance, total, norm, known, worst):
    """Weighted sums of a row's values, how many they are, and how far any is beyond its limit."""
    total[:] = 0
    norm[:] = 0
    known[:] = 0
    worst[:] = 0
    slack = tolerance * np.abs(centre)
    for i in range(stack.shape[0]):
        value, w = stack[i, r], weight[i, r]
        for x in range(value.size):
            # Without weight the limit is infinite.
            far = abs(value[x] - centre[x]) - sigma / np.sqrt(w[x]) - slack[x]
            worst[x] = far if far > worst[x] else worst[x]
        for x in range(value.size):
            given = w[x] > 0
            total[x] += w[x] * value[x] if given else np.float32(0)
            norm[x] += w[x] if given else np.float32(0)
        for x in range(value.size):
            known[x] += np.int32(1) if w[x] > 0 else np.int32(0)


@njit(nogil=True, cache=True)
def weighted_median(stack, weight, out, out_weight):
    """Median of each pixel's values, and the inverse variance of that median.

    stack, weight : float32 (n, ny, nx); weight 0 = no value
    out, out_weight : float32 (ny, nx)

    The variance of a median of Gaussian values is pi/2 times that of their mean.
    """
    n, ny, nx = stack.shape
    values = np.empty(n, np.float32)
    for y in range(ny):
        for x in range(nx):
            m = 0
            norm = np.float32(0)
            for i in range(n):
                w = weight[i, y, x]
                if w > 0:
                    values[m] = stack[i, y, x]
                    norm += w
                    m += 1
            if m == 0:
                out[y, x] = 0
                out_weight[y, x] = 0
                continue
            _sort(values, m)
            out[y, x] = _middle(values, 0, m)
            out_weight[y, x] = norm if m < 3 else norm * np.float32(2 / np.pi)
