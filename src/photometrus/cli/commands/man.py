"""`photometrus man`: the manual page."""

from typing import TYPE_CHECKING

from photometrus.cli.command import DONE, Command
from photometrus.cli.options import HELP

if TYPE_CHECKING:
    from photometrus.cli.order import Order


def man(order: "Order") -> int:
    """The manual page."""
    from photometrus.cli.manual import page

    order.screen.raw(page())
    return DONE


MAN = Command(
    "man",
    "the manual page",
    "Writes the manual page, all commands with all options, as man wants it. pip installs it,\n"
    "too, in share/man/man1 of the environment.",
    {"General": (HELP,)},
    "photometrus man",
    "To read it:  photometrus man | man -l -",
    run=man,
)
