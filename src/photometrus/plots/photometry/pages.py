"""Two sheets per stack: how it was calibrated, and how deep and sharp it is."""

import math
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from photometrus import __version__
from photometrus.photometry_evidence import Calibration, Line, PhotometryEvidence
from photometrus.plots.photometry.chipmaps import (
    draw_ellipticity,
    draw_fwhm,
    draw_limits,
    draw_position,
    draw_residual_map,
)
from photometrus.plots.photometry.faint import draw_completeness, draw_counts, draw_errors
from photometrus.plots.photometry.numbers import UNKNOWN, finite, number, shortened, within
from photometrus.plots.photometry.psf import draw_residual, draw_stamps
from photometrus.plots.photometry.residuals import (
    draw_color,
    draw_comparison,
    draw_trend,
    draw_zero_point,
)
from photometrus.plots.photometry.stars import draw_legend
from photometrus.plots.ruler import Ruler
from photometrus.plots.style import FAINT, INK, LIGHT, VERMILLION, drawn, place, say_nothing_known

A4 = (11.69, 8.27)
DPI = 240
LEFT, RIGHT = 0.45, 11.24
"""Inches, like all places below: the edges of the text."""
COLUMNS, WIDTH, MAP_WIDTH = (0.9, 4.55, 8.2), 2.95, 2.55
ROWS, HEIGHT = (1.82, 4.86), 2.3
FOUR, SQUARE = (0.62, 3.36, 6.1, 8.84), 1.96
"""Where four maps of a row begin, and their side."""
DEPTH_TOP, DEPTH_HEIGHT = 1.6, 2.55
"""Of the first row above them."""
NOTES_TOP, NOTES_HEIGHT, NOTES_LETTERS = 7.5, 0.56, 250
LONGEST_STACK, LONGEST_NAME, LONGEST_BAND = 90, 16, 4
"""Letters of names that have room."""
ELSEWHERE = "the report"

Tile = tuple[str, str, float]
"""Value, what it is, width in inches."""


def draw_calibration(path: Path, evidence: PhotometryEvidence) -> None:
    """The page of the zero point as a PNG of 2805 x 1984 pixels.

    Raises PhotometrusError when the disk cannot be written.
    """
    with drawn(path, A4, DPI) as figure:
        compose_calibration(figure, evidence)


def draw_depth(path: Path, evidence: PhotometryEvidence) -> None:
    """The page of the limits and the PSF as a PNG of 2805 x 1984 pixels.

    Raises PhotometrusError when the disk cannot be written.
    """
    with drawn(path, A4, DPI) as figure:
        compose_depth(figure, evidence)


def compose_calibration(figure: Figure, evidence: PhotometryEvidence) -> None:
    """All parts of the page of the zero point at their places."""
    evidence = _with_short_names(evidence)
    _draw_frame(figure, evidence, "Photometric calibration")
    calibration = evidence.calibration
    if calibration is None or not math.isfinite(calibration.zero_point):
        why = evidence.refusal or "no reference catalogue"
        _draw_tiles(figure, [("no zero point", "magnitudes are instrumental", 4.0)], VERMILLION)
        axes = place(figure, LEFT, ROWS[0], RIGHT - LEFT, HEIGHT)
        say_nothing_known(axes, "Not calibrated", textwrap.fill(why, 110))
        return
    color = VERMILLION if evidence.refusal else INK
    _draw_tiles(figure, list(_calibration_tiles(calibration, evidence)), color)
    draw_legend(place(figure, LEFT, 1.24, RIGHT - LEFT, 0.14), calibration.stars)
    first = [place(figure, left, ROWS[0], WIDTH, HEIGHT) for left in COLUMNS]
    second = [
        place(figure, left, ROWS[1], width, HEIGHT)
        for left, width in zip(COLUMNS, (MAP_WIDTH, MAP_WIDTH, WIDTH), strict=True)
    ]
    draw_comparison(first[0], calibration, evidence.band)
    draw_trend(first[1], calibration, evidence.band)
    draw_zero_point(first[2], calibration)
    draw_residual_map(second[0], calibration, evidence.shape)
    draw_position(second[1], calibration, evidence.shape)
    draw_color(second[2], calibration)


def compose_depth(figure: Figure, evidence: PhotometryEvidence) -> None:
    """All parts of the page of the limits and the PSF at their places."""
    evidence = _with_short_names(evidence)
    _draw_frame(figure, evidence, "Depth and PSF")
    depth, psf, shape = evidence.depth, evidence.psf, evidence.shape
    _draw_tiles(figure, list(_depth_tiles(evidence)))
    top, height = DEPTH_TOP, DEPTH_HEIGHT
    draw_limits(place(figure, COLUMNS[0], top, MAP_WIDTH, height), depth.limits, shape,
                depth.limit_5sigma, evidence.target)  # fmt: skip
    draw_completeness(place(figure, COLUMNS[1], top, WIDTH, height), depth)
    errors = place(figure, COLUMNS[2], top, WIDTH, height / 2 - 0.04)
    counts = place(figure, COLUMNS[2], top + height / 2 + 0.04, WIDTH, height / 2 - 0.04)
    draw_counts(counts, evidence)
    draw_errors(errors, evidence)
    errors.set_xlim(counts.get_xlim())
    errors.tick_params(labelbottom=False)
    maps = [place(figure, left, ROWS[1], SQUARE, SQUARE) for left in FOUR]
    if psf is None:
        for axes, title in zip(maps, ("PSF", "PSF residual", "FWHM", "Ellipticity"), strict=True):
            say_nothing_known(axes, title, "no stars for a PSF")
        return
    draw_stamps(maps[0], psf)
    draw_residual(maps[1], psf)
    draw_fwhm(maps[2], psf, shape)
    draw_ellipticity(maps[3], psf, shape)


