"""Groups of stars are fitted simultaneously, on an image from which all other stars are taken away.

`left` is the image less the current model of every star. A group is fitted to `left` + its own
models; then `left` is brought up to date (the scheme of ALLSTAR, Stetson 1987, PASP 99, 191, as a
block Gauss-Seidel iteration).
"""

import numpy as np

from photometrus.compiled import njit
from photometrus.kernels.psf import star_grid, star_image

X, Y, FLUX, X0, Y0, HOLD, RADIUS, DRAWN, CHANGED = range(9)
"""Columns of `stars`: position and flux now; the position where it was detected, and how firmly it
is held there (1 / sigma^2, 1/pix^2); radius of the pixels fitted; half width that is drawn; its
last change, in sigma of the flux or tenths of a pixel. Groups that hardly change are left alone."""
SETTLED = 0.02
ERROR, CHI2, SPREAD, SPREAD_ERROR, SKY_ERROR, PIXELS = range(6)
"""Columns of what `measure_groups` fills: the flux's error, reduced chi^2, spread and its error,
the flux per unit of background, the number of pixels."""


@njit(nogil=True, cache=True)
def draw(left, cube, step, frame, star, half, sign, grid):
    """Add sign x a star's model to an image."""
    ny, nx = left.shape
    ix, iy = int(np.floor(star[X] + 0.5)), int(np.floor(star[Y] + 0.5))
    star_grid(cube, star[X], star[Y], frame, step * (half + 2) + 3, grid)
    planes = np.empty((1, 2 * half + 1, 2 * half + 1))
    star_image(grid, step, star[X] - ix, star[Y] - iy, half, planes)
    factor = sign * star[FLUX]
    for t in range(max(0, half - iy), min(2 * half + 1, ny - iy + half)):
        for k in range(max(0, half - ix), min(2 * half + 1, nx - ix + half)):
            left[iy - half + t, ix - half + k] += np.float32(factor * planes[0, t, k])


@njit(nogil=True, cache=True)
def draw_all(left, cube, step, frame, stars, members, sign):
    """Add sign x the models of some stars to an image."""
    grid = np.zeros((cube.shape[1], cube.shape[2]), np.float32)
    for s in members:
        if stars[s, FLUX] != 0.0:
            draw(left, cube, step, frame, stars[s], int(stars[s, DRAWN]), sign, grid)


@njit(nogil=True, cache=True)
def render(cube, step, frame, stars, members, half, number, grid, planes):
    """The images and derivatives of a group's stars: float64 (m, number, size, size), filled."""
    for m in range(members.size):
        star = stars[members[m]]
        ix, iy = np.floor(star[X] + 0.5), np.floor(star[Y] + 0.5)
        star_grid(cube, star[X], star[Y], frame, step * (half + 2) + 3, grid)
        star_image(grid, step, star[X] - ix, star[Y] - iy, half, planes[m, :number])


@njit(nogil=True, cache=True)
def normal_equations(
    data, left, weight, stars, members, planes, half, error, matrix, vector, scatter
):
    """Of a group: sums over the pixels near any of its stars.

    error : float64 (2,), electrons per ADU, fraction by which the PSF may be wrong
    matrix, vector : float64 (3 m, 3 m), (3 m,), filled: flux, x, y of each star
    scatter : float64 like matrix, filled with the covariance of `vector` by noise alone; or (0, 0)

    A pixel's variance is 1/weight + model / gain + fraction^2 model x peak: of the model and not
    of the data, else pixels that are low by chance would count for more. The last, an error of
    the PSF, is taken as proportional to the model, not to its square, so that a bright star's
    flux is the sum of its pixels, which an error of the PSF's shape does not change.
    """
    ny, nx = data.shape
    n = members.size
    size = 2 * half + 1
    matrix[:] = 0.0
    vector[:] = 0.0
    scatter[:] = 0.0
    wanted = scatter.size > 0
    y0, y1, x0, x1 = ny, 0, nx, 0
    corner = np.empty((n, 2), np.int64)
    for m in range(n):
        ix, iy = (
            int(np.floor(stars[members[m], X] + 0.5)),
            int(np.floor(stars[members[m], Y] + 0.5)),
        )
        corner[m, 0], corner[m, 1] = ix - half, iy - half
        x0, x1 = min(x0, ix - half), max(x1, ix + half + 1)
        y0, y1 = min(y0, iy - half), max(y1, iy + half + 1)
    gradient = np.empty((n, 3))
    here = np.empty(n, np.int64)
    for y in range(max(0, y0), min(ny, y1)):
        for x in range(max(0, x0), min(nx, x1)):
            if weight[y, x] <= 0:
                continue
            near = False
            count = 0
            vague = 0.0
            for m in range(n):
                k, t = x - corner[m, 0], y - corner[m, 1]
                if k < 0 or t < 0 or k >= size or t >= size:
                    continue
                star = stars[members[m]]
                if (x - star[X]) ** 2 + (y - star[Y]) ** 2 <= star[RADIUS] ** 2:
                    near = True
                gradient[count, 0] = planes[m, 0, t, k]
                peak = max(star[FLUX], 0.0) * planes[m, 0, half, half]
                vague += peak * max(star[FLUX] * planes[m, 0, t, k], 0.0)
                gradient[count, 1] = star[FLUX] * planes[m, 1, t, k]
                gradient[count, 2] = star[FLUX] * planes[m, 2, t, k]
                here[count] = m
                count += 1
            if not near:
                continue
            d = np.float64(left[y, x])
            model = max(np.float64(data[y, x]) - d, 0.0)
            noise = 1.0 / weight[y, x] + model / error[0]
            w = 1.0 / (noise + error[1] ** 2 * vague)
            for a in range(count):
                for p in range(3):
                    r = 3 * here[a] + p
                    g = w * gradient[a, p]
                    vector[r] += g * d
                    for b in range(a + 1):
                        for q in range(3):
                            matrix[r, 3 * here[b] + q] += g * gradient[b, q]
                            if wanted:
                                scatter[r, 3 * here[b] + q] += g * gradient[b, q] * w * noise
    for a in range(3 * n):
        for b in range(a):
            if a // 3 != b // 3:
                matrix[b, a] = matrix[a, b]
                if wanted:
                    scatter[b, a] = scatter[a, b]
    for m in range(n):
        star = stars[members[m]]
        for p, was, now in ((1, star[X0], star[X]), (2, star[Y0], star[Y])):
            r = 3 * m + p
            matrix[r, r] += star[HOLD]
            vector[r] += star[HOLD] * (was - now)
            if wanted:
                scatter[r, r] += star[HOLD]
        matrix[3 * m, 3 * m] += 1e-12 * matrix[3 * m, 3 * m] + 1e-30


