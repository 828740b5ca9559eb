"""A finding chart: where the target is, what is around it, what the catalogue knows."""

from pathlib import Path

import numpy as np
from astropy.nddata import Cutout2D
from astropy.table import Table
from astropy.wcs import WCS
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from photometrus.errors import UsageError
from photometrus.evidence import reduced
from photometrus.frame import Image
from photometrus.plots.stack import draw_stack
from photometrus.plots.style import BLUE, GREEN, VERMILLION, drawn, place
from photometrus.sighting import Sighting
from photometrus.sourcetable import Values, column
from photometrus.wcs import from_plane, sky_to_pixel

SIDE, MARGIN, HEAD, FOOT, DPI = 4.8, 0.1, 0.42, 0.28, 200
PICTURE_PIXELS = 900
LEAST_ARCSEC, AROUND_ARCSEC = 60.0, 60.0
"""Half the side of the smallest chart; what a large one shows around the circle."""


def draw_finding_chart(
    out: Path,
    data: Image,
    wcs: WCS,
    sighting: Sighting,
    *,
    sources: Table,
    stars: Table,
    title: str,
) -> None:
    """A PNG of the field around a target: a bar of known length, north and east, the circle.

    data : float32 (ny, nx), exactly 0 or NaN where no frame saw the sky; wcs : of it
    sources : of the stack, ra_deg, dec_deg; stars : the catalogue's, likewise
    title : the magnitude or the limit

    Raises UsageError when the target is not on the stack, and PhotometrusError for the disk.
    """
    target = sighting.target
    radius = target.radius_arcsec
    half = max(LEAST_ARCSEC, min(3.0 * radius, radius + AROUND_ARCSEC))
    cut = _cut(data, wcs, target.ra_deg, target.dec_deg, half)
    picture = reduced(cut.data, PICTURE_PIXELS)
    side = picture.side_pix
    with drawn(out, (SIDE + 2 * MARGIN, SIDE + HEAD + FOOT), DPI) as figure:
        axes = place(figure, MARGIN, HEAD, SIDE, SIDE)
        draw_stack(axes, picture, cut.wcs)
        axes.set_autoscale_on(False)
        _circle(axes, cut.wcs, sighting, side)
        _marks(axes, cut.wcs, sources, side, "o", BLUE)
        _marks(axes, cut.wcs, stars, side, "s", GREEN)
        if sighting.best is not None:
            _cross(axes, cut.wcs, Table(sighting.best), side)
        axes.set_title(f"{target.name or 'target'}  {2 * half:.0f}″ × {2 * half:.0f}″\n{title}")
        _legend(axes, sighting)


def _cut(data: Image, wcs: WCS, ra_deg: float, dec_deg: float, half_arcsec: float) -> Cutout2D:
    x, y = (float(v) for v in sky_to_pixel(wcs, np.float64(ra_deg), np.float64(dec_deg)))
    ny, nx = data.shape
    if not (-0.5 <= x < nx - 0.5 and -0.5 <= y < ny - 0.5):
        raise UsageError(
            f"finding chart of {ra_deg:.5f} {dec_deg:+.5f}: not on the stack, which has {nx} x {ny}"
            f" pixels, but at ({x:.0f}, {y:.0f}); take the stack of another chip"
        )
    scale = 3600.0 * float(np.sqrt(abs(np.linalg.det(wcs.pixel_scale_matrix))))
    size = max(8, round(2 * half_arcsec / scale))
    return Cutout2D(data, (x, y), (size, size), wcs, mode="partial", fill_value=np.nan)


def _pixels(wcs: WCS, ra_deg: Values, dec_deg: Values, side: int) -> tuple[Values, Values]:
    """Where positions are in a picture whose pixels are blocks of `side` pixels."""
    x, y = sky_to_pixel(wcs, ra_deg, dec_deg)
    return (x + 0.5) / side - 0.5, (y + 0.5) / side - 0.5


def _circle(axes: Axes, wcs: WCS, sighting: Sighting, side: int) -> None:
    target = sighting.target
    turn = np.linspace(0.0, 2 * np.pi, 181)
    xi, eta = target.radius_arcsec * np.cos(turn), target.radius_arcsec * np.sin(turn)
    ra, dec = from_plane(xi, eta, (target.ra_deg, target.dec_deg))
    axes.plot(*_pixels(wcs, ra, dec, side), color=VERMILLION, linewidth=1.0)


def _marks(axes: Axes, wcs: WCS, table: Table, side: int, shape: str, color: str) -> None:
    if len(table):
        x, y = _pixels(wcs, column(table, "ra_deg"), column(table, "dec_deg"), side)
        width, height = axes.get_xlim()[1], axes.get_ylim()[1]
        seen = (x > -0.5) & (x < width) & (y > -0.5) & (y < height)
        x, y = x[seen], y[seen]
        size = 9.0 if shape == "o" else 12.0  # so that neither hides the other
        axes.plot(x, y, shape, color=color, markersize=size, fillstyle="none", markeredgewidth=0.7)


def _cross(axes: Axes, wcs: WCS, best: Table, side: int) -> None:
    """Two ticks that end beside the source, so that it stays in sight."""
    x, y = (float(v[0]) for v in _pixels(wcs, best["ra_deg"], best["dec_deg"], side))
    unit = np.ptp(np.asarray(axes.get_xlim())) / 100.0
    for dx, dy in ((1.0, 0.0), (0.0, 1.0)):
        axes.plot(
            [x + 3 * unit * dx, x + 8 * unit * dx],
            [y + 3 * unit * dy, y + 8 * unit * dy],
            color=VERMILLION,
            linewidth=1.8,
        )


def _legend(axes: Axes, sighting: Sighting) -> None:
    def line(shape: str, color: str, words: str) -> Line2D:
        style = {"linestyle": "none", "marker": shape, "fillstyle": "none", "markersize": 6.0}
        if shape == "-":
            style = {"linestyle": "-"}
        return Line2D([], [], color=color, label=words, **style)  # type: ignore[arg-type]

    handles = [
        line("-", VERMILLION, f"{sighting.target.radius_arcsec:g}″ around the position"),
        line("o", BLUE, "detected"),
        line("s", GREEN, "in the catalogue"),
    ]
    if sighting.best is not None:
        handles.append(line("+", VERMILLION, "likely counterpart"))
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.005), ncols=4)
