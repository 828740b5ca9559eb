"""Loops over pixels: light onto the detector, the detector's answer and its noise."""

import numpy as np
from numba import njit

SPLIT_1 = np.uint64(0x9E3779B97F4A7C15)
SPLIT_2 = np.uint64(0xBF58476D1CE4E5B9)
SPLIT_3 = np.uint64(0x94D049BB133111EB)
TWO_PI = 2.0 * np.pi
MAX_RADIUS_PIX = 600.0


@njit(cache=True)
def mixed(state):
    """The next number of a splitmix64 sequence whose counter is `state`."""
    z = state
    z = (z ^ (z >> np.uint64(30))) * SPLIT_2
    z = (z ^ (z >> np.uint64(27))) * SPLIT_3
    return z ^ (z >> np.uint64(31))


@njit(cache=True)
def uniform(state):
    """A float64 in (0, 1) from the counter `state`."""
    return (np.float64(mixed(state) >> np.uint64(11)) + 0.5) * (1.0 / 9007199254740992.0)


@njit(cache=True)
def row_state(key, row):
    """The counter with which a row begins: rows do not depend on the image's width or height."""
    return mixed(np.uint64(key) + SPLIT_1 * np.uint64(row + 1))


@njit(cache=True)
def interpolated_row(nodes, step, row, out):
    """One row of a bilinear surface given at every `step`-th pixel; fills out."""
    j = row // step
    t = (row - j * step) / step
    for x in range(out.shape[0]):
        i = x // step
        s = (x - i * step) / step
        low = nodes[j, i] * (1 - s) + nodes[j, i + 1] * s
        high = nodes[j + 1, i] * (1 - s) + nodes[j + 1, i + 1] * s
        out[x] = low * (1 - t) + high * t


