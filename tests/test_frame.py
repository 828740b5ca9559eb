"""What travels: shapes and types are checked at the door."""

import numpy as np
import pytest

from photometrus.frame import NO_MARKS, ArrayPixels, Bad, FrameInfo, Marks
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


def marks(*pairs):
    """Marks of (flat index, flag)."""
    index, flags = zip(*pairs, strict=True)
    return Marks(np.array(index, np.int64), np.array(flags, np.uint8))


def test_marks_of_two_are_the_flags_of_both():
    one = marks((3, Bad.COSMIC), (7, Bad.TRAIL), (20, Bad.SATURATED))
    two = marks((0, Bad.HOT), (7, Bad.PERSISTENCE), (21, Bad.COSMIC))
    with untouched(one.index, one.flags, two.index, two.flags):
        both = one | two
    np.testing.assert_array_equal(both.index, [0, 3, 7, 20, 21])
    want = [Bad.HOT, Bad.COSMIC, Bad.TRAIL | Bad.PERSISTENCE, Bad.SATURATED, Bad.COSMIC]
    np.testing.assert_array_equal(both.flags, want)
    assert both.count(Bad.COSMIC) == 2
    assert both.count(Bad.EDGE) == 0
    np.testing.assert_array_equal((both | NO_MARKS).index, both.index)
    assert (NO_MARKS | NO_MARKS).index.size == 0


def test_marks_are_set_in_whatever_rows_are_asked_for():
    rs = np.random.RandomState(0)
    image = (rs.uniform(size=(23, 17)) < 0.1) * np.uint8(Bad.COSMIC)
    own = Marks(np.flatnonzero(image), image[image != 0])
    before = np.full(image.shape, Bad.DEAD, np.uint8)
    for rows in (1, 5, 23):
        flags = before.copy()
        with untouched(own.index, own.flags):
            for y0 in range(0, 23, rows):
                own.add_to(flags[y0 : y0 + rows], y0)
        np.testing.assert_array_equal(flags, before | image)
