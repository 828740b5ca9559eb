"""Calibration of rows against NumPy."""

import numpy as np

from photometrus.kernels.detrend import calibrate, swap_bytes
from synth import read_only, untouched

UNSOLVED, DEAD, HOT = np.uint8(4), np.uint8(1), np.uint8(2)


def calibrated(raw, flat, flagged):
    out = np.full(flat.shape, 77, np.float32)
    bad = np.full(flat.shape, 77, np.uint8)
    border = (raw.shape[1] - flat.shape[1]) // 2
    with untouched(raw, flat, flagged):
        calibrate(raw, border, flat, flagged, np.float32(60000), UNSOLVED, DEAD, out, bad)
    return out, bad


def test_rows_equal_numpy():
    rs = np.random.RandomState(0)
    shape = (17, 23)
    raw = rs.normal(500, 100, shape).astype(np.float32)
    raw.ravel()[::11] = [65535, np.nan, np.inf, -np.inf, -70000, 60000, 59999] * 5 + [65535]
    flat = rs.uniform(0.5, 1.5, shape).astype(np.float32)
    flat.ravel()[3::29] = np.resize([0, -1, np.nan], flat.ravel()[3::29].size)
    flagged = (rs.uniform(size=shape) < 0.1).astype(np.uint8) * HOT
    out, bad = calibrated(read_only(raw), read_only(flat), read_only(flagged))
    with np.errstate(invalid="ignore", divide="ignore"):
        unsolved = ~(np.abs(raw) < 60000) & ~(raw == -60000)
        dead = ~(flat > 0)
        np.testing.assert_array_equal(
            bad, flagged | np.where(unsolved, 4, 0) | np.where(dead, 1, 0)
        )
        np.testing.assert_array_equal(out, np.where(unsolved | dead, 0, raw / flat))
    assert np.isfinite(out).all()


def test_one_nan_among_good_values_is_flagged_and_zero():
    raw = np.full((3, 3), 10, np.float32)
    raw[1, 1] = np.nan
    out, bad = calibrated(raw, np.full((3, 3), 2, np.float32), np.zeros((3, 3), np.uint8))
    assert bad[1, 1] == UNSOLVED
    assert out[1, 1] == 0
    assert bad.sum() == UNSOLVED
    assert out.sum() == 8 * 5


def test_a_known_dead_pixel_is_zero_and_a_hot_one_keeps_its_value():
    flagged = np.array([[DEAD, HOT, 0]], np.uint8)
    out, bad = calibrated(np.full((1, 3), 8, np.float32), np.ones((1, 3), np.float32), flagged)
    np.testing.assert_array_equal(bad, flagged)
    np.testing.assert_array_equal(out, [[0, 8, 8]])


def test_the_border_is_left_out():
    raw = np.arange(2 * 9, dtype=np.float32).reshape(2, 9)
    out, bad = calibrated(raw, np.ones((2, 3), np.float32), np.zeros((2, 3), np.uint8))
    np.testing.assert_array_equal(out, raw[:, 3:6])
    assert not bad.any()


def test_bytes_are_swapped_as_numpy_does():
    bits = np.random.RandomState(1).randint(0, 2**32, 1001, np.uint32)
    swapped = bits.copy()
    swap_bytes(swapped)
    np.testing.assert_array_equal(swapped, bits.byteswap())
