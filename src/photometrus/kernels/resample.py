"""Pixels onto a new grid: Lanczos-3 interpolation along a coarse map of coordinates."""

import numpy as np
from numba import njit

LANCZOS_ORDER = 3
TAPS = 2 * LANCZOS_ORDER
PHASES = 2048


def lanczos_table():
    """Weights of the six taps for each of PHASES + 1 sub-pixel phases, each row summing to 1.

    returns float32 (PHASES + 1, 6); row p belongs to a position p / PHASES right of tap 2
    """
    phase = np.arange(PHASES + 1)[:, None] / PHASES
    distance = phase - (np.arange(TAPS)[None, :] - (LANCZOS_ORDER - 1))
    weights = np.sinc(distance) * np.sinc(distance / LANCZOS_ORDER)
    weights[np.abs(distance) >= LANCZOS_ORDER] = 0.0
    return np.ascontiguousarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def pixel_scatter(side=1):
    """Scatter of the mean of side x side resampled pixels, in units of one pixel's before: float.

    Interpolation averages neighbours, so pixels scatter less, and together: sums over many of
    them scatter as before. For white noise and all sub-pixel phases alike the variance is that of
    the squares of the taps (of the taps of all pixels of the mean together), once for each axis.
    """
    taps = lanczos_table()[:-1].astype(float)
    together = sum(np.pad(taps, ((0, 0), (k, side - 1 - k))) for k in range(side)) / side
    return float((together**2).sum(axis=1).mean())


@njit(nogil=True, cache=True, inline="always")
def _at(map_x, map_y, row, column):
    """Both maps at a place between their nodes (in units of nodes), bilinear."""
    j = min(int(row), map_x.shape[0] - 2)
    i = min(int(column), map_x.shape[1] - 2)
    v = row - j
    u = column - i
    x = (1 - v) * ((1 - u) * map_x[j, i] + u * map_x[j, i + 1]) + v * (
        (1 - u) * map_x[j + 1, i] + u * map_x[j + 1, i + 1]
    )
    y = (1 - v) * ((1 - u) * map_y[j, i] + u * map_y[j, i + 1]) + v * (
        (1 - u) * map_y[j + 1, i] + u * map_y[j + 1, i + 1]
    )
    return x, y


@njit(nogil=True, cache=True)
def row_of_nodes(map_x, map_y, row, line_x, line_y):
    """Both maps at a row between their nodes (in units of nodes), at all columns of nodes."""
    j = min(int(row), map_x.shape[0] - 2)
    v = row - j
    for i in range(line_x.size):
        line_x[i] = (1 - v) * map_x[j, i] + v * map_x[j + 1, i]
        line_y[i] = (1 - v) * map_y[j, i] + v * map_y[j + 1, i]


@njit(nogil=True, cache=True, fastmath={"contract", "nsz", "arcp", "afn", "reassoc"})
def lanczos_rows(
    data, bad, weight, y_first, map_x, map_y, step, row0, table, max_bad, out, out_w, flags
):
    """Resample a frame into rows of the output grid.

    data : float32 (h, nx_in), rows y_first... of the frame, finite everywhere
    bad : uint8 (h, nx_in), not 0 where `data` is only a filling
    weight : float32 (h, nx_in), inverse variance
    map_x, map_y : float64 (gy, gx), input pixel of the output grid's nodes, `step` pixels apart
        (0-based centres); bilinear in between
    row0 : first row of the output block
    table : float32, from `lanczos_table`
    max_bad : a value is dropped when taps whose weights sum to more than this are bad
    out, out_w : float32 (rows, nx_out); weight 0 where there is no value
    flags : uint8 (rows, nx_out); those of the nearest pixel are added
    """
    h, nx_in = data.shape
    rows, nx_out = out.shape
    for r in range(rows):
        for x in range(nx_out):
            px, py = _at(map_x, map_y, (row0 + r) / step, x / step)
            out[r, x] = 0
            out_w[r, x] = 0
            ix = int(np.floor(px))
            iy = int(np.floor(py)) - y_first
            if ix < 2 or iy < 2 or ix + 3 >= nx_in or iy + 3 >= h:
                continue
            wx = table[int((px - np.floor(px)) * PHASES + 0.5)]
            wy = table[int((py - np.floor(py)) * PHASES + 0.5)]
            total = np.float32(0)
            n_bad = 0
            nx = ix + (px - ix >= 0.5)
            ny = iy + (py - np.floor(py) >= 0.5)
            flags[r, x] |= bad[ny, nx]
            for b in range(TAPS):
                line = np.float32(0)
                for a in range(TAPS):
                    line += wx[a] * data[iy - 2 + b, ix - 2 + a]
                    n_bad += bad[iy - 2 + b, ix - 2 + a] != 0
                total += wy[b] * line
            if n_bad > 0:
                heavy = np.float32(0)
                for b in range(TAPS):
                    for a in range(TAPS):
                        if bad[iy - 2 + b, ix - 2 + a] != 0:
                            heavy += abs(wx[a] * wy[b])
                if heavy > max_bad:
                    continue
            out[r, x] = total
            out_w[r, x] = weight[ny, nx]


