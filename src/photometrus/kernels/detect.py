"""Find stars in one frame: matched filter, peaks, windowed centroids and shapes."""

import numpy as np

from photometrus.compiled import njit
from photometrus.kernels.search import STRETCH, any_above


@njit(nogil=True, cache=True, fastmath={"contract", "nsz", "arcp", "afn", "reassoc"})
def smooth(data, taps, out):
    """Convolve with a separable symmetric filter; the edges repeat the last pixel.

    data, out : float32 (ny, nx); taps : float32 (2 k + 1,)
    """
    ny, nx = data.shape
    k = taps.size // 2
    line = np.empty(nx + 2 * k, np.float32)
    for y in range(ny):
        middle = line[k : k + nx]
        middle[:] = 0
        for t in range(-k, k + 1):
            source = data[min(max(y + t, 0), ny - 1)]
            w = taps[t + k]
            for x in range(nx):
                middle[x] += w * source[x]
        for x in range(k):
            line[x] = line[k]
            line[nx + k + x] = line[nx + k - 1]
        total = out[y]
        total[:] = 0
        for t in range(2 * k + 1):
            w = taps[t]
            shifted = line[t : t + nx]
            for x in range(nx):
                total[x] += w * shifted[x]


@njit(nogil=True, cache=True)
def peaks(smoothed, limit, border, ys, xs):
    """Local maxima of a smoothed image above a limit.

    smoothed : float32 (ny, nx)
    ys, xs : int32, filled with the positions
    returns how many were found (never more than ys.size)
    """
    ny, nx = smoothed.shape
    n = 0
    for y in range(border, ny - border):
        for x0 in range(border, nx - border, STRETCH):
            end = min(nx - border, x0 + STRETCH)
            if not any_above(smoothed[y, x0:end], limit):
                continue
            for x in range(x0, end):
                if smoothed[y, x] > limit and n < ys.size and _is_peak(smoothed, y, x):
                    ys[n] = y
                    xs[n] = x
                    n += 1
    return n


@njit(nogil=True, cache=True)
def _is_peak(image, y, x):
    """Whether none of a pixel's neighbours is higher."""
    v = image[y, x]
    for b in range(-1, 2):
        for a in range(-1, 2):
            w = image[y + b, x + a]
            # ">=" on one side only, so that of two equal neighbours one is a peak
            if w > v or (w == v and (b < 0 or (b == 0 and a < 0))):
                return False
    return True


@njit(nogil=True, cache=True)
def _window(centre, first, inv, window):
    """A Gaussian about `centre` at the pixels from `first` on: its two-dimensional one is two."""
    for k in range(window.size):
        d = first + k - centre
        window[k] = np.exp(-d * d * inv)


@njit(nogil=True, cache=True, fastmath={"contract", "nsz", "reassoc"})
def _pull(data, x0, y0, first_x, first_y, limit, window_x, window_y):
    """Sums of the windowed pixels around a place: of the light, of its distance in x, and in y.

    first_x, first_y : pixel at which the windows begin; limit : square of the largest distance
    """
    ny, nx = data.shape
    total, dx, dy = 0.0, 0.0, 0.0
    low, high = max(0, -first_x), min(window_x.size, nx - first_x)
    for j in range(max(0, -first_y), min(window_y.size, ny - first_y)):
        y = first_y + j
        off_y = y - y0
        line = data[y, first_x + low : first_x + high]
        light, lever = 0.0, 0.0
        for i in range(line.size):
            off_x = first_x + low + i - x0
            near = off_x * off_x + off_y * off_y <= limit
            w = window_x[low + i] * line[i] if near else 0.0
            light += w
            lever += w * off_x
        total += window_y[j] * light
        dx += window_y[j] * lever
        dy += window_y[j] * light * off_y
    return total, dx, dy


