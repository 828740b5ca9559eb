"""Calibration stars: the used ones and, by reason, the others; the same marks in every panel."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from photometrus.plots.photometry.numbers import Array, shortened
from photometrus.plots.style import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
)

MARKS = ((VERMILLION, "x"), (GREEN, "^"), (PURPLE, "s"), (ORANGE, "D"), (SKY, "v"))
"""Of reasons, the most frequent first; a last mark is for all others."""
LONGEST_REASON = 20
"""Letters that have room in the legend."""
LOOKS = ((60, 4.2, 0.9), (1500, 2.6, 0.8), (8000, 1.6, 0.4), (np.inf, 1.2, 0.25))
"""Stars at most, size and opacity of their marks."""


@dataclass(frozen=True, eq=False)
class Group:
    """Stars that are drawn alike: bool (n,) of the table's rows."""

    words: str
    rows: Array
    color: str
    marker: str
    size: float
    alpha: float


def groups(stars: Table) -> list[Group]:
    """The stars that were not used, by reason, then those that were."""
    used = np.asarray(stars["used"], bool)
    reasons = np.array([_short(str(reason)) for reason in stars["reason"]], object)
    order = [reason for reason, _ in Counter(reasons[~used]).most_common()]
    named = order if len(order) <= len(MARKS) + 1 else order[: len(MARKS)]
    size, alpha = next((size, alpha) for most, size, alpha in LOOKS if len(stars) <= most)
    out = []
    for reason, (color, marker) in zip(named, (*MARKS, (FAINT, "+")), strict=False):
        out.append(Group(reason, ~used & (reasons == reason), color, marker, size, alpha))
    if len(named) < len(order):
        rest = ~used & ~np.isin(reasons, named)
        out.append(Group("other reasons", rest, FAINT, "+", size, alpha))
    return [*out, Group("used", used, BLUE, "o", size - 0.4, alpha)]


def _short(reason: str) -> str:
    return shortened(reason.split(":")[0].strip() or "not used", LONGEST_REASON)


def draw_stars(axes: Axes, stars: Table, x: Array, y: Array, limits: tuple[float, float]) -> None:
    """All stars; those above or below the limits of y lie on the edge."""
    low, high = limits
    axes.set_ylim(low, high)
    inside = np.clip(y, low + 0.02 * (high - low), high - 0.02 * (high - low))
    for one in groups(stars):
        axes.plot(
            x[one.rows], inside[one.rows], one.marker, color=one.color, markersize=one.size,
            alpha=one.alpha, markeredgewidth=0.7 if one.marker in "x+" else 0,
        )  # fmt: skip
    beyond = int(np.sum(np.isfinite(x) & (inside != y) & np.isfinite(y)))
    if beyond:
        axes.text(
            0.99, 0.035, f"{beyond} beyond, at the edge", transform=axes.transAxes, ha="right",
            fontsize=5.5, color=FAINT, zorder=7,
            bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.0},
        )  # fmt: skip


def draw_legend(axes: Axes, stars: Table) -> None:
    """The marks of the page in one line, each with the number of its stars."""
    axes.set_axis_off()
    shown = sorted(groups(stars), key=lambda one: one.words != "used")
    handles = [
        Line2D([], [], linestyle="", marker=one.marker, color=one.color, markersize=3.5,
               markeredgewidth=0.9 if one.marker in "x+" else 0,
               label=f"{one.words} {int(one.rows.sum())}")
        for one in shown
    ]  # fmt: skip
    handles += [
        Line2D([], [], linestyle="", marker="s", color=INK, markerfacecolor="white",
               markersize=3.5, markeredgewidth=0.9, label="median of a bin"),
        Line2D([], [], color=VERMILLION, label="fit ± 1σ"),
    ]  # fmt: skip
    axes.legend(
        handles=handles, loc="center left", ncols=len(handles), borderpad=0, borderaxespad=0,
        handletextpad=0.3, columnspacing=1.6, handlelength=1.4, fontsize=6.5, labelcolor=INK,
    )  # fmt: skip
