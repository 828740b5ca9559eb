"""Images in blocks of pixels against NumPy."""

import numpy as np
import pytest

from photometrus.kernels.blocks import block_losses, block_means
from synth import untouched


def cells(image, side):
    """The blocks of an image, row by row; those at the upper edges may be smaller."""
    ny, nx = image.shape
    return [
        [image[y : y + side, x : x + side] for x in range(0, nx, side)] for y in range(0, ny, side)
    ]


@pytest.mark.parametrize(("shape", "side"), [((12, 8), 4), ((13, 9), 4), ((5, 7), 1), ((3, 3), 8)])
def test_means_of_what_has_a_value(shape, side):
    image = np.random.RandomState(1).normal(5, 1, shape).astype(np.float32)
    image[0, 0], image[2, 1], image[-1, -1] = 0, np.nan, np.inf
    out = np.full((-(-shape[0] // side), -(-shape[1] // side)), 99, np.float32)
    with untouched(image):
        block_means(image, side, out)
    for row, line in zip(out, cells(image, side), strict=True):
        for value, part in zip(row, line, strict=True):
            good = part[np.isfinite(part) & (part != 0)]
            want = good.mean(dtype=float) if good.size else np.nan
            # A row's sum of up to eight values in float32: seven roundings of 6e-8 at most.
            np.testing.assert_allclose(value, want, rtol=5e-7)


def test_an_empty_block_is_not_a_number():
    out = np.zeros((1, 2), np.float32)
    block_means(np.array([[0, np.nan, 3, 0]], np.float32), 2, out)
    assert np.isnan(out[0, 0])
    assert out[0, 1] == 3


def test_share_that_is_gone():
    before = np.zeros((4, 6), np.float32)
    before[:, :4] = 2
    after = before.copy()
    after[0, 0] = 0  # one of four values of the first block
    out = np.full((2, 3), 99, np.float32)
    with untouched(before, after):
        block_losses(before, after, 2, out)
    np.testing.assert_array_equal(out, [[0.25, 0, np.nan], [0, 0, np.nan]])


def test_rounding_never_makes_a_loss_negative():
    before, after = np.ones((2, 2), np.float32), np.full((2, 2), 1.0000001, np.float32)
    out = np.full((1, 1), 99, np.float32)
    block_losses(before, after, 2, out)
    assert out[0, 0] == 0
