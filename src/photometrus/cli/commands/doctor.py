"""`photometrus doctor`: whether all is there that a reduction needs."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from photometrus.cli.command import DONE, FAILED, Command
from photometrus.cli.options import ARCHIVE, COMMON, DATE, FLAT_DIR, Option
from photometrus.cli.reading import folder, positive

if TYPE_CHECKING:
    from photometrus.cli.order import Order
    from photometrus.cli.show import Screen
    from photometrus.doctor.finding import Finding

STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}
WIDE, HIGH = 80, 20
"""Smaller terminals show less while something runs."""


def doctor(order: "Order") -> int:
    """Look at everything, tell each as soon as it is known."""
    from photometrus.doctor.visit import examine

    screen, found = order.screen, []
    as_json = order.get("json", False)
    visit = examine(
        order.config(),
        order.get("parent", Path()),
        order.get("date"),
        timeout_s=order.get("timeout", 8.0),
    )
    for finding in chain(visit, terminal(screen)):
        found.append(finding)
        if not as_json:
            tell(screen, finding)
    states = [finding.state for finding in found]
    problems, warnings = states.count("problem"), states.count("warning")
    if as_json:
        screen.raw(json.dumps([asdict(finding) for finding in found], indent=1) + "\n")
    elif problems:
        screen.warn(f"{_number(problems, 'problem')} to mend before a reduction can begin")
    else:
        hint = f"; {_number(warnings, 'warning')}" if warnings else ""
        screen.line(f"a reduction can begin{hint}")
    return FAILED if problems else DONE


def tell(screen: "Screen", finding: "Finding") -> None:
    """A finding in a line, and how to mend it in the next; when quiet, only what is wrong."""
    if screen.quiet and finding.state != "problem":
        return
    screen.state(finding.state, finding.what, finding.words, STYLES[finding.state])
    if finding.mend:
        screen.state("", "", f"-> {finding.mend}", "")


def terminal(screen: "Screen") -> "Iterator[Finding]":
    """What can be drawn while something runs."""
    from photometrus.doctor.finding import Finding

    console = screen.err
    if not console.is_terminal or console.is_dumb_terminal:
        yield Finding("terminal", "ok", "none, or a dumb one: progress is told in plain lines")
        return
    words = f"{console.width} x {console.height}, {console.color_system or 'no'} colours"
    words += f", {console.encoding}"
    if console.width < WIDE or console.height < HIGH:
        mend = f"make it {WIDE} x {HIGH} or larger to see all steps of all chips"
        yield Finding("terminal", "warning", words, mend)
    else:
        yield Finding("terminal", "ok", words)


def _number(n: int, word: str) -> str:
    return f"{n} {word}{'s' if n > 1 else ''}"


DOCTOR = Command(
    "doctor",
    "is all there that a reduction needs? How to mend what is not",
    "Looks at the installation, the machine, disk, flats and other stores, the archive, the\n"
    "catalogue services, optional programs and the terminal; and says how to mend what is wrong.",
    {
        "What": (
            Option("parent", "folder where products are to go", "DIR", folder, default="."),
            ARCHIVE,
            Option("date", "a night whose log the archive should have", DATE.shown, DATE.read,
                   default="any of the last days"),
            FLAT_DIR,
            Option("timeout", "longest wait for the network, s", "S", positive, default="8"),
        ),
        "How": (Option("json", "for programs: a list of objects"),),
        "General": COMMON,
    },
    "photometrus doctor -archive sftp://me@prime/ -date 20240606",
    "Exit code 0: a reduction can begin; 1: something must be mended before.",
    run=doctor,
)  # fmt: skip
