"""How much memory may be used, and how many chips and threads at once that allows."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from photometrus.errors import UsageError

SIZE = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>%|[kmgt]i?b?)", re.IGNORECASE)
UNITS = {"k": 1, "m": 2, "g": 3, "t": 4}
CONTAINERS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where Linux says what the container that we are in may use: version 2, version 1."""

PROGRAM_BYTES = 400_000_000
"""A process with its libraries and compiled kernels, before it has a pixel."""
CHIP_PIXEL_BYTES = 44
"""Per pixel of a chip: flat, flags, two skies, stack, weight map, what is made of them. Measured
(two threads): 0.60 GB at 2048 x 2048 pixels with 5 ramps, 1.2 to 1.36 GB at 4096 with 9; 35 MB
more for each further thread at 2048. The numbers here leave a tenth; a run that compiles takes 0.4
GB more."""
THREAD_PIXEL_BYTES = 10
"""Per pixel and thread: one whole frame with what it is compared with."""
THREAD_BYTES = 60_000_000
"""Per thread: a block of rows of all frames."""
FULL_PIXELS = 4096 * 4096


def read_size(text: str, of: int) -> int:
    """Bytes from ``4GB``, ``800MB``, ``1.5GiB`` or, of so many, ``50%``; ValueError for others."""
    match = SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError("expected memory, for example 4GB, 800MB or 50%")
    number, unit = float(match["number"]), match["unit"].lower()
    if unit == "%":
        if not 0 < number <= 100:
            raise ValueError("expected a part of the memory, from 1% to 100%")
        return int(number / 100 * of)
    return int(number * (1024 if "i" in unit else 1000) ** UNITS[unit[0]])


def machine_bytes() -> int:
    """What this process may use: of the machine, or of the container that it is in."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in map(Path, CONTAINERS):
        try:
            found.append(int(path.read_text(encoding="ascii")))
        except (OSError, ValueError):
            continue  # no such container, or one without a limit: "max"
    return min(found)


@dataclass(frozen=True)
class Room:
    """The memory that jobs may use, and the pixels of a frame of theirs.

    total_bytes : for all of them together
    """

    total_bytes: int
    n_pixels: int = 0

    def threads(self, wanted: int, n_jobs: int = 1) -> int:
        """As many threads for each of `n_jobs` at once as are wanted and fit.

        Raises UsageError when there is no room for one.
        """
        share = self.total_bytes // n_jobs
        fit = (share - self.needed(0)) // (self.needed(1) - self.needed(0))
        if fit < 1:
            raise UsageError(self._too_little(n_jobs))
        return max(1, min(wanted, fit))

    def jobs(self, wanted: int) -> int:
        """As many jobs at once, of one thread each, as are wanted and fit; one at least."""
        return max(1, min(wanted, self.total_bytes // self.needed(1)))

    def needed(self, n_threads: int) -> int:
        """What a job with so many threads needs at its peak, for any number of frames."""
        per_pixel = CHIP_PIXEL_BYTES + THREAD_PIXEL_BYTES * n_threads
        return PROGRAM_BYTES + THREAD_BYTES * n_threads + per_pixel * self.n_pixels

    def _too_little(self, n_jobs: int) -> str:
        side = round(self.n_pixels**0.5)
        needed = n_jobs * self.needed(1)
        at_once = f"{n_jobs} chips at once need" if n_jobs > 1 else "a chip needs"
        way_out = "fewer -workers or more -memory" if n_jobs > 1 else "more -memory"
        return (
            f"{self.total_bytes / 1e9:.2f} GB of memory: {at_once} {needed / 1e9:.2f} GB "
            f"({side} x {side} pixels, one thread); give {way_out}"
        )


def room(text: str, n_pixels: int = FULL_PIXELS) -> Room:
    """The room for jobs on frames of so many pixels.

    text : what may be used, as `read_size` takes it; empty: what the machine has
    """
    there = machine_bytes()
    try:
        return Room(read_size(text, there) if text else there, n_pixels)
    except ValueError as error:
        raise UsageError(f"run.memory = {text!r}: {error}") from None
