"""Memory that is kept from one large array to the next."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource
import numpy as np
from photometrus.allocator import kept_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        np.ones(1 << 24, np.float32)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

usual = faults()
with kept_memory():
    faults()
    print(usual, faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings")
def test_the_pages_of_one_array_serve_the_next():
    # In a process of its own: the settings stay.
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    usual, kept = map(int, done.stdout.split())
    # Eight arrays of 32 pages (of 2 MB; of 4 kB many more) without, nearly none with.
    assert usual >= 8 * 32
    assert kept < usual / 8
