"""The page of a chip: on one sheet what speaks for its stack, or against it."""

from pathlib import Path

import numpy as np
from astropy.time import Time
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from photometrus import __version__
from photometrus.evidence import ChipEvidence
from photometrus.plots.chip import draw_distortion, draw_histogram, draw_residuals
from photometrus.plots.maps import draw_background, draw_rejected, draw_weight
from photometrus.plots.series import draw_series, time_label
from photometrus.plots.stack import draw_stack
from photometrus.plots.style import FAINT, INK, drawn, place
from photometrus.plots.words import draw_words

A4 = (8.27, 11.69)
DPI = 240
LEFT, RIGHT = 0.45, 7.82
"""Inches, like all places below: the edges of the text."""
COLUMNS = (0.72, 3.24, 5.76)
SQUARE = 1.85
"""Where the three panels of a row begin, and their side."""
LONGEST_NAME = 28
"""Letters of a target's name that have room."""

SERIES = (
    (
        ("Sky (ADU)", {"sky_adu": ""}, 1.0),
        ("Seeing (″)", {"seeing_arcsec": ""}, 1.0),
        ("Transparency", {"transparency": ""}, 1.0),
    ),
    (
        ("Gradient (%)", {"slope_x": "along x", "slope_y": "along y"}, 100.0),
        ("Ellipticity", {"ellipticity": ""}, 1.0),
        ("Rms (mas)", {"rms_arcsec": "catalogue", "internal_rms_arcsec": "dithers"}, 1000.0),
    ),
)
PANELS = (
    (draw_residuals, draw_histogram, draw_distortion),
    (draw_background, draw_weight, draw_rejected),
)


def draw_page(path: Path, evidence: ChipEvidence) -> None:
    """The page as a PNG of 1984 x 2805 pixels.

    Raises PhotometrusError when the disk cannot be written.
    """
    with drawn(path, A4, DPI) as figure:
        compose(figure, evidence)


def compose(figure: Figure, evidence: ChipEvidence) -> None:
    """All parts of the page at their places."""
    _draw_head(figure, evidence)
    draw_stack(place(figure, LEFT, 0.78, 3.75, 3.75), evidence.stack, evidence.stack_wcs)
    draw_words(place(figure, 4.5, 0.78, RIGHT - 4.5, 3.75), evidence)
    for top, row in zip((4.84, 5.62), SERIES, strict=True):
        for left, (title, columns, factor) in zip(COLUMNS, row, strict=True):
            axes = place(figure, left, top, SQUARE, 0.52)
            draw_series(axes, evidence, title, columns, factor)
            if row is SERIES[-1]:
                axes.set_xlabel(time_label(evidence))
            else:
                axes.tick_params(labelbottom=False)
    for top, draws in zip((6.82, 9.36), PANELS, strict=True):
        for left, draw in zip(COLUMNS, draws, strict=True):
            draw(place(figure, left, top, SQUARE, SQUARE), evidence)


def _draw_head(figure: Figure, evidence: ChipEvidence) -> None:
    """Which chip this is, of what and when; at the foot, made by what."""
    frames = evidence.frames
    begin = Time(float(np.min(frames["begin_mjd"])), format="mjd").iso[:16]
    names = " to ".join(dict.fromkeys((frames["name"][0], frames["name"][-1])))
    width, height = A4
    left, right, top = LEFT / width, RIGHT / width, 1 - 0.48 / height
    title = f"{evidence.target[:LONGEST_NAME]}   {evidence.band}   C{evidence.chip}"
    figure.text(left, top, title, fontsize=14, fontweight="bold")
    figure.text(right, top, f"{names}, from {begin} UTC", fontsize=7, ha="right")
    line = 1 - 0.58 / height
    figure.add_artist(Line2D((left, right), (line, line), color=INK, linewidth=1.0))
    foot = f"photometrus {__version__}"
    figure.text(right, 0.1 / height, foot, fontsize=5.5, color=FAINT, ha="right")
