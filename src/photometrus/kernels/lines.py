"""What whole columns and rows of an image have in common; means over boxes."""

import numpy as np

from photometrus.compiled import njit


@njit(nogil=True, cache=True)
def line_means(image, smooth, limit, columns, rows):
    """Clipped mean of each column of a difference, then of each row of what is left of it.

    image, smooth : float32 (ny, nx), their difference is meant; NaN does not count
    limit : differences are clipped to +-limit
    columns : float64 (nx,), rows : float64 (ny,), set; 0 for a line without a value
    """
    ny, nx = image.shape
    count = np.zeros(nx, np.int64)
    columns[:] = 0
    for y in range(ny):
        for x in range(nx):
            d = image[y, x] - smooth[y, x]
            known = d == d
            columns[x] += min(max(d, -limit), limit) if known else np.float32(0)
            count[x] += known
    for x in range(nx):
        columns[x] /= max(count[x], 1)
    for y in range(ny):
        total = 0.0
        n = 0
        for x in range(nx):
            d = image[y, x] - smooth[y, x] - np.float32(columns[x])
            if d == d:
                total += min(max(d, -limit), limit)
                n += 1
        rows[y] = total / max(n, 1)


@njit(nogil=True, cache=True)
def box_means(image, low, high, side, out):
    """Mean of each pixel's box of side x side, after clipping; the edges repeat the last pixel.

    image : float32 (ny, nx), finite; low, high : float32 (ny, nx), between which it is clipped
    side : odd; out : float32 (ny, nx)
    """
    ny, nx = image.shape
    reach = side // 2
    total = np.zeros(nx + 2 * reach, np.float64)
    middle = total[reach : reach + nx]
    for y in range(-reach, reach):
        _add_clipped(image, low, high, min(max(y, 0), ny - 1), 1.0, middle)
    for y in range(ny):
        _add_clipped(image, low, high, min(y + reach, ny - 1), 1.0, middle)
        total[:reach] = middle[0]
        total[reach + nx :] = middle[nx - 1]
        run = 0.0
        for x in range(2 * reach):
            run += total[x]
        for x in range(nx):
            run += total[x + 2 * reach]
            out[y, x] = run / (side * side)
            run -= total[x]
        _add_clipped(image, low, high, max(y - reach, 0), -1.0, middle)


@njit(nogil=True, cache=True)
def _add_clipped(image, low, high, y, sign, total):
    """Add a row, clipped, to the sums of the columns."""
    for x in range(total.size):
        total[x] += sign * min(max(image[y, x], low[y, x]), high[y, x])
