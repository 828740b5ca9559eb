"""What travels: shapes and types are checked at the door."""

import numpy as np
import pytest

from photometrus.frame import ArrayPixels, Bad, FrameInfo
from photometrus.products import RampId
from synth import untouched


def test_rows_are_copies():
    data = np.arange(12, dtype=np.float32).reshape(4, 3)
    bad = np.eye(4, 3, dtype=np.uint8)
    pixels = ArrayPixels(data, bad)
    with untouched(data, bad):
        rows, flags = pixels.rows(1, 3)
        np.testing.assert_array_equal(rows, data[1:3])
        np.testing.assert_array_equal(flags, bad[1:3])
        rows[:] = -1
        flags[:] = 9
    assert pixels.shape == (4, 3)


@pytest.mark.parametrize(
    ("data", "bad", "error"),
    [
        (np.zeros((3, 3)), np.zeros((3, 3), np.uint8), TypeError),
        (np.zeros((3, 3), ">f4"), np.zeros((3, 3), np.uint8), TypeError),
        (np.zeros((3, 3), np.float32), np.zeros((3, 3), bool), TypeError),
        (np.zeros((3, 3), np.float32), np.zeros((3, 4), np.uint8), ValueError),
        (np.zeros(3, np.float32), np.zeros(3, np.uint8), ValueError),
    ],
)
def test_wrong_arrays_are_refused(data, bad, error):
    with pytest.raises(error):
        ArrayPixels(data, bad)


def test_flags_are_distinct_bits_of_a_byte():
    values = [flag.value for flag in Bad]
    assert len(set(values)) == len(values)
    assert all(value & (value - 1) == 0 and 0 < value < 256 for value in values)


def test_the_middle_is_between_begin_and_end():
    info = FrameInfo(RampId(1599131, 2), "J", 1.0, -0.5, None, 60.0, 60000.25, 60000.75, 22, 0.0)
    assert info.middle_mjd == 60000.5
    assert info.name == "01599131C2"
