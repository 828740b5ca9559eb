"""Memory and cores."""

from collections.abc import Iterator

import psutil
from distributed.system import MEMORY_LIMIT

from photometrus.cluster import WORKER_MIN_BYTES
from photometrus.doctor.finding import Finding
from photometrus.workers import cores


def examine() -> Iterator[Finding]:
    """What this process may use, and how many chips fit into it."""
    limit, free = int(MEMORY_LIMIT), psutil.virtual_memory().available
    fit = min(limit, free) // WORKER_MIN_BYTES
    words = f"{limit / 1e9:.1f} GB, {free / 1e9:.1f} GB of it free; cores: {cores()}"
    if fit >= 1:
        at_once = min(fit, cores())
        yield Finding("memory", "ok", f"{words}; -parallel reduces {at_once} at once")
    else:
        yield Finding(
            "memory", "warning", f"{words}; a full-size chip needs {WORKER_MIN_BYTES / 1e9:.0f} GB",
            "end other programs, or use a larger machine with -scheduler",
        )  # fmt: skip
