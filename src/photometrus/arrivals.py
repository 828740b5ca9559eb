"""What an observation needs from the archive, chip by chip, while the chips before are reduced."""

import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import TypeVar

from photometrus.config import Config
from photometrus.errors import MissingInput, UsageError
from photometrus.flats import FlatSupply
from photometrus.frame import Progress, no_progress
from photometrus.instrument import band_named
from photometrus.io.archive import Archive, get_log, open_archive, size_of
from photometrus.io.download import DownloadEvent, counted, download, write_failed
from photometrus.io.observed import select
from photometrus.io.whole import make_folder, warn_of_links
from photometrus.products import Products, RampId
from photometrus.selection import Choice, choose
from photometrus.space import RAMP_BYTES, check_room
from photometrus.stackfiles import check_extras
from photometrus.workers import cores, threads

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Request:
    """An observation: one target, night and band, and where it goes."""

    target: str
    night: date
    band: str
    chips: tuple[int, ...]
    parent: Path
    download: bool = True
    command: str = ""
    ramps: tuple[RampId, ...] = ()
    """Those of chip 1, when the night log in `parent` was read already."""
    restart: bool = False
    """Whether chips are made again that were made of the same files with the same settings."""
    wait: bool = False
    """Whether to wait for another run in `parent`."""


@dataclass(frozen=True)
class Material:
    """What is on disk to make an observation of; or the part of it that has arrived."""

    products: Products
    choice: Choice
    night: date
    missing: list[tuple[str, str]] = field(default_factory=list)
    command: str = ""
    restart: bool = False
    distortions: str = ""
    """The store of distortions to use, in place of the one of the settings."""


def gather(request: Request, config: Config, progress: Progress = no_progress) -> Material:
    """The ramps and flats of an observation on disk, downloaded unless told not to.

    Raises PhotometrusError for what stops everything.
    """
    with closing(arriving(request, config, progress)) as parts:
        return joined(list(parts))


def arriving(request: Request, config: Config, progress: Progress) -> Generator[Material]:
    """The same in parts, each when it is on disk: chip by chip while they are downloaded.

    Ramps that the user leaves out are not downloaded. A chip that has no flat gets one.
    """
    check(request.band, config)
    products = Products(request.parent, request.band)
    make_folder(request.parent)
    warn_of_links(request.parent)
    if not request.download:
        ramps = {chip: products.ramps_on_disk(chip) for chip in request.chips}
        if not any(ramps.values()):
            raise MissingInput(f"{request.parent}: no ramps in C1 ... C4; leave out -no_download")
        choice = chosen(ramps, config)
        check_room(products, choice.ramps, config)
        yield _material(request, products, choice)
        return
    if config.input.ftype.startswith("raw"):
        raise UsageError(
            f"file type {config.input.ftype!r}: raw frames cannot be reduced; use ramp here, or "
            "`photometrus getdata` to download them"
        )
    with open_archive(config.input.archive or None, config.transfer) as archive:
        choice = chosen(_in_the_log(archive, request, products), config)
        _check_room(archive, products, choice, config)
        coming = _chip_by_chip(archive, choice.ramps, products, request.night, config, progress)
        failed: list[tuple[RampId, str]] = []
        with closing(coming):
            for one in coming:
                failed += one.missing
                write_failed(products.failed_downloads, failed)
                notes = [*choice.notes, *one.notes]
                part = replace(choice, ramps={one.chip: one.ramps}, notes=notes)
                missing = [(str(ramp), reason) for ramp, reason in one.missing]
                yield _material(request, products, part, missing)


def check(band: str, config: Config) -> None:
    """Raise UsageError for what cannot be, before anything is begun."""
    band_named(band)
    check_extras(config)


