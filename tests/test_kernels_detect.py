"""Smoothing, peaks and centroids against SciPy, sep and the truth."""

import numpy as np
import pytest
import sep
from scipy import ndimage

from photometrus.kernels.detect import measure_peaks, peaks, smooth
from synth import SIGMA_OF_FWHM, lattice, noisy, read_only, star_image, untouched

FWHM = 3.2
SIGMA = FWHM * SIGMA_OF_FWHM
X, Y, X_ERR, FLUX, FLUX_ERR, MAJOR, MINOR, ANGLE, SHARP, ON_BAD = range(10)


def measure(data, x, y, *, sigma=SIGMA, radius=2 * FWHM, noise=1.0, gain=1e9, bad=None):
    data = np.ascontiguousarray(data, np.float32)
    bad = np.zeros(data.shape, np.uint8) if bad is None else bad
    ys, xs = np.rint(y).astype(np.int32), np.rint(x).astype(np.int32)
    out = np.full((ys.size, 10), 99.0)
    with untouched(data, bad, ys, xs):
        measure_peaks(data, bad, ys, xs, sigma, radius, noise, gain, out)
    return out.T


@pytest.mark.parametrize("shape", [(40, 50), (5, 31), (1, 9), (33, 1)])
@pytest.mark.parametrize("k", [0, 1, 4])
def test_smoothing_equals_scipy(shape, k):
    rs = np.random.RandomState(k)
    data = read_only(rs.normal(0, 1, shape).astype(np.float32))
    taps = rs.uniform(0.1, 1, 2 * k + 1)
    taps = ((taps + taps[::-1]) / 2 / taps.sum()).astype(np.float32)
    out = np.empty(shape, np.float32)
    with untouched(data, taps):
        smooth(data, taps, out)
    want = data.astype(float)
    for axis in (0, 1):
        want = ndimage.correlate1d(want, taps.astype(float), axis=axis, mode="nearest")
    # Two sums of 9 products of a few units in float32.
    np.testing.assert_allclose(out, want, atol=2 * 9 * 4 * 2**-24)


def test_smoothing_lets_nan_through():
    data = np.ones((20, 20), np.float32)
    data[10, 10] = np.nan
    out = np.empty_like(data)
    smooth(data, np.full(3, 1 / 3, np.float32), out)
    assert np.isnan(out).sum() == 9


def found(image, limit, border=1, room=10000):
    ys, xs = np.empty((2, room), np.int32)
    n = peaks(np.ascontiguousarray(image, np.float32), np.float32(limit), border, ys, xs)
    return ys[:n], xs[:n]


def test_peaks_are_the_local_maxima():
    image = np.random.RandomState(0).normal(0, 1, (60, 71)).astype(np.float32)
    want = (image == ndimage.maximum_filter(image, 3)) & (image > 0.5)
    want[:4] = want[-4:] = False
    want[:, :4] = want[:, -4:] = False
    np.testing.assert_array_equal(np.stack(found(image, 0.5, 4)), np.stack(np.nonzero(want)))


@pytest.mark.parametrize("shape", [(1, 2), (2, 1), (2, 2), (1, 1), (3, 3)])
def test_a_flat_top_is_one_peak(shape):
    image = np.zeros((12, 12))
    image[4 : 4 + shape[0], 5 : 5 + shape[1]] = 7
    ys, xs = found(image, 1)
    assert (ys.size, xs.size) == (1, 1)


def test_peaks_never_write_beyond_their_room():
    image = np.zeros((30, 30), np.float32)
    image[2::4, 2::4] = 1
    ys, xs = np.full((2, 9), -1, np.int32)
    assert peaks(image, np.float32(0.5), 1, ys[:5], xs[:5]) == 5
    assert (ys[5:] == -1).all()


def test_centroids_and_fluxes_without_noise_are_the_truth():
    rs = np.random.RandomState(1)
    x, y = lattice((400, 400), 36, 25, rs)
    flux = rs.uniform(100, 1e5, x.size)
    out = measure(star_image((400, 400), x, y, flux, FWHM), x, y)
    # The iteration ends at a step of 2e-4 of which the next is a small part; the hard edge of the
    # window, at 4.7 sigma, cuts e**-11 of the light. One mas is 0.002 pixels.
    np.testing.assert_allclose(out[X], x, atol=0.0005)
    np.testing.assert_allclose(out[Y], y, atol=0.0005)
    # A circle of radius 2 FWHM = 4.71 sigma misses e**-11.1 = 1.5e-5 of a Gaussian; pixels within
    # half a pixel of its edge are in or out as a whole: up to e**(-(4.71 - 0.37)**2 / 2) = 8e-5.
    np.testing.assert_allclose(out[FLUX], flux, rtol=2e-4)


