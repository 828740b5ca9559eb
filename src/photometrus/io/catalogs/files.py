"""Catalogues on disk."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table

from photometrus.errors import MissingInput, UsageError
from photometrus.io.catalogs.columns import RA
from photometrus.io.damage import reading
from photometrus.io.fz import open_fits


def read(path: Path) -> Table:
    """A catalogue file as a Table."""
    if not path.is_file():
        raise MissingInput(
            f"{path}: no such catalogue file, and no survey of that name; give another"
        )
    reader = READERS.get(path.suffixes[0].lower() if path.suffix == ".gz" else path.suffix.lower())
    if reader is None:
        raise UsageError(f"{path}: {path.suffix or 'no ending'}, expected {', '.join(READERS)}")
    # Units and characters that a standard forbids harm nothing that is read here.
    with reading(path, "a catalogue (FITS, ECSV, CSV or VOTable)", UsageError):
        return reader(path)


def read_fits(path: Path) -> Table:
    """The first table that has positions (in FITS_LDAC the second one), else the first."""
    with open_fits(path) as hdus:
        tables = [hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)]
        if not tables:
            raise ValueError("no table in it")
        lower = [{str(name).lower() for name in hdu.columns.names} for hdu in tables]
        known = {alias.name.lower() for alias in RA}
        best = next((i for i, names in enumerate(lower) if names & known), 0)
        return Table.read(tables[best])


def _read_votable(path: Path) -> Table:
    from astropy.io.votable import parse

    return parse(path).get_first_table().to_table(use_names_over_ids=True)


def _read_parquet(path: Path) -> Table:
    from pyarrow import parquet

    rows = parquet.read_table(path)
    said = dict(rows.schema.metadata or {})
    table = Table(meta={key.decode(): text.decode("utf8", "replace") for key, text in said.items()})
    for name in rows.column_names:
        values = rows[name].to_numpy()  # numbers with NaN where there is none
        if values.dtype.kind == "O":
            values = np.array(["" if value is None else str(value) for value in values])
        table[name] = values
    return table


def _reader(name: str) -> Callable[[Path], Table]:
    return lambda path: Table.read(path, format=name)


UNREADABLE = (fits.VerifyError, SyntaxError)
"""What else says that a file is none: astropy's FITS, and its VOTable, reader."""

READERS: dict[str, Callable[[Path], Table]] = {
    ".fits": read_fits,
    ".fit": read_fits,
    ".cat": read_fits,
    ".ecsv": _reader("ascii.ecsv"),
    ".csv": _reader("ascii.csv"),
    ".parquet": _read_parquet,
    ".vot": _read_votable,
    ".xml": _read_votable,
    ".votable": _read_votable,
}
