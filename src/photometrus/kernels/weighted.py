"""Weighted combination of stacks of pixels."""

import numpy as np

from photometrus.compiled import njit
from photometrus.kernels.sorting import (
    CHUNK,
    exchanges,
    mean_of_two,
    middle_of,
    sort,
    sort_columns,
)


@njit(nogil=True, cache=True)
def _sorted_values(stack, weight, y, x, values):
    """A pixel's values that have weight, sorted into values[:m]; returns m."""
    m = 0
    for i in range(stack.shape[0]):
        if weight[i, y, x] > 0:
            values[m] = stack[i, y, x]
            m += 1
    sort(values, m)
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
    pairs = exchanges(n)
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
            sort_columns(rows, pairs)
            for x in range(width):
                m = known[x]
                half = m // 2
                if m == 0:
                    out[y, x0 + x] = np.nan
                elif m % 2 or m == 2:
                    out[y, x0 + x] = rows[half - (m == 2), x]
                else:
                    out[y, x0 + x] = mean_of_two(rows[half - 1, x], rows[half, x])


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
    # One by one: rows of one array would not be known to be contiguous.
    total_of = np.empty(nx, np.float32)
    norm_of = np.empty(nx, np.float32)
    worst = np.empty(nx, np.float32)
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
def given_weight(weight, first, total):
    """Sums of the weights of each pixel's values; returns how many values have any.

    weight : float32 (n, rows, nx); first : row of these with which the sums begin
    total : float32 (ny, nx), set
    """
    known = 0
    for y in range(total.shape[0]):
        line = total[y]
        line[:] = 0
        for i in range(weight.shape[0]):
            w = weight[i, first + y]
            for x in range(line.size):
                line[x] += w[x]
                known += w[x] > 0
    return known


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
            sort(values, m)
            out[y, x] = middle_of(values, 0, m)
            out_weight[y, x] = norm if m < 3 else norm * np.float32(2 / np.pi)
