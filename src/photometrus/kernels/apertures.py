"""Measure sources in a stack: windowed moments, circular apertures, Kron ellipses.

In all of them a pixel that belongs to another source, or has no weight, is replaced by the one
opposite to it about the source's centre (SExtractor's MASK_TYPE CORRECT): a star's light is the
same on both sides. Where that one is no good either, the pixel counts as empty sky.

Common arguments: data : float32 (ny, nx), background subtracted; weight : float32 (ny, nx), inverse
variance, 0 = no value; segments : int32 (ny, nx), 0 = sky, else the number of a source; x, y :
float64 (n,), 0-based; numbers : int32 (n,), of the sources in `segments` (0: all are neighbours).
"""

import numpy as np

from photometrus.compiled import njit

NODES = np.array(
    [-0.4530899229693320, -0.2692346550528416, 0.0, 0.2692346550528416, 0.4530899229693320]
)
SHARES = np.array(
    [
        0.1184634425280945,
        0.2393143352496832,
        0.2844444444444444,
        0.2393143352496832,
        0.1184634425280945,
    ]
)
"""Gauss-Legendre of five points on -0.5 ... 0.5."""


@njit(nogil=True, cache=True)
def _good_pixel(weight, segments, number, y, x):
    ny, nx = weight.shape
    if y < 0 or y >= ny or x < 0 or x >= nx or weight[y, x] <= 0:
        return False
    return segments[y, x] == 0 or segments[y, x] == number


@njit(nogil=True, cache=True)
def _value(data, weight, segments, number, y, x, y0, x0):
    """(value, variance, whether it is the pixel's own) of a pixel of a source at x0, y0."""
    if _good_pixel(weight, segments, number, y, x):
        return data[y, x], 1.0 / weight[y, x], True
    v = int(np.floor(2.0 * y0 - y + 0.5))
    u = int(np.floor(2.0 * x0 - x + 0.5))
    if _good_pixel(weight, segments, number, v, u):
        return data[v, u], 1.0 / weight[v, u], False
    return np.float32(0.0), 0.0, False


@njit(nogil=True, cache=True)
def inside_circle(dx, dy, radius):
    """Area of a unit pixel, its centre at dx, dy, inside a circle about the origin.

    By five chords across the pixel, along the axis that the edge crosses more steeply; exact to
    some thousandths of a pixel for radii above 1.
    """
    dx, dy = abs(dx), abs(dy)
    if dx < dy:
        dx, dy = dy, dx
    far = (dx + 0.5) ** 2 + (dy + 0.5) ** 2
    if far <= radius * radius:
        return 1.0
    near = max(dx - 0.5, 0.0) ** 2 + max(dy - 0.5, 0.0) ** 2
    if near >= radius * radius:
        return 0.0
    area = 0.0
    for k in range(5):
        v = dy + NODES[k]
        rest = radius * radius - v * v
        if rest > 0:
            edge = np.sqrt(rest)
            area += SHARES[k] * max(0.0, min(dx + 0.5, edge) - max(dx - 0.5, -edge))
    return area


@njit(nogil=True, cache=True)
def circle_sums(data, weight, segments, x, y, numbers, radii, sums, variances, replaced):
    """Sums over circles, and of the pixels' variances.

    radii : float64 (m,), increasing, pixels
    sums, variances, replaced : float64 (n, m), filled; replaced: area of pixels not its own
    """
    reach = int(np.ceil(radii[-1])) + 1
    for s in range(x.size):
        iy, ix = int(np.floor(y[s] + 0.5)), int(np.floor(x[s] + 0.5))
        sums[s] = 0
        variances[s] = 0
        replaced[s] = 0
        for py in range(iy - reach, iy + reach + 1):
            for px in range(ix - reach, ix + reach + 1):
                dx, dy = px - x[s], py - y[s]
                r = np.sqrt(dx * dx + dy * dy)
                if r > radii[-1] + 0.7072:
                    continue
                value, variance, own = _value(
                    data, weight, segments, numbers[s], py, px, y[s], x[s]
                )
                for k in range(radii.size):
                    if r > radii[k] + 0.7072:
                        continue
                    share = 1.0
                    if r > radii[k] - 0.7072:
                        share = inside_circle(dx, dy, radii[k])
                    sums[s, k] += share * value
                    variances[s, k] += share * variance
                    if not own:
                        replaced[s, k] += share