@njit(nogil=True, cache=True)
def fit_groups(data, left, weight, cube, step, frame, stars, starts, members, error, reach, limits):
    """One step for each group: new fluxes and positions; `left` and `stars` change in place.

    data, left : float32 (ny, nx); weight : float32, inverse variance, 0 = bad
    stars : float64 (n, 9), see above; group k has members[starts[k] : starts[k + 1]]
    error : see normal_equations; reach : float64 (h,), the PSF's mean at a distance of h pixels
    limits : float64 (3,): surface brightness (ADU) where drawing ends, largest step, largest
        distance from where it was detected (pix)
    """
    grid = np.zeros((cube.shape[1], cube.shape[2]), np.float32)
    most = reach.size - 1
    none = np.empty((0, 0))
    for k in range(starts.size - 1):
        group = members[starts[k] : starts[k + 1]]
        n = group.size
        if stars[group, CHANGED].max() < SETTLED:
            continue
        half = 0
        for s in group:
            half = max(half, min(int(stars[s, RADIUS]) + 1, most))
        planes = np.empty((n, 3, 2 * half + 1, 2 * half + 1))
        render(cube, step, frame, stars, group, half, 3, grid, planes)
        matrix = np.empty((3 * n, 3 * n))
        vector = np.empty(3 * n)
        normal_equations(
            data, left, weight, stars, group, planes, half, error, matrix, vector, none
        )
        move = np.linalg.solve(matrix, vector)
        draw_all(left, cube, step, frame, stars, group, 1.0)
        for m in range(n):
            star = stars[group[m]]
            star[FLUX] += move[3 * m]
            star[CHANGED] = max(
                abs(move[3 * m]) * np.sqrt(matrix[3 * m, 3 * m]),
                10.0 * max(abs(move[3 * m + 1]), abs(move[3 * m + 2])),
            )
            star[X] += min(max(move[3 * m + 1], -limits[1]), limits[1])
            star[Y] += min(max(move[3 * m + 2], -limits[1]), limits[1])
            off = np.sqrt((star[X] - star[X0]) ** 2 + (star[Y] - star[Y0]) ** 2)
            if off > limits[2]:
                star[X] = star[X0] + (star[X] - star[X0]) * limits[2] / off
                star[Y] = star[Y0] + (star[Y] - star[Y0]) * limits[2] / off
            h = min(int(star[RADIUS]) + 1, most)
            while h < most and abs(star[FLUX]) * reach[h] > limits[0]:
                h += 1
            star[DRAWN] = h
        draw_all(left, cube, step, frame, stars, group, -1.0)


