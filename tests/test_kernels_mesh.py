"""The background mesh against NumPy and SciPy."""

import numpy as np
import pytest
from scipy.interpolate import CubicHermiteSpline

from photometrus.kernels.mesh import (
    add_mesh_rows,
    cell_modes,
    mesh_nodes,
    residual,
    row_sums,
    subtract_sky,
    vote,
)
from synth import read_only, untouched


def modes_twin(part):
    """Mean after three rounds of clipping at 3 sigma (first about the median, with the MAD)."""
    middle = np.median(part)
    sigma = 1.4826 * np.median(np.abs(part - middle))
    for _ in range(3):
        kept = part[np.abs(part - middle) <= 3 * sigma]
        if kept.size < 2:
            break
        middle, sigma = kept.mean(), kept.std()
    return middle, sigma


def modes(data, hide, cell):
    shape = (-(-data.shape[0] // cell), -(-data.shape[1] // cell))
    values, scatter = np.full((2, *shape), 99, np.float32)
    count = np.full(shape, 99, np.int32)
    with untouched(data, hide):
        cell_modes(data, hide, cell, 0, values, scatter, count)
    return values, scatter, count


@pytest.mark.parametrize("shape", [(64, 64), (70, 45), (13, 7)])
def test_cells_equal_their_twin(shape):
    rs = np.random.RandomState(shape[0])
    cell = 16
    data = rs.normal(100, 2, shape).astype(np.float32)
    data[rs.uniform(size=shape) < 0.05] += 200
    hide = (rs.uniform(size=shape) < 0.3).astype(np.uint8) * 2
    values, scatter, count = modes(read_only(data), read_only(hide), cell)
    for j, i in np.ndindex(values.shape):
        part = np.s_[j * cell : (j + 1) * cell, i * cell : (i + 1) * cell]
        good = data[part][hide[part] == 0].astype(float)
        assert count[j, i] == good.size
        want, sigma = modes_twin(good)
        # float32 in, float64 sums; squares of 100 in float32 are known to 1e4 * 2**-24 = 6e-4,
        # a variance of 4 to that, hence sigma to 1.5e-4.
        assert values[j, i] == pytest.approx(want, abs=2e-5)
        assert scatter[j, i] == pytest.approx(sigma, abs=2e-4)


def test_a_hidden_cell_is_nan_and_has_no_pixels():
    data = np.ones((32, 32), np.float32)
    hide = np.zeros((32, 32), np.uint8)
    hide[:16, 16:] = 1
    values, scatter, count = modes(data, hide, 16)
    assert np.isnan(values[0, 1])
    assert np.isnan(scatter[0, 1])
    np.testing.assert_array_equal(count, [[256, 0], [256, 256]])
    assert np.isfinite(values).sum() == 3


def test_strips_give_what_the_whole_gives():
    rs = np.random.RandomState(0)
    data = rs.normal(0, 1, (50, 30)).astype(np.float32)
    hide = (rs.uniform(size=data.shape) < 0.2).astype(np.uint8)
    whole = modes(data, hide, 16)
    values, scatter = np.zeros((2, 4, 2), np.float32)
    count = np.zeros((4, 2), np.int32)
    for y0 in range(0, 50, 16):
        cell_modes(data[y0 : y0 + 16], hide[y0 : y0 + 16], 16, y0, values, scatter, count)
    for part, want in zip((values, scatter, count), whole, strict=True):
        np.testing.assert_array_equal(part, want)


def test_stars_do_not_pull_a_cell_up():
    rs = np.random.RandomState(1)
    data = rs.normal(10, 1, (128, 128)).astype(np.float32)
    data[rs.uniform(size=data.shape) < 0.02] += 1000
    values, scatter, _ = modes(data, np.zeros(data.shape, np.uint8), 128)
    # The mean of 16384 values of scatter 1: 0.0078; five of them. Scatter: 0.0055, and clipping a
    # Gaussian at 3 sigma three times takes 1.5 % off.
    assert values[0, 0] == pytest.approx(10, abs=5 * 0.0078)
    assert scatter[0, 0] == pytest.approx(0.985, abs=5 * 0.0055 + 0.005)


def catmull_rom(mesh, cell, shape):
    """SciPy's cubic Hermite spline through the cells' centres, slopes from the neighbours.

    Beyond the ends the nodes go on as the straight line through the last two.
    """
    pad = 2
    out = mesh.astype(float)
    for axis, n in ((0, shape[0]), (1, shape[1])):
        out = np.moveaxis(out, axis, 0)
        low, high = (out[1] - out[0], out[-1] - out[-2]) if len(out) > 1 else (0 * out[0],) * 2
        before = [out[0] - k * low for k in range(pad, 0, -1)]
        after = [out[-1] + k * high for k in range(1, pad + 1)]
        out = np.stack([*before, *out, *after])
        at = (np.arange(out.shape[0]) - pad + 0.5) * cell
        slope = np.zeros_like(out)
        slope[1:-1] = (out[2:] - out[:-2]) / (2 * cell)
        out = CubicHermiteSpline(at, out, slope)(np.arange(n) + 0.5)
        out = np.moveaxis(out, 0, axis)
    return out


@pytest.mark.parametrize(("shape", "cell"), [((64, 96), 16), ((50, 75), 16), ((9, 40), 32)])
def test_interpolation_equals_scipy(shape, cell):
    rs = np.random.RandomState(cell)
    mesh = rs.normal(0, 1, (-(-shape[0] // cell), -(-shape[1] // cell))).astype(np.float32)
    out = np.ones(shape, np.float32)
    with untouched(mesh):
        add_mesh_rows(out, read_only(mesh), cell, 0, -2.0)
    # One float32 rounding of a value of a few units, and one of the sum.
    np.testing.assert_allclose(out, 1 - 2 * catmull_rom(mesh, cell, shape), atol=16 * 2**-24)


def test_rows_of_the_interpolation_fit_together():
    mesh = np.random.RandomState(2).normal(0, 1, (4, 5)).astype(np.float32)
    whole = np.zeros((60, 77), np.float32)
    add_mesh_rows(whole, mesh, 16, 0, 1.0)
    part = np.zeros((13, 77), np.float32)
    add_mesh_rows(part, mesh, 16, 29, 1.0)
    np.testing.assert_array_equal(part, whole[29:42])


def test_a_mesh_of_one_cell_is_a_constant():
    out = np.zeros((20, 20), np.float32)
    add_mesh_rows(out, np.full((1, 1), 3, np.float32), 128, 0, 1.0)
    np.testing.assert_allclose(out, 3, rtol=2e-7)  # the weights are float32


# ---------------------------------------------------------------- cells of the detector


@pytest.mark.parametrize("skip", [4, 15])
def test_with_a_trimmed_border_the_cells_are_the_detectors(skip):
    rs = np.random.RandomState(3)
    full = rs.normal(0, 1, (64, 80)).astype(np.float32)
    hide = (rs.uniform(size=full.shape) < 0.1).astype(np.uint8)
    border = np.ones(full.shape, np.uint8)
    border[skip:, skip:] = 0
    want = modes(full, hide | border, 16)
    data = np.ascontiguousarray(full[skip:, skip:])
    seen = np.ascontiguousarray(hide[skip:, skip:])
    values, scatter = np.empty((2, 4, 5), np.float32)
    count = np.empty((4, 5), np.int32)
    for j in range(4):
        y0, y1 = max(0, 16 * j - skip), 16 * (j + 1) - skip
        cell_modes(data[y0:y1], seen[y0:y1], 16, y0, values, scatter, count, skip)
    np.testing.assert_array_equal(count, want[2])
    # Sums of rows, in float32, of the same numbers in another order: a rounding of 2**-24 each.
    np.testing.assert_allclose(values, want[0], atol=2 * 2**-24)
    whole, part = np.zeros(full.shape, np.float32), np.zeros((64 - skip, 80 - skip), np.float32)
    add_mesh_rows(whole, values, 16, 0, 1.0)
    add_mesh_rows(part, values, 16, 0, 1.0, skip)
    # The same cubic, begun at another column: a few roundings.
    np.testing.assert_allclose(part, whole[skip:, skip:], atol=8 * 2**-24)


@pytest.mark.parametrize("skip", [0, 4])
def test_sums_of_rows_are_of_the_pixels_near_the_cells_value(skip):
    rs = np.random.RandomState(4)
    data = rs.normal(10, 1, (44, 60)).astype(np.float32)
    data[rs.uniform(size=data.shape) < 0.05] += 100
    hide = (rs.uniform(size=data.shape) < 0.2).astype(np.uint8)
    values = np.full((3, 4), 10, np.float32)
    scatter = np.full((3, 4), 1, np.float32)
    sums, count = np.full((44, 4), np.nan, np.float32), np.zeros((44, 4), np.int32)
    with untouched(data, hide, values, scatter):
        for y0 in (0, 16 - skip, 32 - skip):
            y1 = min(44, y0 + (16 - skip if y0 == 0 else 16))
            row_sums(data[y0:y1], hide[y0:y1], 16, y0, values, scatter, sums, count, skip)
    good = (hide == 0) & (np.abs(data - 10) <= 3)
    column = (np.arange(60) + skip) // 16
    for i in range(4):
        part = np.where(good, data, 0)[:, column == i]
        np.testing.assert_array_equal(count[:, i], good[:, column == i].sum(axis=1))
        # Sixteen sums in float32 of values of 10.
        np.testing.assert_allclose(sums[:, i], part.sum(axis=1), atol=16 * 160 * 2**-24)


@pytest.mark.parametrize("skip", [0, 4])
def test_the_mesh_at_its_nodes_is_the_mesh_that_is_added(skip):
    mesh = np.random.RandomState(5).normal(0, 1, (4, 5)).astype(np.float32)
    cell = 15  # odd: a node lies on a pixel
    out = np.empty((60 - skip, 5), np.float32)
    with untouched(mesh):
        mesh_nodes(mesh, cell, out, skip)
    image = np.zeros((60 - skip, 75 - skip), np.float32)
    add_mesh_rows(image, mesh, cell, 0, 1.0, skip)
    for i in range(5):
        np.testing.assert_allclose(out[:, i], image[:, i * cell + 7 - skip], atol=4 * 2**-24)


def background_of(shape, rs):
    """A frame's own: mesh, columns, rows; and all of it on the image's pixels."""
    mesh = rs.normal(0, 3, (5, 7)).astype(np.float32)
    columns = rs.normal(0, 1, shape[1]).astype(np.float32)
    rows = rs.normal(0, 1, shape[0]).astype(np.float32)
    own = np.zeros(shape, np.float32)
    add_mesh_rows(own, mesh, 16, 20, 1.0, 4)
    return mesh, columns, rows, own + columns + rows[:, None]


def test_sky_and_what_is_the_frames_own_are_taken_out_together():
    rs = np.random.RandomState(3)
    data, sky = rs.normal(500, 9, (2, 30, 90)).astype(np.float32)
    mesh, columns, rows, own = background_of(data.shape, rs)
    want = data - np.float32(1.5) * sky - own
    with untouched(sky, mesh, columns, rows):
        subtract_sky(data, sky, np.float32(1.5), mesh, 16, columns, rows, 20, 4)
    np.testing.assert_allclose(data, want, atol=2e-4)  # a few roundings of numbers near 1000


def test_a_vote_is_the_share_of_the_level_where_there_is_one():
    rs = np.random.RandomState(0)
    data = rs.normal(500, 5, (7, 90)).astype(np.float32)
    bad, hide = (rs.uniform(size=(2, 7, 90)) < 0.2).astype(np.uint8) * np.uint8(4)
    mesh, columns, rows, own = background_of(data.shape, rs)
    out = np.empty_like(data)
    with untouched(data, bad, hide, mesh, columns, rows):
        vote(data, bad, hide, np.float32(480), mesh, 16, columns, rows, 20, 4, out)
    want = np.where((bad | hide) == 0, (data - own) / np.float32(480), np.nan)
    np.testing.assert_allclose(out, want, rtol=1e-6)


def test_the_residual_and_what_hides_it():
    rs = np.random.RandomState(5)
    data, sky = rs.normal(500, 9, (2, 9, 50)).astype(np.float32)
    bad, hide = rs.randint(0, 3, (2, 9, 50)).astype(np.uint8)
    out, hidden = np.empty_like(data), np.empty_like(bad)
    with untouched(data, bad, hide, sky):
        residual(data, bad, hide, sky, np.float32(0.9), out, hidden)
    np.testing.assert_allclose(out, data - np.float32(0.9) * sky, atol=1e-4)
    np.testing.assert_array_equal(hidden, bad | hide)
