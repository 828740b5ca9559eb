"""`photometrus stack`: the chips whose ramps are on disk."""

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from photometrus.cli.board import REDUCING
from photometrus.cli.command import Command
from photometrus.cli.commands.pipeline import NEXT, chip_rows, show_observation
from photometrus.cli.options import (
    ASTROMNET,
    BAND,
    BESIDE,
    CATALOG,
    CHIP,
    CHOOSING,
    COMMON,
    ENGINE,
    FLAT_DIR,
    NET_REFINE,
    NO_FF,
    NO_SHIFT,
    PARENT,
    ROTATOR,
    RUNNING,
    SIGMA,
    SKY_OVERRIDE,
)
from photometrus.instrument import CHIPS
from photometrus.products import Products

if TYPE_CHECKING:
    from photometrus.cli.order import Order


def stack(order: "Order") -> int:
    """Chips on disk."""
    from photometrus.pipeline import reduce_folder

    parent, band = order["parent"], order["band"]
    products = Products(parent, band)
    # Without -chip, a chip of which nothing is there has not been asked for.
    there = tuple(chip for chip in CHIPS if any(products.ramps(chip).glob("*.ramp.fits")))
    chips = order.get("chip", there or tuple(CHIPS))
    config = order.config()
    if parent.is_dir():
        order.keep_journal(parent)
    begun = time.monotonic()
    with order.screen.progress(REDUCING, chip_rows(chips)) as progress:
        observation = reduce_folder(
            parent,
            band,
            chips,
            config,
            command=order.text,
            restart=order.get("restart", False),
            wait=order.get("wait", False),
            progress=progress,
        )
    return show_observation(order.screen, parent, observation, time.monotonic() - begun)


STACK = Command(
    "stack",
    "the same for ramps that are on disk",
    "Reduces the ramps in PARENT/C1 ... C4 to one stack per chip.",
    {
        "What": (
            replace(PARENT, words="folder that holds C1, C2, ...", default="", needed=True),
            replace(BAND, needed=True),
            replace(CHIP, default="those with ramps on disk"),
        ),
        "Which frames": CHOOSING,
        "With": (CATALOG, FLAT_DIR),
        "How": (ROTATOR, NO_SHIFT, NET_REFINE, ASTROMNET, NO_FF, SIGMA, SKY_OVERRIDE, ENGINE),
        "Beside the stack": BESIDE,
        "Running": RUNNING,
        "General": COMMON,
    },
    "photometrus stack -parent ../../field1111/ -band J -chip 1,3",
    NEXT,
    run=stack,
)
