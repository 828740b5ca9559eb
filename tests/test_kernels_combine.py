"""The combining kernels against plain NumPy, and where they are easily wrong."""

import numpy as np
import pytest

from photometrus.kernels.combine import clipped_average, clipped_median, shrink, undo_share
from photometrus.kernels.weighted import clipped_mean, given_weight, middles, weighted_median
from synth import read_only, untouched


def median_of(stack, sigma=4.0, rounds=5):
    stack = np.asarray(stack, np.float32)
    out = np.empty(stack.shape[1:], np.float32)
    count = np.empty(stack.shape[1:], np.uint16)
    clipped_median(stack, sigma, rounds, out, count)
    return out, count


def median_twin(stack, sigma, rounds):
    """What clipped_median says it does, pixel by pixel in float64."""
    n, ny, nx = stack.shape
    out, count = np.full((ny, nx), np.nan), np.zeros((ny, nx), int)
    for y, x in np.ndindex(ny, nx):
        v = stack[:, y, x].astype(float)
        v = v[~np.isnan(v)]
        for _ in range(rounds):
            if v.size < 4:
                break
            low, high = np.percentile(v, [15.87, 84.13])
            keep = np.abs(v - np.median(v)) <= sigma * (high - low) / 2
            if keep.all():
                break
            v = v[keep]
        if v.size:
            out[y, x], count[y, x] = np.median(v), v.size
    return out, count


def mean_of(stack, weight, sigma=4.0, tolerance=0.0):
    stack, weight = np.asarray(stack, np.float32), np.asarray(weight, np.float32)
    out, norm = np.empty((2, *stack.shape[1:]), np.float32)
    rejected = np.zeros(len(stack), np.uint16)
    middle = np.empty(stack.shape[1:], np.float32)
    with untouched(stack, weight):
        middles(stack, weight, middle)
    with untouched(stack, weight, middle):
        clipped_mean(stack, weight, middle, 0, sigma, tolerance, out, norm, rejected)
    return out, norm, rejected


def mean_twin(stack, weight, sigma, tolerance):
    """What clipped_mean says it does, in float64; pixels with nothing near the middle are NaN."""
    value = np.where(weight > 0, stack, np.nan).astype(float)
    n = (weight > 0).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        middle = np.array([[np.median(p[~np.isnan(p)]) if (~np.isnan(p)).any() else np.nan
                            for p in row] for row in value.transpose(1, 2, 0)])  # fmt: skip
        # Of two values the lower is the reference, with wider limits.
        middle = np.where(n == 2, np.where(weight > 0, value, np.inf).min(axis=0), middle)
        wide, share = np.where(n == 2, 1.5, 1.0), np.where(n == 2, 1.0, tolerance)
        around = np.pad(middle, 1, constant_values=np.nan)
        around = np.stack([around[b : b + n.shape[0], a : a + n.shape[1]]
                           for b in range(3) for a in range(3)])  # fmt: skip
        relief = np.nanmax(around, axis=0) - np.nanmin(around, axis=0)
        limit = wide * sigma / np.sqrt(weight.astype(float)) + share * (np.abs(middle) + relief)
        use = (weight > 0) & ((np.abs(value - middle) <= limit) | (n < 2))
        w = np.where(use, weight, 0).astype(float)
        out = np.where(use, value, 0) * w
        norm = w.sum(axis=0)
        return np.where(norm > 0, out.sum(axis=0) / norm, np.nan), norm, use


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 9, 24])
@pytest.mark.parametrize("shape", [(1, 1), (7, 13), (5, 1)])
def test_median_equals_its_twin(n, shape):
    rs = np.random.RandomState(n)
    stack = rs.normal(100, 3, (n, *shape)).astype(np.float32)
    stack[rs.uniform(size=stack.shape) < 0.1] = np.nan
    stack[rs.uniform(size=stack.shape) < 0.1] += 500
    stack = read_only(stack)
    with untouched(stack):
        out, count = median_of(stack, 3.0)
    want, want_count = median_twin(stack, 3.0, 5)
    # Only the mean of two float32 numbers is rounded: half a unit in the last place, 2**-24.
    np.testing.assert_allclose(out, want, rtol=2**-23)
    np.testing.assert_array_equal(count, want_count)


