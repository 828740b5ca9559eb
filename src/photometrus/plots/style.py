"""One look for all figures: colours that everybody can tell apart, type, places, files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from photometrus.io.whole import whole

INK = "#1b2a41"
FAINT = "#7a8594"
BLUE = "#0072b2"
VERMILLION = "#d55e00"
GREEN = "#009e73"
ORANGE = "#e69f00"
SKY = "#56b4e9"
PURPLE = "#cc79a7"
"""Of Okabe and Ito's palette (2008)."""
LIGHT = "#e4e8ee"
NOTHING = "#eef0f3"
"""Where a map has no value."""

DEFLATE = {"compress_type": 0, "compress_level": 2}
"""zlib's usual strategy: a fifth smaller than the one for filtered images, the usual for PNG; and a
quarter of its usual effort, for a fifth more on disk."""
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 6.5,
    "text.color": INK,
    # Names of targets are text, whatever is in them.
    "text.parse_math": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.5,
    "axes.labelsize": 6.5,
    "axes.labelpad": 2.0,
    "axes.titlesize": 7.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 4.0,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 6.0,
    "ytick.labelsize": 6.0,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.size": 2.0,
    "ytick.major.size": 2.0,
    "xtick.major.pad": 2.0,
    "ytick.major.pad": 2.0,
    "lines.linewidth": 0.9,
    "lines.markersize": 3.2,
    "grid.color": LIGHT,
    "grid.linewidth": 0.5,
    "legend.fontsize": 6.0,
    "legend.frameon": False,
    "image.interpolation": "nearest",
    "image.origin": "lower",
}


@contextmanager
def drawn(path: Path, size_inches: tuple[float, float], dpi: int) -> Iterator[Figure]:
    """A figure in our style, which is a PNG at `path` afterwards.

    Raises PhotometrusError when the disk cannot be written.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=size_inches, dpi=dpi, facecolor="white")
        FigureCanvasAgg(figure)
        yield figure
        with whole(path) as part:
            figure.savefig(part, format="png", dpi=dpi, pil_kwargs=DEFLATE)


def place(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place in inches from the upper left corner."""
    page_width, page_height = figure.get_size_inches()
    return figure.add_axes(
        (
            left / page_width,
            1 - (top + height) / page_height,
            width / page_width,
            height / page_height,
        )
    )


def head(axes: Axes, title: str, words: str = "") -> None:
    """A title, and a line of small words below it."""
    axes.set_title(title, pad=11)
    axes.annotate(
        words, (0, 1), (0, 3), xycoords="axes fraction", textcoords="offset points",
        fontsize=6, color=FAINT, annotation_clip=False,
    )  # fmt: skip


def say_nothing_known(axes: Axes, title: str, why: str) -> None:
    """Axes whose subject is not known, and why."""
    head(axes, title)
    axes.set_facecolor(NOTHING)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", va="center", color=FAINT)