@njit(nogil=True, cache=True)
def windowed(data, weight, segments, x, y, numbers, sigma, excess, gain, out):
    """Windowed centroids, shapes and signal of sources near x, y.

    sigma : float64 (n,), of the Gaussian windows; excess : float64 (n,), true variance of sums of
        sky over that of the weights; gain : electrons per ADU, inf = no photon noise
    out : float64 (n, 11): x, y, x_err, y_err, signal, its error (both of the sum of window times
        data), rms along the major and the minor axis, angle (radians), share of the window on
        pixels not its own, share of it on pixels without weight

    Centroids are SExtractor's XWIN_IMAGE; shapes are moments with the window taken out, exact for
    Gaussians, at most seven windows long.
    """
    ny, nx = data.shape
    for s in range(x.size):
        width = sigma[s]
        inv = 0.5 / (width * width)
        radius = 4.0 * width
        reach = int(np.ceil(radius))
        cx, cy = x[s], y[s]
        in_x = np.empty(2 * reach + 1)
        for _ in range(12):
            iy, ix = int(np.floor(cy + 0.5)), int(np.floor(cx + 0.5))
            total, mx, my = 0.0, 0.0, 0.0
            for k in range(-reach, reach + 1):
                in_x[k + reach] = np.exp(-((ix + k - cx) ** 2) * inv)
            for py in range(iy - reach, iy + reach + 1):
                dy = py - cy
                in_y = np.exp(-dy * dy * inv)
                for px in range(ix - reach, ix + reach + 1):
                    dx = px - cx
                    if dx * dx + dy * dy > radius * radius:
                        continue
                    v, _v, _o = _value(data, weight, segments, numbers[s], py, px, cy, cx)
                    w = in_x[px - ix + reach] * in_y * v
                    total += w
                    mx += w * dx
                    my += w * dy
            if total <= 0:
                break
            step_x, step_y = 2.0 * mx / total, 2.0 * my / total
            if abs(step_x) > width or abs(step_y) > width:
                break
            cx += step_x
            cy += step_y
            if abs(step_x) + abs(step_y) < 2e-3:
                break
        # A centroid that walks off has found another source, or nothing.
        if (cx - x[s]) ** 2 + (cy - y[s]) ** 2 > (2.0 * width) ** 2:
            cx, cy = x[s], y[s]
        iy, ix = int(np.floor(cy + 0.5)), int(np.floor(cx + 0.5))
        total, noise, window, foreign, lost = 0.0, 0.0, 0.0, 0.0, 0.0
        xx, yy, xy, ex, ey = 0.0, 0.0, 0.0, 0.0, 0.0
        for py in range(iy - reach, iy + reach + 1):
            for px in range(ix - reach, ix + reach + 1):
                dx, dy = px - cx, py - cy
                r2 = dx * dx + dy * dy
                if r2 > radius * radius:
                    continue
                v, variance, own = _value(data, weight, segments, numbers[s], py, px, cy, cx)
                w = np.exp(-r2 * inv)
                variance = excess[s] * variance + max(v, 0.0) / gain
                window += w
                if not own:
                    foreign += w
                    if py < 0 or py >= ny or px < 0 or px >= nx or weight[py, px] <= 0:
                        lost += w
                total += w * v
                noise += w * w * variance
                xx += w * v * dx * dx
                yy += w * v * dy * dy
                xy += w * v * dx * dy
                ex += w * w * variance * dx * dx
                ey += w * w * variance * dy * dy
        out[s, 0], out[s, 1] = cx, cy
        out[s, 4], out[s, 5] = total, np.sqrt(noise)
        out[s, 9], out[s, 10] = foreign / window, lost / window
        out[s, 2] = out[s, 3] = out[s, 6] = out[s, 7] = np.nan
        out[s, 8] = 0.0
        if total > 0:
            out[s, 2] = 2.0 * np.sqrt(ex) / total
            out[s, 3] = 2.0 * np.sqrt(ey) / total
            xx, yy, xy = xx / total, yy / total, xy / total
            half = 0.5 * (xx + yy)
            root = np.sqrt((0.5 * (xx - yy)) ** 2 + xy * xy)
            out[s, 8] = 0.5 * np.arctan2(2.0 * xy, xx - yy)
            for k, m in ((6, half + root), (7, half - root)):
                if m > 0:
                    m = min(m, 0.98 * width * width)
                    out[s, k] = np.sqrt(1.0 / (1.0 / m - 1.0 / (width * width)))


