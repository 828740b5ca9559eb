"""A file on its way to the disk."""

from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

HEAD_BYTES = 1024


class Arriving:
    """How much of a file is here, and of which state of the one on the server.

    goal : its name when it is complete; path : what is here (packed or plain); part : the plain
    file before it is complete; mark : as a `transport.Stream` says
    """

    def __init__(self, goal: Path, *, packed: bool) -> None:
        self.goal = goal
        self.packed = packed
        self.part = goal.with_name(f"{goal.name}.part")
        self.path = goal.with_name(f"{goal.name}.fz.part") if packed else self.part
        self.n_bytes = 0
        self.mark = ""

    def open(self, begin: int, mark: str) -> BinaryIO:
        """The file, to be written behind what is here, or (`begin` 0) anew. Raises OSError.

        A link that somebody left under its name is taken away, not written through.
        """
        self.mark = mark
        if begin:
            return self.path.open("ab")
        self.goal.parent.mkdir(parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)
        self.n_bytes = 0
        return self.path.open("xb")

    def still(self, size_bytes: int | None, most: int) -> int:
        """How many bytes to read next, `most` when the size is unknown."""
        return most if size_bytes is None else min(most, size_bytes - self.n_bytes)

    def is_web_page(self) -> bool:
        """Whether what is here is what some servers send in place of a file."""
        with self.path.open("rb") as file:
            return is_web_page(file.read(HEAD_BYTES))

    def remove(self) -> None:
        """Take away what is not complete."""
        for leftover in (self.part, self.path):
            with suppress(OSError):
                leftover.unlink()


def is_web_page(content: bytes) -> bool:
    """True for what some servers send, with a smile, in place of a file they do not have."""
    return content[:HEAD_BYTES].lstrip().lower().startswith((b"<!doctype html", b"<html"))
