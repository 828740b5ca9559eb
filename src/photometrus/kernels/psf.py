"""The point-spread function on an oversampled grid: its image of a star, and how it is learned.

A PSF is a cube of cubic B-spline coefficients: one grid for each term of a polynomial in the
position on the chip. The grid holds the effective PSF of Anderson & King (2000, PASP 112, 1360):
what a pixel receives of a star of unit flux, as a function of the pixel's offset from the star.
"""

import numpy as np

from photometrus.compiled import njit

MARGIN = 3
"""Grid points beyond the outermost pixel: what splines and half a pixel of offset need."""


@njit(nogil=True, cache=True)
def spline_weights(t, value, slope, curve):
    """Cubic B-spline weights of the four nodes around t in [0, 1), and their derivatives.

    value, slope, curve : float64 (4,), filled
    """
    s = 1.0 - t
    value[0] = s * s * s / 6.0
    value[1] = (4.0 - 6.0 * t * t + 3.0 * t * t * t) / 6.0
    value[2] = (4.0 - 6.0 * s * s + 3.0 * s * s * s) / 6.0
    value[3] = t * t * t / 6.0
    slope[0] = -0.5 * s * s
    slope[1] = -2.0 * t + 1.5 * t * t
    slope[2] = 2.0 * s - 1.5 * s * s
    slope[3] = 0.5 * t * t
    curve[0] = s
    curve[1] = 3.0 * t - 2.0
    curve[2] = 3.0 * s - 2.0
    curve[3] = t


@njit(nogil=True, cache=True)
def terms(x, y, frame, out):
    """Terms u^i v^j, i + j <= degree, ordered by i + j; u, v = position scaled to about -1 ... 1.

    frame : float64 (4,), middle x, y and half widths; out : float64 (n_terms,), filled
    """
    u = (x - frame[0]) / frame[2]
    v = (y - frame[1]) / frame[3]
    k = 0
    total = 0
    while k < out.size:
        for j in range(total + 1):
            out[k] = u ** (total - j) * v**j
            k += 1
        total += 1


@njit(nogil=True, cache=True, fastmath={"contract", "nsz", "arcp", "reassoc"})
def star_grid(cube, x, y, frame, reach, out):
    """The grid at a position: sum of the cube's terms, within `reach` nodes of the centre.

    cube : float32 (n_terms, g, g); out : float32 (g, g), filled there
    """
    n, g = cube.shape[0], cube.shape[1]
    phi = np.empty(n)
    terms(x, y, frame, phi)
    c = g // 2
    a, b = max(0, c - reach), min(g, c + reach + 1)
    for j in range(a, b):
        for i in range(a, b):
            out[j, i] = cube[0, j, i]
    for k in range(1, n):
        f = np.float32(phi[k])
        for j in range(a, b):
            for i in range(a, b):
                out[j, i] += f * cube[k, j, i]


@njit(nogil=True, cache=True, fastmath={"contract", "nsz", "arcp", "reassoc"})
def star_image(grid, step, dx, dy, half, out):
    """A star of unit flux and its derivatives, on pixels -half ... half of its nearest pixel.

    grid : float32 (g, g); step : nodes per pixel
    dx, dy : the star's position relative to the middle pixel, at most about half a pixel
    out : float64 (1, 3 or 4, size, size), filled: value, d/dx and d/dy of the star's position,
        and, if there is room, the Laplacian (1/pix^2)
    """
    c = grid.shape[0] // 2
    size = 2 * half + 1
    wx = np.empty((3, 4))
    wy = np.empty((3, 4))
    nx = int(np.floor(-dx * step))
    ny = int(np.floor(-dy * step))
    spline_weights(-dx * step - nx, wx[0], wx[1], wx[2])
    spline_weights(-dy * step - ny, wy[0], wy[1], wy[2])
    planes = out.shape[0]
    row = np.empty((3, 4, size))
    for t in range(size):
        for a in range(4):
            j = c + (t - half) * step + ny - 1 + a
            for k in range(size):
                i = c + (k - half) * step + nx - 1
                g0, g1, g2, g3 = grid[j, i], grid[j, i + 1], grid[j, i + 2], grid[j, i + 3]
                row[0, a, k] = wx[0, 0] * g0 + wx[0, 1] * g1 + wx[0, 2] * g2 + wx[0, 3] * g3
                if planes > 1:
                    row[1, a, k] = wx[1, 0] * g0 + wx[1, 1] * g1 + wx[1, 2] * g2 + wx[1, 3] * g3
                if planes > 3:
                    row[2, a, k] = wx[2, 0] * g0 + wx[2, 1] * g1 + wx[2, 2] * g2 + wx[2, 3] * g3
        for k in range(size):
            value = 0.0
            for a in range(4):
                value += wy[0, a] * row[0, a, k]
            out[0, t, k] = value
            if planes > 1:
                along_x = 0.0
                along_y = 0.0
                for a in range(4):
                    along_x += wy[0, a] * row[1, a, k]
                    along_y += wy[1, a] * row[0, a, k]
                out[1, t, k] = -step * along_x
                out[2, t, k] = -step * along_y
            if planes > 3:
                bend = 0.0
                for a in range(4):
                    bend += wy[0, a] * row[2, a, k] + wy[2, a] * row[0, a, k]
                out[3, t, k] = step * step * bend


