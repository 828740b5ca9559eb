"""A file or folder below another, and nothing else: for names that come from strangers."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from photometrus.errors import MissingInput


def place_below(root: Path, parts: Sequence[str]) -> Path:
    """The real path of what is at `parts` below a folder; links within the folder are followed.

    Raises MissingInput for what is not there, leaves the folder, or has no name of a product:
    empty, hidden, with a separator or a zero byte in it.
    """
    top = root.resolve()
    for part in parts:
        if not part or part.startswith(".") or any(sign in part for sign in "/\\\0"):
            raise MissingInput(f"{part!r}: no name of a product")
    try:
        real = top.joinpath(*parts).resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise MissingInput(f"{'/'.join(parts)}: not there") from error
    if not real.is_relative_to(top):
        raise MissingInput(f"{'/'.join(parts)}: a link that leaves {root}")
    return real


def open_below(root: Path, parts: Sequence[str]) -> tuple[BinaryIO, os.stat_result]:
    """The file at `parts` below a folder, open for reading, and what the system says of it.

    Whoever exchanges a folder for a link between the look and the opening gains nothing: the real
    path is walked without following any. Raises MissingInput as `place_below`, and for what is no
    plain file.
    """
    top = root.resolve()
    names = place_below(root, parts).relative_to(top).parts
    handle = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for k, name in enumerate(names):
            kind = os.O_DIRECTORY if k + 1 < len(names) else os.O_NONBLOCK
            inner = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | kind, dir_fd=handle)
            os.close(handle)
            handle = inner
        known = os.fstat(handle)
        if not stat.S_ISREG(known.st_mode):
            raise MissingInput(f"{'/'.join(parts)}: no file")
        file = os.fdopen(handle, "rb")
        handle = -1
    except OSError as error:
        raise MissingInput(f"{'/'.join(parts)}: not readable ({error.strerror})") from error
    finally:
        if handle >= 0:
            os.close(handle)
    return file, known
