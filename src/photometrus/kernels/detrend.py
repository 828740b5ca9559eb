"""From a ramp's rows to calibrated rows."""

import numpy as np

from photometrus.compiled import njit


@njit(nogil=True, cache=True, error_model="numpy")
def calibrate(raw, flat, flagged, unsolved_limit, unsolved_flag, dead_flag, out, bad):
    """Divide rows by the flat and flag what cannot be used; flagged pixels become 0.

    raw, flat : float32 (rows, nx), ADU per frame and relative response
    flagged : uint8 (rows, nx), flags that are known beforehand (dead, hot)
    unsolved_limit : slopes at or above it, and NaN, are ramps that could not be fitted
    out : float32 (rows, nx); bad : uint8 (rows, nx)
    """
    rows, nx = raw.shape
    for y in range(rows):
        # No branches: the loop is then done on many pixels at once.
        for x in range(nx):
            v = raw[y, x]
            f = flat[y, x]
            solved = (v < unsolved_limit) & (v >= -unsolved_limit)
            alive = f > 0
            flags = flagged[y, x]
            flags |= np.uint8(0) if solved else unsolved_flag
            flags |= np.uint8(0) if alive else dead_flag
            bad[y, x] = flags
            usable = flags & (unsolved_flag | dead_flag) == 0
            out[y, x] = v / f if usable else np.float32(0)