@njit(nogil=True, cache=True)
def gather(residual, weight, stars, errors, step, frame, sums, matrices):
    """What stars say about each node: normal equations of a polynomial, node by node.

    residual, weight : float32 (n, size, size), what is left of each star's image, inverse variance
    stars : float64 (n, 5): x, y on the chip, offsets dx, dy from the middle pixel, flux
    errors : float64 (n, size, size), variance of a pixel's model, added to its own
    sums : float64 (g, g, n_terms); matrices : float64 (g, g, n_terms, n_terms); added to

    A pixel counts for the four nodes around it, with bilinear weights.
    """
    n, size = residual.shape[0], residual.shape[1]
    half = size // 2
    g, n_terms = sums.shape[0], sums.shape[2]
    c = g // 2
    phi = np.empty(n_terms)
    for s in range(n):
        terms(stars[s, 0], stars[s, 1], frame, phi)
        flux = stars[s, 4]
        for t in range(size):
            v = (t - half - stars[s, 3]) * step + c
            j = int(np.floor(v))
            for k in range(size):
                if weight[s, t, k] <= 0:
                    continue
                u = (k - half - stars[s, 2]) * step + c
                i = int(np.floor(u))
                if i < 0 or j < 0 or i + 1 >= g or j + 1 >= g:
                    continue
                w = flux * flux / (1.0 / weight[s, t, k] + errors[s, t, k])
                r = residual[s, t, k] / flux
                for b in range(2):
                    for a in range(2):
                        share = w * abs(1 - a - (u - i)) * abs(1 - b - (v - j))
                        for p in range(n_terms):
                            sums[j + b, i + a, p] += share * phi[p] * r
                            for q in range(p + 1):
                                matrices[j + b, i + a, p, q] += share * phi[p] * phi[q]


@njit(nogil=True, cache=True)
def refit(images, weight, cube, step, frame, stars, core, limits, residual, errors, good):
    """One step of each PSF star's flux and position, and what the model leaves of its image.

    images, weight : float32 (n, size, size), each star's image, inverse variance
    stars : float64 (n, 6): x, y on the chip, dx, dy, flux, reduced chi^2 of the core; updated
    core : radius that is fitted, pixels
    limits : float64 (2,), the model's error as a fraction; sigmas from where a pixel is left out
    residual, good : float32, like images, filled: data less model, the weights of used pixels
    errors : float64, like images, filled: variance of the model
    """
    n, size = images.shape[0], images.shape[1]
    half = size // 2
    grid = np.zeros((cube.shape[1], cube.shape[2]), np.float32)
    planes = np.empty((3, size, size))
    g = np.empty(3)
    for s in range(n):
        star_grid(cube, stars[s, 0], stars[s, 1], frame, grid.shape[0], grid)
        for _ in range(3):
            star_image(grid, step, stars[s, 2], stars[s, 3], half, planes)
            matrix = np.zeros((3, 3))
            vector = np.zeros(3)
            flux = stars[s, 4]
            chi2 = 0.0
            used = 0
            for t in range(size):
                for k in range(size):
                    if weight[s, t, k] <= 0:
                        continue
                    off = (k - half - stars[s, 2]) ** 2 + (t - half - stars[s, 3]) ** 2
                    if off > core * core:
                        continue
                    model = flux * planes[0, t, k]
                    w = 1.0 / (1.0 / weight[s, t, k] + (limits[0] * model) ** 2)
                    d = images[s, t, k] - model
                    g[0], g[1], g[2] = (
                        planes[0, t, k],
                        flux * planes[1, t, k],
                        flux * planes[2, t, k],
                    )
                    chi2 += w * d * d
                    used += 1
                    for a in range(3):
                        vector[a] += w * g[a] * d
                        for b in range(3):
                            matrix[a, b] += w * g[a] * g[b]
            stars[s, 5] = chi2 / max(used - 3, 1)
            if used < 6 or flux <= 0:
                stars[s, 5] = np.inf
                break
            for a in range(3):
                matrix[a, a] *= 1.0 + 1e-9
                matrix[a, a] += 1e-30
            move = np.linalg.solve(matrix, vector)
            stars[s, 4] += move[0]
            stars[s, 2] += min(max(move[1], -0.3), 0.3)
            stars[s, 3] += min(max(move[2], -0.3), 0.3)
            if abs(stars[s, 2]) > 1.5 or abs(stars[s, 3]) > 1.5:
                stars[s, 5] = np.inf
                break
        if stars[s, 5] == np.inf:
            good[s] = 0
            residual[s] = 0
            continue
        star_image(grid, step, stars[s, 2], stars[s, 3], half, planes)
        for t in range(size):
            for k in range(size):
                model = stars[s, 4] * planes[0, t, k]
                variance = (limits[0] * model) ** 2
                d = images[s, t, k] - model
                residual[s, t, k] = d
                errors[s, t, k] = variance
                w = weight[s, t, k]
                good[s, t, k] = w
                if w > 0 and d * d > limits[1] ** 2 * (1.0 / w + 4.0 * variance):
                    good[s, t, k] = 0