@njit(nogil=True, cache=True)
def measure_peaks(data, bad, ys, xs, window_sigma, radius, noise, gain, out):
    """Windowed centroid, flux and shape of each peak.

    data : float32 (ny, nx), sky subtracted; bad : uint8 (ny, nx)
    window_sigma : of the Gaussian window, pixels; radius : of the aperture, pixels
    noise : scatter of a sky pixel, ADU; gain : electrons per ADU (of this unit)
    out : float64 (n, 10): x, y, position error, flux, flux error, sigma_major, sigma_minor,
        angle (radians), sharpness, share of the window's weight that lies on bad pixels

    The centroid is SExtractor's XWIN_IMAGE (iterated, factor 2). Shapes are Gaussian-weighted
    second moments with the window taken out: 1/s^2 = 1/s_measured^2 - 1/s_window^2.
    Sharpness is the excess of the peak pixel over its neighbours' mean, relative to the peak:
    about 1 for a hot pixel, 0.2-0.5 for a star.
    """
    ny, nx = data.shape
    reach = int(np.ceil(radius)) + 2
    inv = 1.0 / (2.0 * window_sigma * window_sigma)
    window_x, window_y = np.empty(2 * reach + 1), np.empty(2 * reach + 1)
    for s in range(ys.size):
        x0 = float(xs[s])
        y0 = float(ys[s])
        for _ in range(20):
            ix = int(x0 + 0.5)
            iy = int(y0 + 0.5)
            _window(x0, ix - reach, inv, window_x)
            _window(y0, iy - reach, inv, window_y)
            total, dx, dy = _pull(
                data, x0, y0, ix - reach, iy - reach, (radius + 1.0) ** 2, window_x, window_y
            )
            if total <= 0:
                break
            step_x = 2.0 * dx / total
            step_y = 2.0 * dy / total
            if abs(step_x) > 1.5 or abs(step_y) > 1.5:
                break
            x0 += step_x
            y0 += step_y
            if abs(step_x) + abs(step_y) < 2e-4:
                break
        if abs(x0 - xs[s]) > 2.5 or abs(y0 - ys[s]) > 2.5:
            x0 = float(xs[s])
            y0 = float(ys[s])
        ix = min(max(int(x0 + 0.5), 0), nx - 1)
        iy = min(max(int(y0 + 0.5), 0), ny - 1)
        flux = 0.0
        variance = 0.0
        on_bad = 0.0
        window = 0.0
        sw = 0.0
        xx = 0.0
        yy = 0.0
        xy = 0.0
        noise_sum = 0.0
        _window(x0, ix - reach, inv, window_x)
        _window(y0, iy - reach, inv, window_y)
        for y in range(max(0, iy - reach), min(ny, iy + reach + 1)):
            for x in range(max(0, ix - reach), min(nx, ix + reach + 1)):
                r2 = (x - x0) ** 2 + (y - y0) ** 2
                if r2 > radius * radius:
                    continue
                v = data[y, x]
                flux += v
                pixel_variance = noise * noise + max(v, 0.0) / gain
                variance += pixel_variance
                w = window_x[x - ix + reach] * window_y[y - iy + reach]
                window += w
                if bad[y, x] != 0:
                    on_bad += w
                sw += w * v
                xx += w * v * (x - x0) ** 2
                yy += w * v * (y - y0) ** 2
                xy += w * v * (x - x0) * (y - y0)
                noise_sum += w * w * pixel_variance * ((x - x0) ** 2 + (y - y0) ** 2)
        out[s, 0] = x0
        out[s, 1] = y0
        out[s, 3] = flux
        out[s, 4] = np.sqrt(variance)
        out[s, 9] = on_bad / window if window > 0 else 1.0
        out[s, 2] = np.nan
        out[s, 5] = np.nan
        out[s, 6] = np.nan
        out[s, 7] = 0.0
        if sw > 0:
            out[s, 2] = 2.0 * np.sqrt(0.5 * noise_sum) / sw
            xx /= sw
            yy /= sw
            xy /= sw
            half = 0.5 * (xx + yy)
            root = np.sqrt((0.5 * (xx - yy)) ** 2 + xy * xy)
            out[s, 7] = 0.5 * np.arctan2(2 * xy, xx - yy)
            w2 = window_sigma * window_sigma
            for k, m in ((5, half + root), (6, half - root)):
                if m > 0:
                    # As wide as the window: no more than "seven times as wide" can be said.
                    out[s, k] = np.sqrt(1.0 / (1.0 / min(m, 0.98 * w2) - 1.0 / w2))
        around = 0.0
        for b, a in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            around += data[min(max(iy + b, 0), ny - 1), min(max(ix + a, 0), nx - 1)]
        top = data[iy, ix]
        out[s, 8] = (top - 0.25 * around) / top if top > 0 else 0.0