@njit(nogil=True, cache=True)
def measure_groups(data, left, weight, cube, step, frame, stars, starts, members, error, blur, out):
    """Errors, goodness of fit and spread of stars that are fitted.

    blur : a galaxy's extra variance per axis (pix^2) to which `spread` refers
    out : float64 (n, 6), filled, see above

    The spread is SPREAD_MODEL (Desai et al. 2012, ApJ 757, 83): with p the star's image, its
    neighbours taken away, f the PSF and G = f + blur/2 Laplacian(f) the PSF of something slightly
    extended, and W inverse variances of sky and star,

        spread = G'Wp / f'Wp - G'Wf / f'Wf
    """
    ny, nx = data.shape
    grid = np.zeros((cube.shape[1], cube.shape[2]), np.float32)
    for k in range(starts.size - 1):
        group = members[starts[k] : starts[k + 1]]
        n = group.size
        half = 0
        for s in group:
            half = max(half, int(stars[s, RADIUS]) + 1)
        half = min(half, (grid.shape[0] // 2 - 3) // step - 2)
        planes = np.empty((n, 4, 2 * half + 1, 2 * half + 1))
        render(cube, step, frame, stars, group, half, 4, grid, planes)
        matrix = np.empty((3 * n, 3 * n))
        vector = np.empty(3 * n)
        scatter = np.empty((3 * n, 3 * n))
        normal_equations(
            data, left, weight, stars, group, planes, half, error, matrix, vector, scatter
        )
        inverse = np.linalg.inv(matrix)
        covariance = inverse @ scatter @ inverse
        for m in range(n):
            s = group[m]
            star = stars[s]
            ix, iy = int(np.floor(star[X] + 0.5)), int(np.floor(star[Y] + 0.5))
            ff, fp, lf, lp, ll, per_sky, chi2, pixels = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0
            for t in range(2 * half + 1):
                for q in range(2 * half + 1):
                    y, x = iy - half + t, ix - half + q
                    if y < 0 or x < 0 or y >= ny or x >= nx or weight[y, x] <= 0:
                        continue
                    if (x - star[X]) ** 2 + (y - star[Y]) ** 2 > star[RADIUS] ** 2:
                        continue
                    d = np.float64(left[y, x])
                    model = max(np.float64(data[y, x]) - d, 0.0)
                    f, bend = planes[m, 0, t, q], planes[m, 3, t, q]
                    vague = max(star[FLUX], 0.0) ** 2 * max(f, 0.0) * planes[m, 0, half, half]
                    noise = 1.0 / weight[y, x] + model / error[0]
                    w = 1.0 / (noise + error[1] ** 2 * vague)
                    p = d + star[FLUX] * f
                    ff += w * f * f
                    fp += w * f * p
                    lf += w * bend * f
                    lp += w * bend * p
                    ll += w * bend * bend
                    per_sky += w * f
                    chi2 += d * d / (noise + (error[1] * star[FLUX] * f) ** 2)
                    pixels += 1
            out[s, ERROR] = np.sqrt(max(covariance[3 * m, 3 * m], 0.0))
            out[s, PIXELS] = pixels
            out[s, CHI2] = chi2 / max(pixels - 3, 1)
            out[s, SKY_ERROR] = per_sky / ff if ff > 0 else 0.0
            if ff > 0 and fp > 0:
                out[s, SPREAD] = 0.5 * blur * (lp / fp - lf / ff)
                out[s, SPREAD_ERROR] = 0.5 * blur * np.sqrt(max(ll - lf * lf / ff, 0.0)) / fp
            else:
                out[s, SPREAD] = 0.0
                out[s, SPREAD_ERROR] = np.inf


@njit(nogil=True, cache=True)
def matched_fluxes(data, weight, cube, step, frame, xs, ys, radius, out):
    """The flux of a star at each position, alone and without background: optimal sums.

    out : float64 (n, 2), filled: flux and its error by the weights alone; NaN where a pixel of
        the core has no weight
    """
    ny, nx = data.shape
    half = int(radius) + 1
    grid = np.zeros((cube.shape[1], cube.shape[2]), np.float32)
    planes = np.empty((1, 2 * half + 1, 2 * half + 1))
    for s in range(xs.size):
        ix, iy = int(np.floor(xs[s] + 0.5)), int(np.floor(ys[s] + 0.5))
        out[s, 0] = np.nan
        out[s, 1] = np.nan
        if ix < half or iy < half or ix + half >= nx or iy + half >= ny:
            continue
        star_grid(cube, xs[s], ys[s], frame, step * (half + 2) + 3, grid)
        star_image(grid, step, xs[s] - ix, ys[s] - iy, half, planes)
        ff, fd = 0.0, 0.0
        whole = True
        for t in range(2 * half + 1):
            for k in range(2 * half + 1):
                y, x = iy - half + t, ix - half + k
                if (x - xs[s]) ** 2 + (y - ys[s]) ** 2 > radius * radius:
                    continue
                if weight[y, x] <= 0:
                    whole = False
                    continue
                f = planes[0, t, k]
                ff += weight[y, x] * f * f
                fd += weight[y, x] * f * data[y, x]
        if whole and ff > 0:
            out[s, 0] = fd / ff
            out[s, 1] = 1.0 / np.sqrt(ff)
