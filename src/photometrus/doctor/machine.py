"""Memory and cores."""

from collections.abc import Iterator

import psutil

from photometrus.config import Config
from photometrus.doctor.finding import Finding
from photometrus.memory import room
from photometrus.workers import cores


def examine(config: Config) -> Iterator[Finding]:
    """What this process may use, and how many full-size chips fit into it."""
    there = room(config.run.memory)
    limit, free, chip = there.total_bytes, psutil.virtual_memory().available, there.needed(1)
    fit = min(limit, free) // chip
    words = f"{limit / 1e9:.1f} GB, {free / 1e9:.1f} GB of it free; cores: {cores()}"
    if fit >= 1:
        at_once = min(fit, cores())
        yield Finding("memory", "ok", f"{words}; -parallel reduces {at_once} at once")
    else:
        yield Finding(
            "memory", "warning", f"{words}; a full-size chip needs {chip / 1e9:.1f} GB",
            "end other programs, or use a larger machine with -scheduler",
        )  # fmt: skip
