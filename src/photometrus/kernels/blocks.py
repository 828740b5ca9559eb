"""Images in blocks of pixels: small enough to look at."""

import numpy as np

from photometrus.compiled import njit


@njit(nogil=True, cache=True)
def block_means(image, side, out):
    """Mean of the pixels of each block that hold a value: finite and not exactly 0.

    image : float32 (ny, nx), not changed; side : of a block, pixels
    out : float32 (ceil(ny / side), ceil(nx / side)), NaN where no pixel of the block has a value
    """
    ny, nx = image.shape
    total = np.empty(out.shape[1])
    count = np.empty(out.shape[1], np.int64)
    for j in range(out.shape[0]):
        total[:] = 0
        count[:] = 0
        for y in range(j * side, min(ny, (j + 1) * side)):
            for i in range(out.shape[1]):
                value, n = _sum(image[y, i * side : min(nx, (i + 1) * side)])
                total[i] += value
                count[i] += n
        for i in range(out.shape[1]):
            out[j, i] = total[i] / count[i] if count[i] > 0 else np.nan


@njit(nogil=True, cache=True, fastmath={"contract", "nsz", "reassoc"})
def _sum(line):
    """Sum and number of what is finite in a line and not exactly 0."""
    total = np.float32(0)
    n = np.int32(0)
    for x in range(line.size):
        v = line[x]
        holds = (v != 0) & (abs(v) < np.inf)
        total += v if holds else np.float32(0)
        n += np.int32(holds)
    return total, n


@njit(nogil=True, cache=True)
def block_losses(before, after, side, out):
    """Share of each block's sum that is gone: 1 - sum(after) / sum(before).

    before, after : float32 (ny, nx), 0 <= after <= before; side : of a block, pixels
    out : float32 (ceil(ny / side), ceil(nx / side)), NaN where there was nothing before
    """
    ny, nx = before.shape
    for j in range(out.shape[0]):
        for i in range(out.shape[1]):
            had = 0.0
            has = 0.0
            for y in range(j * side, min(ny, (j + 1) * side)):
                for x in range(i * side, min(nx, (i + 1) * side)):
                    had += before[y, x]
                    has += after[y, x]
            out[j, i] = max(0.0, 1.0 - has / had) if had > 0 else np.nan
