"""What does not come from the sky: saturated cores, outliers against an expectation, lines."""

import numpy as np

from photometrus.compiled import njit
from photometrus.kernels.resample import row_of_nodes

FLAT = 0.1
"""Neighbours as alike as this, relative, make a flat top: on no star do six of the eight neighbours
of a pixel differ by so little (Gaussian of 6 pixels FWHM, wherever its centre is: four)."""
STEEP_PIX = 2
"""Beyond a flat top its star falls to half in this distance; the light of a galaxy does not."""
NEAR_FULL = 0.85
"""Of the flat top's height: what is above belongs to the core."""
ACROSS_PIX = 14
"""A pixel with parts of a core so near on all four sides lies inside it, whatever it says."""


@njit(nogil=True, cache=True)
def saturated_cores(data, bad, unsolved, height, core):
    """Find the pixels that stars saturated, by either sign of it.

    data : float32 (ny, nx), sky subtracted; bad : uint8 (ny, nx)
    unsolved : the bit of pixels whose ramps could not be fitted
    height : what a flat top, or a good pixel beside unsolved ones, must reach
    core : uint8 (ny, nx), zeros; set to 1 in saturated cores

    Five unsolved pixels or more within 5 x 5 with a bright one beside them; or a flat top with
    steep sides, and what lies inside it (a ramp that saturates early in the exposure may come out
    as anything).
    """
    ny, nx = data.shape
    for y in range(ny):
        for x in range(nx):
            if bad[y, x] & unsolved != 0:
                if _is_lit(data, bad, unsolved, height, y, x):
                    core[y, x] = 1
            elif core[y, x] == 0 and data[y, x] > height and _is_flat(data, y, x):
                _mark_top(data, core, y, x)
    for y in range(ny):
        for x in range(nx):
            if core[y, x] == 1:
                for b in range(max(0, y - 1), min(ny, y + 2)):
                    for a in range(max(0, x - ACROSS_PIX), min(nx, x + ACROSS_PIX + 1)):
                        if core[b, a] == 0 and _is_inside(core, b, a):
                            core[b, a] = 2
    for y in range(ny):
        for x in range(nx):
            core[y, x] = 1 <= core[y, x] <= 2


