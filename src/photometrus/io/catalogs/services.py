"""A survey asked at its services in turn: TAP, Simple Cone Search, a mirror of one's own."""

import logging
import re
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.table import Table

from photometrus.errors import ServiceError
from photometrus.io.catalogs import postgres
from photometrus.io.catalogs.addresses import Service
from photometrus.io.catalogs.columns import DEC, MAGNITUDES, RA
from photometrus.io.catalogs.lookup import Columns, listed
from photometrus.io.catalogs.naming import known_names, renamed
from photometrus.io.catalogs.surveys import Survey
from photometrus.io.catalogs.tiles import Cone, TooManyRows

if TYPE_CHECKING:
    import requests

log = logging.getLogger(__name__)

MAX_ROWS = 1_000_000
"""Most rows that a service is asked for at once: 2MASS in the bulge has 5e5 per square degree."""
MAX_BYTES = 1_000_000_000
"""Largest answer, and ..."""
MAX_TIMES = 20
"""... longest, in units of the time-out for silence."""
ROUNDS = 2
PAUSE_S = 2.0
"""All services are asked in turn, and once more after a pause unless they were silent."""
SMALLEST_DEG = 0.5
"""A cone around one tile: too many rows in it are no reason to ask for less."""
CONNECT_TIMEOUT_S = 10.0
"""A host that does not even greet within this time is down."""


class Enquiry:
    """One survey at its services: the one that answered last is asked first the next time."""

    def __init__(
        self, survey: Survey, services: Sequence[Service], timeout_s: float, folder: Path
    ) -> None:
        self.survey = survey
        self.services = list(services)
        self.timeout_s = timeout_s
        self.patience_s = min(timeout_s, CONNECT_TIMEOUT_S)
        self.folder = folder
        self.columns: dict[Service, list[str]] = {}

    def __call__(self, cone: Cone) -> Table:
        """The rows of the first service that answers; ServiceError when none does."""
        trying, failed = list(self.services), dict[Service, ServiceError]()
        for attempt in range(ROUNDS):
            time.sleep(attempt * PAUSE_S if trying else 0.0)
            for service in list(trying):
                begin = time.monotonic()
                try:
                    rows = self._query(service, cone)
                except ServiceError as error:
                    if isinstance(error, TooManyRows) and cone[2] > SMALLEST_DEG:
                        raise
                    log.info("%s: %s: %s", self.survey.name, service, error)
                    failed[service] = error
                    took_s = time.monotonic() - begin
                    if isinstance(error, TooManyRows) or took_s >= self.patience_s:
                        trying.remove(service)  # it would only say so again
                    continue
                took_s = time.monotonic() - begin
                log.info(
                    "%s: %d rows from %s in %.1f s", self.survey.name, len(rows), service, took_s
                )
                self.services.sort(key=lambda other: other is not service)
                return rows
        if any(isinstance(error, TooManyRows) for error in failed.values()):
            raise TooManyRows(
                f"{self.survey.name}: {cone[2]:.1f} deg around {cone[0]:.3f} {cone[1]:+.3f} have"
                f" more rows than any service gives ({_reasons(failed)}); give -catalog FILE"
            )
        raise ServiceError(
            f"{self.survey.name}: no service answered ({_reasons(failed)}); give -catalog FILE, or"
            f" let the cache {self.folder} be filled where there is a network"
        )

    def _query(self, service: Service, cone: Cone) -> Table:
        """One query to one service; ServiceError in one line when it fails."""
        if service.protocol == "postgresql":
            rows = postgres.query(service, cone, known_names(), self.timeout_s)
        else:
            with _session(self.timeout_s) as session:
                if service.protocol == "scs":
                    rows = _plain(_scs(session, service, cone))
                else:
                    if service not in self.columns:
                        there = _columns_there(session, service)
                        self.columns[service] = there or list(self.survey.columns)
                    rows = _plain(_tap(session, service, self.columns[service], cone))
        _check(rows)
        return renamed(rows, self.survey.columns)


def _reasons(failed: dict[Service, ServiceError]) -> str:
    """What each service said, those together that said the same."""
    hosts: dict[str, list[str]] = {}
    for service, error in failed.items():
        hosts.setdefault(str(error)[:160], []).append(service.host)
    return "; ".join(f"{', '.join(dict.fromkeys(names))}: {why}" for why, names in hosts.items())


def _check(rows: Table) -> None:
    """ServiceError when a service's answer is no catalogue."""
    found = Columns(rows)
    if not any(found.has(a, d) for a, d in zip(RA, DEC, strict=True)):
        raise ServiceError(f"answered without positions: {listed(rows.colnames)}")
    if not any(found.find(mag) for row in MAGNITUDES for mag, _ in row.names):
        raise ServiceError(f"answered without magnitudes: {listed(rows.colnames)}")


