"""Who does what while it runs: rows of steps, how far each is, what is left; it draws nothing.

Rooms below tell their progress as (words, done, of). Words are a row and a step, ``C1 stars`` or
``field1111 J C1 stars``, or a step alone, ``download``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Column(NamedTuple):
    """A column of the table: its heading, the steps that it stands for, its share of the time."""

    heading: str
    steps: tuple[str, ...]
    share: float


REDUCING = (
    Column("calib", ("calibrate",), 0.02),
    Column("sky 1", ("first sky",), 0.08),
    Column("stars", ("stars",), 0.16),
    Column("solve", ("astrometry",), 0.06),
    Column("mask", ("star mask",), 0.10),
    Column("marks", ("artifacts",), 0.20),
    Column("sky 2", ("sky", "background"), 0.16),
    Column("write", ("products",), 0.08),
    Column("stack", ("coadd", "astromatic"), 0.10),
    Column("page", ("page",), 0.04),
)
"""A chip's reduction, in order."""
MEASURING = (
    Column("survey", ("catalogue",), 0.05),
    Column("found", ("sources",), 0.10),
    Column("PSF", ("PSF",), 0.10),
    Column("fluxes", ("fluxes",), 0.35),
    Column("zero", ("zero point",), 0.05),
    Column("depth", ("completeness",), 0.25),
    Column("plots", ("plots",), 0.10),
)
"""A stack's photometry, in order."""
ENDS = ("finished", "failed", "as before")
"""The last that is told of a row."""
LEAST_FRACTION, LEAST_S = 0.06, 2.0
"""Before so much is done, nobody knows what is left."""


@dataclass
class Cell:
    """A step, or several one after the other, in a column of a row.

    begun_s : when the first of them began; step_s : when the present one did
    """

    step: str
    done: int
    of: int
    begun_s: float
    step_s: float
    ended_s: float | None = None

    def rate(self, now: float) -> float | None:
        """Items in a second, when that can be told."""
        seconds = (now if self.ended_s is None else self.ended_s) - self.step_s
        return self.done / seconds if self.done > 0 and self.of > 1 and seconds > 0 else None


@dataclass
class Row:
    """A chip or a stack on its way; times are seconds of one clock."""

    name: str
    begun_s: float | None = None
    ended_s: float | None = None
    end: str = ""
    cells: dict[int, Cell] = field(default_factory=dict)
    """By the number of the column."""

    @property
    def current(self) -> int:
        """The column it is in; -1 before the first."""
        return max(self.cells, default=-1)


class Finished(NamedTuple):
    """A step that has come to its end."""

    words: str
    of: int
    seconds: float


class Board:
    """What is known of all rows and of steps that belong to none.

    columns : the steps of the rows in order; rows : those that will come, as far as is known
    of_each_part : rows that each field of a night will have
    """

    def __init__(
        self, columns: Sequence[Column] = (), rows: Sequence[str] = (), of_each_part: int = 0
    ) -> None:
        self.columns = tuple(columns)
        self.rows = {name: Row(name) for name in rows}
        self.single: dict[str, Cell] = {}
        self.message = ""
        self.notes: list[str] = []
        """What the user should know, in order."""
        self.of_each_part = of_each_part
        self._column = {step: k for k, one in enumerate(columns) for step in one.steps}
        self._spent = [0.0] * len(self.columns)

    def tell(self, words: str, done: int, of: int, now: float) -> list[Finished]:
        """Take in what is told; the steps that have ended with it."""
        row, step = self._split(words)
        if not row:
            return self._tell_single(words, done, of, now)
        mine = self.rows.setdefault(row, Row(row))
        if step in ENDS:
            return self._end(mine, step, now)
        if mine.end:  # it begins anew
            mine = self.rows[row] = Row(row)
        if mine.begun_s is None:
            mine.begun_s = now
        column = self._column[step]
        ended = [
            self._close(mine, k, now)
            for k, cell in mine.cells.items()
            if k < column and cell.ended_s is None
        ]
        cell = mine.cells.setdefault(column, Cell(step, done, of, now, now))
        if step != cell.step or (cell.ended_s is not None and done < of):
            cell.step, cell.step_s, cell.ended_s = step, now, None
        cell.done, cell.of = done, of
        if done < of or cell.ended_s is not None:
            return ended
        return [*ended, self._close(mine, column, now)]

    def fraction(self) -> float:
        """How much of all rows is done, 0 to 1, by the time that it takes."""
        done = sum(self.fraction_of(row) for row in list(self.rows.values()))
        return done / max(1, self._expected())

    def left_s(self, now: float) -> float | None:
        """Seconds until all rows are done; None when nobody can know."""
        begun = [row.begun_s for row in list(self.rows.values()) if row.begun_s is not None]
        # What stood already has cost no time.
        stood = [row for row in list(self.rows.values()) if row.end == "as before"]
        todo = self._expected() - len(stood)
        if not begun or not todo:
            return None
        spent = now - min(begun)
        done = (self.fraction() * self._expected() - len(stood)) / todo
        if done < LEAST_FRACTION or spent < LEAST_S:
            return None
        return spent * (1 - done) / done

    def _expected(self) -> int:
        """Rows that there will be."""
        parts = self.single.get("night")
        return max(len(self.rows), self.of_each_part * parts.of if parts else 0)

    def _split(self, words: str) -> tuple[str, str]:
        """Row and step; an empty row when the words are a step alone."""
        known = [step for step in (*self._column, *ENDS) if words.endswith(f" {step}")]
        if not known:
            return "", words
        step = max(known, key=len)
        return words.removesuffix(step).strip(), step

    def _tell_single(self, words: str, done: int, of: int, now: float) -> list[Finished]:
        cell = self.single.setdefault(words, Cell(words, done, of, now, now))
        if cell.ended_s is not None and done < of:
            cell.step_s, cell.ended_s = now, None
        cell.done, cell.of = done, of
        if done < of or cell.ended_s is not None:
            return []
        cell.ended_s = now
        return [Finished(words, of, now - cell.step_s)]

    def _close(self, row: Row, column: int, now: float) -> Finished:
        cell = row.cells[column]
        cell.ended_s, cell.done = now, cell.of
        return Finished(f"{row.name} {cell.step}", cell.of, now - cell.step_s)

    def _end(self, row: Row, end: str, now: float) -> list[Finished]:
        ended = []
        for column, cell in row.cells.items():
            if end == "finished" and cell.ended_s is None:
                ended.append(self._close(row, column, now))
            # From now on the other rows are judged by what a whole one took.
            self._spent[column] += (cell.ended_s or now) - cell.begun_s if end == "finished" else 0
        row.end, row.ended_s = end, now
        seconds = now - (now if row.begun_s is None else row.begun_s)
        return [*ended, Finished(f"{row.name} {end}", 1, seconds)]

    def fraction_of(self, row: Row) -> float:
        """How much of a row is done, 0 to 1."""
        if row.end:
            return 1.0
        shares = self._spent if sum(self._spent) > 0 else [one.share for one in self.columns]
        done = 0.0
        for column, share in enumerate(shares):
            cell = row.cells.get(column)
            if column < row.current or (cell is not None and cell.ended_s is not None):
                done += share
            elif cell is not None and cell.of > 1:
                done += share * cell.done / cell.of
        return min(1.0, done / sum(shares))
