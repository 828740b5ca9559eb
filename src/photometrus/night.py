"""The recipe of a night: every field in every band, each an observation of its own; one table."""

import logging
import shutil
import threading
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
from astropy.table import Table

from photometrus import __version__, distortion_store
from photometrus.arrivals import Material, Request, gather
from photometrus.config import Config
from photometrus.errors import MissingInput, PhotometrusError
from photometrus.frame import LISTED, Progress, no_progress
from photometrus.io.archive import get_log, open_archive
from photometrus.io.lock import locked
from photometrus.io.nightlog import repair_name
from photometrus.io.observed import select
from photometrus.io.whole import remove, whole, write_bytes
from photometrus.jobs import Runner
from photometrus.observation import Observation
from photometrus.pipeline import reduce_material
from photometrus.products import RampId, clean_log_name, default_parent, log_name, night_name
from photometrus.workers import cores

log = logging.getLogger(__name__)

COLUMNS = {
    "target": "field, as the log calls it",
    "band": "filter",
    "chips": "chips with a stack",
    "chips_asked": "chips that were to be reduced",
    "frames_used": "frames in the stacks, all chips",
    "frames": "frames that were to be reduced, all chips",
    "seeing_arcsec": "median of the stacks",
    "sky_adu": "median of the stacks, per frame",
    "left_out": "frames without which the stack is better",
    "lost": "frames that could not be used or were not downloaded",
    "seconds": "to reduce the chips, summed",
    "state": "done, as before, partly as before, or failed",
    "reason": "why it failed",
    "folder": "of the observation, with stack/ in it",
}
"""The table of a night: column, what it holds."""
UNITS = {"seeing_arcsec": "arcsec", "sky_adu": "adu", "seconds": "s"}


