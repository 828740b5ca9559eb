"""All names that a column of use may have, and one name for each, whatever service answered."""

from collections.abc import Iterator, Sequence
from functools import cache

from astropy.table import Table

from photometrus.io.catalogs.columns import DEC, EPOCH, MAGNITUDES, POS_ERR, PROPER_MOTION, RA
from photometrus.io.catalogs.lookup import Columns
from photometrus.io.catalogs.quality import FAMILIES


@cache
def known_names() -> frozenset[str]:
    """Every name, in lower case, that a column of use may have."""
    names = {name for group in _groups() for name in group}
    names |= {alias.name for alias in EPOCH}
    names |= {alias.name for pair in (*POS_ERR, *PROPER_MOTION) for alias in pair}
    names |= {name for family in FAMILIES.values() for pair in family.kron for name in pair}
    return frozenset(name.lower() for name in names)


def renamed(rows: Table, columns: Sequence[str]) -> Table:
    """The rows with their columns called as in `columns`, where they mean the same.

    So that tiles of one survey that came from several archives can be put together.
    """
    own = {name.lower(): name for name in columns}
    out = rows.copy(copy_data=False)
    for group in _groups():
        found = Columns(out)
        there = next((found.find(name) for name in group if found.find(name)), None)
        name = next((own[name.lower()] for name in group if name.lower() in own), None)
        if there and name and found.find(name) is None:
            out.rename_column(there, name)
    return out


def _groups() -> Iterator[tuple[str, ...]]:
    """Names of columns that mean the same, the most telling first."""
    yield tuple(alias.name for alias in RA)
    yield tuple(alias.name for alias in DEC)
    for row in MAGNITUDES:
        yield tuple(mag for mag, _ in row.names)
        yield tuple(error for _, error in row.names)
    for family in FAMILIES.values():
        for cuts in (*family.cuts.values(), family.galaxies):
            for cut in cuts:
                yield cut.names
