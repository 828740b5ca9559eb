"""A picture of a stack on its own."""

from pathlib import Path

from astropy.wcs import WCS

from photometrus.evidence import PICTURE_PIXELS, reduced
from photometrus.frame import Image
from photometrus.plots.stack import draw_stack
from photometrus.plots.style import drawn, place

WIDTH, MARGIN, HEAD, DPI = 6.9, 0.06, 0.3, 150


def preview(out: Path, data: Image, wcs: WCS, title: str) -> None:
    """A PNG of a stack: zscale, a bar of known length, where north and east are.

    data : float32 (ny, nx), exactly 0 or NaN where no frame saw the sky
    wcs : of the image; title : one line above it
    """
    ny, nx = data.shape
    stack = reduced(data, PICTURE_PIXELS)
    height = (WIDTH - 2 * MARGIN) * ny / nx
    with drawn(out, (WIDTH, height + HEAD + MARGIN), DPI) as figure:
        axes = place(figure, MARGIN, HEAD, WIDTH - 2 * MARGIN, height)
        draw_stack(axes, stack, wcs)
        axes.set_title(title)
