"""The resampling kernels against direct evaluation and against a function that is known."""

import numpy as np
import pytest

from photometrus.kernels.resample import (
    PHASES,
    fill_bad,
    lanczos_rows,
    lanczos_table,
    pixel_scatter,
    project_rows,
    shrink_rows,
)
from synth import read_only, untouched

TABLE = lanczos_table()


def kernel(distance):
    """Lanczos-3, float64."""
    return np.where(np.abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0.0)


def lanczos_at(data, px, py):
    """Direct Lanczos-3 interpolation with weights that sum to 1, float64; NaN without six taps."""
    ny, nx = data.shape
    ix, iy = int(np.floor(px)), int(np.floor(py))
    if ix < 2 or iy < 2 or ix + 3 >= nx or iy + 3 >= ny:
        return np.nan
    wx = kernel(px - np.arange(ix - 2, ix + 4))
    wy = kernel(py - np.arange(iy - 2, iy + 4))
    part = data[iy - 2 : iy + 4, ix - 2 : ix + 4].astype(float)
    return wy @ part @ wx / wy.sum() / wx.sum()


def maps(shape, step, matrix, shift):
    """A linear map of output nodes to input pixels."""
    ny, nx = shape
    x, y = np.meshgrid(np.arange(0, nx + step, step), np.arange(0, ny + step, step))
    return (
        matrix[0][0] * x + matrix[0][1] * y + shift[0],
        matrix[1][0] * x + matrix[1][1] * y + shift[1],
    )


def resample(
    data, map_x, map_y, shape, step, *, bad=None, weight=None, max_bad=0.25, factor=1, factor_w=1
):  # fmt: skip
    data = np.ascontiguousarray(data, np.float32)
    bad = np.zeros(data.shape, np.uint8) if bad is None else bad
    weight = np.ones(data.shape, np.float32) if weight is None else weight
    out, out_w = np.full((2, *shape), np.nan, np.float32)
    flags = np.zeros(shape, np.uint8)
    inputs = data, bad, weight, map_x, map_y
    with untouched(*inputs):
        lanczos_rows(
            data, bad, weight, 0, map_x, map_y, step, 0, TABLE, np.float32(max_bad),
            np.float32(factor), np.float32(factor_w), out, out_w, flags,
        )  # fmt: skip
    return out, out_w, flags


UNIT = ((1, 0), (0, 1))


def test_the_table_holds_lanczos_weights():
    phase = np.arange(PHASES + 1)[:, None] / PHASES
    want = kernel(phase - np.arange(-2, 4))
    want /= want.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(TABLE, want, atol=2**-24)
    # On a pixel its value is taken as it is.
    np.testing.assert_allclose(TABLE[0], [0, 0, 1, 0, 0, 0], atol=1e-16)
    np.testing.assert_allclose(TABLE[-1], [0, 0, 0, 1, 0, 0], atol=1e-16)


def test_the_identity_is_exact():
    data = np.random.RandomState(0).normal(0, 1, (21, 33))
    out, weight, _ = resample(data, *maps((21, 33), 16, UNIT, (0, 0)), (21, 33), 16)
    inner = np.s_[2:-3, 2:-3]
    np.testing.assert_array_equal(out[inner], data.astype(np.float32)[inner])
    edge = np.ones((21, 33), bool)
    edge[inner] = False
    assert (weight[edge] == 0).all()
    assert (out[edge] == 0).all()
    assert (weight[inner] == 1).all()


@pytest.mark.parametrize("step", [1, 4, 16])
def test_a_shift_equals_direct_evaluation(step):
    data = np.random.RandomState(1).normal(0, 1, (23, 31)).astype(np.float32)
    shape = (29, 37)
    shift = (-3 + 517 / PHASES, -2 + 1733 / PHASES)  # exactly on a phase of the table
    out, weight, _ = resample(data, *maps(shape, step, UNIT, shift), shape, step)
    want = np.array([[lanczos_at(data, x + shift[0], y + shift[1]) for x in range(shape[1])]
                     for y in range(shape[0])])  # fmt: skip
    np.testing.assert_array_equal(weight > 0, np.isfinite(want))
    # 42 float32 products of at most 4 * 1: 42 * 4 * 2**-24 = 1e-5.
    np.testing.assert_allclose(out[weight > 0], want[weight > 0], atol=1e-5)