@dataclass(frozen=True)
class NightRequest:
    """A night, or a part of it, and where it goes; empty means all."""

    night: date
    root: Path
    chips: tuple[int, ...]
    targets: tuple[str, ...] = ()
    bands: tuple[str, ...] = ()
    observer: str = ""
    command: str = ""
    restart: bool = False
    wait: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a field in a band. `error` is not empty when nothing did."""

    target: str
    band: str
    parent: Path
    observation: Observation | None = None
    error: str = ""


@dataclass(frozen=True)
class NightReport:
    """What became of a night."""

    outcomes: list[Outcome]
    table: Table
    path: Path

    @property
    def failed(self) -> bool:
        """Whether there is not one stack."""
        return not np.any(self.table["chips"] > 0)

    @property
    def complete(self) -> bool:
        """Whether every chip has its stack and no frame was lost."""
        return all(one.observation and one.observation.complete for one in self.outcomes)


@dataclass(frozen=True)
class _Part:
    """A field in a band: what is to be reduced together."""

    target: str
    band: str
    ramps: tuple[RampId, ...] = field(repr=False)

    @property
    def name(self) -> str:
        return f"{self.target} {self.band}"


def reduce_night(
    request: NightRequest, config: Config, *, progress: Progress = no_progress
) -> NightReport:
    """What `_reduce_night` makes, while nobody else works in the folder on that night."""
    try:
        with locked(_scratch(request), request.command, wait=request.wait):
            return _reduce_night(request, config, progress)
    finally:
        with suppress(OSError):  # not empty: there is something to go on with
            _scratch(request).rmdir()


def _reduce_night(request: NightRequest, config: Config, progress: Progress) -> NightReport:
    """Reduce what the log of a night holds, but for what an earlier run made of the same.

    The ramps of the next fields are downloaded meanwhile. What goes wrong with one field costs
    that field. Raises PhotometrusError for what stops everything: no archive, no log, nothing of
    what was asked for in it.
    """
    with open_archive(config.input.archive or None, config.transfer) as archive:
        told = get_log(archive, request.night)
    parts = parts_of(told.table, request)
    told.write(request.root)  # not before: a wrong target leaves nothing
    results = _reduce_parts(parts, request, config, progress)
    store = distortion_store.store_folder(config.input.distortion_dir)
    if store is not None:
        for part in parts:
            distortion_store.give_back(_private(part, request), store)
    shutil.rmtree(_scratch(request), ignore_errors=True)
    outcomes = [
        _outcome(part, _parent(part, request), future)
        for part, future in zip(parts, results, strict=True)
    ]
    report = NightReport(
        outcomes, _table(outcomes, request), request.root / night_name(request.night)
    )
    with whole(report.path) as unfinished:
        report.table.write(unfinished, format="ascii.ecsv")
    for future in results:
        if not isinstance(future.exception(), PhotometrusError | None):
            future.result()  # a bug: shown, but when all else is done
    return report


def parts_of(table: Table, request: NightRequest) -> list[_Part]:
    """The fields and bands of a night log that are asked for, in order of time.

    Raises UsageError for a target that the night does not have, MissingInput when nothing is left.
    """
    wanted = {repair_name(name) for name in request.targets}
    for name in request.targets:
        if repair_name(name) not in set(table["OBJNAME"]):
            select(table, name, "J")  # says what the night has instead
    found: dict[tuple[str, str], list[RampId]] = {}
    for row in table.iterrows("OBJNAME", "OBJTYPE", "OBSERVER", "band", "serial"):
        target, kind, observer, band = (str(value) for value in row[:4])
        if (
            kind.upper() == "OBJECT"
            and band
            and (not wanted or target in wanted)
            and (not request.bands or band in request.bands)
            and request.observer.casefold() in ("", observer.casefold())
        ):
            found.setdefault((target, band), []).append(RampId(int(row[4]), 1))
    if not found:
        asked = " ".join((*request.targets, *request.bands, request.observer)).strip()
        raise MissingInput(
            f"{table.meta['name']}: no OBJECT ramps{f' of {asked}' if asked else ''}; "
            "`photometrus log` shows what was observed"
        )
    return [_Part(target, band, tuple(ramps)) for (target, band), ramps in found.items()]


def _reduce_parts(
    parts: list[_Part], request: NightRequest, config: Config, progress: Progress
) -> "list[Future[Observation]]":
    """What became of each part; one after the other, or as many as keep the workers busy."""
    told = _Told(progress)
    results = []
    with (
        ThreadPoolExecutor(1, "night-fetch") as fetching,
        ThreadPoolExecutor(_n_at_once(len(parts), request, config), "night") as reducing,
        Runner(config.run) as run,
    ):
        try:
            progress("night", 0, len(parts))
            for part in parts:
                tell = partial(told, part)
                material = fetching.submit(_prepare, part, request, config, tell)
                results.append(reducing.submit(_reduce, material, request, config, run, tell))
            for number, (part, future) in enumerate(zip(parts, results, strict=True), start=1):
                if future.exception() is not None:
                    log.error("%s: %s", part.name, future.exception(), extra=LISTED)
                progress("night", number, len(parts))
        finally:
            told.stopped.set()
            fetching.shutdown(wait=False, cancel_futures=True)
            reducing.shutdown(wait=False, cancel_futures=True)
    return results


class _Told:
    """Progress of the parts; when it is stopped, whoever tells it something comes to an end."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.stopped = threading.Event()

    def __call__(self, part: _Part, step: str, done: int, of: int) -> None:
        if self.stopped.is_set():
            raise CancelledError
        self.progress(f"{part.name} {step}", done, of)


def _n_at_once(n_parts: int, request: NightRequest, config: Config) -> int:
    """Observations that are reduced at a time."""
    if config.run.scheduler:
        return n_parts  # its scheduler has the queue, and may start workers when it is long
    if config.run.parallel or config.run.workers:
        # While the last chips of one are reduced, the next has work for the other workers.
        return 1 + (config.run.workers or cores()) // len(request.chips)
    return 1


