"""Images and masks that wait on disk for their rows to be asked for."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photometrus.io.whole import storing


@contextmanager
def scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A folder in `parent` whose name begins so, that vanishes with all that is in it.

    Raises StorageError when the disk cannot be written.
    """
    with storing(parent):
        folder = tempfile.TemporaryDirectory(prefix=prefix, dir=parent, ignore_cleanup_errors=True)
    with folder as name:
        yield Path(name)


def _write(array: NDArray[Any], path: Path) -> None:
    with storing(path), path.open("wb") as file:
        file.write(array.data)  # not tofile, which does not say why it could not


class Spooled:
    """A float32 image in a scratch file: rows are read when they are asked for.

    So several skies of a long sequence need no more memory than one. The file is its maker's to
    delete.
    """

    def __init__(self, path: Path, image: NDArray[Any]) -> None:
        self.path = path
        self.shape = image.shape
        _write(np.ascontiguousarray(image, dtype=np.float32), path)

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        """Rows of the image, ``[y0:y1]`` or with a step; as a new array."""
        first, last, step = rows.indices(self.shape[0])
        row_bytes = 4 * self.shape[1]
        flat = np.fromfile(
            self.path, np.float32, (last - first) * self.shape[1], offset=first * row_bytes
        )
        return flat.reshape(-1, self.shape[1])[::step]


class SpooledMask:
    """A mask (uint8, 0 or 1) in a scratch file, a bit per pixel: rows when they are asked for.

    To read bits is much cheaper than to project a mask onto a frame again. The file is its maker's
    to delete.
    """

    def __init__(self, path: Path, mask: NDArray[Any]) -> None:
        self.path = path
        self.nx = mask.shape[1]
        _write(np.packbits(mask, axis=1), path)

    def __call__(self, y0: int, y1: int) -> NDArray[Any]:
        """Rows y0 to y1: uint8 (y1 - y0, nx), 0 or 1, as a new array."""
        row_bytes = -(-self.nx // 8)
        bits = np.fromfile(self.path, np.uint8, (y1 - y0) * row_bytes, offset=y0 * row_bytes)
        return np.unpackbits(bits.reshape(-1, row_bytes), axis=1, count=self.nx)