@pytest.mark.parametrize("n", [1, 2, 3, 6, 7])
def test_median_without_clipping_is_nanmedian(n):
    rs = np.random.RandomState(n)
    stack = rs.standard_cauchy((n, 9, 11)).astype(np.float32)
    stack[rs.uniform(size=stack.shape) < 0.2] = np.nan
    stack[:, 0, 0] = 1.0
    out, count = median_of(stack, 3.0, 0)
    seen = ~np.isnan(stack).all(axis=0)
    np.testing.assert_allclose(out[seen], np.nanmedian(stack[:, seen], axis=0), rtol=2**-23)
    np.testing.assert_array_equal(count, np.sum(~np.isnan(stack), axis=0))


def test_one_nan_among_good_values_is_left_out():
    stack = np.full((5, 1, 1), 7.0, np.float32)
    stack[2] = np.nan
    out, count = median_of(stack)
    assert (out[0, 0], count[0, 0]) == (7.0, 4)


def test_no_value_gives_nan_and_count_zero():
    out, count = median_of(np.full((3, 2, 2), np.nan))
    assert np.isnan(out).all()
    assert (count == 0).all()


def test_infinite_values_do_not_win():
    stack = np.array([1, 2, 3, 4, 5, np.inf, np.inf], np.float32).reshape(7, 1, 1)
    out, _ = median_of(stack)
    assert 3 <= out[0, 0] <= 4


def test_a_star_in_three_of_nine_dithers_is_clipped():
    rs = np.random.RandomState(5)
    stack = rs.normal(1, 0.01, (9, 40, 40)).astype(np.float32)
    stack[:1] += 3.0
    out, count = median_of(stack, 3.0)
    # The median of 8 has an error of 1.25 * 0.01 / sqrt(8) = 0.0044, so the mean over 1600 pixels
    # one of 0.00011. Without the clipping the median of 9 with one high is 0.0014 too high.
    assert abs(out.mean() - 1) < 5 * 0.00011
    assert (count <= 8).all()


def test_median_of_equal_values_keeps_them_all():
    out, count = median_of(np.full((6, 3, 3), 2.5))
    assert (out == 2.5).all()
    assert (count == 6).all()


@pytest.mark.parametrize("n", [1, 2, 3, 4, 9])
def test_mean_equals_its_twin(n):
    rs = np.random.RandomState(10 + n)
    shape = (n, 11, 17)
    weight = rs.uniform(0.2, 5, shape).astype(np.float32)
    weight[rs.uniform(size=shape) < 0.15] = 0
    stack = rs.normal(50, 1, shape).astype(np.float32)
    stack[rs.uniform(size=shape) < 0.03] += 100
    stack[weight == 0] = np.nan  # what has no weight must not even be looked at
    stack, weight = read_only(stack), read_only(weight)
    with untouched(stack, weight):
        out, norm, rejected = mean_of(stack, weight, 4.0, 0.01)
    want, want_norm, use = mean_twin(stack, weight, 4.0, 0.01)
    clear = np.isfinite(want)
    # n products and sums in float32: n + 2 roundings of 2**-24.
    np.testing.assert_allclose(out[clear], want[clear], rtol=(n + 2) * 2**-23)
    np.testing.assert_allclose(norm[clear], want_norm[clear], rtol=(n + 2) * 2**-23)
    nothing = (weight > 0).sum(axis=0) == 0
    assert (out[nothing] == 0).all()
    assert (norm[nothing] == 0).all()
    few = clear.all()
    if few:
        np.testing.assert_array_equal(rejected, ((weight > 0) & ~use).sum(axis=(1, 2)))