@njit(nogil=True, cache=True)
def fill_bad(data, bad, rounds):
    """Fill bad pixels of `data` in place with the mean of their good (or filled) neighbours.

    data : float32 (ny, nx), changed
    bad : uint8 (ny, nx), not changed
    rounds : how many pixels deep a hole is filled; what is deeper becomes 0
    """
    ny, nx = data.shape
    ys = np.empty(0, np.int64)
    xs = np.empty(0, np.int64)
    n = 0
    for y in range(ny):
        for x in range(nx):
            if bad[y, x] != 0:
                n += 1
    ys = np.empty(n, np.int64)
    xs = np.empty(n, np.int64)
    open_ = np.zeros((ny, nx), np.uint8)
    n = 0
    for y in range(ny):
        for x in range(nx):
            if bad[y, x] != 0:
                ys[n] = y
                xs[n] = x
                open_[y, x] = 1
                data[y, x] = 0
                n += 1
    new = np.empty(n, np.float32)
    for _ in range(rounds):
        if n == 0:
            break
        left = 0
        done = 0
        filled_y = np.empty(n, np.int64)
        filled_x = np.empty(n, np.int64)
        for k in range(n):
            y, x = ys[k], xs[k]
            total = np.float32(0)
            norm = np.float32(0)
            for b in range(max(0, y - 1), min(ny, y + 2)):
                for a in range(max(0, x - 1), min(nx, x + 2)):
                    if open_[b, a] == 0:
                        w = np.float32(1.0 if (a == x or b == y) else 0.5)
                        total += w * data[b, a]
                        norm += w
            if norm > 0:
                new[done] = total / norm
                filled_y[done] = y
                filled_x[done] = x
                done += 1
            else:
                ys[left] = y
                xs[left] = x
                left += 1
        for k in range(done):
            data[filled_y[k], filled_x[k]] = new[k]
            open_[filled_y[k], filled_x[k]] = 0
        n = left


@njit(nogil=True, cache=True)
def shrink_rows(data, bad, y_first, map_x, map_y, step, row0, factor, total, norm):
    """Add a frame to sums on a coarser grid: the mean of `factor` x `factor` pixels nearest.

    data, bad : rows y_first... of the frame; map_x, map_y, step, row0 : as in `lanczos_rows`
    total, norm : float32 (rows, nx_out), sums and counts of good pixels, added to
    """
    h, nx_in = data.shape
    rows, nx_out = total.shape
    for r in range(rows):
        for x in range(nx_out):
            px, py = _at(map_x, map_y, (row0 + r) / step, x / step)
            ix = int(np.floor(px - 0.5 * (factor - 2)))
            iy = int(np.floor(py - 0.5 * (factor - 2))) - y_first
            if ix < 0 or iy < 0 or ix + factor > nx_in or iy + factor > h:
                continue
            for b in range(iy, iy + factor):
                for a in range(ix, ix + factor):
                    if bad[b, a] == 0:
                        total[r, x] += data[b, a]
                        norm[r, x] += 1


@njit(nogil=True, cache=True)
def project_rows(mask, map_x, map_y, step, row0, out):
    """Rows of a frame's mask from a mask on another grid, nearest pixel; outside is 0.

    mask : uint8 (my, mx); map_x, map_y : float64, pixel of `mask` at the frame's nodes
    out : uint8 (rows, nx)
    """
    my, mx = mask.shape
    rows, nx = out.shape
    line_x = np.empty(map_x.shape[1], np.float64)
    line_y = np.empty(map_x.shape[1], np.float64)
    for r in range(rows):
        row_of_nodes(map_x, map_y, (row0 + r) / step, line_x, line_y)
        for i in range((nx + step - 1) // step):
            slope_x = (line_x[i + 1] - line_x[i]) / step
            slope_y = (line_y[i + 1] - line_y[i]) / step
            # Half a pixel more: to truncate is then to round.
            px = line_x[i] + 0.5
            py = line_y[i] + 0.5
            for k in range(min(step, nx - i * step)):
                a = int(px + slope_x * k)
                b = int(py + slope_y * k)
                inside = px + slope_x * k >= 0 and a < mx and py + slope_y * k >= 0 and b < my
                out[r, i * step + k] = mask[b, a] if inside else 0