def _check_room(archive: Archive, products: Products, choice: Choice, config: Config) -> None:
    """Raise StorageError when ramps and products do not fit on the disk."""
    wanted = [ramp for ramps in choice.ramps.values() for ramp in ramps]
    coming = [ramp for ramp in wanted if not products.ramp(ramp).is_file()]
    size = size_of(archive, coming[0], config.input.ftype) if coming else None
    check_room(products, choice.ramps, config, coming=len(coming), ramp_bytes=size or RAMP_BYTES)


def _in_the_log(archive: Archive, request: Request, products: Products) -> dict[int, list[RampId]]:
    """The ramps of each chip that the log of the night has for the request."""
    on_first: Sequence[RampId] = request.ramps
    if not on_first:
        log = get_log(archive, request.night)
        on_first = select(log.table, request.target, request.band)
        log.write(products.root)  # not before: a wrong target leaves nothing
    return {chip: [ramp.on_chip(chip) for ramp in on_first] for chip in request.chips}


def _material(
    request: Request,
    products: Products,
    choice: Choice,
    missing: Sequence[tuple[str, str]] = (),
) -> Material:
    return Material(products, choice, request.night, [*missing], request.command, request.restart)


def joined(parts: Sequence[Material]) -> Material:
    """Parts as one."""
    choices = [part.choice for part in parts]
    ramps = {chip: ramps for choice in choices for chip, ramps in choice.ramps.items()}
    notes = list(dict.fromkeys(note for choice in choices for note in choice.notes))
    missing = [one for part in parts for one in part.missing]
    return replace(parts[0], choice=replace(choices[0], ramps=ramps, notes=notes), missing=missing)


def chosen(ramps: dict[int, list[RampId]], config: Config) -> Choice:
    """What -rampnum and -exclude leave of the ramps of each chip."""
    return choose(ramps, {chip: config.for_chip(chip).select for chip in ramps})


@dataclass(frozen=True)
class _Arrived:
    """A chip's ramps that are on disk now, and what the archive did not give."""

    chip: int
    ramps: list[RampId]
    missing: Sequence[tuple[RampId, str]]
    """Ramps, each with the reason."""
    notes: list[str] = field(default_factory=list)
    """About its flat."""


def _chip_by_chip(
    archive: Archive,
    wanted: Mapping[int, Sequence[RampId]],
    products: Products,
    night: date,
    config: Config,
    progress: Progress,
) -> Generator[_Arrived]:
    """Each chip when its ramps are there, and its flat; the next ones come meanwhile.

    Raises PhotometrusError when the disk cannot be written. Close it to stop what still comes.
    """
    stopped = threading.Event()
    total = sum(len(ramps) for ramps in wanted.values())
    tell = counted(progress, total)
    progress("download", 0, total)

    def watch(_: DownloadEvent) -> None:
        if stopped.is_set():
            raise CancelledError

    def count(event: DownloadEvent) -> None:
        watch(event)
        tell(event)

    supply = FlatSupply(archive, night, products.band, config, products.root, watch)

    def fetch(chip: int) -> _Arrived:
        got = download(
            archive,
            wanted[chip],
            products.ramp,
            kind=config.input.ftype,
            workers=config.input.downloads,
            progress=count,
        )
        notes = []
        if config.run.flat_field and supply.lacks(chip):
            progress("flats", 0, 1)
            with threads(config.run.threads or cores()) as each:
                notes = supply.prepare(chip, each)
            progress("flats", 1, 1)
        return _Arrived(chip, sorted((*got.fetched, *got.present)), got.missing, notes)

    yield from _ahead(fetch, wanted, stopped)


def _ahead(
    make: Callable[[Item], Result], items: Iterable[Item], stopped: threading.Event
) -> Generator[Result]:
    """What `make` makes of each item, in order, by a thread that does not wait to be asked.

    stopped : is set at the end, for a `make` that is still at work
    """
    with ThreadPoolExecutor(1, "arrivals") as pool:
        coming = [pool.submit(make, item) for item in items]
        try:
            for one in coming:
                yield one.result()
        finally:
            stopped.set()
            pool.shutdown(wait=True, cancel_futures=True)