def test_mean_counts_what_it_rejects_on_top_of_what_was():
    stack = np.array([1, 1, 1, 1, 90], np.float32).reshape(5, 1, 1)
    out, norm = np.empty((2, 1, 1), np.float32)
    rejected = np.array([0, 0, 0, 0, 3], np.uint16)
    middle = np.ones((1, 1), np.float32)
    clipped_mean(stack, np.ones_like(stack), middle, 0, 4.0, 0.0, out, norm, rejected)
    np.testing.assert_array_equal(rejected, [0, 0, 0, 0, 4])
    assert (out[0, 0], norm[0, 0]) == (1, 4)


def test_two_low_and_two_high_do_not_leave_a_hole():
    # The middle of 0, 0.5, 100, 101 is 50: four errors away from every one of them. What spoils
    # a value (cosmic ray, persistence) adds light: the low ones are believed.
    stack = np.array([0, 100, 0.5, 101], np.float32).reshape(4, 1, 1)
    out, norm, rejected = mean_of(stack, np.ones_like(stack))
    assert (out[0, 0], norm[0, 0]) == (0.25, 2.0)
    np.testing.assert_array_equal(rejected, [1, 1, 1, 1])


def test_the_tolerance_keeps_the_cores_of_stars():
    # Seeing of 3 and 3.5 pixels: peaks differ by (3.5 / 3)**2 = 1.36; of a median between them
    # each is 15 % away, hundreds of its own errors.
    stack = np.array([1000, 1360, 1180, 1000, 1360], np.float32).reshape(5, 1, 1)
    _, norm, _ = mean_of(stack, np.ones_like(stack), 4.0, 0.3)
    assert norm[0, 0] == 5
    _, norm, _ = mean_of(stack, np.ones_like(stack), 4.0, 0.0)
    assert norm[0, 0] == 1


def test_the_relief_keeps_the_flanks_of_stars():
    # On a flank the seeing makes a value a multiple of the middle: 30 beside 10, where from pixel
    # to pixel it grows tenfold. On flat sky the same is a cosmic ray.
    stack = np.full((5, 1, 3), 10, np.float32)
    stack[0, 0, 1] = 30
    _, norm, _ = mean_of(stack, np.ones_like(stack), 4.0, 0.3)
    assert norm[0, 1] == 4
    stack[:, 0, 2] = 100
    _, norm, _ = mean_of(stack, np.ones_like(stack), 4.0, 0.3)
    assert norm[0, 1] == 5  # 20 above the middle: 4 + 0.3 (10 + 90) = 34 allowed
    stack[0, 0, 1] = 50
    _, norm, _ = mean_of(stack, np.ones_like(stack), 4.0, 0.3)
    assert norm[0, 1] == 4


def test_rows_of_the_middle_beyond_the_output_are_only_looked_at():
    rs = np.random.RandomState(11)
    stack = (rs.normal(0, 1, (6, 9, 7)) + 50 * rs.uniform(size=(9, 7))).astype(np.float32)
    stack[2, ::3] += 30
    weight = np.ones_like(stack)
    whole, norm, rejected = mean_of(stack, weight, 4.0, 0.3)
    middle = np.empty((9, 7), np.float32)
    middles(stack, weight, middle)
    counts = np.zeros(6, np.int64)
    for y0, y1 in ((0, 4), (4, 9)):
        top, end = max(0, y0 - 1), min(9, y1 + 1)
        out, out_w = np.empty((2, y1 - y0, 7), np.float32)
        clipped_mean(stack[:, top:end].copy(), weight[:, top:end].copy(), middle[top:end].copy(),
                     y0 - top, 4.0, 0.3, out, out_w, counts)  # fmt: skip
        np.testing.assert_array_equal(out, whole[y0:y1])
        np.testing.assert_array_equal(out_w, norm[y0:y1])
    np.testing.assert_array_equal(counts, rejected)
    assert counts.sum() > 0


def test_given_weights_are_summed_and_counted_where_the_output_is():
    rs = np.random.RandomState(5)
    weight = rs.uniform(size=(4, 7, 300)).astype(np.float32)
    weight[rs.uniform(size=weight.shape) < 0.3] = 0
    total = np.full((5, 300), np.nan, np.float32)
    assert given_weight(read_only(weight), 1, total) == np.count_nonzero(weight[:, 1:6])
    np.testing.assert_array_equal(total, weight[:, 1:6].sum(axis=0))


