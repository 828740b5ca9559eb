"""Pixels onto a new grid: Lanczos-3 interpolation along a coarse map of coordinates."""

import numpy as np

from photometrus.compiled import njit
from photometrus.kernels.search import STRETCH, any_set

LANCZOS_ORDER = 3
TAPS = 2 * LANCZOS_ORDER
SHIFT = 11
PHASES = 1 << SHIFT


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


@njit(nogil=True, cache=True)
def row_of_nodes(map_x, map_y, row, line_x, line_y):
    """Both maps at a row between their nodes (in units of nodes), at all columns of nodes."""
    j = min(int(row), map_x.shape[0] - 2)
    v = row - j
    for i in range(line_x.size):
        line_x[i] = (1 - v) * map_x[j, i] + v * map_x[j + 1, i]
        line_y[i] = (1 - v) * map_y[j, i] + v * map_y[j + 1, i]


def tap_curves():
    """The taps of `lanczos_table` as polynomials of u, the phase less a half: float32 (3, 2, 5).

    Taps k and 5 - k mirror each other in u: curves[k, 0] is what they share, in powers of u^2,
    curves[k, 1] times u what the first has more and the other less. Exact to 1e-7.
    """
    u = np.linspace(-0.5, 0.5, PHASES + 1)
    taps = lanczos_table().astype(float)
    powers = np.stack([u ** (2 * k) for k in range(5)], axis=1)
    curves = np.empty((3, 2, 5))
    for k in range(3):
        left, right = taps[:, k], taps[:, 5 - k]
        curves[k, 0] = np.linalg.lstsq(powers, (left + right) / 2, rcond=None)[0]
        curves[k, 1] = np.linalg.lstsq(powers * u[:, None], (left - right) / 2, rcond=None)[0]
    return curves.astype(np.float32)


CURVES = tap_curves()
HALF = PHASES // 2
AHEAD = 16
ONE, TWO, THREE, FOUR, FIVE = (np.uint64(k) for k in range(1, TAPS))
FAST = {"contract", "nsz", "arcp", "afn", "reassoc"}
BLOCK = 32
"""Pixels that are worked on at once."""
SHORT = 10
"""Where runs of one integer shift are shorter, in the mean, it is faster to go pixel by pixel."""


@njit(nogil=True, cache=True)
def lanczos_rows(
    data, bad, weight, y_first, map_x, map_y, step, row0, table, max_bad, factor, factor_w,
    out, out_w, flags,
):  # fmt: skip
    """Resample a frame into rows of the output grid.

    data : float32 (h, nx_in), rows y_first... of the frame, finite everywhere
    bad : uint8 (h, nx_in), not 0 where `data` is only a filling
    weight : float32 (h, nx_in), proportional to the inverse variance
    map_x, map_y : float64 (gy, gx), input pixel of the output grid's nodes, `step` pixels apart
        (0-based centres); bilinear in between
    row0 : first row of the output block
    table : float32, from `lanczos_table`
    max_bad : a value is dropped when taps whose weights sum to more than this are bad
    factor, factor_w : float32, by which values and weights are multiplied
    out, out_w : float32 (rows, nx_out); weight 0 where there is no value
    flags : uint8 (rows, nx_out); those of the nearest pixel are added

    A frame that is hardly turned has long runs of pixels with one integer shift, along which the
    taps are neighbours in memory; a mirrored one has them from right to left.
    """
    nx_out = out.shape[1]
    line_x = np.empty(map_x.shape[1], np.float64)
    line_y = np.empty(map_x.shape[1], np.float64)
    # Of each output pixel of a row: the pixel at or below it, and the phase beyond that.
    first_x = np.empty(nx_out, np.int32)
    first_y = np.empty(nx_out, np.int32)
    phase_x = np.empty(nx_out, np.uint32)
    phase_y = np.empty(nx_out, np.uint32)
    taps_x = np.zeros((TAPS, nx_out + BLOCK), np.float32)
    taps_y = np.zeros((TAPS, nx_out + BLOCK), np.float32)
    value = np.empty(nx_out + BLOCK, np.float32)
    share = np.empty(nx_out + BLOCK, np.float32)
    middle = map_x.shape[0] // 2
    mirrored = map_x[middle, -1] < map_x[middle, 0]
    for r in range(out.shape[0]):
        row_of_nodes(map_x, map_y, (row0 + r) / step, line_x, line_y)
        _phases(line_x, line_y, step, first_x, first_y, phase_x, phase_y)
        line, line_w, marks = out[r], out_w[r], flags[r]
        line[:] = 0
        line_w[:] = 0
        if mirrored:
            # Worked on from right to left, and turned at the end.
            _turn(first_x, first_y, phase_x, phase_y)
            _turn_line(marks)
        _row(
            data, bad, weight, first_x, first_y, y_first, phase_x, phase_y, table,
            taps_x, taps_y, value, share, max_bad, line, line_w, marks,
        )  # fmt: skip
        for x in range(nx_out):
            line[x] *= factor
        for x in range(nx_out):
            line_w[x] *= factor_w
        if mirrored:
            _turn_line(line)
            _turn_line(line_w)
            _turn_line(marks)


