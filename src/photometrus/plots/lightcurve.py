"""A light curve: magnitudes with errors, limits as arrows, a colour per band."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from astropy.time import Time
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from photometrus.plots.style import BLUE, FAINT, GREEN, INK, VERMILLION, drawn, head, place

WIDTH, HEIGHT, DPI = 6.9, 4.4, 150
LEFT, TOP, RIGHT, BOTTOM = 0.55, 0.45, 0.75, 0.45
COLORS = {"Z": "#cc79a7", "Y": GREEN, "J": BLUE, "H": VERMILLION}
OTHERS = ("#e69f00", "#56b4e9", INK, "#8c6bb1", "#a6761d", FAINT, "#f0027f", "#1b9e77")
MARKERS = "osD^vP*"
"""One fewer than colours, so that no two bands look the same."""
LIMIT = "limit_3sigma"


def draw_light_curve(out: Path, table: Table, title: str) -> None:
    """A PNG of a light curve: against T - T0, logarithmic, when T0 is known; else against date.

    table : of `lightcurve.as_table`: band, mjd_mid, mjd_begin, mjd_end, mag, mag_err, detection,
        limit_3sigma; meta: system, t0_mjd
    """
    t0 = float(table.meta.get("t0_mjd", np.nan))
    with drawn(out, (WIDTH, HEIGHT), DPI) as figure:
        axes = place(figure, LEFT, TOP, WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM)
        head(axes, title, "arrows: 3-sigma limits; horizontal bars: from begin to end")
        zero = _time_axis(axes, table, t0)
        for number, band in enumerate(_bands(table["band"])):
            color = COLORS.get(band, OTHERS[number % len(OTHERS)])
            rows = table[np.asarray(table["band"]) == band]
            _draw_band(axes, rows, zero, band, color, MARKERS[number % len(MARKERS)])
        axes.set_ylabel(f"magnitude ({table.meta.get('system', '')})")
        axes.margins(0.04, 0.08)
        axes.invert_yaxis()
        axes.grid(visible=True)
        axes.set_axisbelow(True)
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)


def _bands(bands: Iterable[Any]) -> list[str]:
    """PRIME's in order of wavelength, then the others in order of their coming."""
    there = list(dict.fromkeys(str(band) for band in bands))
    return [band for band in COLORS if band in there] + [b for b in there if b not in COLORS]


def _time_axis(axes: Axes, table: Table, t0: float) -> float:
    """Label and scale of the axis of time; the MJD of its zero."""
    mid = np.asarray(table["mjd_mid"], float)
    if np.isfinite(t0):
        axes.set_xlabel(f"days after T0 = {Time(t0, format='mjd').iso[:19]} UTC")
        if (mid > t0).all():
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        return t0
    first = float(np.floor(np.nanmin(mid)))
    axes.set_xlabel(f"days after {Time(first, format='mjd').iso[:10]} 0h UTC (MJD {first:.0f})")
    return first


def _draw_band(axes: Axes, rows: Table, zero: float, band: str, color: str, marker: str) -> None:
    """Detections with bars for error and exposure; limits as arrows down from the limit."""
    mid = np.asarray(rows["mjd_mid"], float)
    half = np.abs([mid - rows["mjd_begin"], np.asarray(rows["mjd_end"]) - mid])
    seen = np.asarray(rows["detection"], bool)
    plain: dict[str, Any] = {"color": color, "linestyle": "none", "elinewidth": 0.6, "capsize": 0}
    axes.errorbar(
        mid[seen] - zero, rows["mag"][seen], rows["mag_err"][seen], half[:, seen],
        marker=marker, label=band, **plain,
    )  # fmt: skip
    limits = np.asarray(rows[LIMIT], float)[~seen]
    axes.errorbar(
        mid[~seen] - zero, limits, None, half[:, ~seen], marker="_", markersize=6,
        label=None if seen.any() else band, **plain,
    )  # fmt: skip
    for x, y in zip(mid[~seen] - zero, limits, strict=True):
        axes.annotate(
            "", (x, y), (0, -11), textcoords="offset points", annotation_clip=True,
            arrowprops={"arrowstyle": "<-", "color": color, "linewidth": 0.8, "shrinkA": 0,
                        "shrinkB": 0},
        )  # fmt: skip