def test_centroids_equal_those_of_sep():
    rs = np.random.RandomState(2)
    x, y = lattice((300, 300), 33, 25, rs)
    image = noisy(star_image((300, 300), x, y, 3000, FWHM), 3.0, rs)
    out = measure(image, x, y)
    want_x, want_y, flag = sep.winpos(image.copy(), np.rint(x), np.rint(y), SIGMA)
    assert (flag == 0).all()
    # The same estimator but for the window's end (4 sigma with fractions of pixels there, ours
    # 4.7 sigma + 1 pixel): what is between weighs e**-8 = 3e-4, its noise in position is below
    # 2e-4 pixels here; both stop at steps of 1e-4 to 2e-4.
    np.testing.assert_allclose(out[X], want_x, atol=0.001)
    np.testing.assert_allclose(out[Y], want_y, atol=0.001)


@pytest.mark.parametrize(("flux", "gain"), [(1500, 1e9), (20000, 0.5)])
def test_the_errors_are_the_scatter(flux, gain):
    rs = np.random.RandomState(3)
    x, y = lattice((900, 900), 30, 20, rs)
    truth = star_image((900, 900), x, y, flux, FWHM)
    image = (truth + rs.normal(0, np.sqrt(9 + truth / gain))).astype(np.float32)
    out = measure(image, x, y, noise=3.0, gain=gain)
    off = np.concatenate([out[X] - x, out[Y] - y])
    n = x.size
    assert n > 700
    # A scatter from 2 n values is known to 1 / sqrt(4 n) = 1.9 %, one from n to 2.7 %. Below
    # signal-to-noise 40 the estimate itself, made from the noisy star, is off by a percent or two.
    assert off.std() / np.median(out[X_ERR]) == pytest.approx(1, abs=5 * 0.019 + 0.02)
    off = out[FLUX] - flux
    assert off.std() / np.median(out[FLUX_ERR]) == pytest.approx(1, abs=5 * 0.027 + 0.02)
    assert abs(off.mean()) < 5 * off.std() / np.sqrt(n)


def test_shapes_are_those_of_the_star():
    y, x = np.mgrid[:61, :61] - 30.0
    major, minor, angle = 2.6, 1.9, np.radians(35.0)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    star = 1000 * np.exp(-0.5 * ((along / major) ** 2 + (across / minor) ** 2))
    out = measure(star, np.array([30.0]), np.array([30.0]), sigma=2.2, radius=14.0)
    # Sampled, not integrated: a product of Gaussians sampled every pixel is exact to
    # exp(-2 pi**2 s**2), with s**2 = 1 / (1/1.9**2 + 1/2.2**2) = 2.07: 2e-18.
    assert out[MAJOR, 0] == pytest.approx(major, abs=1e-5)
    assert out[MINOR, 0] == pytest.approx(minor, abs=1e-5)
    assert out[ANGLE, 0] == pytest.approx(angle, abs=1e-5)


def test_a_hot_pixel_is_sharp_and_a_star_is_not():
    image = star_image((60, 60), [20.2], [20.4], 1000, 2.5)
    image[40, 40] = 300
    out = measure(image, np.array([20, 40]), np.array([20, 40]))
    assert out[SHARP, 0] < 0.6
    assert out[SHARP, 1] == pytest.approx(1.0)


def test_the_share_of_bad_pixels_is_weighted_by_the_window():
    image = star_image((41, 41), [20], [20], 1000, FWHM)
    bad = np.zeros((41, 41), np.uint8)
    bad[:, 21:] = 2
    y, x = np.mgrid[-20:21, -20:21]
    r2 = x**2 + y**2
    window = np.exp(-r2 / (2 * SIGMA**2)) * (r2 <= (2 * FWHM) ** 2)
    out = measure(image, np.array([20]), np.array([20]), bad=bad)
    # The star is in the middle of a pixel: no centroid step, the window's sums are the same.
    assert out[ON_BAD, 0] == pytest.approx(window[bad > 0].sum() / window.sum(), abs=1e-6)
    assert measure(image, np.array([20]), np.array([20]))[ON_BAD, 0] == 0


def test_corners_holes_and_empty_lists_do_no_harm():
    image = np.full((30, 30), -5, np.float32)
    out = measure(image, np.array([0, 29, 15]), np.array([0, 29, 15]))
    assert np.isnan(out[X_ERR]).all()
    np.testing.assert_array_equal(out[X], [0, 29, 15])
    assert measure(image, np.empty(0), np.empty(0)).shape == (10, 0)


def test_a_bright_neighbour_does_not_carry_the_centroid_away():
    image = star_image((60, 60), [30, 34.5], [30, 30], [100, 10000], FWHM)
    out = measure(image, np.array([30.0]), np.array([30.0]))
    assert abs(out[X, 0] - 30) <= 2.5
    assert abs(out[Y, 0] - 30) <= 2.5
