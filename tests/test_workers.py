"""One thing to many items: order, losses, and errors that are not losses."""

import threading
import time

import pytest

from photometrus.errors import FrameError, TooFewFrames
from photometrus.workers import cores, threads, try_each


def slow_square(n):
    time.sleep(0.002 * (5 - n))
    return n * n


@pytest.mark.parametrize("n", [1, 3])
def test_results_come_in_order(n):
    with threads(n) as each:
        assert list(each(slow_square, range(5))) == [0, 1, 4, 9, 16]


def test_threads_are_really_used():
    meeting = threading.Barrier(2, timeout=20)  # passes only when two are inside at once
    with threads(2) as each:
        assert len({*each(lambda _: (meeting.wait(), threading.get_ident())[1], range(2))}) == 2


@pytest.mark.parametrize("n", [1, 2])
def test_what_failed_is_kept_apart(n):
    def work(item):
        if item % 3 == 0:
            raise FrameError(f"{item} is bad")
        return -item

    with threads(n) as each:
        done, lost = try_each(work, [1, 2, 3, 4, 6], each)
    assert done == [(1, -1), (2, -2), (4, -4)]
    assert [(item, str(error)) for item, error in lost] == [(3, "3 is bad"), (6, "6 is bad")]


@pytest.mark.parametrize("error", [ValueError, TooFewFrames, KeyboardInterrupt])
@pytest.mark.parametrize("n", [1, 2])
def test_anything_else_is_not_swallowed(n, error):
    def work(item):
        raise error("no loss of a frame")

    with threads(n) as each, pytest.raises(error):
        try_each(work, [1, 2], each)


def test_nothing_to_do():
    assert try_each(slow_square, []) == ([], [])
    assert cores() >= 1
