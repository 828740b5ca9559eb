"""What a run of the command costs."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence

from helpers import Numbers
from photometrus.errors import PhotometrusError


def run_photometry(options: Sequence[str]) -> Numbers:
    """Seconds (of the clock, of the processor) and the largest memory of `photometrus photometry`.

    Raises PhotometrusError when the command fails.
    """
    begin = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", "photometrus", "photometry", *options])
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - begin
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in (0, 3):
        raise PhotometrusError(f"photometrus photometry: exit code {child.returncode}")
    cpu = usage.ru_utime + usage.ru_stime
    return {"run": {"wall_s": wall, "cpu_s": cpu, "memory_gb": usage.ru_maxrss / 1024**2}}
