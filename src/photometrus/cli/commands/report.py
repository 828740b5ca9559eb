"""`photometrus report`: the page of an observation for a browser."""

from dataclasses import replace
from typing import TYPE_CHECKING

from photometrus.cli.command import DONE, FAILED, LOSSES, Command
from photometrus.cli.options import COMMON, PARENT
from photometrus.errors import PhotometrusError

if TYPE_CHECKING:
    from photometrus.cli.order import Order


def report(order: "Order") -> int:
    """The page of an observation, or of all below a folder, made anew."""
    from photometrus.htmlreport.page import write_report
    from photometrus.htmlreport.tree import find_observations

    folder = order["parent"]
    # A folder with a log and no record yet is not one to be searched either.
    folders = find_observations(folder)
    if folders in ([], [folder]):
        order.screen.line(f"{write_report(folder)}")
        return DONE
    losses = []
    for one in folders:
        try:
            order.screen.line(f"{write_report(one)}")
        except PhotometrusError as error:
            losses.append((str(one.relative_to(folder)), "no report", str(error)))
    order.screen.losses(losses)
    return (FAILED if len(losses) == len(folders) else LOSSES) if losses else DONE


REPORT = Command(
    "report",
    "the page of an observation for a browser, made anew",
    "Writes report.html into the folder of an observation: verdict, the chips as on the sky,\n"
    "frames, quality, photometry, how it was made. One file that needs no network. Of a folder\n"
    "that holds observations, all of them get theirs.",
    {
        "What": (
            replace(
                PARENT,
                words="folder that holds run.json, or observations",
                default="",
                needed=True,
            ),
        ),
        "General": COMMON,
    },
    "photometrus report ../../field1111/",
    "The pipeline writes it, too; do it again after photometry.",
    bare="parent",
    run=report,
)