@njit(nogil=True, cache=True)
def kron(data, weight, segments, x, y, numbers, a, b, theta, factor, least, out):
    """Kron's first moment, the flux in his ellipse, and the half-light radius in it.

    a, b, theta : float64 (n,), rms along the axes (pixels) and angle (radians)
    factor : ellipse in units of the first moment; least : its least size in units of a and b
    out : float64 (n, 5): ellipse in units of a and b, flux, variance, half-light radius (pixels),
        area of pixels not its own

    (Kron 1980, ApJS 43, 305; as in SExtractor the moment is taken within 6 a, 6 b.)
    """
    bins = 4
    for s in range(x.size):
        cos, sin = np.cos(theta[s]), np.sin(theta[s])
        wide = 6.0
        reach = int(np.ceil(wide * a[s])) + 1
        iy, ix = int(np.floor(y[s] + 0.5)), int(np.floor(x[s] + 0.5))
        total, moment = 0.0, 0.0
        for py in range(iy - reach, iy + reach + 1):
            for px in range(ix - reach, ix + reach + 1):
                dx, dy = px - x[s], py - y[s]
                u, w = (dx * cos + dy * sin) / a[s], (dy * cos - dx * sin) / b[s]
                rho = np.sqrt(u * u + w * w)
                if rho > wide:
                    continue
                v, _v, _o = _value(data, weight, segments, numbers[s], py, px, y[s], x[s])
                total += v
                moment += rho * v
        size = least
        if total > 0 and moment > 0:
            size = min(max(factor * moment / total, least), wide * factor)
        side = np.sqrt(a[s] * b[s])
        edge = size * side
        profile = np.zeros(int(np.ceil(bins * (edge + 1.0))) + 1)
        reach = int(np.ceil(size * a[s])) + 1
        flux, noise, foreign = 0.0, 0.0, 0.0
        for py in range(iy - reach, iy + reach + 1):
            for px in range(ix - reach, ix + reach + 1):
                dx, dy = px - x[s], py - y[s]
                u, w = (dx * cos + dy * sin) / a[s], (dy * cos - dx * sin) / b[s]
                # The distance to the ellipse's edge in pixels, as if it were round.
                inside = (size - np.sqrt(u * u + w * w)) * side + 0.5
                if inside <= 0:
                    continue
                share = min(inside, 1.0)
                v, variance, own = _value(data, weight, segments, numbers[s], py, px, y[s], x[s])
                flux += share * v
                noise += share * variance
                if not own:
                    foreign += share
                for q in range(2):
                    for p in range(2):
                        r = np.sqrt((dx + 0.5 * p - 0.25) ** 2 + (dy + 0.5 * q - 0.25) ** 2)
                        k = int(bins * r)
                        if k < profile.size:
                            profile[k] += 0.25 * share * v
        out[s, 0], out[s, 1], out[s, 2], out[s, 4] = size, flux, noise, foreign
        out[s, 3] = np.nan
        if flux > 0:
            grown = 0.0
            for k in range(profile.size):
                if grown + profile[k] >= 0.5 * flux:
                    out[s, 3] = (k + (0.5 * flux - grown) / profile[k]) / bins
                    break
                grown += profile[k]


@njit(nogil=True, cache=True)
def inspect(data, flags, segments, numbers, boxes, x, y, radius, edge, peak, own, near):
    """What the pixels of each source say: its brightest, the flags on it and near it.

    flags : uint8 (ny, nx); numbers : int32 (n,), of the sources in `segments`
    boxes : int64 (n, 4), x and y from and to (included)
    radius : float64 (n,), of what is near; edge : the bit of `near` for beyond the image
    peak : float64 (n,); own, near : uint8 (n,), all flags; filled
    """
    ny, nx = data.shape
    for s in range(x.size):
        highest = -np.inf
        bits = 0
        for py in range(boxes[s, 2], boxes[s, 3] + 1):
            for px in range(boxes[s, 0], boxes[s, 1] + 1):
                if segments[py, px] == numbers[s]:
                    highest = max(highest, data[py, px])
                    bits |= flags[py, px]
        peak[s], own[s] = highest, bits
        bits = 0
        reach = int(np.ceil(radius[s]))
        iy, ix = int(np.floor(y[s] + 0.5)), int(np.floor(x[s] + 0.5))
        for py in range(iy - reach, iy + reach + 1):
            for px in range(ix - reach, ix + reach + 1):
                if (px - x[s]) ** 2 + (py - y[s]) ** 2 > radius[s] ** 2:
                    continue
                if py < 0 or py >= ny or px < 0 or px >= nx:
                    bits |= edge
                else:
                    bits |= flags[py, px]
        near[s] = bits


@njit(nogil=True, cache=True)
def halve(data, weight, mean, total):
    """Weighted means and total weights of blocks of 2 x 2 pixels; 0 where there is no weight.

    data, weight : float32 (ny, nx); mean, total : float32 (ny // 2, nx // 2), filled
    """
    for j in range(mean.shape[0]):
        for i in range(mean.shape[1]):
            value, w = np.float32(0), np.float32(0)
            for q in range(2):
                for p in range(2):
                    value += data[2 * j + q, 2 * i + p] * weight[2 * j + q, 2 * i + p]
                    w += weight[2 * j + q, 2 * i + p]
            total[j, i] = w
            mean[j, i] = value / w if w > 0 else np.float32(0)
