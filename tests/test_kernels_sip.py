"""Distortion polynomials against NumPy's."""

import numpy as np
import pytest
from numpy.polynomial.polynomial import polyval2d

from photometrus.kernels.sip import FAR_PIX, add_sip, undo_sip
from synth import read_only, untouched


def distortion(seed):
    """Coefficients to order 5 that move a pixel 2000 from the middle by some 20."""
    rs = np.random.RandomState(seed)
    i, j = np.indices((6, 6))
    scale = np.where((i + j >= 2) & (i + j <= 5), 2000.0 ** -(i + j), 0.0)
    return (read_only(rs.uniform(-5, 5, (6, 6)) * scale) for _ in range(2))


def through(kernel, a, b, u, v):
    out_u, out_v = np.full(u.size, 99.0), np.full(u.size, 99.0)
    with untouched(u, v):
        kernel(a, b, u, v, out_u, out_v)
    return out_u, out_v


@pytest.mark.parametrize("seed", [1, 2])
def test_a_polynomial_is_numpys(seed):
    a, b = distortion(seed)
    u, v = (read_only(line) for line in np.random.RandomState(seed).uniform(-2100, 2100, (2, 500)))
    big_u, big_v = through(add_sip, a, b, u, v)
    # Numbers of 2000 and 36 terms in double precision: 36 * 2000 * 2**-53 = 8e-12.
    np.testing.assert_allclose(big_u, u + polyval2d(u, v, a), atol=1e-11)
    np.testing.assert_allclose(big_v, v + polyval2d(u, v, b), atol=1e-11)


@pytest.mark.parametrize("seed", [1, 2])
def test_what_was_added_is_taken_away(seed):
    a, b = distortion(seed)
    u, v = (read_only(line) for line in np.random.RandomState(seed).uniform(-2100, 2100, (2, 500)))
    back_u, back_v = through(undo_sip, a, b, *through(add_sip, a, b, u, v))
    # It ends when a round changes 1e-10 pixel; the next would change a tenth of that at most.
    np.testing.assert_allclose(back_u, u, atol=1e-10)
    np.testing.assert_allclose(back_v, v, atol=1e-10)


def test_far_points_and_nan_stay():
    a, b = distortion(3)
    u, v = np.array([FAR_PIX + 1, 0.0, np.nan]), np.array([0.0, -2 * FAR_PIX, 0.0])
    back_u, back_v = through(undo_sip, a, b, u, v)
    np.testing.assert_array_equal(back_u, u)
    np.testing.assert_array_equal(back_v, v)
