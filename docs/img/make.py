"""The tutorial's pictures, small, from what its commands left: python docs/img/make.py FOLDER."""

import sys
from pathlib import Path

from PIL import Image

from photometrus.io import fitsfile
from photometrus.plots.preview import preview

HERE = Path(__file__).parent
STACK = "coadd.Open-J.01598971-01598999.C1"
SMALL = {
    "page": (f"qa.{STACK.removeprefix('coadd.')}.png", 800),
    "chart": ("transient_J_C1_Chart_local_01598971.png", 560),
    "calibration": (f"{STACK}.local.calibration.png", 800),
}
"""Picture: the file that it is made of, its width in pixels."""


def smaller(source: Path, out: Path, width: int) -> None:
    """A WebP of a picture, so wide."""
    with Image.open(source) as image:
        small = image.convert("RGB").resize((width, image.height * width // image.width))
        small.save(out, "WEBP", quality=55, method=6)


def main(folder: Path) -> None:
    """Draw the stack, shrink the others."""
    data, header = fitsfile.read_image(folder / f"{STACK}.fits.fz")
    drawn = HERE / "stack.png"
    preview(drawn, data, fitsfile.header_wcs(header), "field1111 J C1")
    smaller(drawn, HERE / "stack.webp", 640)
    drawn.unlink()
    for name, (source, width) in SMALL.items():
        smaller(folder / source, HERE / f"{name}.webp", width)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
