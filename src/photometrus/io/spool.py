"""Images that wait on disk for their rows to be asked for."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Spooled:
    """A float32 image in a scratch file: rows are read when they are asked for.

    So several skies of a long sequence need no more memory than one. The file is its maker's to
    delete.
    """

    def __init__(self, path: Path, image: NDArray[Any]) -> None:
        self.path = path
        self.shape = image.shape
        np.ascontiguousarray(image, dtype=np.float32).tofile(path)

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        """Rows of the image, ``[y0:y1]`` or with a step; as a new array."""
        first, last, step = rows.indices(self.shape[0])
        row_bytes = 4 * self.shape[1]
        flat = np.fromfile(
            self.path, np.float32, (last - first) * self.shape[1], offset=first * row_bytes
        )
        return flat.reshape(-1, self.shape[1])[::step]
