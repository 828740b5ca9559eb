"""What the C library is told of memory: to keep that of large arrays from one to the next."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8
"""Names of settings, from glibc's malloc.h."""
NEVER = 2**31 - 1
PR_SET_THP_DISABLE = 41
"""From Linux's prctl.h."""


def _glibc() -> Any:
    """The C library if it is glibc; None for others, which are left as they are."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "mallopt") else None


def share_one_pool() -> None:
    """What one thread frees another can have: to be said before there are threads.

    A thread keeps the pool that it begins with, and what is free in another's is lost to it: a
    quarter of a gigabyte in a reduction.
    """
    libc = _glibc()
    if libc is not None:
        libc.mallopt(M_ARENA_MAX, 1)


@contextmanager
def kept_memory() -> Iterator[None]:
    """Freed memory is kept for the next array; at the end it goes back to the system.

    Otherwise glibc asks the system for each array of megabytes anew, and the system clears its
    pages: half of what it has to do for a reduction. Huge pages, which numpy asks for, are declined
    so long: memory that is kept gains nothing by them, and where it is fragmented the system makes
    room for each, which took 2 s of a chip of 9 ramps.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    share_one_pool()
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, NEVER)
    libc.mallopt(M_TOP_PAD, 64 << 20)
    libc.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0)
        libc.malloc_trim(0)