@njit(nogil=True, cache=True)
def _mark_top(data, core, y0, x0):
    """Set `core` in the pixels of a top: to 1, or to 3 when its sides are not steep.

    They hang together, and are above NEAR_FULL of the one that it begins with.
    """
    ny, nx = data.shape
    limit = NEAR_FULL * data[y0, x0]
    queue = np.empty(1 << 14, np.int64)
    queue[0] = y0 * nx + x0
    core[y0, x0] = 3
    n = 1
    low_y, high_y, low_x, high_x = y0, y0, x0, x0
    k = 0
    while k < n:
        y, x = queue[k] // nx, queue[k] % nx
        k += 1
        low_y, high_y = min(low_y, y), max(high_y, y)
        low_x, high_x = min(low_x, x), max(high_x, x)
        for b in range(max(0, y - 1), min(ny, y + 2)):
            for a in range(max(0, x - 1), min(nx, x + 2)):
                if core[b, a] == 0 and data[b, a] > limit and n < queue.size:
                    core[b, a] = 3
                    queue[n] = b * nx + a
                    n += 1
    y, x = (low_y + high_y) // 2, (low_x + high_x) // 2
    half = np.float32(0.5) * data[y0, x0]
    steep = 0
    for b, a in (
        (low_y - STEEP_PIX, x),
        (high_y + STEEP_PIX, x),
        (y, low_x - STEEP_PIX),
        (y, high_x + STEEP_PIX),
    ):
        steep += not (0 <= b < ny and 0 <= a < nx and data[b, a] > half)
    if steep >= 3:
        for k in range(n):
            core[queue[k] // nx, queue[k] % nx] = 1


@njit(nogil=True, cache=True)
def _is_lit(data, bad, unsolved, height, y, x):
    """Whether an unsolved pixel is one of many, beside a bright one."""
    ny, nx = data.shape
    count = 0
    for b in range(max(0, y - 2), min(ny, y + 3)):
        for a in range(max(0, x - 2), min(nx, x + 3)):
            if bad[b, a] & unsolved != 0:
                count += 1
    if count < 5:
        return False
    # The middle of a large core sees no rim nearby.
    reach = 3 if count < 20 else 12
    for b in range(max(0, y - reach), min(ny, y + reach + 1)):
        for a in range(max(0, x - reach), min(nx, x + reach + 1)):
            if bad[b, a] == 0 and data[b, a] > height:
                return True
    return False


@njit(nogil=True, cache=True)
def _is_flat(data, y, x):
    """Whether six of a pixel's eight neighbours are about as bright as it is."""
    ny, nx = data.shape
    if y == 0 or x == 0 or y == ny - 1 or x == nx - 1:
        return False
    alike = 0
    for b in range(y - 1, y + 2):
        for a in range(x - 1, x + 2):
            alike += abs(data[b, a] - data[y, x]) < FLAT * data[y, x]
    return alike >= 7


@njit(nogil=True, cache=True)
def _is_inside(core, y, x):
    """Whether parts of a core are on all four sides of a pixel."""
    ny, nx = core.shape
    left = right = up = down = False
    for d in range(1, ACROSS_PIX + 1):
        left = left or (x - d >= 0 and core[y, x - d] == 1)
        right = right or (x + d < nx and core[y, x + d] == 1)
        up = up or (y - d >= 0 and core[y - d, x] == 1)
        down = down or (y + d < ny and core[y + d, x] == 1)
    return left and right and up and down


@njit(nogil=True, cache=True)
def expected_rows(stack, ranges, map_x, map_y, step, row0, factor, out, spread):
    """A stack as a frame should see it: bilinear; and how uncertain that is for want of detail.

    stack : float32 (my, mx); ranges : float32 (my, mx), of its 3 x 3 neighbours
    map_x, map_y : float64 (gy, gx), pixel of `stack` at the frame's nodes, `step` pixels apart
    row0 : the frame's first row; factor : from the stack's flux scale to the frame's
    out, spread : float32 (rows, nx); spread is the range at the nearest pixel; both are NaN
        outside the stack
    """
    my, mx = stack.shape
    rows, nx = out.shape
    line_x = np.empty(map_x.shape[1], np.float64)
    line_y = np.empty(map_x.shape[1], np.float64)
    for r in range(rows):
        row_of_nodes(map_x, map_y, (row0 + r) / step, line_x, line_y)
        for i in range((nx + step - 1) // step):
            slope_x = (line_x[i + 1] - line_x[i]) / step
            slope_y = (line_y[i + 1] - line_y[i]) / step
            n = min(step, nx - i * step)
            end_x = line_x[i] + slope_x * (n - 1)
            end_y = line_y[i] + slope_y * (n - 1)
            # A line between two pixels inside the stack is inside.
            inside = _has_neighbours(line_x[i], line_y[i], mx, my)
            inside &= _has_neighbours(end_x, end_y, mx, my)
            for k in range(n):
                px = line_x[i] + slope_x * k
                py = line_y[i] + slope_y * k
                x = i * step + k
                if not (inside or _has_neighbours(px, py, mx, my)):
                    out[r, x] = np.nan
                    spread[r, x] = np.nan
                    continue
                a = np.uint32(px)
                b = np.uint32(py)
                fx = np.float32(px - a)
                fy = np.float32(py - b)
                low = stack[b]
                high = stack[b + np.uint32(1)]
                below = low[a] + fx * (low[a + np.uint32(1)] - low[a])
                above = high[a] + fx * (high[a + np.uint32(1)] - high[a])
                out[r, x] = factor * (below + fy * (above - below))
                spread[r, x] = factor * ranges[np.uint32(py + 0.5), np.uint32(px + 0.5)]


@njit(nogil=True, cache=True, inline="always")
def _has_neighbours(x, y, nx, ny):
    """Whether a place is far enough inside an image to be interpolated."""
    return x >= 1 and y >= 1 and x < nx - 2 and y < ny - 2


@njit(nogil=True, cache=True)
def bin_sums(image, unusable, side, limit, total, count):
    """Sums of an image's pixels in square bins, each pixel clipped to +-limit.

    image : float32 (ny, nx); unusable : bool (ny, nx), pixels that do not count
    total : float32 (ny // side, nx // side); count : int32, how many pixels made each sum
    """
    total[:] = 0
    count[:] = 0
    for j in range(total.shape[0]):
        for y in range(j * side, (j + 1) * side):
            for i in range(total.shape[1]):
                add = np.float32(0)
                n = 0
                for x in range(i * side, (i + 1) * side):
                    good = not unusable[y, x]
                    v = min(max(image[y, x], -limit), limit)
                    add += v if good else np.float32(0)
                    n += good
                total[j, i] += add
                count[j, i] += n


@njit(nogil=True, cache=True)
def mark_outliers(data, bad, expected, spread, noise, gain, detail, floor, high, low, flag):
    """Flag pixels far above what is expected of them, and their neighbours that stick out, too.

    data, expected, spread : float32 (ny, nx), ADU, sky subtracted; NaN expected: not judged
    bad : uint8 (ny, nx), `flag` is set in it
    noise : of a sky pixel, ADU; gain : electrons per ADU
    detail, floor : what exceeds `floor` of the spread is real, and a pixel may differ from its
        expectation by `detail` times that: the seeing varies
    high, low : in units of a pixel's noise, beyond that: where an outlier begins, and how far it
        reaches into its neighbours
    returns how many pixels were flagged
    """
    ny, nx = data.shape
    size = 1 << 16
    queue = np.empty(size, np.int64)
    total = 0
    for y0 in range(ny):
        for x0 in range(nx):
            e = expected[y0, x0]
            # Most pixels end here, before a square root.
            if bad[y0, x0] != 0 or not (data[y0, x0] - e > high * noise):
                continue
            slack = detail * max(spread[y0, x0] - floor, np.float32(0))
            sigma = np.sqrt(noise * noise + max(e, np.float32(0)) / gain)
            if data[y0, x0] - e <= high * sigma + slack:
                continue
            bad[y0, x0] |= flag
            queue[0] = y0 * nx + x0
            n = 1
            while n > 0:
                n -= 1
                total += 1
                y, x = queue[n] // nx, queue[n] % nx
                for b in range(max(0, y - 1), min(ny, y + 2)):
                    for a in range(max(0, x - 1), min(nx, x + 2)):
                        e = expected[b, a]
                        if bad[b, a] != 0 or not (data[b, a] - e > low * noise):
                            continue
                        slack = detail * max(spread[b, a] - floor, np.float32(0))
                        sigma = np.sqrt(noise * noise + max(e, np.float32(0)) / gain)
                        if data[b, a] - e > low * sigma + slack and n < size:
                            bad[b, a] |= flag
                            queue[n] = b * nx + a
                            n += 1
    return total


@njit(nogil=True, cache=True)
def line_sums(image, out):
    """Sums along all straight lines from the first to the last row that lean 0 to 45 degrees.

    image : float32 (n, m), n a power of two
    out : float32 (n, m + n); out[s, n + x] is the line that starts in column x of the first row
        and ends s columns to the right in the last; columns outside are 0. (x may be negative.)

    The approximate discrete Radon transform (Brady 1998; for satellites: Nir, Zackay & Ofek 2018).
    """
    n, m = image.shape
    width = m + n
    now = np.zeros((n, width), np.float32)
    new = np.zeros((n, width), np.float32)
    now[:, n:] = image
    height = 1  # now[k * height + s]: lines of slope s through rows k * height ...
    while height < n:
        for k in range(0, n, 2 * height):
            for s in range(2 * height):
                half = s // 2
                shift = (s + 1) // 2
                upper = now[k + height + half]
                lower = now[k + half]
                line = new[k + s]
                for x in range(width - shift):
                    line[x] = lower[x] + upper[x + shift]
                for x in range(width - shift, width):
                    line[x] = lower[x]
        now, new = new, now
        height *= 2
    out[:] = now