@njit(cache=True)
def fill_response(out, nodes, step, channel, channel_width, pixel_rms, key):
    """Fill out (float32, ny x nx): smooth surface x channel gain x (1 + pixel-to-pixel noise)."""
    ny, nx = out.shape
    smooth = np.empty(nx)
    for y in range(ny):
        interpolated_row(nodes, step, y, smooth)
        state = row_state(key, y)
        spare = 0.0
        for x in range(nx):
            if x % 2 == 0:
                state += SPLIT_1
                radius = np.sqrt(-2.0 * np.log(uniform(state)))
                state += SPLIT_1
                angle = TWO_PI * uniform(state)
                normal = radius * np.cos(angle)
                spare = radius * np.sin(angle)
            else:
                normal = spare
            out[y, x] = smooth[x] * channel[x // channel_width] * (1.0 + pixel_rms * normal)


@njit(cache=True)
def add_profiles(image, x, y, flux, inverse, beta, cut):
    """Add elliptical Moffat (beta > 1) or Gaussian (beta <= 0) profiles to image, in place.

    image : float32 (ny, nx); x, y : float64 (n,), 0-based; flux : float64 (n,)
    inverse : float64 (n, 3), xx, xy, yy of the quadratic form q; Moffat (1 + q)^-beta,
    Gaussian exp(-q / 2). cut : surface brightness below which a profile ends.

    A pixel near the core is the mean over Gauss-Legendre points, so that its flux is right.
    """
    ny, nx = image.shape
    three = np.array([-0.3872983346207417, 0.0, 0.3872983346207417])
    weight3 = np.array([5.0 / 18.0, 8.0 / 18.0, 5.0 / 18.0])
    two = np.array([-0.28867513459481287, 0.28867513459481287])
    for k in range(x.shape[0]):
        a, b, c = inverse[k, 0], inverse[k, 1], inverse[k, 2]
        det = a * c - b * b
        power = beta[k]
        if power > 0:
            top = flux[k] * (power - 1.0) / np.pi * np.sqrt(det)
        else:
            top = flux[k] / TWO_PI * np.sqrt(det)
        if not top > cut:
            continue
        q_max = (top / cut) ** (1.0 / power) - 1.0 if power > 0 else 2.0 * np.log(top / cut)
        reach_x = min(np.sqrt(q_max * c / det) + 1.5, MAX_RADIUS_PIX)
        reach_y = min(np.sqrt(q_max * a / det) + 1.5, MAX_RADIUS_PIX)
        x0, x1 = max(0, int(np.ceil(x[k] - reach_x))), min(nx - 1, int(np.floor(x[k] + reach_x)))
        y0, y1 = max(0, int(np.ceil(y[k] - reach_y))), min(ny - 1, int(np.floor(y[k] + reach_y)))
        for j in range(y0, y1 + 1):
            dy = j - y[k]
            for i in range(x0, x1 + 1):
                dx = i - x[k]
                q = a * dx * dx + 2.0 * b * dx * dy + c * dy * dy
                if q > q_max + 4.0 * (a + c):
                    continue
                far = max(abs(dx), abs(dy))
                if far > 7.0:
                    value = (1.0 + q) ** -power if power > 0 else np.exp(-0.5 * q)
                elif far > 3.5:
                    value = 0.0
                    for m in range(2):
                        v = dy + two[m]
                        for n in range(2):
                            u = dx + two[n]
                            q = a * u * u + 2.0 * b * u * v + c * v * v
                            part = (1.0 + q) ** -power if power > 0 else np.exp(-0.5 * q)
                            value += 0.25 * part
                else:
                    value = 0.0
                    for m in range(3):
                        v = dy + three[m]
                        for n in range(3):
                            u = dx + three[n]
                            q = a * u * u + 2.0 * b * u * v + c * v * v
                            part = (1.0 + q) ** -power if power > 0 else np.exp(-0.5 * q)
                            value += weight3[m] * weight3[n] * part
                image[j, i] += np.float32(top * value)


@njit(cache=True)
def add_line(image, x0, y0, dir_x, dir_y, peak, sigma):
    """Add an endless line of Gaussian section to image (float32), in place."""
    ny, nx = image.shape
    for j in range(ny):
        for i in range(nx):
            off = (i - x0) * dir_y - (j - y0) * dir_x
            if abs(off) < 6.0 * sigma:
                image[j, i] += np.float32(peak * np.exp(-0.5 * (off / sigma) ** 2))


@njit(cache=True)
def expose(image, response, nodes, step, offsets, reads, limits, key):
    """Turn light into the slopes that a ramp fit measures; image (float32) is overwritten.

    image : in: light of the sources, ADU per frame at response 1; out: measured ADU per frame
    response : float32, like image; nodes : light of the sky at every `step`-th pixel
    offsets : ADU per frame of each column
    reads : number of reads of the ramp
    limits : float64 (4,), gain (e/ADU), read noise (e), saturation (ADU), value when unsolved

    A pixel is fitted with the reads before it saturates; with fewer than two it is unsolved.
    The variance is that of an unweighted line through n reads of accumulating photon noise.
    """
    gain, read_noise, saturation, unsolved = limits[0], limits[1], limits[2], limits[3]
    ny, nx = image.shape
    photon = np.zeros(reads + 1)
    readout = np.zeros(reads + 1)
    for n in range(2, reads + 1):
        photon[n] = 1.2 * (n * n + 1.0) / (n * (n * n - 1.0)) / gain
        readout[n] = 12.0 * (read_noise / gain) ** 2 / (n * (n * n - 1.0))
    sky = np.empty(nx)
    for y in range(ny):
        interpolated_row(nodes, step, y, sky)
        state = row_state(key, y)
        spare = 0.0
        for x in range(nx):
            if x % 2 == 0:
                state += SPLIT_1
                radius = np.sqrt(-2.0 * np.log(uniform(state)))
                state += SPLIT_1
                angle = TWO_PI * uniform(state)
                normal = radius * np.cos(angle)
                spare = radius * np.sin(angle)
            else:
                normal = spare
            signal = response[y, x] * (image[y, x] + sky[x])
            n = reads
            if signal * reads > saturation:
                n = int(saturation / signal)
                if n < 2:
                    image[y, x] = unsolved
                    continue
            variance = photon[n] * max(signal, 0.0) + readout[n]
            image[y, x] = signal + offsets[x] + np.sqrt(variance) * normal
