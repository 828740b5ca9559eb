"""Memory of large arrays: kept from one to the next while a chip is reduced."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8
"""Names of settings, from glibc's malloc.h."""
NEVER = 2**31 - 1
PR_SET_THP_DISABLE = 41
"""From Linux's prctl.h."""


@contextmanager
def kept_memory() -> Iterator[None]:
    """Freed memory is kept for the next array; at the end it goes back to the system.

    Otherwise glibc asks the system for each array of megabytes anew, and the system clears its
    pages: half of what it has to do for a reduction. Huge pages, which numpy asks for, are declined
    so long: memory that is kept gains nothing by them, and where it is fragmented the system makes
    room for each, which took 2 s of a chip of 9 ramps. Other C libraries are left as they are.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "mallopt"):
        yield
        return
    # One pool for all threads: what one frees another can have.
    libc.mallopt(M_ARENA_MAX, 1)
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, NEVER)
    libc.mallopt(M_TOP_PAD, 64 << 20)
    libc.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0)
        libc.malloc_trim(0)
