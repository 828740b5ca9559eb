"""The observations below a folder."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from photometrus.products import Products

DEPTH = 6
"""Folders below the top in which observations are looked for."""
INSIDE = re.compile(r"C[1-4](_\w+)?|stack|sky|\..*")
"""Folders that belong to an observation, or to nobody."""


def find_observations(top: Path) -> list[Path]:
    """The folders with a ``run.json`` or a log of photometrus, in order of name; no link followed.

    What is below a ``run.json`` belongs to it. A log alone is of an observation that has just
    begun, or of a night, whose observations are below.
    """
    return sorted(_walk(top, DEPTH))


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return  # not ours to read, or gone meanwhile
    names = {entry.name for entry in entries}
    products = Products(folder, "")
    if products.run_record.name in names:
        yield folder
        return
    found = False
    for entry in entries:
        if depth and entry.is_dir(follow_symlinks=False) and not INSIDE.fullmatch(entry.name):
            for one in _walk(folder / entry.name, depth - 1):
                found = True
                yield one
    if products.journal.name in names and not found:
        yield folder