def _prepare(part: _Part, request: NightRequest, config: Config, progress: Progress) -> Material:
    """What is needed for a part, downloaded."""
    parent = _parent(part, request)
    for name in (log_name(request.night), clean_log_name(request.night)):
        content = (request.root / name).read_bytes()
        if not (parent / name).is_file() or (parent / name).read_bytes() != content:
            write_bytes(parent / name, content)
    order = Request(
        target=part.target,
        night=request.night,
        band=part.band,
        chips=request.chips,
        parent=parent,
        command=request.command,
        ramps=part.ramps,
        restart=request.restart,
    )
    with locked(parent, request.command, wait=request.wait):
        material = gather(order, config, progress)
    store = distortion_store.store_folder(config.input.distortion_dir)
    if store is None:
        return material
    # Fields do not see what others of the night say: they may be reduced in any order.
    private = _private(part, request)
    if request.restart:
        remove(private)
    distortion_store.lend(store, private, part.band)
    return replace(material, distortions=str(private))


def _reduce(
    material: "Future[Material]",
    request: NightRequest,
    config: Config,
    run: Runner,
    progress: Progress,
) -> Observation:
    prepared = material.result()
    with locked(prepared.products.root, request.command, wait=request.wait):
        return reduce_material(prepared, config, run=run, progress=progress)


def _parent(part: _Part, request: NightRequest) -> Path:
    return request.root / default_parent(part.target, request.night, part.band)


def _scratch(request: NightRequest) -> Path:
    return request.root / f".night_{request.night:%Y%m%d}"


def _private(part: _Part, request: NightRequest) -> Path:
    """The distortions that a part sees, and where it leaves its own."""
    return _scratch(request) / default_parent(part.target, request.night, part.band)


# ---------------------------------------------------------------- the table


def _outcome(part: _Part, parent: Path, future: "Future[Observation]") -> Outcome:
    error = future.exception()
    if error is None:
        return Outcome(part.target, part.band, parent, future.result())
    words = str(error) if isinstance(error, PhotometrusError) else f"a bug: {error!r}"
    return Outcome(part.target, part.band, parent, error=words)


def _table(outcomes: list[Outcome], request: NightRequest) -> Table:
    """One row per field and band."""
    table = Table(rows=[_row(one, request) for one in outcomes], names=list(COLUMNS))
    for name, words in COLUMNS.items():
        table[name].description = words
        table[name].unit = UNITS.get(name)
    table.meta.update(
        {"night": request.night.isoformat(), "photometrus": __version__, "command": request.command}
    )
    return table


def _row(outcome: Outcome, request: NightRequest) -> tuple[object, ...]:
    observation = outcome.observation
    folder = str(outcome.parent.relative_to(request.root))
    if observation is None:
        nothing = (0, len(request.chips), 0, 0, np.nan, np.nan, 0, 0, 0.0)
        return (outcome.target, outcome.band, *nothing, "failed", outcome.error, folder)
    chips = observation.chips
    good = [chip for chip in chips if not chip.error]
    verdicts = [verdict for chip in chips for verdict in chip.verdicts]
    used = sum(verdict.used for verdict in verdicts)
    lost = sum(verdict.lost for verdict in verdicts)
    left = len(verdicts) - used - lost
    missing = len(observation.missing)
    states = {0: "done", len(chips): "as before"}
    state = states.get(len(observation.unchanged), "partly as before") if good else "failed"
    return (
        outcome.target,
        outcome.band,
        len(good),
        len(chips),
        used,
        len(verdicts) + missing,
        _median([chip.numbers.get("seeing_arcsec", np.nan) for chip in good]),
        _median([chip.numbers.get("sky_adu", np.nan) for chip in good]),
        left,
        lost + missing,
        round(sum(chip.numbers.get("seconds", 0.0) for chip in chips), 2),
        state,
        "; ".join(f"C{chip.chip}: {chip.error}" for chip in chips if chip.error),
        folder,
    )


def _median(values: list[float]) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.median(finite)) if finite else float("nan")