def test_rotation_flip_and_scale_equal_direct_evaluation():
    rs = np.random.RandomState(2)
    data = rs.normal(0, 1, (60, 55)).astype(np.float32)
    c, s = np.cos(np.radians(10.0)), np.sin(np.radians(10.0))
    matrix = ((-0.97 * c, s), (s, 1.01 * c))
    shape, step = (45, 40), 8
    map_x, map_y = maps(shape, step, matrix, (49.3, 1.7))
    out, weight, _ = resample(data, map_x, map_y, shape, step)
    n = 0
    for y, x in np.ndindex(shape):
        px = matrix[0][0] * x + matrix[0][1] * y + 49.3
        py = matrix[1][0] * x + matrix[1][1] * y + 1.7
        want = lanczos_at(data, px, py)
        assert (weight[y, x] > 0) == np.isfinite(want)
        if np.isfinite(want):
            n += 1
            # Half a phase, 1/4096 pixel, in x and in y; the slope of a resampled white field is
            # at most 1.81 rms per pixel (pi / sqrt 3, a full band), 5 times that in the worst of
            # a thousand: 2 * 5 * 1.81 / 4096 = 0.0044.
            assert out[y, x] == pytest.approx(want, abs=0.0044)
    assert n > 800


def test_the_phase_is_rounded_to_the_nearest():
    data = np.random.RandomState(5).normal(0, 1, (12, 12)).astype(np.float32)
    for phase, nearest in ((700.3, 700), (700.7, 701), (PHASES - 0.4, PHASES)):
        shift = (3 + phase / PHASES, 3.0)
        out, _, _ = resample(data, *maps((1, 1), 4, UNIT, shift), (1, 1), 4)
        want = lanczos_at(data, 3 + nearest / PHASES, 3.0)
        # One phase further it would be 1/2048 of a slope of about 1: 5e-4.
        assert out[0, 0] == pytest.approx(want, abs=1e-5)


@pytest.mark.parametrize("frequency", [0.03, 0.1, 0.2])
def test_a_wave_comes_out_where_it_is(frequency):
    y, x = np.mgrid[:64, :64]
    ky, kx = 0.6 * frequency, 0.8 * frequency
    wave = 100 + 30 * np.cos(2 * np.pi * (kx * x + ky * y) + 0.3)
    shift = (0.37, -0.41)
    shape = (50, 50)
    out, weight, _ = resample(wave, *maps(shape, 16, UNIT, (5 + shift[0], 5 + shift[1])), shape, 16)
    y, x = np.mgrid[:50, :50]
    phase = 2 * np.pi * (kx * (x + 5 + shift[0]) + ky * (y + 5 + shift[1])) + 0.3
    # Lanczos' response at that frequency and phase, minus 1, is its error per axis.
    error = 0.0
    for k, t in ((kx, shift[0] % 1), (ky, shift[1] % 1)):
        d = np.arange(-2, 4)
        w = kernel(t - d) / kernel(t - d).sum()
        error += abs(np.sum(w * np.exp(2j * np.pi * k * (d - t))) - 1)
    tolerance = 30 * (1.1 * error + 2 * 2 * np.pi * frequency / 4096) + 100 * 42 * 2**-24
    assert tolerance < 1.0
    assert (weight > 0).all()
    np.testing.assert_allclose(out, 100 + 30 * np.cos(phase), atol=tolerance)


