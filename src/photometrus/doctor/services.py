"""The archive and the catalogue services: whether they answer."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from datetime import date, datetime, timedelta
from functools import partial
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import requests

from photometrus.config import Config
from photometrus.doctor.finding import Finding
from photometrus.errors import PhotometrusError
from photometrus.instrument import night_of
from photometrus.io.archive import Archive, archive_url, nights_near, open_archive
from photometrus.io.catalogs import SURVEYS, services_of

MJD_OF_EPOCH, DAY_S = 40587.0, 86400.0
REACH_DAYS = 7


def examine(config: Config, night: date | None, timeout_s: float) -> Iterator[Finding]:
    """The archive, and every survey's services: all at once, none longer than `timeout_s`.

    night : whose log the archive should have; None: any of the last days'
    """
    hosts = sorted({host for survey in SURVEYS.values() for host in hosts_of(survey.name)})
    begun = time.monotonic()
    asked = _begin(partial(archive, config.input.archive, night))
    answers = {host: _begin(partial(answer, host, timeout_s)) for host in hosts}

    def left_s() -> float:
        return max(0.0, timeout_s - (time.monotonic() - begun))

    silent = Finding(
        "archive", "problem", f"no answer within {timeout_s:g} s",
        "check the network and the address; give it more time with -timeout",
    )  # fmt: skip
    yield _within(asked, left_s(), silent)
    failed = {
        host: why
        for host, future in answers.items()
        if (why := _within(future, left_s(), f"no answer within {timeout_s:g} s"))
    }
    yield catalogues(hosts, failed)


def archive(given: str, night: date | None) -> Finding:
    """Whether an archive is named, answers, and has night logs."""
    try:
        archive_url(given)
    except PhotometrusError:
        return Finding(
            "archive", "warning", "none is named; ramps on disk can be reduced without it",
            "export PHOTOMETRUS_ARCHIVE=URL, or -archive URL: a folder, https://..., sftp://...",
        )  # fmt: skip
    try:
        with open_archive(given or None) as there:
            return nights(there, night)
    except PhotometrusError as error:
        return Finding("archive", "problem", str(error), "try again with -archive URL")


def nights(there: Archive, night: date | None) -> Finding:
    """Whether an archive has the log of a night, or of any of the last days."""
    near = night or night_of(MJD_OF_EPOCH + datetime.now().timestamp() / DAY_S)
    # The nearest to the day after is the night itself.
    found = nights_near(there, near + timedelta(days=1), 1, reach_days=REACH_DAYS)
    if night is not None and found != [night]:
        others = f"; the nearest with one: {found[0].isoformat()}" if found else ""
        return Finding(
            "archive", "warning", f"{there}: no log of {night.isoformat()}{others}",
            "photometrus log -date YYYYMMDD shows what was observed in a night",
        )  # fmt: skip
    if not found:
        words = f"{there}: answers, but has no log of the {REACH_DAYS} days around {near}"
        return Finding("archive", "warning", words, "name a night that it has with -date YYYYMMDD")
    return Finding("archive", "ok", f"{there}: answers; it has the log of {found[0].isoformat()}")


def hosts_of(survey: str) -> list[str]:
    """``https://host`` of the services of a survey that speak HTTP."""
    found = []
    for service in services_of(SURVEYS[survey]):
        if service.protocol != "postgresql":
            parts = urlsplit(service.url)
            found.append(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}")
    return list(dict.fromkeys(found))


def answer(host: str, timeout_s: float) -> str:
    """Why a web server does not answer; nothing when it does, whatever it says."""
    try:
        requests.head(host, timeout=timeout_s, allow_redirects=False)
    except requests.RequestException as error:
        return type(error).__name__
    return ""


def catalogues(hosts: Sequence[str], failed: dict[str, str]) -> Finding:
    """Which surveys can be asked."""
    what = "catalogue services"
    mute = [name for name in SURVEYS if (own := hosts_of(name)) and set(own) <= set(failed)]
    good = len(hosts) - len(failed)
    mend = "give a file of stars with -catalog, or fill the cache where there is a network"
    if not good:
        return Finding(what, "warning", f"none of {len(hosts)} hosts answers", mend)
    words = f"{good} of {len(hosts)} hosts answer"
    if mute:
        return Finding(what, "warning", f"{words}; nobody gives {', '.join(mute)}", mend)
    return Finding(what, "ok", f"{words}; each of {len(SURVEYS)} surveys can be had")


def _begin(ask: Callable[[], Any]) -> "Future[Any]":
    """The answer to come, from a thread that nobody waits for."""
    future: Future[Any] = Future()

    def run() -> None:
        future.set_result(ask())

    Thread(target=run, daemon=True).start()
    return future


def _within(future: "Future[Any]", seconds: float, otherwise: Any) -> Any:
    try:
        return future.result(seconds)
    except TimeoutError:
        return otherwise
