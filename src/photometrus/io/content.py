"""What tells a file from one with other content."""

from pathlib import Path
from typing import Any

import xxhash

CHUNK_BYTES = 1 << 20

Stamp = dict[str, Any]
"""``bytes``, ``modified`` (ns since 1970), ``content`` (XXH3, 128 bits, hexadecimal)."""


def stamp(path: Path, earlier: Stamp | None = None) -> Stamp | None:
    """The stamp of a file; None for what is no file that can be read.

    earlier : what was known of it: its content is not read again when size and time stand
    """
    try:
        state = path.stat()
        seen: Stamp = {"bytes": state.st_size, "modified": state.st_mtime_ns}
        if earlier is not None and seen.items() <= earlier.items():
            return earlier
        return seen | {"content": _content(path)}
    except OSError:
        return None


def _content(path: Path) -> str:
    digest = xxhash.xxh3_128()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