def test_rows_and_blocks_do_not_matter():
    rs = np.random.RandomState(3)
    data = rs.normal(0, 1, (70, 50)).astype(np.float32)
    bad = (rs.uniform(size=data.shape) < 0.02).astype(np.uint8)
    weight = rs.uniform(1, 2, data.shape).astype(np.float32)
    map_x, map_y = maps((48, 40), 16, ((0.99, 0.02), (-0.02, 1.0)), (3.1, 5.7))
    whole, whole_w, whole_flags = resample(data, map_x, map_y, (48, 40), 16, bad=bad, weight=weight)
    for y0, y1 in ((0, 16), (16, 48), (32, 48)):
        out, out_w = np.empty((2, y1 - y0, 40), np.float32)
        flags = np.zeros((y1 - y0, 40), np.uint8)
        first, last = y0, min(70, y1 + 14)
        part = (read_only(a[first:last]) for a in (data, bad, weight))
        lanczos_rows(
            *part, first, map_x, map_y, 16, y0, TABLE, np.float32(0.25), np.float32(1),
            np.float32(1), out, out_w, flags,
        )  # fmt: skip
        np.testing.assert_array_equal(out, whole[y0:y1])
        np.testing.assert_array_equal(out_w, whole_w[y0:y1])
        np.testing.assert_array_equal(flags, whole_flags[y0:y1])


def test_values_and_weights_are_scaled():
    rs = np.random.RandomState(2)
    data, weight = rs.uniform(1, 2, (2, 60, 50))
    inputs = data, *maps((40, 30), 8, ((1, 0), (0, 1)), (7.3, 8.6)), (40, 30), 8
    weight = weight.astype(np.float32)
    plain, plain_w, _ = resample(*inputs, weight=weight)
    out, out_w, _ = resample(*inputs, weight=weight, factor=1.5, factor_w=0.25)
    assert (plain_w > 0).any()
    np.testing.assert_array_equal(out, np.float32(1.5) * plain)
    np.testing.assert_array_equal(out_w, np.float32(0.25) * plain_w)


def test_the_map_is_bilinear_between_its_nodes():
    data = np.add.outer(1000.0 * np.arange(40), np.arange(40.0))
    map_x = np.array([[5.0, 21.0], [7.0, 29.0]])
    map_y = np.array([[5.0, 6.0], [21.0, 30.0]])
    out, weight, _ = resample(data, map_x, map_y, (16, 16), 16)
    for r, c in ((0, 0), (8, 8), (15, 3), (4, 12)):
        fy, fx = r / 16, c / 16
        corner = np.outer([1 - fy, fy], [1 - fx, fx])
        want = lanczos_at(data, (corner * map_x).sum(), (corner * map_y).sum())
        assert weight[r, c] > 0
        # The phase is rounded by 1/4096 of a pixel on a slope of 1000 per pixel, which Lanczos
        # makes up to 1.3 times steeper; 42 float32 products of up to 4e4 are rounded.
        assert out[r, c] == pytest.approx(want, abs=1.3 * 1001 / 4096 + 42 * 4e4 * 2**-24)


@pytest.mark.parametrize("max_bad", [0.05, 0.25, 0.8])
def test_values_on_bad_pixels_are_dropped(max_bad):
    rs = np.random.RandomState(4)
    data = rs.normal(0, 1, (40, 40)).astype(np.float32)
    bad = (rs.uniform(size=data.shape) < 0.05).astype(np.uint8) * 4
    shift = (100 / PHASES, 900 / PHASES)
    _, weight, _ = resample(
        data, *maps((30, 30), 16, UNIT, (3 + shift[0], 3 + shift[1])), (30, 30), 16,
        bad=bad, max_bad=max_bad,
    )  # fmt: skip
    tap = np.abs(np.outer(TABLE[900], TABLE[100]).astype(float))
    for y, x in np.ndindex(30, 30):
        heavy = tap[bad[y + 1 : y + 7, x + 1 : x + 7] != 0].sum()
        if abs(heavy - max_bad) > 1e-5:
            assert (weight[y, x] > 0) == (heavy <= max_bad), (y, x, heavy)


def test_the_weight_is_that_of_the_nearest_pixel():
    weight = np.arange(400, dtype=np.float32).reshape(20, 20) + 1
    for shift, nearest in (((0.3, 0.6), (0, 1)), ((0.7, 0.2), (1, 0)), ((0.51, 0.51), (1, 1))):
        out = resample(np.zeros((20, 20)), *maps((8, 8), 16, UNIT, (5 + shift[0], 5 + shift[1])),
                       (8, 8), 16, weight=weight)[1]  # fmt: skip
        y, x = 5 + nearest[1], 5 + nearest[0]
        np.testing.assert_array_equal(out, weight[y : y + 8, x : x + 8])


