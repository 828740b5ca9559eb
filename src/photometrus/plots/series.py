"""What was measured on each frame, with time."""

from typing import Any

import numpy as np
from astropy.time import Time
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from photometrus.evidence import ChipEvidence
from photometrus.plots.style import BLUE, FAINT, GREEN, VERMILLION
from photometrus.plots.words import left_out_frames

MINUTES_PER_DAY = 1440.0
LABEL_ROOM = 0.07
"""From one frame's number to the next, of the axis of time."""


def draw_series(
    axes: Axes, evidence: ChipEvidence, title: str, columns: dict[str, str], factor: float = 1.0
) -> None:
    """Columns of the frames' table against time; frames that are not in the stack are crosses.

    title : what it is, with its unit
    columns : name: how the legend calls it (empty for none); at most two
    factor : from the column's unit to the title's
    """
    minutes = _minutes(evidence)
    used = np.asarray(evidence.frames["used"], bool)
    for (name, words), color, marker in zip(columns.items(), (BLUE, GREEN), "os", strict=False):
        values = factor * np.asarray(evidence.frames[name], float)
        axes.plot(minutes, values, color=color, linewidth=0.5, alpha=0.5)
        axes.plot(minutes[used], values[used], marker, color=color, label=words or None)
        axes.plot(minutes[~used], values[~used], "x", color=VERMILLION, markeredgewidth=1.1)
    _number(axes, evidence, minutes, [factor * evidence.frames[name] for name in columns])
    axes.set_title(title, pad=3, fontsize=6.5)
    axes.grid(visible=True)
    axes.set_axisbelow(True)
    axes.margins(x=0.05, y=0.2)
    if np.ptp(minutes) == 0:
        axes.set_xlim(minutes[0] - 1, minutes[0] + 1)
    axes.yaxis.set_major_locator(MaxNLocator(3))
    if not any(np.isfinite(np.asarray(evidence.frames[name])).any() for name in columns):
        axes.set_yticks([])
        axes.text(0.5, 0.5, "not known", transform=axes.transAxes, ha="center", va="center",
                  color=FAINT)  # fmt: skip
    if any(columns.values()):
        axes.legend(
            loc="lower right", bbox_to_anchor=(1.02, 1.03), ncols=2, borderpad=0, handletextpad=0,
            columnspacing=0.6, borderaxespad=0,
        )  # fmt: skip


def _number(axes: Axes, evidence: ChipEvidence, minutes: Any, columns: list[Any]) -> None:
    """The number of each frame that is not in the stack beside its first cross, where it has room.

    columns : float64 (n,) each, as drawn
    """
    out = ~np.asarray(evidence.frames["used"], bool)
    free = -np.inf
    for x, values, (number, _, _) in zip(
        minutes[out], np.stack(columns, axis=1)[out], left_out_frames(evidence), strict=True
    ):
        known = values[np.isfinite(values)]
        if known.size and x >= free:
            axes.annotate(
                str(number), (x, known[0]), (3.5, 0), textcoords="offset points", fontsize=5.5,
                color=VERMILLION, va="center",
            )  # fmt: skip
            free = x + LABEL_ROOM * np.ptp(minutes)


def time_label(evidence: ChipEvidence) -> str:
    """What the axis of time counts."""
    return f"minutes after {_begin(evidence).iso[11:16]} UTC"


def _begin(evidence: ChipEvidence) -> Any:
    return Time(float(np.min(evidence.frames["begin_mjd"])), format="mjd")


def _minutes(evidence: ChipEvidence) -> Any:
    """Of each frame's start, after the minute in which the first began."""
    whole = np.floor(_begin(evidence).mjd * MINUTES_PER_DAY)
    return np.asarray(evidence.frames["begin_mjd"]) * MINUTES_PER_DAY - whole
