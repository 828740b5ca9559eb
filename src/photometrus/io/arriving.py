"""A file on its way to the disk."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from photometrus.errors import StorageError
from photometrus.io.lock import boot_id
from photometrus.io.whole import flush, whole

HEAD_BYTES = 1024
BLOCK_BYTES = 1 << 16
"""What a killed run left counts in whole blocks, and not the last one."""


class Arriving:
    """How much of a file is here, and of which state of the one on the server.

    goal : its name when it is complete; path : what is here (packed or plain); part : the plain
    file before it is complete; mark : as a `transport.Stream` says
    source : where it comes from; what a killed run left of the same state of it is here

    A note beside the file says what it is a part of. After the machine was started anew it is not
    believed: a power cut may leave a file with its length and without its content.
    """

    def __init__(self, goal: Path, *, packed: bool, source: str = "") -> None:
        self.goal = goal
        self.packed = packed
        self.source = source
        self.part = goal.with_name(f"{goal.name}.part")
        self.path = goal.with_name(f"{goal.name}.fz.part") if packed else self.part
        self.note = self.path.with_name(f"{self.path.name}.of")
        self.n_bytes = 0
        self.mark = ""
        self.begun = False
        self._take_up()

    def _take_up(self) -> None:
        """What a killed run left, when it is known what it is a part of."""
        try:
            said = json.loads(self.note.read_text(encoding="utf-8"))
            mark, size = str(said["mark"]), self.path.lstat().st_size
        except (OSError, ValueError, KeyError, TypeError):
            return
        n_bytes = max(0, size - 1) // BLOCK_BYTES * BLOCK_BYTES
        if said != self._noted(mark) or self.path.is_symlink() or not n_bytes:
            return
        with suppress(OSError):
            os.truncate(self.path, n_bytes)
            self.n_bytes, self.mark, self.begun = n_bytes, mark, True

    def _noted(self, mark: str) -> dict[str, str]:
        return {"source": self.source, "mark": mark, "boot": boot_id()}

    def open(self, begin: int, mark: str) -> BinaryIO:
        """The file, to be written behind what is here, or (`begin` 0) anew. Raises OSError.

        A link that somebody left under its name is taken away, not written through.
        """
        self.mark, self.begun = mark, True
        if begin:
            return self.path.open("ab")
        self.goal.parent.mkdir(parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)
        self.n_bytes = 0
        file = self.path.open("xb")
        if mark and self.source and boot_id():
            # Without it, another run begins anew.
            with suppress(StorageError), whole(self.note, sync=False) as note:
                note.write_text(json.dumps(self._noted(mark)), encoding="utf-8")
        return file

    def still(self, size_bytes: int | None, most: int) -> int:
        """How many bytes to read next, `most` when the size is unknown."""
        return most if size_bytes is None else min(most, size_bytes - self.n_bytes)

    def is_web_page(self) -> bool:
        """Whether what is here is what some servers send in place of a file."""
        with self.path.open("rb") as file:
            return is_web_page(file.read(HEAD_BYTES))

    def finish(self) -> None:
        """The plain file is complete: it gets its name, and nothing else stays. Raises OSError."""
        flush(self.part)
        # The name comes last: who is killed before begins anew, and nobody leaves anything behind.
        for leftover in self.goal.parent.glob(f"{self.goal.name}.*part*"):
            if leftover != self.part:
                _remove(leftover)
        self.part.replace(self.goal)

    def remove(self) -> None:
        """Take away what is not complete; what another source has left stays."""
        for leftover in (self.part, self.path, self.note) if self.begun else ():
            _remove(leftover)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def is_web_page(content: bytes) -> bool:
    """True for what some servers send, with a smile, in place of a file they do not have."""
    return content[:HEAD_BYTES].lstrip().lower().startswith((b"<!doctype html", b"<html"))