@njit(nogil=True, cache=True)
def _turn(first_x, first_y, phase_x, phase_y):
    """Places of a row's pixels from right to left, in place."""
    _turn_line(first_x)
    _turn_line(first_y)
    _turn_line(phase_x)
    _turn_line(phase_y)


@njit(nogil=True, cache=True)
def _turn_line(line):
    """A line from right to left, in place."""
    n = line.size
    for x in range(n // 2):
        line[x], line[n - 1 - x] = line[n - 1 - x], line[x]


@njit(nogil=True, cache=True)
def _phases(line_x, line_y, step, first_x, first_y, phase_x, phase_y):
    """Places of a row's pixels between its nodes: the pixel below, and the phase of the table.

    What is far outside the frame becomes a place just outside.
    """
    nx = first_x.size
    scale = 1.0 / step
    for i in range((nx + step - 1) // step):
        start_x, start_y = line_x[i], line_y[i]
        slope_x = (line_x[i + 1] - start_x) * scale
        slope_y = (line_y[i + 1] - start_y) * scale
        start = np.uint64(i * step)
        # Unsigned: an index that may be negative keeps a loop from doing many at once.
        for k in range(np.uint64(min(step, nx - i * step))):
            px = min(max(start_x + slope_x * k, -9.0), 1e6)
            py = min(max(start_y + slope_y * k, -9.0), 1e6)
            # In phases from AHEAD pixels before the frame: positive, so that to truncate rounds.
            at_x = np.int32((px + AHEAD) * PHASES + 0.5)
            at_y = np.int32((py + AHEAD) * PHASES + 0.5)
            first_x[start + k] = (at_x >> SHIFT) - AHEAD
            first_y[start + k] = (at_y >> SHIFT) - AHEAD
            phase_x[start + k] = at_x & (PHASES - 1)
            phase_y[start + k] = at_y & (PHASES - 1)


@njit(nogil=True, cache=True)
def _row(
    data, bad, weight, first_x, first_y, y_first, phase_x, phase_y, table,
    taps_x, taps_y, value, share, max_bad, out, out_w, flags,
):  # fmt: skip
    """One row, run by run; `taps_x` to `share` are room to work in."""
    h, nx_in = data.shape
    n = first_x.size
    begin = 0
    in_runs = n > SHORT * _breaks(first_x, first_y)
    while begin < n:
        shift = first_x[begin] - begin
        iy = first_y[begin] - y_first
        end = begin + 1
        while end < n and first_x[end] - end == shift and first_y[end] == first_y[begin]:
            end += 1
        # The part of the run whose taps are all in the frame.
        low = max(begin, 2 - shift)
        high = min(end, nx_in - 3 - shift)
        begin = end
        if iy < 2 or iy + 3 >= h or low >= high:
            continue
        if in_runs and high + BLOCK + shift + 3 <= nx_in:
            _taps(phase_x, low, high, taps_x)
            _taps(phase_y, low, high, taps_y)
            some = _tap_run(data, bad, taps_x, taps_y, low, high, shift, iy, value, share)
        else:
            some = _tap_pixels(
                data, bad, table, phase_x, phase_y, low, high, shift, iy, value, share
            )
        _nearest(weight, phase_x, phase_y, low, high, shift, iy, out_w)
        for x in range(np.uint64(low), np.uint64(high)):
            out[x] = value[x]
        if some:
            _near_flags(bad, phase_x, phase_y, low, high, shift, iy, flags)
            for x in range(np.uint64(low), np.uint64(high)):
                out[x] = out[x] if share[x] <= max_bad else np.float32(0)
                out_w[x] = out_w[x] if share[x] <= max_bad else np.float32(0)


@njit(nogil=True, cache=True)
def _breaks(first_x, first_y):
    """How often along a row the integer shift changes."""
    n = 0
    last_x, last_y = first_x[:-1], first_y[:-1]
    next_x, next_y = first_x[1:], first_y[1:]
    for x in range(next_x.size):
        n += (next_x[x] - last_x[x] != 1) | (next_y[x] != last_y[x])
    return n


@njit(nogil=True, cache=True, inline="always")
def _near(image, y, x, right, up):
    """The nearest of four pixels: (y, x), or the one to its right, above it, or both."""
    below = image[y, x + ONE] if right else image[y, x]
    above = image[y + ONE, x + ONE] if right else image[y + ONE, x]
    return above if up else below


@njit(nogil=True, cache=True)
def _nearest(image, phase_x, phase_y, low, high, shift, iy, out):
    """The pixel nearest to each place of a run: its neighbours' are neighbours, too."""
    at, first, y = np.uint64(low), np.uint64(low + shift), np.uint64(iy)
    for k in range(np.uint64(high - low)):
        right, up = phase_x[at + k] >= HALF, phase_y[at + k] >= HALF
        out[at + k] = _near(image, y, first + k, right, up)


@njit(nogil=True, cache=True)
def _near_flags(bad, phase_x, phase_y, low, high, shift, iy, flags):
    """Add the flags of the pixel nearest to each place of a run."""
    at, first, y = np.uint64(low), np.uint64(low + shift), np.uint64(iy)
    for k in range(np.uint64(high - low)):
        right, up = phase_x[at + k] >= HALF, phase_y[at + k] >= HALF
        flags[at + k] |= _near(bad, y, first + k, right, up)


@njit(nogil=True, cache=True, fastmath=FAST)
def _taps(phase, low, high, taps):
    """The six taps of pixels low to high: to work them out for many is faster than to look them up.

    phase : uint32 (n,), of `lanczos_table`; taps : float32 (6, at least n), set
    """
    at = np.uint64(low)
    for k in range(3):
        a0, a1, a2, a3, a4 = CURVES[k, 0]
        b0, b1, b2, b3, b4 = CURVES[k, 1]
        for x in range(np.uint64(high - low)):
            u = np.float32(np.int32(phase[at + x])) * np.float32(1 / PHASES) - np.float32(0.5)
            v = u * u
            even = a0 + v * (a1 + v * (a2 + v * (a3 + v * a4)))
            odd = u * (b0 + v * (b1 + v * (b2 + v * (b3 + v * b4))))
            taps[k, at + x] = even + odd
            taps[5 - k, at + x] = even - odd


@njit(nogil=True, cache=True, fastmath=FAST)
def _tap_run(data, bad, taps_x, taps_y, low, high, shift, iy, value, share):
    """Values of a run of pixels with one integer shift; returns whether any of the taps is bad.

    share : set if so, the taps' weights, without their signs, that are bad
    In whole blocks: what is beyond the run's end is set, too, to anything.
    """
    # Unsigned indices, as in `_phases`; views would cost more than a short run's sums.
    n = np.uint64((high - low + BLOCK - 1) // BLOCK * BLOCK)
    at, left = np.uint64(low), np.uint64(low + shift - 2)
    top = np.uint64(iy - 2)
    # All rows at once: a loop of its own for each would first have to see that none overlap.
    for k in range(n):
        i, j = at + k, left + k
        w0, w1, w2 = taps_x[0, i], taps_x[1, i], taps_x[2, i]
        w3, w4, w5 = taps_x[3, i], taps_x[4, i], taps_x[5, i]
        total = np.float32(0)
        for b in range(np.uint64(TAPS)):
            y = top + b
            total += taps_y[b, i] * (
                w0 * data[y, j]
                + w1 * data[y, j + ONE]
                + w2 * data[y, j + TWO]
                + w3 * data[y, j + THREE]
                + w4 * data[y, j + FOUR]
                + w5 * data[y, j + FIVE]
            )
        value[i] = total
    any_bad = np.uint8(0)
    for k in range(n + FIVE):
        j = left + k
        any_bad |= bad[top, j] | bad[top + ONE, j] | bad[top + TWO, j]
        any_bad |= bad[top + THREE, j] | bad[top + FOUR, j] | bad[top + FIVE, j]
    if any_bad == 0:
        return False
    for k in range(n):
        i, j = at + k, left + k
        heavy = np.float32(0)
        for b in range(np.uint64(TAPS)):
            y = top + b
            line = np.float32(0)
            for a in range(np.uint64(TAPS)):
                line += abs(taps_x[a, i]) * np.float32(bad[y, j + a] != 0)
            heavy += abs(taps_y[b, i]) * line
        share[i] = heavy
    return True


@njit(nogil=True, cache=True, fastmath=FAST)
def _tap_pixels(data, bad, table, phase_x, phase_y, low, high, shift, iy, value, share):
    """The same, pixel by pixel."""
    any_bad = np.uint8(0)
    for x in range(low, high):
        left = np.uint64(x + shift - 2)
        wx = table[phase_x[x]]
        wy = table[phase_y[x]]
        total = np.float32(0)
        some = np.uint8(0)
        for b in range(TAPS):
            s = data[iy - 2 + b]
            f = bad[iy - 2 + b]
            line = np.float32(0)
            for a in range(TAPS):
                line += wx[a] * s[left + np.uint64(a)]
                some |= f[left + np.uint64(a)]
            total += wy[b] * line
        value[x] = total
        share[x] = _bad_share(bad, wx, wy, x + shift - 2, iy - 2) if some != 0 else np.float32(0)
        any_bad |= some
    return any_bad != 0


@njit(nogil=True, cache=True)
def _bad_share(bad, wx, wy, left, top):
    """The weights, without their signs, of the taps of a pixel that are bad."""
    heavy = np.float32(0)
    for b in range(TAPS):
        for a in range(TAPS):
            if bad[top + b, left + a] != 0:
                heavy += abs(wx[a] * wy[b])
    return heavy


@njit(nogil=True, cache=True)
def fill_bad(data, bad, rounds):
    """Fill bad pixels of `data` in place with the mean of their good (or filled) neighbours.

    data : float32 (ny, nx), changed
    bad : uint8 (ny, nx), not changed
    rounds : how many pixels deep a hole is filled; what is deeper becomes 0
    """
    ny, nx = data.shape
    n = 0
    for y in range(ny):
        line = bad[y]
        for x in range(nx):
            n += line[x] != 0
    ys = np.empty(n, np.int64)
    xs = np.empty(n, np.int64)
    open_ = np.zeros((ny, nx), np.uint8)
    n = 0
    for y in range(ny):
        for x0 in range(0, nx, STRETCH):
            if not any_set(bad[y, x0 : x0 + STRETCH], np.uint8(255)):
                continue
            for x in range(x0, min(nx, x0 + STRETCH)):
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
    line_x = np.empty(map_x.shape[1], np.float64)
    line_y = np.empty(map_x.shape[1], np.float64)
    back = 0.5 * (factor - 2)
    for r in range(rows):
        row_of_nodes(map_x, map_y, (row0 + r) / step, line_x, line_y)
        for i in range((nx_out + step - 1) // step):
            slope_x = (line_x[i + 1] - line_x[i]) / step
            slope_y = (line_y[i + 1] - line_y[i]) / step
            for k in range(min(step, nx_out - i * step)):
                px = line_x[i] + slope_x * k - back
                py = line_y[i] + slope_y * k - back - y_first
                if not (px >= 0 and py >= 0 and px < nx_in - factor + 1 and py < h - factor + 1):
                    continue
                left, top = np.uint64(px), np.uint64(py)
                value, n = np.float32(0), np.float32(0)
                for b in range(factor):
                    for a in range(factor):
                        good = bad[top + np.uint64(b), left + np.uint64(a)] == 0
                        v = data[top + np.uint64(b), left + np.uint64(a)]
                        value += v if good else np.float32(0)
                        n += np.float32(good)
                total[r, i * step + k] += value
                norm[r, i * step + k] += n


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
            n = min(step, nx - i * step)
            line = out[r, i * step : i * step + n]
            end_x, end_y = px + slope_x * (n - 1), py + slope_y * (n - 1)
            if min(px, end_x, py, end_y) >= 0 and max(px, end_x) < mx and max(py, end_y) < my:
                for k in range(n):
                    line[k] = mask[np.uint32(py + slope_y * k), np.uint32(px + slope_x * k)]
                continue
            for k in range(n):
                x, y = px + slope_x * k, py + slope_y * k
                inside = x >= 0 and x < mx and y >= 0 and y < my
                line[k] = mask[int(y), int(x)] if inside else 0
