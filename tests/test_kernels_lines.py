"""Means of lines and of boxes against NumPy and SciPy."""

import numpy as np
import pytest
from scipy import ndimage

from photometrus.kernels.lines import box_means, line_means
from synth import read_only, untouched


def test_lines_equal_numpy():
    rs = np.random.RandomState(0)
    image = rs.normal(1, 0.01, (40, 30)).astype(np.float32)
    image += 0.02 * np.sin(np.arange(30, dtype=np.float32))
    image[rs.uniform(size=image.shape) < 0.1] = np.nan
    image[5, 7], image[:, 11] = 9, np.nan
    smooth = np.ones_like(image)
    columns, rows = np.full(30, 9.0), np.full(40, 9.0)
    with untouched(image, smooth):
        line_means(read_only(image), smooth, np.float32(0.05), columns, rows)
    left = (image - smooth).astype(float)
    seen = np.isfinite(left)
    for mean, axis in ((columns, 0), (rows, 1)):
        clipped = np.where(seen, np.clip(left, -0.05, 0.05), 0)
        want = clipped.sum(axis=axis) / np.maximum(seen.sum(axis=axis), 1)
        # Columns are taken out in float32: a rounding of a value of 1.
        np.testing.assert_allclose(mean, want, atol=2**-23)
        left = left - np.expand_dims(want, axis)
    assert columns[11] == 0


@pytest.mark.parametrize("side", [3, 9, 31])
def test_boxes_equal_scipy(side):
    rs = np.random.RandomState(side)
    image = rs.normal(1, 0.3, (50, 37)).astype(np.float32)
    low = (1 - rs.uniform(0, 1, image.shape)).astype(np.float32)
    high = low + np.float32(1)
    out = np.empty_like(image)
    with untouched(image, low, high):
        box_means(image, low, high, side, out)
    want = ndimage.uniform_filter(np.clip(image, low, high).astype(float), side, mode="nearest")
    # Sums in float64, one rounding of a value below 2.
    np.testing.assert_allclose(out, want, atol=2**-23)
