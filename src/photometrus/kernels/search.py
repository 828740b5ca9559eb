"""Whether there is anything to be looked at: quick answers for stretches of a row."""

import numpy as np

from photometrus.compiled import njit

STRETCH = 64
"""Pixels that are asked about at once: what is rare is in few of such stretches."""


@njit(nogil=True, cache=True)
def any_above(line, limit):
    """Whether any number of a line is above a limit; NaN is not."""
    found = np.uint8(0)
    for x in range(line.size):
        found |= np.uint8(line[x] > limit)
    return found != 0


@njit(nogil=True, cache=True)
def any_set(line, bits):
    """Whether any number of a line has any of these bits: uint8."""
    found = np.uint8(0)
    for x in range(line.size):
        found |= line[x]
    return found & bits != 0
