"""Loops of the PSF against plain NumPy and SciPy."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates, spline_filter

from photometrus.kernels.groupfit import (
    CHANGED,
    DRAWN,
    ERROR,
    FLUX,
    HOLD,
    RADIUS,
    X0,
    Y0,
    X,
    Y,
    draw_all,
    fit_groups,
    matched_fluxes,
    measure_groups,
)
from photometrus.kernels.moffat import fit_moffats
from photometrus.kernels.psf import gather, spline_weights, star_image, terms

STEP, HALF = 2, 6
FRAME = np.array([50.0, 50.0, 50.0, 50.0])


def gaussian(axis, sigma=1.6):
    r2 = axis[:, None] ** 2 + axis[None, :] ** 2
    return np.exp(-r2 / (2 * sigma**2)) / (2 * np.pi * sigma**2)


@pytest.fixture(scope="module")
def cube():
    size = 2 * (STEP * (HALF + 2) + 3) + 1
    axis = (np.arange(size) - size // 2) / STEP
    return np.array([spline_filter(gaussian(axis), order=3, mode="mirror")], np.float32)


@pytest.mark.parametrize("t", [0.0, 0.3, 0.999])
def test_spline_weights_are_a_partition_of_one(t):
    value, slope, curve = np.empty(4), np.empty(4), np.empty(4)
    spline_weights(t, value, slope, curve)
    assert value.sum() == pytest.approx(1) and (value >= 0).all()
    assert slope.sum() == pytest.approx(0, abs=1e-14)
    assert curve.sum() == pytest.approx(0, abs=1e-14)
    # A cubic B-spline of a straight line is that line, and its slope.
    assert value @ np.arange(-1, 3) == pytest.approx(t)
    assert slope @ np.arange(-1, 3) == pytest.approx(1)


def test_terms_are_ordered_by_degree():
    out = np.empty(6)
    terms(75.0, 40.0, FRAME, out)
    u, v = 0.5, -0.2
    assert out == pytest.approx([1, u, v, u * u, u * v, v * v])


@pytest.mark.parametrize(("dx", "dy"), [(0.0, 0.0), (0.37, -0.45), (-0.5, 0.5)])
def test_a_star_is_the_interpolated_grid(cube, dx, dy):
    out = np.empty((4, 2 * HALF + 1, 2 * HALF + 1))
    star_image(cube[0], STEP, dx, dy, HALF, out)
    middle = cube.shape[1] // 2
    pixel = np.arange(-HALF, HALF + 1)
    where = np.meshgrid((pixel - dy) * STEP + middle, (pixel - dx) * STEP + middle, indexing="ij")
    twin = map_coordinates(cube[0].astype(float), where, order=3, prefilter=False)
    assert out[0] == pytest.approx(twin, abs=1e-12)
    # Derivatives against the analytic Gaussian: a spline of 2 nodes per pixel, 3.2 per sigma, is
    # good to (h / sigma)^4 / 30 = 3e-4 of the peak (0.06), its first derivative to 1e-3 and its
    # second, which a cubic has as straight lines, to (h / sigma)^2 / 8 = 1.2 % of 0.06 / sigma^2
    # and twice that on two axes' fourth derivatives of three times the second.
    y, x = np.meshgrid(pixel - dy, pixel - dx, indexing="ij")
    truth = np.exp(-(x * x + y * y) / 5.12) / (2 * np.pi * 2.56)
    assert out[0] == pytest.approx(truth, abs=3e-5)
    assert out[1] == pytest.approx(x / 2.56 * truth, abs=1e-4)
    assert out[2] == pytest.approx(y / 2.56 * truth, abs=1e-4)
    assert out[3] == pytest.approx(((x * x + y * y) / 2.56 - 2) / 2.56 * truth, abs=2e-3)


def test_moffats_are_fitted_exactly_where_there_is_no_noise():
    truth = np.array([[800.0, 20.3, 19.6, np.log(2.4), 0.08, -0.05, 2.8]])
    y, x = np.mgrid[:40, :40].astype(float)
    a, x0, y0, s, e1, e2, beta = truth[0]
    u, v = x - x0, y - y0
    q = ((1 - e1) * u * u - 2 * e2 * u * v + (1 + e1) * v * v) * np.exp(-2 * s)
    data = (a * (1 + q) ** -beta).astype(np.float32)
    weight = np.ones_like(data)
    weight[18, 23] = 0
    data[18, 23] = 1e6  # a bad pixel has no say
    out = np.empty((1, 9))
    start = np.array([np.log(2.0), 3.0])
    fit_moffats(data, weight, np.array([20.0]), np.array([20.0]), start, True, 8.0, out)
    # It stops when chi^2 gains less than 1e-4 of itself: as good as the start of the last step.
    assert out[:, :7] == pytest.approx(truth, rel=2e-3, abs=2e-3)
    assert out[0, 7] < 1e-3 and out[0, 8] == pytest.approx(1 - 1 / 197, abs=2e-3)


def test_nodes_gather_what_lies_around_them():
    rs = np.random.RandomState(4)
    n, size, g = 3, 7, 2 * (STEP * 5 + 3) + 1
    left = rs.normal(size=(n, size, size)).astype(np.float32)
    weight = rs.uniform(0.5, 2, size=left.shape).astype(np.float32)
    weight[0, 2, 3] = 0
    errors = rs.uniform(0, 0.3, size=left.shape)
    stars = np.array([[10.0, 20, 0.2, -0.4, 5], [80, 30, -0.3, 0.1, 9], [40, 90, 0.0, 0.45, 2]])
    sums, matrices = np.zeros((g, g, 3)), np.zeros((g, g, 3, 3))
    gather(left, weight, stars, errors, STEP, FRAME, sums, matrices)
    want, want_matrix = np.zeros_like(sums), np.zeros_like(matrices)
    nodes = np.arange(g) - g // 2
    for s in range(n):
        phi = np.array([1, (stars[s, 0] - 50) / 50, (stars[s, 1] - 50) / 50])
        flux = stars[s, 4]
        for b, a in np.ndindex(size, size):
            if weight[s, b, a] == 0:
                continue
            hat_x = np.maximum(1 - np.abs((a - 3 - stars[s, 2]) * STEP - nodes), 0)
            hat_y = np.maximum(1 - np.abs((b - 3 - stars[s, 3]) * STEP - nodes), 0)
            share = hat_y[:, None] * hat_x * flux**2 / (1 / weight[s, b, a] + errors[s, b, a])
            want += share[..., None] * phi * (left[s, b, a] / flux)
            want_matrix += share[..., None, None] * np.outer(phi, phi)
    # Images are float32.
    assert sums == pytest.approx(want, rel=1e-5, abs=1e-5)
    assert matrices == pytest.approx(np.tril(want_matrix), rel=1e-5, abs=1e-5)


def stars_at(x, y, flux, radius=4.5):
    stars = np.zeros((len(x), 9))
    stars[:, X] = stars[:, X0] = x
    stars[:, Y] = stars[:, Y0] = y
    stars[:, FLUX], stars[:, RADIUS], stars[:, DRAWN] = flux, radius, HALF
    stars[:, HOLD], stars[:, CHANGED] = 1e12, 1.0
    return stars


def test_a_group_is_the_weighted_least_squares_solution(cube):
    """Positions held, so that the problem is linear: one step is the solution; and its errors."""
    rs = np.random.RandomState(8)
    sigma, flux = 2.0, np.array([3000.0, 900.0])
    truth = stars_at([20.2, 23.4], [20.4, 21.9], flux)
    data = rs.normal(0, sigma, (42, 44)).astype(np.float32)
    draw_all(data, cube, STEP, FRAME, truth, np.arange(2), 1.0)
    weight = np.full(data.shape, 1 / sigma**2, np.float32)
    weight[20, 20] = 0
    stars = stars_at([20.2, 23.4], [20.4, 21.9], [0.0, 0.0])
    left = data.copy()
    starts, members = np.array([0, 2]), np.array([0, 1])
    error = np.array([np.inf, 0.0])
    limits = np.array([1e-9, 0.3, 1.0])
    args = (weight, cube, STEP, FRAME, stars, starts, members, error)
    fit_groups(data, left, *args, np.zeros(HALF + 1) + 1.0, limits)
    out = np.empty((2, 6))
    measure_groups(data, left, *args, 0.1, out)
    y, x = np.indices(data.shape)
    columns = []
    for k, (a, b) in enumerate(((20, 20), (23, 22))):
        one = np.zeros(data.shape, np.float32)
        alone = stars_at(stars[:, X], stars[:, Y], 1.0)
        draw_all(one, cube, STEP, FRAME, alone, members[k : k + 1], 1.0)
        # A star's model reaches one pixel farther than the pixels that are fitted.
        columns.append(np.where((abs(x - a) <= 5) & (abs(y - b) <= 5), one, 0))
    near = (x - 20.2) ** 2 + (y - 20.4) ** 2 <= 4.5**2
    near |= (x - 23.4) ** 2 + (y - 21.9) ** 2 <= 4.5**2
    near &= weight > 0
    design = np.stack([c[near].astype(float) for c in columns], axis=1) / sigma
    solution = np.linalg.lstsq(design, data[near] / sigma, rcond=None)[0]
    # float32 images: 1e-6 of the brightest pixel, 190 ADU.
    assert stars[:, FLUX] == pytest.approx(solution, abs=0.02)
    covariance = np.linalg.inv(design.T @ design)
    assert out[:, ERROR] == pytest.approx(np.sqrt(np.diagonal(covariance)), rel=1e-3)
    assert np.abs((stars[:, FLUX] - flux) / out[:, ERROR]).max() < 4
    # What is left is what was put in, less the stars.
    assert left[near].std() == pytest.approx(sigma, rel=0.25)


def test_matched_fluxes_are_the_optimal_sums(cube):
    rs = np.random.RandomState(3)
    data = rs.normal(0, 2, (40, 40)).astype(np.float32)
    weight = np.full(data.shape, 0.25, np.float32)
    weight[10, 11] = 0
    x, y = np.array([25.3, 11.0, 2.0]), np.array([22.8, 10.0, 20.0])
    out = np.empty((3, 2))
    matched_fluxes(data, weight, cube, STEP, FRAME, x, y, 4.0, out)
    one = np.zeros(data.shape, np.float32)
    draw_all(one, cube, STEP, FRAME, stars_at([25.3], [22.8], 1.0), np.array([0]), 1.0)
    row, column = np.indices(data.shape)
    f = np.where((column - 25.3) ** 2 + (row - 22.8) ** 2 <= 16, one, 0)
    assert out[0, 0] == pytest.approx((f * data).sum() / (f * f).sum(), rel=1e-4)
    assert out[0, 1] == pytest.approx(2 / np.sqrt((f * f).sum()), rel=1e-4)
    assert np.isnan(out[1:]).all()  # a bad pixel in the core; too near to the edge
