"""What the user sees: tables, progress, messages. Nothing that came from a header or the network
reaches the terminal as anything but text.
"""

import logging
import math
import sys
import threading
import time
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from photometrus.frame import NOTICE

PLAIN_WIDTH = 200
"""Columns when the output is no terminal: wide enough for a path in a table."""
PLAIN_EVERY_S = 10.0
"""Between two lines about the same step when there is no terminal to draw a bar on."""


def clean(text: object) -> str:
    """The text in one line, without anything that steers a terminal."""
    safe = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in str(text))
    return " ".join(safe.split())


class Screen:
    """Where a command tells: results to the standard output, all else to the standard error."""

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        self.quiet = quiet
        self.out = _console(sys.stdout)
        self.err = _console(sys.stderr)
        level = logging.INFO if verbose else logging.ERROR if quiet else NOTICE
        self.handler = Handler(self.err, level)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Show what the rooms below log, while it lasts."""
        logger = logging.getLogger("photometrus")
        before = logger.level
        logger.setLevel(self.handler.level)
        logger.addHandler(self.handler)
        try:
            yield
        finally:
            logger.removeHandler(self.handler)
            logger.setLevel(before)

    def line(self, text: object, style: str = "") -> None:
        """A line of results."""
        if not self.quiet:
            self.out.print(clean(text), style=style, soft_wrap=True)

    def step(self, text: str) -> None:
        """A line about what is going on."""
        if not self.quiet:
            self.err.print(clean(text), style="dim", soft_wrap=True)

    def raw(self, text: str) -> None:
        """Text with its own lines, as it is (a file of ours)."""
        self.out.print(text, end="", soft_wrap=True)

    def warn(self, text: object) -> None:
        """A line about what went wrong; also when quiet."""
        self.err.print(clean(text), style="yellow", soft_wrap=True)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A table of results. A column whose name ends in a blank is set flush right."""
        if not self.quiet:
            self.out.print(_table(title, columns, rows))

    def losses(self, rows: Sequence[tuple[str, str, str]], title: str = "Losses") -> None:
        """What was lost, and why; also when quiet."""
        if rows:
            self.err.print(_table(title, ("what", "happened", "why"), rows, style="yellow"))

    @contextmanager
    def progress(self) -> Iterator[Any]:
        """A function (step, done, of) that shows how far things are."""
        if self.quiet:
            yield _say_nothing
        elif self.err.is_terminal:
            with Bars(self.err) as bars:
                yield bars.tell
        else:
            yield Lines(self.err).tell


def _say_nothing(step: str, done: int, of: int) -> None:
    """Progress of a quiet run."""


def _console(stream: Any) -> Console:
    console = Console(file=stream, markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    return console


def _table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], style: str = ""
) -> Table:
    table = Table(title=clean(title), title_justify="left", title_style="bold", style=style)
    for name in columns:
        right = name.endswith(" ")
        table.add_column(name.strip(), justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(clean(cell) for cell in row))
    return table


class Handler(logging.Handler):
    """Log records as clean lines beside the bars."""

    def __init__(self, console: Console, level: int) -> None:
        super().__init__(level)
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        word = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        style = {"WARNING": "yellow", "ERROR": "red"}.get(record.levelname, "dim")
        self.console.print(word + clean(record.getMessage()), style=style, soft_wrap=True)


class Bars:
    """One bar per step; told from any thread."""

    def __init__(self, console: Console) -> None:
        self.bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self.tasks: dict[str, Any] = {}
        self.lock = threading.Lock()

    def __enter__(self) -> "Bars":
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def tell(self, step: str, done: int, of: int) -> None:
        """Move the bar of a step; a finished one goes away."""
        with self.lock:
            if step not in self.tasks:
                self.tasks[step] = self.bars.add_task(clean(step), total=of)
            task = self.tasks[step]
            self.bars.update(task, completed=done, total=of)
            if done >= of:
                self.bars.remove_task(self.tasks.pop(step))


class Lines:
    """A line when a step ends, and now and then before."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.last: dict[str, float] = {}
        self.lock = threading.Lock()

    def tell(self, step: str, done: int, of: int) -> None:
        """Print how far a step is, if it is time to."""
        with self.lock:
            now = time.monotonic()
            begun = self.last.setdefault(step, now)
            if done >= of or now - begun > PLAIN_EVERY_S:
                self.console.print(f"{clean(step)} {done}/{of}", soft_wrap=True)
                self.last[step] = now


def figure(value: float | None, digits: int, factor: float = 1.0) -> str:
    """A number for a table; a dash when there is none."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value * factor:.{digits}f}"