def test_one_value_is_believed():
    out, norm, rejected = mean_of(np.full((1, 1, 1), 1e4), np.ones((1, 1, 1)))
    assert (out[0, 0], norm[0, 0], rejected[0]) == (1e4, 1.0, 0)


@pytest.mark.parametrize(
    ("low", "high", "mean"),
    [
        (0.0, 1e4, 0.0),  # a satellite over sky
        (-3.0, 2.9, -0.05),  # noise: 5.9 apart, 1.5 x 4 + 3 allowed
        (100.0, 190.0, 145.0),  # a star, blurred in one of them: up to twice is no reason
    ],
)
def test_of_two_values_only_the_far_higher_is_rejected(low, high, mean):
    for pair in ([low, high], [high, low]):
        stack = np.array(pair, np.float32).reshape(2, 1, 1)
        out, norm, _ = mean_of(stack, np.ones_like(stack))
        assert out[0, 0] == pytest.approx(mean, abs=1e-6)
        assert norm[0, 0] == (1 if mean == low else 2)


@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_weighted_median_is_the_median_of_what_has_weight(n):
    rs = np.random.RandomState(n)
    stack = rs.normal(0, 1, (n, 9, 10)).astype(np.float32)
    weight = rs.uniform(0.5, 2, stack.shape).astype(np.float32)
    weight[rs.uniform(size=stack.shape) < 0.2] = 0
    weight[:, 0, 0] = 0
    stack[weight == 0] = np.nan
    out, norm = np.empty((2, 9, 10), np.float32)
    with untouched(stack, weight):
        weighted_median(stack, weight, out, norm)
    seen = (weight > 0).any(axis=0)
    np.testing.assert_allclose(out[seen], np.nanmedian(stack[:, seen], axis=0), rtol=2**-23)
    count = (weight > 0).sum(axis=0)
    want = weight.astype(float).sum(axis=0) * np.where(count < 3, 1, 2 / np.pi)
    np.testing.assert_allclose(norm, want, rtol=(n + 2) * 2**-23)
    assert (out[~seen] == 0).all()
    assert (norm[~seen] == 0).all()


def test_the_weight_of_a_median_is_its_inverse_variance():
    rs = np.random.RandomState(4)
    n = 25
    stack = rs.normal(0, 2, (n, 100, 100)).astype(np.float32)
    out, norm = np.empty((2, 100, 100), np.float32)
    weighted_median(stack, np.full(stack.shape, 0.25, np.float32), out, norm)
    # A variance from 1e4 values is known to sqrt(2 / 1e4) = 1.4 %; pi/2 is the limit for many
    # values, at 25 it is 1.2 % too much.
    assert out.var() * norm[0, 0] == pytest.approx(1, abs=5 * 0.014 + 0.012)


# ---------------------------------------------------------------- averages that settle


def average_of(stack, sigma=4.0, rounds=5):
    out = np.empty(stack.shape[1:], np.float32)
    count = np.empty(stack.shape[1:], np.uint16)
    scatter = np.zeros(2)
    clipped_average(stack, sigma, rounds, out, count, scatter)
    return out, count, scatter


