"""`photometrus getdata`: the night log and the ramps of an observation."""

from functools import partial
from typing import TYPE_CHECKING

from photometrus.cli.command import Command, needed
from photometrus.cli.options import (
    ARCHIVE,
    BAND,
    CHIP,
    COMMON,
    DATE,
    EXCLUDE,
    FTYPE,
    PARENT,
    RAMPNUM,
    TARGET,
    Option,
)
from photometrus.cli.step import run_step
from photometrus.products import Products, default_parent

if TYPE_CHECKING:
    from photometrus.cli.order import Order

OVERWRITE = Option("overwrite", "fetch also what is there")


def getdata(order: "Order") -> int:
    """Log and ramps."""
    from photometrus import steps

    target, night, band = order["target"], order["date"], order["band"]
    parent = order.get("parent", default_parent(target, night, band))
    where = (Products(parent, band), target, night, order.chips)
    overwrite = order.get("overwrite", False)
    order.keep_journal(parent)
    call = partial(steps.get_data, *where, order.config(), overwrite=overwrite)
    return run_step(order, call, parent, fate="not downloaded")


GETDATA = Command(
    "getdata",
    "the night log and the ramps of an observation",
    "Fetches, and lists what the archive does not have in failed_downloads_list.txt.",
    {
        "What": (*needed(TARGET, DATE, BAND), CHIP, PARENT),
        "Which frames": (RAMPNUM, EXCLUDE),
        "From where": (ARCHIVE, FTYPE, OVERWRITE),
        "General": COMMON,
    },
    "photometrus getdata -target field1111 -date 20240606 -band J -chip 1,2",
    "Then:  photometrus stack -parent field1111_20240606/J -band J",
    run=getdata,
)
