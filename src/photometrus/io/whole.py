"""Files that are written whole or not at all, and what the disk has to say to it."""

import contextlib
import logging
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from photometrus.errors import StorageError

log = logging.getLogger(__name__)


@contextlib.contextmanager
def whole(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """A temporary name beside `path` that becomes it at the end, or vanishes on an error.

    The folder is made. Its content is on the disk before it has its name, so that a power cut
    leaves no empty file; with `sync` off it may: for the many large ones, whose sizes the record
    knows (to wait takes 0.03 s for each full-size image). Two processes that write the same file do
    not meet: the later one stands.
    Raises StorageError when the disk cannot be written.
    """
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with storing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield part
            if sync:
                flush(part)
            part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def storing(path: Path, option: str = "folder") -> Iterator[None]:
    """Turns what the system says of a disk that cannot be written into a StorageError.

    option : what gives another one
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(
            f"{path}: cannot be written ({reason}); free some space or choose another {option}, "
            "then type the same command to go on"
        ) from error


def write_bytes(path: Path, content: bytes) -> None:
    """A file with that content."""
    with whole(path) as part:
        part.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """A file with that text, in UTF-8."""
    write_bytes(path, text.encode())


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it; it may be gone already."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with storing(path):
            path.unlink(missing_ok=True)


def warn_of_links(folder: Path) -> None:
    """Say which folders of a product tree are links to somewhere else: what goes there."""
    home = folder.resolve()
    for path in sorted(folder.glob("*")):
        if path.is_symlink() and path.is_dir() and not path.resolve().is_relative_to(home):
            log.warning("%s is a link: its products go to %s", path, path.resolve())


def make_folder(path: Path, option: str = "-parent") -> None:
    """A folder and those above it; StorageError when it cannot be made.

    option : what gives another one
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"{path}: cannot be made ({error.strerror}); choose another {option}"
        ) from error


def missing_folders(path: Path) -> list[Path]:
    """What `make_folder` would make, the innermost first."""
    return [one for one in (path, *path.absolute().parents) if not one.exists()]


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders as far as nothing is in them."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def settle(folders: Iterable[Path]) -> None:
    """See to it that a power cut does not take back names that these folders hold."""
    for folder in set(folders):
        with contextlib.suppress(OSError):  # not every file system can
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def free_bytes(path: Path) -> int:
    """What this user may still write where `path` is or will be."""
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    with storing(path):
        state = os.statvfs(there)
    return state.f_bavail * state.f_frsize


def flush(path: Path) -> None:
    """What was written to a file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
