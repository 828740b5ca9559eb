"""Moffat functions fitted to stars (Moffat 1969, A&A 3, 455)."""

import numpy as np

from photometrus.compiled import njit

PARAMETERS = 7


@njit(nogil=True, cache=True)
def fit_moffats(data, weight, xs, ys, start, free_beta, radius, out):
    """Fit an elliptical Moffat function to each star by Levenberg and Marquardt's method.

    A (1 + q)^-beta,  q = ((1 - e1) u^2 - 2 e2 u v + (1 + e1) v^2) / exp(2 s),  u, v from the star.

    data, weight : float32 (ny, nx), sky subtracted, inverse variance, 0 = bad
    xs, ys : float64 (n,); start : (s, beta); radius : of the pixels that are fitted
    free_beta : else beta stays at its start
    out : float64 (n, 9), filled: A, x, y, s, e1, e2, beta, reduced chi^2, good pixels' fraction
    """
    ny, nx = data.shape
    n_free = PARAMETERS if free_beta else PARAMETERS - 1
    g = np.empty(PARAMETERS)
    for k in range(xs.size):
        p = np.array([0.0, xs[k], ys[k], start[0], 0.0, 0.0, start[1]])
        x0, x1 = max(0, int(xs[k] - radius)), min(nx, int(xs[k] + radius + 2))
        y0, y1 = max(0, int(ys[k] - radius)), min(ny, int(ys[k] + radius + 2))
        iy, ix = min(max(int(ys[k] + 0.5), 0), ny - 1), min(max(int(xs[k] + 0.5), 0), nx - 1)
        p[0] = max(data[iy, ix], 1e-6)
        damp = 1e-3
        best = np.inf
        kept = p.copy()
        normal = np.zeros((n_free, n_free))
        right = np.zeros(n_free)
        good = 0
        for _ in range(40):
            matrix = np.zeros((n_free, n_free))
            vector = np.zeros(n_free)
            chi2 = 0.0
            good = 0
            seen = 0
            scale = np.exp(-2.0 * p[3])
            for y in range(y0, y1):
                for x in range(x0, x1):
                    if (x - xs[k]) ** 2 + (y - ys[k]) ** 2 > radius * radius:
                        continue
                    seen += 1
                    if weight[y, x] <= 0:
                        continue
                    good += 1
                    u, v = x - p[1], y - p[2]
                    q = ((1 - p[4]) * u * u - 2 * p[5] * u * v + (1 + p[4]) * v * v) * scale
                    if q < 0:
                        q = 0.0
                    shape = (1.0 + q) ** -p[6]
                    model = p[0] * shape
                    # The model is not exact: 3 % of it count as error.
                    w = 1.0 / (1.0 / weight[y, x] + (0.03 * model) ** 2)
                    d = data[y, x] - model
                    chi2 += w * d * d
                    slope = -p[6] * model / (1.0 + q)
                    g[0] = shape
                    g[1] = slope * scale * (-2 * (1 - p[4]) * u + 2 * p[5] * v)
                    g[2] = slope * scale * (2 * p[5] * u - 2 * (1 + p[4]) * v)
                    g[3] = slope * (-2.0 * q)
                    g[4] = slope * scale * (v * v - u * u)
                    g[5] = slope * scale * (-2 * u * v)
                    g[6] = -model * np.log(1.0 + q)
                    for a in range(n_free):
                        vector[a] += w * g[a] * d
                        for b in range(a + 1):
                            matrix[a, b] += w * g[a] * g[b]
            if good <= n_free:
                break
            if chi2 < best:
                done = best - chi2 < 1e-4 * best
                best = chi2
                kept[:] = p
                normal[:] = matrix
                right[:] = vector
                damp *= 0.2
                if done:
                    break
            else:
                damp *= 8.0
                if damp > 1e6:
                    break
            trial = normal.copy()
            for a in range(n_free):
                for b in range(a):
                    trial[b, a] = trial[a, b]
                trial[a, a] *= 1.0 + damp
                trial[a, a] += 1e-30
            move = np.linalg.solve(trial, right)
            p[:] = kept
            for a in range(n_free):
                p[a] += move[a]
            p[3] = min(max(p[3], -2.0), 3.5)
            p[6] = min(max(p[6], 1.2), 10.0)
            e = np.sqrt(p[4] ** 2 + p[5] ** 2)
            if e > 0.9:
                p[4] *= 0.9 / e
                p[5] *= 0.9 / e
            off = np.sqrt((p[1] - xs[k]) ** 2 + (p[2] - ys[k]) ** 2)
            if off > 2.0:
                p[1], p[2] = xs[k], ys[k]
        out[k, :PARAMETERS] = kept
        out[k, 7] = best / max(good - n_free, 1)
        out[k, 8] = good / max(seen, 1)