def test_flags_are_those_of_the_nearest_pixel():
    rs = np.random.RandomState(6)
    bad = (rs.uniform(size=(20, 20)) < 0.3).astype(np.uint8) * rs.choice([2, 8, 16], (20, 20))
    bad = bad.astype(np.uint8)
    for shift, (dx, dy) in (((0.3, 0.6), (0, 1)), ((0.7, 0.2), (1, 0)), ((0.0, 0.5), (0, 1))):
        flags = resample(np.zeros((20, 20)), *maps((8, 8), 16, UNIT, (5 + shift[0], 5 + shift[1])),
                         (8, 8), 16, bad=bad)[2]  # fmt: skip
        np.testing.assert_array_equal(flags, bad[5 + dy : 13 + dy, 5 + dx : 13 + dx])


def test_a_pixel_scatters_by_less_and_a_sum_as_before():
    rs = np.random.RandomState(7)
    data = rs.normal(0, 1, (420, 420))
    # All sub-pixel phases alike: a scale that takes 400 pixels through 13 of them.
    matrix = ((1 + 13 / 400, 0.0), (0.0, 1 + 13 / 400))
    out, weight, _ = resample(data, *maps((390, 390), 1, matrix, (3.0, 3.0)), (390, 390), 1)
    assert (weight > 0).all()
    # 150000 values, of which neighbours share pixels: a fourth of them are independent, 0.4 %.
    assert out.std() == pytest.approx(pixel_scatter(), rel=0.012)
    # Sums of 26 x 26 pixels: 225 of them, 5 %; the scale leaves 3 % fewer output pixels per input
    # pixel on either axis, and the root of the sum's variance is larger by as much.
    sums = out.reshape(15, 26, 15, 26).sum(axis=(1, 3)) / 26
    assert sums.std() == pytest.approx(1 + 13 / 400, rel=0.15)
    assert 0.8 < pixel_scatter() < 0.9


def test_a_frame_smaller_than_the_kernel_gives_nothing():
    out, weight, _ = resample(np.ones((5, 40)), *maps((8, 8), 16, UNIT, (0, 0)), (8, 8), 16)
    assert not weight.any()
    assert not out.any()


def test_single_bad_pixels_of_a_plane_are_filled_exactly():
    plane = np.add.outer(2.0 * np.arange(30), 3.0 * np.arange(31)).astype(np.float32)
    bad = np.zeros(plane.shape, np.uint8)
    bad[3::6, 4::7] = 1
    data = np.where(bad, np.float32(1e6), plane)
    with untouched(bad):
        fill_bad(data, bad, 8)
    # Eight symmetric neighbours of a plane: their mean is its value, to float32 rounding.
    np.testing.assert_allclose(data, plane, atol=8 * 150 * 2**-24)


def test_a_bad_pixel_gets_the_weighted_mean_of_its_neighbours():
    data = np.array([[1, 2, 4], [8, 99, 16], [32, 64, 128]], np.float32)
    bad = np.zeros((3, 3), np.uint8)
    bad[1, 1] = 1
    fill_bad(data, bad, 1)
    # Beside: weight 1; at the corners, further away: 1/2.
    assert data[1, 1] == pytest.approx((2 + 8 + 16 + 64 + (1 + 4 + 32 + 128) / 2) / 6)
    data[1, 1], bad[2] = 99, 1
    fill_bad(data, bad, 1)
    assert data[1, 1] == pytest.approx((2 + 8 + 16 + (1 + 4) / 2) / 4)


