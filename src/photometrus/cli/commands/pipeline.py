"""`photometrus pipeline`: all of an observation, and what is shown of it."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from photometrus.cli.board import REDUCING
from photometrus.cli.command import DONE, FAILED, LOSSES, Command, needed
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
    NO_DOWNLOAD,
    NO_FF,
    NO_SHIFT,
    PARENT,
    ROTATOR,
    RUNNING,
    SIGMA,
    SKY_OVERRIDE,
    TARGET,
)
from photometrus.products import Products, default_parent

if TYPE_CHECKING:
    from photometrus.cli.order import Order
    from photometrus.cli.show import Screen
    from photometrus.observation import Observation

NEXT = """\
Exit code 0: done; 1: failed; 2: the command was wrong; 3: done, with losses, listed in a table.
The stacks are in stack/, everything that was measured is in run.json.
Was the field observed?  photometrus log -date 20240606 -target field1111"""


def pipeline(order: "Order") -> int:
    """The whole of it."""
    return reduced(order)[0]


def reduced(order: "Order") -> tuple[int, "Observation"]:
    """An observation downloaded, reduced and shown: the exit code, and what became of it."""
    from photometrus.arrivals import Request
    from photometrus.pipeline import reduce_observation

    target, night, band = order["target"], order["date"], order["band"]
    request = Request(
        target=target,
        night=night,
        band=band,
        chips=order.chips,
        parent=order.get("parent", default_parent(target, night, band)),
        download=not order.get("no_download", False),
        command=order.text,
        restart=order.get("restart", False),
        wait=order.get("wait", False),
    )
    config = order.config()
    order.keep_journal(request.parent)
    begun = time.monotonic()
    with order.screen.progress(REDUCING, chip_rows(order.chips)) as progress:
        observation = reduce_observation(request, config, progress=progress)
    seconds = time.monotonic() - begun
    return show_observation(order.screen, request.parent, observation, seconds), observation


def chip_rows(chips: Iterable[int]) -> list[str]:
    """What the rows of chips are called while they are reduced."""
    return [f"C{chip}" for chip in chips]


def show_observation(
    screen: "Screen", parent: Path, observation: "Observation", seconds: float
) -> int:
    """The tables of an observation, and the exit code."""
    from photometrus.track import CHIP_COLUMNS, below

    screen.table(f"{parent}", CHIP_COLUMNS, [chip.row(parent) for chip in observation.chips])
    screen.losses(observation.losses, "Not in the stacks")
    screen.notes(observation.told)
    for result in observation.chips:
        for path in result.extras:
            if not path.name.startswith("weight."):
                screen.line(f"C{result.chip}: also {below(path, parent)}")
    if observation.unchanged:
        names = " ".join(f"C{chip}" for chip in observation.unchanged)
        screen.line(f"{names}: made before of the same; -restart makes all again")
    screen.line(f"{seconds:.0f} s; everything that was measured: {observation.record}")
    page = Products(observation.record.parent, "").html_report
    if page.is_file():
        screen.line(f"all of it on one page, for a browser: {page}")
    if all(result.coadd is None for result in observation.chips):
        return FAILED
    return DONE if observation.complete else LOSSES


PIPELINE = Command(
    "pipeline",
    "all of it: log, ramps, flats, sky, astrometry, one stack per chip",
    "Fetches the night log and the ramps of an observation and reduces each chip to a stack with\n"
    "a weight map. What is on disk already is not fetched again, and a chip that was made of the\n"
    "same files with the same settings is not made again: stopped, it goes on where it was.",
    {
        "What": (PARENT, *needed(TARGET, DATE, BAND), CHIP),
        "Which frames": CHOOSING,
        "From where": (ARCHIVE, FTYPE, NO_DOWNLOAD, CATALOG, FLAT_DIR),
        "How": (ROTATOR, NO_SHIFT, ASTROMNET, NO_FF, SIGMA, SKY_OVERRIDE, ENGINE),
        "Beside the stack": BESIDE,
        "Running": RUNNING,
        "General": COMMON,
    },
    "photometrus pipeline -parent ../../field1111/ -target field1111 -date 20240606 -band J",
    NEXT,
    run=pipeline,
)
