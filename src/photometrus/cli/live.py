"""What moves on a terminal while a command runs: a table of chips and steps, and what is left."""

import time
from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from photometrus.cli.board import Board, Cell, Row
from photometrus.cli.words import clean, clock, rate

REFRESH_HZ = 4
MAX_SINGLE, MAX_DONE = 6, 3
"""Steps without a row that are shown: those at work, the last that are done."""
MAX_NOTES = 3
"""The last ones; all are listed at the end."""
WITH_RATE = 12
"""Columns of the terminal that a rate behind the table needs."""
UNICODE = {"": "·", "done": "✓", "failed": "✗", "as before": "=", "skipped": " "}
ASCII = {"": ".", "done": "x", "failed": "!", "as before": "=", "skipped": " "}
STYLES = {"": "dim", "done": "green", "failed": "bold red", "as before": "dim", "skipped": ""}


class View:
    """A board as rich draws it; made anew for each picture."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.begun = time.monotonic()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Group]:
        marks = UNICODE if "utf" in console.encoding.lower() else ASCII
        now, width = time.monotonic(), options.max_width
        parts: list[RenderableType] = list(self._single(now, width))
        notes = self.board.notes[-MAX_NOTES:]
        room = max(1, console.height - len(parts) - len(notes) - 5)
        rows, hidden = self._shown(room)
        if rows:
            parts.append(self._table(rows, now, width, marks))
        if hidden:
            parts.append(Text(f"and {hidden}", style="dim", no_wrap=True, overflow="ellipsis"))
        if self.board.rows:
            parts.append(self._whole(now, width))
        for note in notes:
            parts.append(Text(note, "yellow", no_wrap=True, overflow="ellipsis"))
        if self.board.message:
            parts.append(Text(self.board.message, "dim", no_wrap=True, overflow="ellipsis"))
        yield Group(*parts)

    def _shown(self, room: int) -> tuple[list[Row], str]:
        """The rows that there is room for, those at work first; words about the others."""
        rows = list(self.board.rows.values())
        if len(rows) <= room:
            return rows, ""
        shown = [row for row in rows if not row.end][:room]
        ended = [row.end for row in rows if row.end]
        told = [f"{ended.count(end)} {end}" for end in dict.fromkeys(ended)]
        waiting = len(rows) - len(ended) - len(shown)
        return shown, ", ".join([*told, *([f"{waiting} more"] if waiting else [])])

    def _single(self, now: float, width: int) -> Iterator[RenderableType]:
        """Steps that belong to no row: a bar while one goes on, those just done in a line."""
        steps = list(self.board.single.items())
        for name, cell in [one for one in steps if one[1].ended_s is None][:MAX_SINGLE]:
            yield _bar_line(name, cell, now, width)
        done = []
        for name, cell in steps:
            if cell.ended_s is not None:
                count = f" {cell.of}" if cell.of > 1 else ""
                done.append(f"{clean(name)}{count} {clock(cell.ended_s - cell.step_s)}")
        if done:
            yield Text(" · ".join(done[-MAX_DONE:]), "dim", no_wrap=True, overflow="ellipsis")

    def _table(self, rows: list[Row], now: float, width: int, marks: dict[str, str]) -> Table:
        columns = self.board.columns
        names = max(len(row.name) for row in rows)
        needed = names + 7 + sum(2 + max(5, len(one.heading)) for one in columns)
        if needed > width:
            return self._narrow(rows, now, width)
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True, style="bold")
        for _ in columns:
            table.add_column(no_wrap=True, min_width=5, justify="center")
        table.add_column(no_wrap=True, justify="right", min_width=5)
        with_rate = needed + WITH_RATE <= width
        if with_rate:
            table.add_column(no_wrap=True, justify="right", min_width=6)
        table.add_row("", *(Text(one.heading, "dim") for one in columns))
        for row in rows:
            cells = [self._cell(row, k, now, marks) for k in range(len(columns))]
            last = [Text(_time(row, now)), *([_rate(row, now)] if with_rate else [])]
            table.add_row(clean(row.name), *cells, *last)
        return table

    def _cell(self, row: Row, column: int, now: float, marks: dict[str, str]) -> Text:
        cell = row.cells.get(column)
        if row.end == "as before":
            kind = "as before"
        elif cell is not None and cell.ended_s is None and not row.end:
            return Text(_progress(cell, now), "bold cyan")
        elif cell is not None and cell.ended_s is not None:
            kind = "done"
        elif row.end == "failed" and column >= row.current:
            kind = "failed" if column == max(0, row.current) else ""
        else:
            kind = "skipped" if column < row.current or row.end else ""
        return Text(marks[kind], STYLES[kind])

    def _narrow(self, rows: list[Row], now: float, width: int) -> Table:
        """One bar per row, with the step that it is at."""
        table = Table.grid(padding=(0, 1, 0, 0))
        table.add_column(no_wrap=True, style="bold", max_width=max(4, width // 3))
        table.add_column(min_width=8)
        table.add_column(no_wrap=True, min_width=17)
        table.add_column(no_wrap=True, justify="right", min_width=5)
        for row in rows:
            bar = _bar(1.0, self.board.fraction_of(row), max(8, width // 5))
            table.add_row(clean(row.name), bar, Text(_step(row, now)), _time(row, now))
        return table

    def _whole(self, now: float, width: int) -> Table:
        fraction, left = self.board.fraction(), self.board.left_s(now)
        words = f"{fraction:4.0%}  {clock(now - self.begun)}"
        if left is not None and fraction < 1:
            words += f", about {clock(left)} left"
        table = Table.grid(padding=(0, 1, 0, 0))
        bar = _bar(1.0, fraction, max(10, min(40, width - 34)))
        table.add_row(bar, Text(words, no_wrap=True))
        return table


def live(board: Board, console: Console) -> Live:
    """The picture of a board on a terminal, for as long as it is entered; nothing of it stays."""
    return Live(View(board), console=console, refresh_per_second=REFRESH_HZ, transient=True)


def _progress(cell: Cell, now: float) -> str:
    """How far a step is, in five characters; for one that does not count, how long it takes."""
    if cell.of <= 1:
        return f"{min(now - cell.step_s, 9999):.0f} s"
    text = f"{cell.done}/{cell.of}"
    return text if len(text) <= 5 else f"{cell.done / cell.of:.0%}"


def _time(row: Row, now: float) -> str:
    if row.begun_s is None:
        return ""
    return clock((now if row.ended_s is None else row.ended_s) - row.begun_s)


def _rate(row: Row, now: float) -> Text:
    cell = row.cells.get(row.current)
    speed = None if cell is None or row.end or cell.ended_s is not None else cell.rate(now)
    return Text("" if speed is None else rate(speed), "dim")


def _step(row: Row, now: float) -> str:
    if row.end or not row.cells:
        return row.end or "waits"
    cell = row.cells[row.current]
    return f"{cell.step} {_progress(cell, now)}" if cell.of > 1 else cell.step


def _bar_line(name: str, cell: Cell, now: float, width: int) -> Table:
    table = Table.grid(padding=(0, 1, 0, 0))
    speed = cell.rate(now)
    words = f"{cell.done}/{cell.of}" if cell.of > 1 else clock(now - cell.step_s)
    if speed is not None:
        words += f"  {rate(speed)}, about {clock((cell.of - cell.done) / speed)} left"
    total = cell.of if cell.of > 1 else None
    bar = _bar(total, cell.done, max(8, min(30, width // 4)))
    table.add_row(Text(clean(name), "bold"), bar, Text(words, no_wrap=True, overflow="ellipsis"))
    return table


def _bar(total: float | None, done: float, width: int) -> ProgressBar:
    """A bar; without a total one that only shows that something goes on."""
    return ProgressBar(
        total, done, width=width, pulse=total is None, complete_style="cyan", pulse_style="cyan"
    )
