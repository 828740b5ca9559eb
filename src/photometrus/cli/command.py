"""A command of the command line as a row."""

from dataclasses import dataclass, replace

from photometrus.cli.options import Option

DONE, FAILED, USAGE, LOSSES = 0, 1, 2, 3
"""Exit codes; one that was stopped by a signal has 128 and its number."""


@dataclass(frozen=True)
class Command:
    """One command.

    summary : for the overview; about : for its own help
    groups : its options, under titles
    sample : a command that works; after : what to do next
    room : the module of `photometrus.cli` that does it
    bare : the option whose value may stand first, without the option
    """

    name: str
    summary: str
    about: str
    groups: dict[str, tuple[Option, ...]]
    sample: str
    after: str = ""
    room: str = "run"
    bare: str = ""

    @property
    def options(self) -> list[Option]:
        """All options in order."""
        return [option for group in self.groups.values() for option in group]

    @property
    def runner(self) -> str:
        """The function of its room that does it."""
        return self.name.replace(" ", "_")


def needed(*options: Option) -> tuple[Option, ...]:
    """The same options, as ones that the command cannot do without."""
    return tuple(replace(option, needed=True) for option in options)
