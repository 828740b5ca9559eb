"""What the user sees: tables, progress, messages. Nothing that came from a header or the network
reaches the terminal as anything but text.
"""

import io
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from photometrus.cli.board import Board, Column, Finished
from photometrus.cli.live import live
from photometrus.cli.words import clean, clock
from photometrus.errors import MissingInput, PhotometrusError, UsageError
from photometrus.frame import NOTICE
from photometrus.io.journal import Journal
from photometrus.io.whole import missing_folders, remove_empty
from photometrus.passwords import without_password
from photometrus.products import JOURNAL

Told = Callable[[str, int, int], None]


PLAIN_WIDTH = 200
"""Columns when the output is no terminal: wide enough for a path in a table."""
PLAIN_EVERY_S = 60.0
"""Between two lines about the same step when there is no terminal to draw on."""


class Screen:
    """Where a command tells: results to the standard output, all else to the standard error.

    And all of it, with what is not shown, to the journal, when there is one.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        self.quiet = quiet
        self.out = _console(sys.stdout)
        self.err = _console(sys.stderr)
        level = logging.DEBUG if verbose else logging.ERROR if quiet else NOTICE
        self.handler = Handler(self.err, level)
        self.journal: Journal | None = None
        self._kept = ExitStack()
        self._made: list[Path] = []
        """The folders that came with the journal, the innermost first."""
        self._live: Live | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Show what the rooms below log, while it lasts; at its end the journal is closed."""
        logger = logging.getLogger("photometrus")
        before = logger.level
        # What is going on, in a line of the live view, is of level INFO.
        logger.setLevel(min(self.handler.shown, logging.INFO))
        logger.addHandler(self.handler)
        try:
            with self._kept:
                yield
        finally:
            logger.removeHandler(self.handler)
            logger.setLevel(before)

    def keep_journal(self, folder: Path, command: str, versions: str) -> None:
        """From now on write down all that is told in the folder's log file.

        A folder where that cannot be done is no reason to stop: what is wrong with it will show.
        """
        if self.journal is not None:
            return
        self._made = missing_folders(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            journal = Journal(folder / JOURNAL, _tidy, self.warn)
        except OSError as error:
            self.warn(f"no log file: {folder / JOURNAL}: {error.strerror}")
            return
        logger = logging.getLogger("photometrus")
        logger.setLevel(logging.DEBUG)
        logger.addHandler(journal)
        self.journal = journal
        journal.write(versions)
        journal.write(f"command: {command}")
        journal.write(f"in {Path.cwd()}")
        self._kept.push(self._close_journal)

    def _close_journal(self, _: object, error: BaseException | None, *__: object) -> None:
        journal, self.journal = self.journal, None
        if journal is None:
            return
        if isinstance(error, PhotometrusError):
            journal.write(str(error), logging.ERROR)
        elif isinstance(error, Exception):
            journal.write_bug(error)
        logging.getLogger("photometrus").removeHandler(journal)
        journal.close()
        path = Path(journal.baseFilename)
        if self._made and isinstance(error, UsageError | MissingInput):
            # Where nothing was, a wrong target or night leaves nothing.
            with suppress(OSError):
                if [*path.parent.iterdir()] == [path]:
                    path.unlink()
                    remove_empty(self._made)

    def hush(self) -> None:
        """A signal has come: nothing moves on the terminal any more."""
        self._note("stopped by a signal", logging.WARNING)
        if self._live is not None:
            self._live.stop()

    def end(self, code: int) -> None:
        """The command is done."""
        self._note(f"exit code {code}")

    def _note(self, text: str, level: int = logging.INFO) -> None:
        if self.journal is not None:
            self.journal.write(text, level)

    def line(self, text: object, style: str = "") -> None:
        """A line of results."""
        self._note(str(text))
        if not self.quiet:
            self.out.print(clean(text), style=style, soft_wrap=True)

    def step(self, text: str) -> None:
        """A line about what is going on."""
        self._note(text)
        if not self.quiet:
            self.err.print(clean(text), style="dim", soft_wrap=True)

    def state(self, word: str, what: str, text: str, style: str) -> None:
        """How something is: a word in colour, what it is, and more about it."""
        line = Text(f"{word:8s}", style).append(f"{clean(what):18s} ", "bold").append(clean(text))
        self._note(line.plain)
        self.out.print(line, soft_wrap=True)

    def raw(self, text: str) -> None:
        """Text with its own lines, as it is (a file of ours)."""
        self.out.print(text, end="", soft_wrap=True)

    def warn(self, text: object) -> None:
        """A line about what went wrong; also when quiet."""
        self._note(str(text), logging.WARNING)
        self.err.print(clean(text), style="yellow", soft_wrap=True)

    def notes(self, texts: Iterable[str]) -> None:
        """What the user should know of a result, each once; also when quiet."""
        for text in dict.fromkeys(texts):
            self.warn(f"note: {text}")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A table of results. A column whose name ends in a blank is set flush right.

        On a terminal that is too narrow the last column, if it is what is missing, comes below.
        """
        table = _table(title, columns, rows)
        if not self.quiet:
            narrow = _table(title, columns[:-1], [row[:-1] for row in rows])
            if self._has_room(table) or not self._has_room(narrow):
                self.out.print(table)
            else:
                self.out.print(narrow)
                for row in rows:
                    self.out.print(clean(f"{row[0]}: {row[-1]}"), soft_wrap=True)
        self._note_table(table)

    def _has_room(self, table: Table) -> bool:
        return Measurement.get(self.out, self.out.options, table).maximum < self.out.width

    def losses(self, rows: Sequence[tuple[str, str, str]], title: str = "Losses") -> None:
        """What was lost, and why; also when quiet."""
        if rows:
            table = _table(title, ("what", "happened", "why"), rows, style="yellow")
            self.err.print(table)
            self._note_table(table)

    def _note_table(self, table: Table) -> None:
        if self.journal is not None:
            text = io.StringIO()
            table.box = None  # a frame is of no use to who searches a file
            Console(file=text, width=PLAIN_WIDTH, markup=False, emoji=False).print(table)
            for line in text.getvalue().splitlines():
                self.journal.write(line)

    @contextmanager
    def progress(
        self,
        columns: Sequence[Column] = (),
        rows: Sequence[str] = (),
        *,
        of_each_part: int = 0,
        listed: bool = True,
    ) -> Iterator[Told]:
        """A function (step, done, of) that shows how far things are.

        columns, rows, of_each_part : as a `Board` wants them
        listed : whether the caller shows the result's notes and losses: then the log does not
            print them before, unless an error comes instead of a result
        """
        board = Board(columns, rows, of_each_part)
        show = _Teller(board, self._note)
        self.handler.kept = {} if listed else None
        try:
            with ExitStack() as stack:
                if not self.quiet and self.err.is_terminal and not self.err.is_dumb_terminal:
                    self.handler.board = board
                    stack.callback(setattr, self.handler, "board", None)
                    self._live = stack.enter_context(live(board, self.err))
                elif not self.quiet:
                    show.lines = self.err
                yield show
        except PhotometrusError:
            self.handler.print_kept()
            raise
        finally:
            self.handler.kept = None


class _Teller:
    """Takes progress from any thread to the board; what ends goes to the log file.

    lines : where a line is printed, too, for each step that ends, and now and then before
    """

    def __init__(self, board: Board, note: Callable[[str], None]) -> None:
        self.board = board
        self.note = note
        self.lines: Console | None = None
        self.last: dict[str, float] = {}
        self.lock = threading.Lock()

    def __call__(self, step: str, done: int, of: int) -> None:
        with self.lock:
            now = time.monotonic()
            for ended in self.board.tell(clean(step), done, of, now):
                self._print(_sentence(ended))
                self.last.pop(ended.words, None)
            if done < of and now - self.last.setdefault(step, now) > PLAIN_EVERY_S:
                self.last[step] = now
                self._print(f"{step} {done}/{of}")

    def _print(self, text: str) -> None:
        self.note(text)
        if self.lines is not None:
            at = time.strftime("%H:%M:%SZ", time.gmtime())
            self.lines.print(f"{at} {clean(text)}", soft_wrap=True)


def _sentence(ended: Finished) -> str:
    count = f" {ended.of}/{ended.of}" if ended.of > 1 else ""
    seconds = f"{ended.seconds:.1f} s" if ended.seconds < 60 else clock(ended.seconds)
    return f"{ended.words}{count}, {seconds}"


def _tidy(text: str) -> str:
    """A line for the log file; its blanks stay, for tables."""
    return without_password("".join(c if c.isprintable() else " " for c in text))


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
    """Log records as clean lines above what moves; the newest also in it.

    kept : those that the result will list, by their text; None while no list will come
    """

    def __init__(self, console: Console, level: int) -> None:
        super().__init__(logging.DEBUG)
        self.console = console
        self.shown = level
        self.board: Board | None = None
        self.kept: dict[str, logging.LogRecord] | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record, or keep it."""
        text = clean(record.getMessage())
        if self.kept is not None and getattr(record, "listed", False):
            if self.board is not None and text not in self.kept:
                self._point_out(record, text, self.board)
            self.kept[text] = record
            return
        if self.board is not None and record.levelno >= logging.INFO:
            self.board.message = text
        self._print(record, text)

    @staticmethod
    def _point_out(record: logging.LogRecord, text: str, board: Board) -> None:
        if record.levelno >= logging.WARNING:
            board.notes.append(text)
        else:
            board.message = text

    def print_kept(self) -> None:
        """What was to be listed, since no list will come."""
        for text, record in (self.kept or {}).items():
            self._print(record, text)

    def _print(self, record: logging.LogRecord, text: str) -> None:
        if record.levelno >= self.shown:
            word = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
            style = {"WARNING": "yellow", "ERROR": "red"}.get(record.levelname, "dim")
            self.console.print(word + text, style=style, soft_wrap=True)
