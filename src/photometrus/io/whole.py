"""Files that are written whole or not at all."""

import contextlib
import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from photometrus.errors import PhotometrusError

log = logging.getLogger(__name__)


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` that becomes it at the end, or vanishes on an error.

    The folder is made. Two processes that write the same file do not meet: the later one stands.
    Raises PhotometrusError when the disk cannot be written.
    """
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise PhotometrusError(
            f"{path}: cannot be written ({reason}); free some space or choose another folder"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """A file with that content."""
    with whole(path) as part:
        part.write_bytes(content)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it; it may be gone already."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def warn_of_links(folder: Path) -> None:
    """Say which folders of a product tree are links to somewhere else: what goes there."""
    home = folder.resolve()
    for path in sorted(folder.glob("*")):
        if path.is_symlink() and path.is_dir() and not path.resolve().is_relative_to(home):
            log.warning("%s is a link: its products go to %s", path, path.resolve())


def make_folder(path: Path) -> None:
    """A folder and those above it; PhotometrusError when it cannot be made."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PhotometrusError(
            f"{path}: cannot be made ({error.strerror}); choose another -parent"
        ) from error
