"""A command of the command line as a row."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from photometrus.cli.options import Option

if TYPE_CHECKING:
    from photometrus.cli.order import Order

DONE, FAILED, USAGE, LOSSES = 0, 1, 2, 3
"""Exit codes; one that was stopped by a signal has 128 and its number."""


@dataclass(frozen=True)
class Command:
    """One command.

    summary : for the overview; about : for its own help
    groups : its options, under titles
    sample : a command that works; after : what to do next
    bare : the option whose value may stand first, without the option
    run : does it; the exit code
    """

    name: str
    summary: str
    about: str
    groups: dict[str, tuple[Option, ...]]
    sample: str
    after: str = ""
    bare: str = ""
    run: "Callable[[Order], int]" = field(kw_only=True)

    @property
    def options(self) -> list[Option]:
        """All options in order."""
        return [option for group in self.groups.values() for option in group]


def needed(*options: Option) -> tuple[Option, ...]:
    """The same options, as ones that the command cannot do without."""
    return tuple(replace(option, needed=True) for option in options)
