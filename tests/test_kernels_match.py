"""Votes for a shift against brute force."""

import numpy as np
import pytest
from scipy import ndimage

from photometrus.kernels.match import best_cell, vote
from synth import read_only, untouched


def votes_of(a, b, half, cell):
    k = int(np.ceil(2 * half / cell))
    votes = np.full((k, k), 77, np.int32)
    inputs = [read_only(np.asarray(v, float)) for v in (*a, *b)]
    with untouched(*inputs):
        vote(*inputs, half, cell, votes)
    return votes


def brute_force(a, b, half, cell):
    k = int(np.ceil(2 * half / cell))
    want = np.zeros((k, k), int)
    for xa, ya in zip(*a, strict=True):
        for xb, yb in zip(*b, strict=True):
            dx, dy = xb - xa, yb - ya
            if -half <= dx < half and -half <= dy < half:
                want[min(int((dy + half) / cell), k - 1), min(int((dx + half) / cell), k - 1)] += 1
    return want


@pytest.mark.parametrize(("half", "cell"), [(50.0, 2.0), (33.0, 2.5), (7.0, 20.0)])
@pytest.mark.parametrize(("n", "m"), [(40, 70), (1, 1), (0, 5), (5, 0)])
def test_votes_equal_brute_force(n, m, half, cell):
    rs = np.random.RandomState(n + m)
    a, b = rs.uniform(-100, 100, (2, n)), rs.uniform(-100, 100, (2, m))
    np.testing.assert_array_equal(votes_of(a, b, half, cell), brute_force(a, b, half, cell))


def test_the_ends_of_the_range_are_half_open():
    a = np.zeros((2, 1))
    b = np.array([[-10, 10, 0, 9.999], [0, 0, 10, 9.999]], float)
    votes = votes_of(a, b, 10.0, 2.0)
    assert votes.sum() == 2
    assert votes[5, 0] == 1  # dx = -10 counts
    assert votes[9, 9] == 1  # dx = dy = 10 does not


@pytest.mark.parametrize("k", [3, 4, 31])
def test_the_best_cell_is_that_of_the_largest_sum_of_nine(k):
    votes = np.random.RandomState(k).poisson(2, (k, k)).astype(np.int32)
    row, column, total = best_cell(read_only(votes))
    sums = ndimage.convolve(votes.astype(int), np.ones((3, 3), int), mode="constant")[1:-1, 1:-1]
    assert total == sums.max()
    assert total == votes[row - 1 : row + 2, column - 1 : column + 2].sum()


def test_a_shift_is_found_among_strangers():
    rs = np.random.RandomState(6)
    a = rs.uniform(0, 1000, (2, 60))
    b = np.concatenate([a[:, :20] + [[17.3], [-41.2]], rs.uniform(0, 1000, (2, 100))], axis=1)
    b = b[:, rs.permutation(120)]
    row, column, total = best_cell(votes_of(a, b, 60.0, 2.0))
    assert total >= 20
    assert abs((column + 0.5) * 2 - 60 - 17.3) <= 3
    assert abs((row + 0.5) * 2 - 60 + 41.2) <= 3
