"""Quick answers about stretches of a row."""

import numpy as np
import pytest

from photometrus.kernels.search import any_above, any_set


@pytest.mark.parametrize("n", [0, 1, 63, 64, 65])
def test_one_number_above_is_found_wherever_it_is(n):
    line = np.full(n, 3, np.float32)
    assert not any_above(line, np.float32(3))
    for x in range(n):
        line[x] = 3.5
        assert any_above(line, np.float32(3))
        line[x] = np.nan
        assert not any_above(line, np.float32(3))
        line[x] = 3


def test_bits_are_found_and_others_are_not():
    line = np.full(65, 4, np.uint8)
    assert not any_set(line, np.uint8(3))
    line[64] |= 2
    assert any_set(line, np.uint8(3))
    assert any_set(line, np.uint8(255))
    assert not any_set(line[:0], np.uint8(255))