def test_good_pixels_are_not_changed_and_deep_holes_become_zero():
    rs = np.random.RandomState(6)
    data = rs.normal(100, 1, (40, 40)).astype(np.float32)
    data[10:30, 10:30] = np.nan
    bad = np.isnan(data).astype(np.uint8)
    before = data.copy()
    fill_bad(data, bad, 4)
    np.testing.assert_array_equal(data[bad == 0], before[bad == 0])
    assert (data[14:26, 14:26] == 0).all()
    ring = bad.astype(bool)
    ring[14:26, 14:26] = False
    # Means of means of values of 100 +- 1.
    assert np.abs(data[ring] - 100).max() < 5


def test_filling_does_not_depend_on_the_order_of_rows():
    rs = np.random.RandomState(7)
    data = rs.normal(0, 1, (25, 25)).astype(np.float32)
    bad = (rs.uniform(size=data.shape) < 0.5).astype(np.uint8)
    turned, turned_bad = data[::-1].copy(), bad[::-1].copy()
    fill_bad(data, bad, 8)
    fill_bad(turned, turned_bad, 8)
    # The same sums in another order: eight roundings, each of at most 8 * 2**-24.
    np.testing.assert_allclose(turned[::-1], data, atol=8 * 8 * 2**-24)


def test_nothing_good_at_all_is_filled_with_zero():
    data = np.full((6, 7), np.nan, np.float32)
    fill_bad(data, np.ones((6, 7), np.uint8), 8)
    assert (data == 0).all()


@pytest.mark.parametrize("factor", [2, 4])
def test_shrinking_sums_the_nearest_pixels(factor):
    rs = np.random.RandomState(8)
    data = rs.normal(10, 1, (50, 46)).astype(np.float32)
    bad = (rs.uniform(size=data.shape) < 0.1).astype(np.uint8)
    shape = (11, 12)
    # Node (0, 0) in the middle of the first factor x factor pixels, the next one factor further.
    half = 0.5 * (factor - 1)
    map_x, map_y = maps(shape, 4, ((factor, 0), (0, factor)), (half, half))
    total, norm = np.ones((2, *shape), np.float32)
    with untouched(data, bad, map_x, map_y):
        shrink_rows(data, bad, 0, map_x, map_y, 4, 0, factor, total, norm)
    for j, i in np.ndindex(shape):
        y, x = j * factor, i * factor
        inside = y + factor <= 50 and x + factor <= 46
        cell = np.s_[y : y + factor, x : x + factor]
        good = bad[cell] == 0
        # Up to 16 values of 10 in float32, and the 1 that was there.
        want = data[cell][good].astype(float).sum() if inside else 0.0
        assert total[j, i] - 1 == pytest.approx(want, abs=16 * 200 * 2**-24)
        assert norm[j, i] - 1 == (good.sum() if inside else 0)


def test_a_mask_is_projected_to_the_nearest_pixel():
    rs = np.random.RandomState(9)
    mask = (rs.uniform(size=(33, 27)) < 0.3).astype(np.uint8)
    matrix, shift = ((0.5, 0.03), (-0.02, 0.52)), (-3.3, 4.1)
    shape = (70, 61)
    map_x, map_y = maps(shape, 16, matrix, shift)
    out = np.full(shape, 9, np.uint8)
    with untouched(mask, map_x, map_y):
        project_rows(mask, map_x, map_y, 16, 0, out)
    y, x = np.mgrid[: shape[0], : shape[1]]
    px = matrix[0][0] * x + matrix[0][1] * y + shift[0]
    py = matrix[1][0] * x + matrix[1][1] * y + shift[1]
    a, b = np.floor(px + 0.5).astype(int), np.floor(py + 0.5).astype(int)
    inside = (a >= 0) & (a < 27) & (b >= 0) & (b < 33)
    want = np.where(inside, mask[b.clip(0, 32), a.clip(0, 26)], 0)
    # A position within rounding of a pixel's edge may fall on either side.
    clear = (np.abs(px % 1 - 0.5) > 1e-9) & (np.abs(py % 1 - 0.5) > 1e-9)
    np.testing.assert_array_equal(out[clear], want[clear])
    part = np.empty((20, 61), np.uint8)
    project_rows(mask, map_x, map_y, 16, 23, part)
    np.testing.assert_array_equal(part, out[23:43])
