"""Images and masks that wait on disk."""

import numpy as np
import pytest

from photometrus.errors import PhotometrusError
from photometrus.io.spool import Spooled, SpooledMask, scratch_folder


def test_rows_of_an_image_come_back(tmp_path):
    image = np.arange(77 * 31, dtype=np.float32).reshape(77, 31)
    spooled = Spooled(tmp_path / "image", image)
    assert spooled.shape == (77, 31)
    np.testing.assert_array_equal(spooled[5:20], image[5:20])
    np.testing.assert_array_equal(spooled[::7], image[::7])


@pytest.mark.parametrize("nx", [8, 31, 4088])
def test_rows_of_a_mask_come_back(tmp_path, nx):
    mask = (np.random.RandomState(nx).uniform(size=(20, nx)) < 0.3).astype(np.uint8)
    spooled = SpooledMask(tmp_path / "mask", mask)
    rows = spooled(3, 17)
    np.testing.assert_array_equal(rows, mask[3:17])
    assert rows.dtype == np.uint8
    assert (tmp_path / "mask").stat().st_size == 20 * -(-nx // 8)


def test_a_scratch_folder_vanishes(tmp_path):
    with scratch_folder(tmp_path, "sky") as folder:
        Spooled(folder / "image", np.ones((3, 3)))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_an_error_of_ours(tmp_path):
    nowhere = scratch_folder(tmp_path / "nowhere", "sky")
    with pytest.raises(PhotometrusError, match="cannot be written"):
        nowhere.__enter__()
    with pytest.raises(PhotometrusError, match="cannot be written"):
        SpooledMask(tmp_path / "nowhere" / "mask", np.ones((3, 3), np.uint8))