@pytest.mark.parametrize("n", [1, 2, 3, 5, 12])
def test_average_equals_its_twin(n):
    rs = np.random.RandomState(40 + n)
    stack = rs.normal(100, 3, (n, 9, 11)).astype(np.float32)
    stack[rs.uniform(size=stack.shape) < 0.1] = np.nan
    stack[rs.uniform(size=stack.shape) < 0.05] += 500
    stack[:, 2, 3] = np.nan
    with untouched(stack):
        out, count, scatter = average_of(read_only(stack), 3.0)
    variance, pixels = 0.0, 0
    for y, x in np.ndindex(out.shape):
        v = np.sort(stack[:, y, x][~np.isnan(stack[:, y, x])].astype(float))
        for _ in range(5):
            if v.size < 4:
                break
            low, high = np.percentile(v, [15.87, 84.13])
            keep = np.abs(v - np.median(v)) <= 3.0 * (high - low) / 2
            if keep.all():
                break
            v = v[keep]
        assert count[y, x] == v.size
        if v.size == 0:
            assert np.isnan(out[y, x])
            continue
        # n sums in float32.
        assert out[y, x] == pytest.approx(v.mean(), rel=(n + 2) * 2**-24)
        if v.size > 2:
            variance += v.var(ddof=1)
            pixels += 1
    assert scatter[1] == pixels
    # Squares of differences of 1 to 500 from a mean that is rounded by 6e-6.
    assert scatter[0] == pytest.approx(variance, rel=1e-5)


def test_average_adds_to_the_scatter_it_is_given():
    stack = np.arange(5, dtype=np.float32).reshape(5, 1, 1)
    out, count, scatter = np.empty((1, 1), np.float32), np.empty((1, 1), np.uint16), np.ones(2)
    clipped_average(stack, 4.0, 5, out, count, scatter)
    np.testing.assert_allclose(scatter, [1 + 2.5, 2])  # variance of 0..4


def shrunk(difference, count, noise2, variance):
    """One pixel that differs so much from what is smooth: its new difference, its share."""
    image = np.array([[10.0 + difference]], np.float32)
    share = np.empty((1, 1), np.float32)
    smooth, counts = np.full((1, 1), 10, np.float32), np.full((1, 1), count, np.uint16)
    with untouched(smooth, counts):
        shrink(image, smooth, counts, noise2, variance, share)
    return float(image[0, 0]) - 10, float(share[0, 0])


def test_shrinking_is_the_best_linear_estimate_and_believes_what_stands_out():
    # Variance of the mean of four: 1; true variance 3: it counts by 3/4.
    assert shrunk(2.0, 4, 4.0, 3.0) == (pytest.approx(1.5), pytest.approx(0.75 / 3))
    # A flat that is perfect: nothing is believed, unless it is beyond three sigma.
    assert shrunk(2.9, 4, 4.0, 0.0) == (pytest.approx(0.0), 0.0)
    assert shrunk(-5.0, 4, 4.0, 0.0) == (pytest.approx(-5 * 24 / 25, rel=1e-5), pytest.approx(0.32))
    # Without noise all is believed; a single vote has nobody else.
    assert shrunk(2.0, 4, 0.0, 3.0) == (pytest.approx(2.0), pytest.approx(1 / 3))
    assert shrunk(2.0, 1, 1.0, 1.0) == (pytest.approx(1.0), 0.0)
    assert shrunk(np.nan, 4, 1.0, 1.0) == (0.0, 0.0)
    assert shrunk(7.0, 0, 1.0, 1.0) == (0.0, 0.0)


def test_shrinking_makes_the_error_least():
    rs = np.random.RandomState(8)
    truth = rs.normal(0, 1.5, (200, 200))
    image = (truth + rs.normal(0, 1, truth.shape)).astype(np.float32)
    share = np.empty_like(image)
    zeros, counts = np.zeros_like(image), np.full(image.shape, 4, np.uint16)
    shrink(image, zeros, counts, 4.0, 1.5**2, share)
    # sqrt(1 * 2.25 / 3.25) = 0.832, and 40000 values tell it to 0.35 %; what is beyond three sigma,
    # 2.9 % of the variance, is estimated a little worse.
    assert (image - truth).std() == pytest.approx(0.832, rel=0.02)


def test_a_vote_is_given_back_where_there_was_one():
    data = np.array([[2, 2, 2, 2]], np.float32)
    share = np.array([[0.5, 0.5, 0.0, 0.5]], np.float32)
    bad = np.array([[0, 4, 0, 0]], np.uint8)
    hide = np.array([[0, 0, 0, 1]], np.uint8)
    with untouched(share, bad, hide):
        undo_share(data, share, bad, hide)
    np.testing.assert_array_equal(data, [[3, 2, 2, 2]])