def _tap(session: "requests.Session", service: Service, names: list[str], cone: Cone) -> Any:
    import pyvo

    found = Columns(Table(names=names))
    pairs = ((found.find(a.name), found.find(d.name)) for a, d in zip(RA, DEC, strict=True))
    first, second = next(((a, d) for a, d in pairs if a and d), names[:2])
    ra, dec, radius = cone
    adql = (  # names are the table's own, quoted; numbers are numbers
        f"SELECT {', '.join(map(_quoted, names))} FROM {service.table} WHERE 1=CONTAINS("  # noqa: S608
        f"POINT('ICRS', {_quoted(first)}, {_quoted(second)}),"
        f" CIRCLE('ICRS', {ra}, {dec}, {radius}))"
    )
    tap = pyvo.dal.TAPService(service.url, session=session)
    return tap.run_sync(adql, maxrec=MAX_ROWS)


def _columns_there(session: "requests.Session", service: Service) -> list[str]:
    """The columns of use of a table, as the service itself calls them; none if it knows none."""
    import pyvo

    tap = pyvo.dal.TAPService(service.url, session=session)
    bare = service.table.strip('"').replace("'", "''")
    names = ", ".join(f"'{name}'" for name in dict.fromkeys((bare, f'"{bare}"', bare.lower())))
    try:
        rows = tap.run_sync(
            f"SELECT column_name FROM TAP_SCHEMA.columns WHERE table_name IN ({names})"  # noqa: S608
        ).to_table()
    except pyvo.dal.DALQueryError:
        return []
    there = [str(name).strip('"') for name in rows.columns[0]] if len(rows.columns) else []
    return [name for name in dict.fromkeys(there) if name.lower() in known_names()]


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) else f'"{name}"'


def _scs(session: "requests.Session", service: Service, cone: Cone) -> Any:
    import pyvo

    scs = pyvo.dal.SCSService(service.url, session=session)
    return scs.search(pos=cone[:2], radius=cone[2], verbosity=3, maxrec=MAX_ROWS)


@contextmanager
def _session(timeout_s: float) -> Iterator["requests.Session"]:
    """A session that gives up on silence, endless answers and nonsense: all is ServiceError."""
    import pyvo
    import requests

    class Session(requests.Session):
        def request(self, *args: Any, **kwargs: Any) -> requests.Response:
            kwargs["timeout"] = (min(CONNECT_TIMEOUT_S, timeout_s), timeout_s)  # pyvo sets none
            response = super().request(*args, **kwargs)
            if kwargs.get("stream"):
                _limit(response.raw, MAX_TIMES * timeout_s)
            return response

    with Session() as session, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what VOTables of real services get wrong
        try:
            yield session
        except (pyvo.dal.DALAccessError, requests.RequestException, ValueError, OSError) as error:
            raise ServiceError(_first_line(error)) from error


def _limit(raw: Any, longest_s: float) -> None:
    """Make the reading of an answer fail when it has become too long, in bytes or seconds."""
    read, end, got = raw.read, time.monotonic() + longest_s, 0

    def limited(*args: Any, **kwargs: Any) -> bytes:
        nonlocal got
        data = read(*args, **kwargs)
        got += len(data)
        if got > MAX_BYTES or time.monotonic() > end:
            raise OSError(f"its answer does not end: {got / 1e6:.0f} MB so far")
        return data

    raw.read = limited


def _plain(results: Any) -> Table:
    """The wanted columns of a service's answer, as FITS keeps them; TooManyRows when it was cut."""
    status = [*results.resultstable.infos, *results.votable.infos]
    status += [info for resource in results.votable.resources for info in resource.infos]
    for info in status:
        text = f"{info.value} {info.content or ''}".lower()
        if results.status[0] == "OVERFLOW" or "truncated" in text:
            raise TooManyRows("cut its answer: more rows than it gives at once")
    table = results.to_table()
    plain = Table()
    for name in table.colnames:
        if name.lower() not in known_names():
            continue
        column = table[name]
        if column.dtype.kind == "O":
            plain[name] = np.ma.filled(np.ma.asarray(column), "").astype(str)
        else:
            plain[name] = column
    return plain


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines() or [type(error).__name__]
    for words, meaning in _PLAINLY:
        if words in text[0]:
            return meaning
    return re.sub(r"<[^>]*>", " ", text[0]).strip()[:200]


_PLAINLY = (
    ("timed out", "silent too long"),
    ("Failed to establish a new connection", "not reachable"),
    ("NameResolutionError", "not reachable"),
    ("Connection refused", "not reachable"),
)
"""What the HTTP library means, when it says a line of its own names."""