def _with_short_names(evidence: PhotometryEvidence) -> PhotometryEvidence:
    """Names as long as there is room for."""
    calibration, target = evidence.calibration, evidence.target
    if calibration is not None:
        survey, color = (
            shortened(name, LONGEST_NAME) for name in (calibration.survey, calibration.color)
        )
        calibration = replace(calibration, survey=survey, color=color)
    if target is not None:
        target = replace(target, name=shortened(target.name, LONGEST_NAME))
    return replace(
        evidence, stack=shortened(evidence.stack, LONGEST_STACK), target=target,
        band=shortened(evidence.band, LONGEST_BAND), calibration=calibration,
    )  # fmt: skip


def _calibration_tiles(one: Calibration, evidence: PhotometryEvidence) -> Iterator[Tile]:
    value = within(one.zero_point, one.err_stat, one.err_sys, digits=3)
    words = f"zero point, {evidence.system} mag: ± statistical ± systematic"
    yield value, "REFUSED: see the notes" if evidence.refusal else words, 3.4
    yield f"{one.n_stars} of {len(one.stars)}", f"{one.survey} stars used", 2.0
    yield number(one.scatter, 3), "scatter of a star (mag)", 1.6
    line = one.trend
    slope = UNKNOWN if line is None else _slope(line)
    yield slope, "slope with magnitude", 1.95
    line = one.color_term
    slope = "none" if line is None else _slope(line)
    yield slope, f"colour term, {one.color}" if line else "colour term", 1.8


def _slope(line: Line) -> str:
    return within(line.slope, line.slope_err, digits=3, sign=True)


def _depth_tiles(evidence: PhotometryEvidence) -> Iterator[Tile]:
    depth, target, psf = evidence.depth, evidence.target, evidence.psf
    unit = f"{evidence.system} mag" if evidence.system else "instrumental"
    yield number(depth.limit_5sigma, 2), f"5σ limit, {unit}", 1.7
    yield number(depth.limit_3sigma, 2), f"3σ limit, {unit}", 1.7
    if target is not None:
        yield number(target.limit_5sigma, 2), f"5σ limit at {target.name}", 2.0
    half = within(depth.limit50, depth.limit50_err, digits=2)
    yield half, "half of injected stars found", 2.1
    yield f"{len(evidence.sources):,}".replace(",", " "), "sources", 1.4
    widths = np.empty(0) if psf is None else finite(psf.fwhm_arcsec.values)
    fwhm = float(np.median(widths)) if widths.size else np.nan
    yield number(fwhm, 2, "″"), "FWHM of the PSF", 1.6


def _draw_tiles(figure: Figure, tiles: list[Tile], color: str = INK) -> None:
    """Large numbers side by side, and what they are below them.

    color : of the first, that says how it ended
    """
    left = LEFT
    for value, words, width in tiles:
        axes = place(figure, left, 0.66, width, 0.5)
        axes.set_axis_off()
        axes.text(0, 0.64, value, fontsize=12, fontweight="bold", va="center_baseline",
                  color=color)  # fmt: skip
        axes.text(0, 0.2, words, fontsize=6.5, color=FAINT, va="center_baseline")
        left += width
        color = INK


def _draw_frame(figure: Figure, evidence: PhotometryEvidence, title: str) -> None:
    """Which stack this is, and notes; at the foot, made by what."""
    width, height = A4
    left, right = LEFT / width, RIGHT / width
    top = 1 - 0.45 / height
    figure.text(left, top, f"{title}   {evidence.band}", fontsize=14, fontweight="bold")
    figure.text(right, top, evidence.stack, fontsize=7, ha="right")
    for at, color, line_width in ((0.55, INK, 1.0), (1.19, LIGHT, 0.7)):
        y = 1 - at / height
        figure.add_artist(Line2D((left, right), (y, y), color=color, linewidth=line_width))
    foot = f"photometrus {__version__}"
    figure.text(right, 0.1 / height, foot, fontsize=5.5, color=FAINT, ha="right")
    notes = list(evidence.notes)
    if evidence.calibration is not None and evidence.refusal:
        notes.insert(0, f"zero point refused: {evidence.refusal}")
    if notes:
        axes = place(figure, LEFT, NOTES_TOP, RIGHT - LEFT, NOTES_HEIGHT)
        ruler = Ruler(axes, NOTES_LETTERS, ELSEWHERE)
        ruler.heading("Notes")
        ruler.paragraphs([("–", note) for note in notes], VERMILLION)
