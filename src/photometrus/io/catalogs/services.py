"""What a survey answers to a cone: from the folder where it was kept, else from a service."""

import logging
import os
import re
import threading
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from photometrus.errors import ServiceError, UsageError
from photometrus.io.catalogs.columns import DEC, MAGNITUDES, RA, Columns, listed, separation_deg
from photometrus.io.catalogs.files import read
from photometrus.io.catalogs.surveys import Service, Survey

log = logging.getLogger(__name__)

CACHE_VARIABLE = "PHOTOMETRUS_CACHE"
MAX_ROWS = 2_000_000
"""Most rows that a service is asked for: 2MASS in the bulge has 5e5 per square degree."""
ROUNDS = 2
PAUSE_S = 2.0
"""All services are asked in turn, and once more after a pause."""
CONNECT_TIMEOUT_S = 10.0
"""A host that does not even greet within this time is down."""

Cone = tuple[float, float, float]
"""RA, Dec and radius, degrees."""


def default_cache() -> Path:
    """$PHOTOMETRUS_CACHE, or ``photometrus`` in the user's cache folder."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "photometrus"


def cached(
    survey: Survey,
    services: Sequence[Service],
    cone: Cone,
    folder: Path,
    timeout_s: float,
) -> Table:
    """The survey's rows in a cone (RA, Dec, radius): from the folder, else from a service."""
    for path in sorted(folder.glob(f"{survey.name}_*.fits")):
        if not _holds(path, survey, cone):
            continue
        try:
            rows = read(path)
        except UsageError as error:
            log.warning("damaged, asking again: %s", error)
            continue
        log.info("%s: from %s", survey.name, path)
        return rows
    # The name on disk has six decimals (4 mas), so exactly that cone is asked for.
    cone = (round(cone[0], 6), round(cone[1], 6), round(cone[2] + 1e-6, 6))
    rows = _ask(survey, services, cone, timeout_s)
    if len(rows):  # nothing at all is more often a fault than a sky without stars
        path = folder / f"{survey.name}_{cone[0]:.6f}_{cone[1]:+.6f}_{cone[2]:.6f}.fits"
        _keep(rows, path)
    return rows


CACHE_NAME = re.compile(
    r"(?P<survey>[^_]+)_(?P<ra>\d+\.\d+)_(?P<dec>[-+]\d+\.\d+)_(?P<radius>\d+\.\d+)\.fits$"
)


def _holds(path: Path, survey: Survey, cone: Cone) -> bool:
    """Whether the cone that a cached file is named after holds `cone`."""
    match = CACHE_NAME.match(path.name)
    if match is None or match["survey"] != survey.name:
        return False
    ra, dec, radius = cone
    apart = separation_deg(np.array(ra), np.array(dec), float(match["ra"]), float(match["dec"]))
    return bool(apart + radius <= float(match["radius"]) + 1e-9)


def _keep(rows: Table, path: Path) -> None:
    """Write a cached file, whole or not at all; a folder that refuses costs a warning only."""
    part = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        rows.write(part, format="fits", overwrite=True)
        part.replace(path)
    except OSError as error:
        log.warning("%s: not kept (%s)", path, _first_line(error))


def _ask(survey: Survey, services: Sequence[Service], cone: Cone, timeout_s: float) -> Table:
    """The rows of the first service that answers; ServiceError when none does."""
    failures: list[str] = []
    for attempt in range(ROUNDS):
        time.sleep(attempt * PAUSE_S)
        for service in services:
            begin = time.monotonic()
            try:
                rows = _query(service, survey, cone, timeout_s)
                _check(rows)
            except ServiceError as error:
                log.warning("%s: %s: %s", survey.name, service, error)
                failures.append(f"{service}: {error}")
                continue
            took_s = time.monotonic() - begin
            log.info("%s: %d rows from %s in %.1f s", survey.name, len(rows), service, took_s)
            return rows
    raise ServiceError(
        f"{survey.name}: no service answered, of {len(services)} asked {ROUNDS} times; the last"
        f" said: {failures[-1]}; give a catalogue file instead"
    )


def _check(rows: Table) -> None:
    """ServiceError when a service's answer is no catalogue."""
    found = Columns(rows)
    if not any(found.has(a, d) for a, d in zip(RA, DEC, strict=True)):
        raise ServiceError(f"answered without positions: {listed(rows.colnames)}")
    if not any(found.find(mag) for row in MAGNITUDES for mag, _ in row.names):
        raise ServiceError(f"answered without magnitudes: {listed(rows.colnames)}")


def _query(service: Service, survey: Survey, cone: Cone, timeout_s: float) -> Table:
    """One query to one service; ServiceError in one line when it fails."""
    import pyvo
    import requests

    class Session(requests.Session):
        def request(self, *args: Any, **kwargs: Any) -> requests.Response:
            kwargs["timeout"] = (min(CONNECT_TIMEOUT_S, timeout_s), timeout_s)  # pyvo sets none
            return super().request(*args, **kwargs)

    ra, dec, radius = cone
    with Session() as session, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what VOTables of real services get wrong
        try:
            if service.protocol == "tap":
                first, second = survey.columns[:2]
                adql = (
                    f"SELECT {', '.join(survey.columns)} FROM {service.table} WHERE 1=CONTAINS("
                    f"POINT('ICRS', {first}, {second}), CIRCLE('ICRS', {ra}, {dec}, {radius}))"
                )
                tap = pyvo.dal.TAPService(service.url, session=session)
                results = tap.run_sync(adql, maxrec=MAX_ROWS)
            else:
                scs = pyvo.dal.SCSService(service.url, session=session)
                results = scs.search(pos=(ra, dec), radius=radius, verbosity=3, maxrec=MAX_ROWS)
        except (pyvo.dal.DALAccessError, requests.RequestException, ValueError) as error:
            raise ServiceError(_first_line(error)) from error
        if results.status[0] == "OVERFLOW":
            raise ServiceError(f"more rows than it gives; ask for less than {radius} deg")
        table = results.to_table()
    table.meta.clear()
    return _plain(table, survey.columns)


def _plain(table: Table, wanted: Sequence[str]) -> Table:
    """The wanted columns of a service's answer, as FITS can keep them."""
    keep = {name.lower() for name in wanted} | {alias.name.lower() for alias in (*RA, *DEC)}
    plain = Table()
    for name in table.colnames:
        if name.lower() not in keep:
            continue
        column = table[name]
        if column.dtype.kind == "O":
            plain[name] = np.ma.filled(np.ma.asarray(column), "").astype(str)
        else:
            plain[name] = column
    return plain


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return re.sub(r"<[^>]*>", " ", text[0]).strip()[:200] if text else type(error).__name__
