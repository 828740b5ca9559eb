"""A stack as a picture that a notebook shows."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from photometrus.api.values import PathLike, path_of, stack_of
from photometrus.cards import figure
from photometrus.frame import Stack
from photometrus.io.stackfile import read_stack
from photometrus.plots.preview import preview
from photometrus.track import ChipResult

SHOWN_PIXELS = 640
"""Width in a notebook; the picture itself has more."""


@dataclass(frozen=True)
class Picture:
    """A PNG: the last line of a cell shows it, `save` writes it."""

    png: bytes = field(repr=False)
    title: str = ""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        return self.png, {"width": SHOWN_PIXELS}

    def save(self, path: PathLike) -> Path:
        """Write it; the path."""
        path = path_of(path)
        path.write_bytes(self.png)
        return path


def picture(stack: PathLike | ChipResult | Stack) -> Picture:
    """A stack as a picture: zscale, a bar of known length, where north and east are.

    Parameters
    ----------
    stack : str, Path, ChipResult or Stack
        A stack on disk, a chip that was reduced, or a stack that was read.

    Returns
    -------
    Picture
        A notebook shows it; ``.save("stack.png")`` writes it.

    Raises
    ------
    PhotometrusError
        No such file, no image in it, or the chip has no stack.
    """
    read = stack if isinstance(stack, Stack) else read_stack(stack_of(stack))
    info = read.info
    title = (
        f"{info.target or info.name} {info.band} C{info.chip}: {info.n_frames} frames,"
        f" {figure(info.exposure_s, 0)} s"
    )
    data = np.where(read.weight > 0, read.data, np.float32(0))
    with tempfile.TemporaryDirectory(prefix="photometrus-") as folder:
        path = Path(folder) / "picture.png"
        preview(path, data, read.wcs, title)
        return Picture(path.read_bytes(), title)
