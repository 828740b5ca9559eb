"""What can be typed: `photometrus NAME ...` is in `NAME.py`, the function that does it and its row.

Rows are read for every help; what a function needs is imported in it, since numba and astropy take
a second.
"""

from collections.abc import Iterator

from photometrus.cli.commands import astrom, config, process
from photometrus.cli.commands.completion import COMPLETION
from photometrus.cli.commands.doctor import DOCTOR
from photometrus.cli.commands.full import FULL
from photometrus.cli.commands.getdata import GETDATA
from photometrus.cli.commands.lightcurve import LIGHTCURVE
from photometrus.cli.commands.log import LOG
from photometrus.cli.commands.man import MAN
from photometrus.cli.commands.night import NIGHT
from photometrus.cli.commands.photometry import PHOTOMETRY
from photometrus.cli.commands.pipeline import PIPELINE
from photometrus.cli.commands.report import REPORT
from photometrus.cli.commands.serve import SERVE
from photometrus.cli.commands.simulate import SIMULATE
from photometrus.cli.commands.stack import STACK
from photometrus.cli.commands.warm import WARM

SAMPLE = PIPELINE.sample
COMMANDS = {
    command.name: command
    for command in (
        PIPELINE, PHOTOMETRY, FULL, LIGHTCURVE, NIGHT, STACK, GETDATA, LOG, *process.STEPS,
        *astrom.STEPS, REPORT, SERVE, SIMULATE, WARM, DOCTOR, *config.FORMS, COMPLETION, MAN,
    )
}  # fmt: skip
GROUPS = {"process": "steps on pixels", "astrom": "steps of astrometry"}


def members(group: str) -> list[str]:
    """The steps of ``process`` or ``astrom``, by their second word."""
    return [name.split()[1] for name in COMMANDS if name.startswith(group + " ")]


def overview() -> Iterator[tuple[str, str]]:
    """(command, summary) for each line of the overview."""
    seen = set()
    for name, command in COMMANDS.items():
        first = name.split()[0]
        if first in GROUPS:
            if first not in seen:
                yield first, f"{GROUPS[first]}: {', '.join(members(first))}"
            seen.add(first)
        elif name == first:
            yield name, command.summary
