"""A mirror of a survey in one's own PostgreSQL, with the extension q3c.

Passwords come from ``~/.pgpass``, PGPASSWORD, a service file or the URL, as PostgreSQL's own
library finds them; none is ever logged.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from astropy.table import Table

from photometrus.errors import ServiceError, UsageError
from photometrus.io.catalogs.addresses import Service
from photometrus.io.catalogs.columns import DEC, RA
from photometrus.io.catalogs.lookup import Columns, listed

CONNECT_TIMEOUT_S = 10


def query(
    service: Service,
    cone: tuple[float, float, float],
    wanted: Collection[str],
    timeout_s: float = 60.0,
) -> Table:
    """The rows of a mirror's table within a cone (RA, Dec, radius; degrees).

    wanted : names of columns, in lower case

    Raises ServiceError when it cannot be reached or lacks the table or q3c, UsageError without
    the library.
    """
    with _connected(service.url, timeout_s) as connection:
        from psycopg import sql

        table = sql.Identifier(*service.table.split("."))
        there = connection.execute(sql.SQL("SELECT * FROM {} LIMIT 0").format(table))
        names = [column.name for column in there.description or ()]
        names = [name for name in names if name.lower() in wanted]
        first, second = _position(names, service)
        rows = connection.execute(
            sql.SQL("SELECT {} FROM {} WHERE q3c_radial_query({}, {}, %s, %s, %s)").format(
                sql.SQL(", ").join(map(sql.Identifier, names)),
                table,
                sql.Identifier(first),
                sql.Identifier(second),
            ),
            cone,
        ).fetchall()
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    return Table({name: _column(values) for name, values in zip(names, columns, strict=True)})


def mirrors(url: str, timeout_s: float = 60.0) -> list[str]:
    """The tables named ``prime_<survey>_local`` that a database holds. Raises as `query`."""
    with _connected(url, timeout_s) as connection:
        rows = connection.execute(
            "SELECT table_name FROM information_schema.tables"
            " WHERE table_name ~ '^prime_.*_local$' ORDER BY table_name"
        ).fetchall()
    return [str(name) for (name,) in rows]


@contextmanager
def _connected(url: str, timeout_s: float) -> Iterator[Any]:
    """A connection; whatever goes wrong with it is a ServiceError in one line."""
    try:
        import psycopg
    except ImportError as error:
        raise UsageError(
            "a mirror in PostgreSQL needs psycopg: pip install 'photometrus[postgresql]'"
        ) from error
    try:
        with psycopg.connect(
            url,
            connect_timeout=min(CONNECT_TIMEOUT_S, max(2, int(timeout_s))),
            options=f"-c statement_timeout={int(timeout_s * 1000)}",
        ) as connection:
            yield connection
    except psycopg.Error as error:
        raise ServiceError(_told(error, url)) from error


def _position(names: list[str], service: Service) -> tuple[str, str]:
    found = Columns(Table(names=names))
    for ra, dec in zip(RA, DEC, strict=True):
        first, second = found.find(ra.name), found.find(dec.name)
        if first and second:
            return first, second
    raise ServiceError(f"{service}: no columns for a position, found {listed(names)}")


def _column(values: Any) -> np.ndarray:
    """Values of one column: numbers with NaN for NULL, or text."""
    if any(isinstance(value, str) for value in values):
        return np.array([value or "" for value in values], dtype=str)
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _told(error: Exception, url: str) -> str:
    """The first line of what PostgreSQL says, without a password that it might repeat."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    password = urlsplit(url).password
    return (lines[0].replace(password, "***") if password else lines[0])[:200]
