"""A catalogue's columns found by name, in the unit that is asked for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import Table
from numpy.typing import NDArray

from photometrus.errors import UsageError

Column = NDArray[Any]
"""One column of a table."""


@dataclass(frozen=True)
class Alias:
    """A column as catalogues call it: its unit where none is written, and its epoch, if any."""

    name: str
    unit: str = ""
    epoch_yr: float = 2000.0


class Columns:
    """A catalogue's columns by any of their names: as written first, then whatever their case."""

    def __init__(self, rows: Table) -> None:
        self.rows = rows
        self.lower = {name.lower(): name for name in reversed(rows.colnames)}

    def find(self, name: str) -> str | None:
        """The column of that name as it is written here, None when there is none."""
        return name if name in self.rows.colnames else self.lower.get(name.lower())

    def has(self, *aliases: Alias) -> bool:
        """Whether all of these are there."""
        return all(self.find(alias.name) for alias in aliases)

    def values(self, alias: Alias, unit: str = "") -> Column:
        """The column as float64 in `unit`, NaN where masked; UsageError when it is text."""
        column = self.rows[self.find(alias.name)]
        values = np.ma.asarray(getattr(column, "data", column))
        if values.dtype.kind not in "fiub":
            raise UsageError(
                f"column {column.name}: holds {values.dtype}, expected numbers"
                f"{' in ' + unit if unit else ''}"
            )
        filled = np.ma.filled(values.astype(np.float64), np.nan)
        if not unit:
            return filled
        written = column.unit
        if written is None or isinstance(written, u.UnrecognizedUnit):
            written = u.Unit(alias.unit)
        if not written.is_equivalent(unit):
            raise UsageError(f"column {column.name}: its unit is {written}, expected {unit}")
        return filled * written.to(unit)

    def texts(self, name: str) -> Column:
        """The column as str, empty where masked; numbers as they are written."""
        column = self.rows[self.find(name)]
        values: Any = np.ma.asarray(getattr(column, "data", column))
        if values.dtype.kind == "S":  # a letter that is none of ASCII is no reason to stop
            values = np.ma.array(np.char.decode(values.data, "utf-8", "replace"), mask=values.mask)
        values = values.astype(str)
        return np.char.strip(np.ma.filled(values, ""))

    def pair(
        self, choices: Iterable[tuple[Alias, Alias]], unit: str
    ) -> tuple[Column, Column] | None:
        """The first of the pairs of columns that is there."""
        for first, second in choices:
            if self.has(first, second):
                return self.values(first, unit), self.values(second, unit)
        return None


def listed(names: Sequence[str], most: int = 12) -> str:
    """Names for a message, the first `most` of them."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return " ".join(names[:most]) + more
