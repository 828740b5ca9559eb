"""From a ramp's rows to calibrated rows."""

import numpy as np

from photometrus.compiled import njit


@njit(nogil=True, cache=True, error_model="numpy")
def calibrate(raw, border, flat, flagged, unsolved_limit, unsolved_flag, dead_flag, out, bad):
    """Divide rows by the flat and flag what cannot be used; flagged pixels become 0.

    raw : float32 (rows, nx + 2 border), ADU per frame; flat : float32 (rows, nx), response
    flagged : uint8 (rows, nx), flags that are known beforehand (dead, hot)
    unsolved_limit : slopes at or above it, and NaN, are ramps that could not be fitted
    out : float32 (rows, nx); bad : uint8 (rows, nx)
    """
    rows, nx = out.shape
    for y in range(rows):
        line, response, known = raw[y, border : border + nx], flat[y], flagged[y]
        share, flags = out[y], bad[y]
        # No branches: the loops are then done on many pixels at once.
        for x in range(nx):
            v = line[x]
            solved = (v < unsolved_limit) & (v >= -unsolved_limit)
            flag = np.uint8(0) if solved else unsolved_flag
            flags[x] = known[x] | flag | (np.uint8(0) if response[x] > 0 else dead_flag)
        for x in range(nx):
            v = line[x]
            usable = flags[x] & (unsolved_flag | dead_flag) == 0
            share[x] = v / response[x] if usable else np.float32(0)


@njit(nogil=True, cache=True)
def swap_bytes(bits):
    """Big-endian numbers to little-endian ones, or back, in place: uint32 (n,)."""
    for i in range(bits.size):
        u = bits[i]
        low = (u << np.uint32(24)) | ((u & np.uint32(0xFF00)) << np.uint32(8))
        bits[i] = low | ((u >> np.uint32(8)) & np.uint32(0xFF00)) | (u >> np.uint32(24))
