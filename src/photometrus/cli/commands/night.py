"""`photometrus night`: all that was observed in a night."""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from photometrus.cards import figure
from photometrus.cli.board import REDUCING
from photometrus.cli.command import DONE, FAILED, LOSSES, Command
from photometrus.cli.options import (
    ARCHIVE,
    ASTROMNET,
    BAND,
    BESIDE,
    CATALOG,
    CHIP,
    CHOOSING,
    COMMON,
    DATE,
    ENGINE,
    FLAT_DIR,
    FTYPE,
    NO_FF,
    NO_SHIFT,
    PARENT,
    ROTATOR,
    RUNNING,
    SIGMA,
    TARGET,
    Option,
)
from photometrus.cli.reading import bands, names

if TYPE_CHECKING:
    from photometrus.cli.order import Order
    from photometrus.cli.show import Screen
    from photometrus.night import NightReport


def night(order: "Order") -> int:
    """All of a night."""
    from photometrus.night import NightRequest, reduce_night

    root = order.get("parent", Path())
    request = NightRequest(
        night=order["date"],
        root=root,
        chips=order.chips,
        targets=order.get("target", ()),
        bands=order.get("band", ()),
        observer=order.get("observer", ""),
        command=order.text,
        restart=order.get("restart", False),
        wait=order.get("wait", False),
    )
    config = order.config()
    order.keep_journal(root)
    begun = time.monotonic()
    with order.screen.progress(REDUCING, of_each_part=len(order.chips)) as progress:
        report = reduce_night(request, config, progress=progress)
    show_night(order.screen, report, time.monotonic() - begun)
    if report.failed:
        return FAILED
    return DONE if report.complete else LOSSES


def show_night(screen: "Screen", report: "NightReport", seconds: float) -> None:
    """The table of a night, and what is not in it."""
    columns = ("field", "band", "chips ", "frames ", 'seeing " ', "sky ADU ", "left out ", "lost ",
               "s ", "state", "folder")  # fmt: skip
    rows = [
        (
            row["target"],
            row["band"],
            f"{row['chips']}/{row['chips_asked']}",
            f"{row['frames_used']}/{row['frames']}",
            figure(row["seeing_arcsec"], 2),
            figure(row["sky_adu"], 0),
            row["left_out"],
            row["lost"],
            figure(row["seconds"], 0),
            row["state"],
            row["folder"],
        )
        for row in report.table
    ]
    screen.table(f"night of {report.table.meta['night']}", columns, rows)
    losses, notes = [], []
    for one in report.outcomes:
        name = f"{one.target} {one.band}"
        if one.observation is None:
            losses.append((name, "failed", one.error))
        else:
            losses += [(f"{name} {what}", how, why) for what, how, why in one.observation.losses]
            notes += [f"{name}: {note}" for note in one.observation.told]
    screen.losses(losses, "Not in the stacks")
    screen.notes(notes)
    screen.line(f"{seconds:.0f} s; the table: {report.path}")


NIGHT = Command(
    "night",
    "all that was observed in a night",
    "Reduces every field of a night in every band, each into PARENT/<target>_<date>/<band>. What\n"
    "was done before, of the same files and with the same settings, is not done again: stopped\n"
    "in the middle, it goes on where it was.",
    {
        "What": (
            replace(DATE, needed=True),
            replace(TARGET, words="only these fields", shown="A,B", read=names, default="all"),
            replace(BAND, words="only these bands", shown="J,H", read=bands, default="all"),
            Option("observer", "only what this one observed", "NAME", default="all"),
            CHIP,
            replace(PARENT, words="folder for all of it, made if missing", default="."),
        ),
        "Which frames": CHOOSING,
        "From where": (ARCHIVE, FTYPE, CATALOG, FLAT_DIR),
        "How": (ROTATOR, NO_SHIFT, ASTROMNET, NO_FF, SIGMA, ENGINE),
        "Beside the stack": BESIDE,
        "Running": RUNNING,
        "General": COMMON,
    },
    "photometrus night -date 20240606 -parallel -keep final",
    "Exit code 0: done; 1: failed; 2: the command was wrong; 3: done, with losses.\n"
    "The table is night_<date>.ecsv. What was observed?  photometrus log -date 20240606",
    run=night,
)
