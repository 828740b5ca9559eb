"""Sort the values of pixels: of one, or of many neighbours at once."""

import numpy as np

from photometrus.compiled import njit

CHUNK = 256
"""Neighbouring pixels that are combined at once: their values stay in the cache."""


@njit(nogil=True, cache=True)
def sort(values, n):
    """Insertion sort of values[:n] in place: the fastest for a few tens of nearly sorted values."""
    for i in range(1, n):
        v = values[i]
        j = i - 1
        while j >= 0 and values[j] > v:
            values[j + 1] = values[j]
            j -= 1
        values[j + 1] = v


@njit(nogil=True, cache=True)
def middle_of(values, lo, hi):
    """Median of sorted values[lo:hi]."""
    n = hi - lo
    half = lo + n // 2
    if n % 2:
        return values[half]
    return np.float32(0.5) * (values[half - 1] + values[half])


@njit(nogil=True, cache=True)
def exchanges(n):
    """Which of n values to compare, in order, so that all are sorted: int64 (k, 2), low and high.

    Batcher's merge exchange (Knuth 5.2.2 M): what is exchanged does not depend on the values, so
    that many columns can be sorted at once.
    """
    out = np.empty((n * n, 2), np.int64)
    k = 0
    top = 1
    while top < n:
        top *= 2
    p = top // 2
    while p > 0:
        q, r, d = top // 2, 0, p
        while True:
            for i in range(n - d):
                if i & p == r:
                    out[k] = i, i + d
                    k += 1
            if q == p:
                break
            d = q - p
            q //= 2
            r = p
        p //= 2
    return out[:k]


@njit(nogil=True, cache=True)
def sort_columns(rows, pairs):
    """Sort each column in place: float32 (n, CHUNK), without NaN; pairs : of `exchanges`."""
    for k in range(pairs.shape[0]):
        a, b = rows[pairs[k, 0]], rows[pairs[k, 1]]
        for x in range(CHUNK):
            u, v = a[x], b[x]
            a[x] = u if u < v else v
            b[x] = v if u < v else u


@njit(nogil=True, cache=True, inline="always")
def mean_of_two(a, b):
    """Of float32 numbers, in float32."""
    return np.float32(0.5) * (a + b)
