"""The recipe of an observation: the night log, the ramps, the flats, every chip, the record."""

import json
import logging
import math
import platform
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any

from astropy.table import Table

from photometrus import __version__, astromatic, distortion_store
from photometrus import config as configuration
from photometrus.config import Config
from photometrus.errors import FrameError, MissingInput, PhotometrusError, ServiceError, UsageError
from photometrus.flats import Flats, prepare, store_folder
from photometrus.frame import NOTICE, Progress, no_progress
from photometrus.htmlreport.page import try_report
from photometrus.instrument import CHIPS_FIELD_RADIUS_DEG, band_named, night_of
from photometrus.io import fitsfile
from photometrus.io.archive import Archive, fetch_log, open_archive, size_of
from photometrus.io.catalogs import default_cache, reference
from photometrus.io.download import Downloads, counted, download, write_failed
from photometrus.io.lock import locked
from photometrus.io.nightlog import read_log, select
from photometrus.io.whole import make_folder, remove, settle, write_text
from photometrus.jobs import Job, Runner
from photometrus.optics import FieldFit, combined
from photometrus.origin import changed, shared_digest
from photometrus.products import Products, RampId
from photometrus.resume import damage, recorded, recorded_chips
from photometrus.selection import Choice, choose
from photometrus.space import RAMP_BYTES, check_room
from photometrus.stackfiles import check_extras
from photometrus.track import ChipResult, Verdict
from photometrus.workers import cores, threads

log = logging.getLogger(__name__)

__all__ = [
    "ChipResult",
    "Observation",
    "Request",
    "Verdict",
    "reduce_folder",
    "reduce_observation",
]


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
    """What is on disk to make an observation of."""

    products: Products
    choice: Choice
    night: date
    missing: list[tuple[str, str]] = field(default_factory=list)
    command: str = ""
    restart: bool = False
    distortions: str = ""
    """The store of distortions to use, in place of the one of the settings."""


@dataclass(frozen=True)
class Observation:
    """What became of an observation."""

    chips: list[ChipResult]
    record: Path
    missing: list[tuple[str, str]] = field(default_factory=list)
    """Ramps that the archive did not give: (name, reason)."""
    notes: list[str] = field(default_factory=list)
    unchanged: tuple[int, ...] = ()
    """Chips that an earlier run made, of the same files with the same settings."""

    @property
    def complete(self) -> bool:
        """Whether every chip has its stack and no frame was lost.

        Frames that were judged, and left out because the stack is better without them, are none.
        """
        return not self.missing and not any(
            chip.error or any(verdict.lost for verdict in chip.verdicts) for chip in self.chips
        )


def reduce_observation(
    request: Request, config: Config, *, progress: Progress = no_progress
) -> Observation:
    """Download an observation (unless told not to) and reduce every chip of it.

    Raises PhotometrusError for what stops everything (no log, no such target, no archive); what
    stops a chip or a frame is in the result.
    """
    _check(request.band, config)
    with locked(request.parent, request.command, wait=request.wait):
        return reduce_material(gather(request, config, progress), config, progress=progress)


def gather(request: Request, config: Config, progress: Progress = no_progress) -> Material:
    """The ramps and flats of an observation on disk, downloaded unless told not to.

    Raises PhotometrusError for what stops everything.
    """
    _check(request.band, config)
    products = Products(request.parent, request.band)
    make_folder(request.parent)
    missing: list[tuple[str, str]] = []
    if request.download:
        choice, got = fetch(request, config, products, progress)
        missing = [(str(ramp), reason) for ramp, reason in got.missing]
        arrived = {*got.fetched, *got.present}
        ramps = {
            chip: sorted(ramp for ramp in arrived if ramp.chip == chip) for chip in request.chips
        }
        choice = replace(choice, ramps=ramps)
    else:
        ramps = {chip: products.ramps_on_disk(chip) for chip in request.chips}
        if not any(ramps.values()):
            raise MissingInput(f"{request.parent}: no ramps in C1 ... C4; leave out -no_download")
        choice = _chosen(ramps, config)
        check_room(products, choice.ramps, config)
    return Material(products, choice, request.night, missing, request.command, request.restart)


def _check(band: str, config: Config) -> None:
    """Raise UsageError for what cannot be, before anything is begun."""
    band_named(band)
    check_extras(config)


def _chosen(ramps: dict[int, list[RampId]], config: Config) -> Choice:
    """What -rampnum and -exclude leave of the ramps of each chip."""
    return choose(ramps, {chip: config.for_chip(chip).select for chip in ramps})


def fetch(
    request: Request, config: Config, products: Products, progress: Progress
) -> tuple[Choice, Downloads]:
    """The night log, the chosen ramps of all chips, and flats for those chips that have none.

    Ramps that the user leaves out are not downloaded.
    """
    if config.input.ftype.startswith("raw"):
        raise UsageError(
            f"file type {config.input.ftype!r}: raw frames cannot be reduced; use ramp here, or "
            "`photometrus getdata` to download them"
        )
    with open_archive(config.input.archive or None) as archive:
        on_first: Sequence[RampId] = request.ramps
        if not on_first:
            path = fetch_log(archive, request.night, products.root)
            on_first = select(read_log(path), request.target, request.band)
        ramps = {chip: [ramp.on_chip(chip) for ramp in on_first] for chip in request.chips}
        choice = _chosen(ramps, config)
        wanted = [ramp for chip in request.chips for ramp in choice.ramps[chip]]
        _check_room(archive, wanted, products, choice, config)
        progress("download", 0, len(wanted))
        got = download(
            archive,
            wanted,
            products.ramp,
            kind=config.input.ftype,
            workers=config.input.downloads,
            progress=counted(progress, len(wanted)),
        )
        write_failed(products.failed_downloads, got.missing)
        notes = []
        if config.run.flat_field:
            progress("flats", 0, 1)
            with threads(config.run.threads or cores()) as each:
                notes = prepare(
                    archive,
                    request.night,
                    request.band,
                    request.chips,
                    config,
                    products.root,
                    each=each,
                )
            progress("flats", 1, 1)
    return replace(choice, notes=[*choice.notes, *notes]), got


def _check_room(
    archive: Archive, wanted: list[RampId], products: Products, choice: Choice, config: Config
) -> None:
    """Raise StorageError when ramps and products do not fit on the disk."""
    coming = [ramp for ramp in wanted if not products.ramp(ramp).is_file()]
    size = size_of(archive, coming[0], config.input.ftype) if coming else None
    check_room(products, choice.ramps, config, coming=len(coming), ramp_bytes=size or RAMP_BYTES)


def reduce_folder(
    parent: Path,
    band: str,
    chips: Sequence[int],
    config: Config,
    *,
    command: str = "",
    restart: bool = False,
    wait: bool = False,
    progress: Progress = no_progress,
) -> Observation:
    """Reduce chips whose ramps are on disk already, but for those that stand.

    restart : make them all again; wait : for another run in `parent`
    """
    _check(band, config)
    products = Products(parent, band)
    ramps = {chip: products.ramps_on_disk(chip) for chip in chips}
    if not any(ramps.values()):
        folders = ", ".join(str(products.ramps(chip)) for chip in chips)
        raise MissingInput(f"no *.ramp.fits in {folders}; use `photometrus getdata` first")
    choice = _chosen(ramps, config)
    night = _night_of(products, ramps)
    material = Material(products, choice, night, command=command, restart=restart)
    with locked(parent, command, wait=wait):
        check_room(products, choice.ramps, config)
        return reduce_material(material, config, progress=progress)


def _night_of(products: Products, ramps: dict[int, list[RampId]]) -> date:
    """The night (local noon to noon) in which the first readable ramp began."""
    info = fitsfile.frame_info(*_first_header(products, ramps))
    return night_of(info.begin_mjd)


def _first_header(products: Products, ramps: dict[int, list[RampId]]) -> tuple[Any, Path]:
    """The header of the first ramp that can be read and understood, and its path."""
    for chip in sorted(ramps):
        for ramp in ramps[chip]:
            path = products.ramp(ramp)
            try:
                header, _ = fitsfile.open_ramp(path)
                fitsfile.frame_info(header, path)
            except FrameError:
                continue
            return header, path
    raise MissingInput(f"{products.root}: none of the ramps can be read")


def reduce_material(
    material: Material,
    config: Config,
    *,
    run: Runner | None = None,
    progress: Progress = no_progress,
) -> Observation:
    """Every chip, one after the other or at once; and the record, which grows with each chip.

    Chips that an earlier run made of the same stand, unless it is a restart.
    run : where the chips are reduced; None: as the settings say
    """
    store = distortion_store.store_folder(config.input.distortion_dir)
    if store is None or material.distortions:
        return _reduce_material(material, config, run, progress)
    private = material.products.distortions
    if material.restart:
        remove(private)
    distortion_store.lend(store, private, material.products.band)
    lent = replace(material, distortions=str(private))
    observation = _reduce_material(lent, config, run, progress)
    distortion_store.give_back(private, store)
    remove(private)
    return observation


def _reduce_material(
    material: Material, config: Config, run: Runner | None, progress: Progress
) -> Observation:
    if config.run.engine == "astromatic":
        astromatic.check_programs()
    started = datetime.now(UTC)
    products, choice = material.products, material.choice
    for path in products.unfinished():
        remove(path)
    write_text(products.config, configuration.dump(config))
    jobs = _jobs(material, config)
    chips = {} if material.restart else _standing(jobs, products)
    fresh: set[int] = set()

    def record() -> Observation:
        results = [_with_left_out(chips[chip], choice) for chip in sorted(chips)]
        observation = Observation(
            results,
            products.run_record,
            material.missing,
            choice.notes,
            tuple(sorted(set(chips) - fresh)),
        )
        _write_record(observation, products, material.night, material.command, started)
        return observation

    def done(result: ChipResult) -> None:
        fresh.add(result.chip)
        chips[result.chip] = result
        # What the record tells of must be there after a power cut, too.
        settle(path.parent for path in result.made)
        record()
        products.in_making(result.chip).unlink(missing_ok=True)

    def again(result: ChipResult) -> None:
        first = chips[result.chip]
        if result.error and not result.made:
            # Nothing of the second try was written: the first one stands.
            log.warning("C%d: %s; its own solution is kept", result.chip, result.error)
            result = replace(first, made_from=result.made_from)
        # What its own stars said stands: the second fit is relative to what chips share.
        done(replace(result, field_fit=first.field_fit))

    with nullcontext(run) if run is not None else Runner(config.run) as runner:
        todo = [job for chip, job in jobs.items() if chip not in chips]
        runner(_knowing(todo, products, choice.ramps), progress, done)
        shared = shared_field(list(chips.values()), config)
        stiff = {
            chip: replace(jobs[chip], shared=shared)
            for chip, result in chips.items()
            if shared is not None and _is_weak(result, config)
        }
        common = shared_digest(shared)
        todo = [job for chip, job in stiff.items() if chips[chip].made_from.shared != common]
        for job in todo:
            if job.chip not in fresh:
                log.log(NOTICE, "C%d is made again: what all chips share changed", job.chip)
        runner(_knowing(todo, products, choice.ramps), progress, again)
    observation = record()
    if config.run.pages:
        try_report(products.root)
    else:
        products.html_report.unlink(missing_ok=True)  # it would tell of an earlier run
    return observation


def _jobs(material: Material, config: Config) -> dict[int, Job]:
    """A job for each chip, by its number."""
    products = material.products
    if material.distortions:
        given = replace(config.input, distortion_dir=material.distortions)
        config = replace(config, input=given)
    flats = Flats(store_folder(config.input.flat_dir), material.night)
    source, cache = config.input.catalog, config.input.cache
    find = partial(
        reference_stars,
        source=str(Path(source).absolute()) if Path(source).is_file() else source,
        band=products.band,
        cache=str(Path(cache or default_cache()).absolute()),
    )
    ramps = material.choice.ramps
    return {chip: Job(products, ramps[chip], chip, config, flats, find) for chip in sorted(ramps)}


def _standing(jobs: dict[int, Job], products: Products) -> dict[int, ChipResult]:
    """The chips that an earlier run made of the same; why others are made again is told.

    The jobs of these learn what was known of their files.
    """
    earlier = {chip: one for chip, one in recorded(products).items() if chip in jobs}
    silent = any("missing" in one for r in earlier.values() for one in r.made_from.inputs.values())
    ramps = {chip: job.ramps for chip, job in jobs.items()}
    unavailable = _ask_once(next(iter(jobs.values())).find, products, ramps) if silent else ""
    stands = {}
    for chip, job in jobs.items():
        if chip not in earlier:
            if products.in_making(chip).exists():
                log.log(NOTICE, "C%d is made again: a run was stopped while it made it", chip)
            continue
        then = earlier[chip].made_from
        jobs[chip] = replace(job, earlier=then, unavailable=unavailable)
        why = changed(then, jobs[chip].made_from()) or damage(earlier[chip], products)
        if why:
            log.log(NOTICE, "C%d is made again: %s", chip, why)
        else:
            stands[chip] = earlier[chip]
    if stands:
        names = " ".join(f"C{chip}" for chip in stands)
        log.log(NOTICE, "%s: made before of the same; -restart makes all again", names)
    return stands


def _knowing(jobs: list[Job], products: Products, ramps: dict[int, list[RampId]]) -> list[Job]:
    """The jobs, told whether the services of reference catalogues answer."""
    if not jobs:
        return []
    unavailable = _ask_once(jobs[0].find, products, ramps)
    return [replace(job, unavailable=unavailable) for job in jobs]


def _with_left_out(chip: ChipResult, choice: Choice) -> ChipResult:
    """The result with a verdict also on the ramps that the user left out this time."""
    asked = {str(ramp) for ramp in choice.ramps[chip.chip]}
    verdicts = {
        str(ramp): Verdict(str(ramp), used=False, reason=reason)
        for ramp, reason in choice.left_out.items()
        if ramp.chip == chip.chip
    } | {verdict.frame: verdict for verdict in chip.verdicts if verdict.frame in asked}
    return replace(chip, verdicts=[verdicts[name] for name in sorted(verdicts)])


def _ask_once(find: Any, products: Products, ramps: dict[int, list[RampId]]) -> str:
    """Ask for the reference catalogue before the chips do: why it cannot be had, or nothing.

    A survey is then in the cache for all chips; and services that do not answer are waited for
    once, not once per chip.
    """
    try:
        header, path = _first_header(products, ramps)
        info = fitsfile.frame_info(header, path)
        find((info.ra_deg, info.dec_deg))
    except ServiceError as error:
        return str(error)
    except PhotometrusError:
        pass  # each chip will say so, with its own frames
    return ""


def reference_stars(
    axis: tuple[float, float], *, source: str, band: str, cache: str, unavailable: str = ""
) -> Table | None:
    """The reference catalogue of the whole field of view around a telescope axis (degrees).

    unavailable : why the services did not answer already; ServiceError with it at once
    """
    if source.lower() == "none":
        return None
    if unavailable:
        raise ServiceError(unavailable)
    # Any rotator angle, and the capture range, must find their stars in it.
    radius = CHIPS_FIELD_RADIUS_DEG + 0.05
    return reference(source, axis, radius, band, cache=Path(cache) if cache else None)


def shared_field(chips: Sequence[ChipResult], config: Config) -> FieldFit | None:
    """What all chips say of scale, rotation and radial distortion, when one of them needs it.

    None when no chip has few catalogue stars, or there are no others to help.
    """
    fits = [chip.field_fit for chip in chips if chip.field_fit is not None and not chip.error]
    if len(fits) < 2 or not any(_is_weak(chip, config) for chip in chips):
        return None
    return combined(fits)


def _is_weak(chip: ChipResult, config: Config) -> bool:
    fit = chip.field_fit
    few = config.for_chip(chip.chip).astrometry.field_stars
    return fit is not None and not chip.error and fit.n_reference < few


# ---------------------------------------------------------------- the record


def _write_record(
    observation: Observation, products: Products, night: date, command: str, started: datetime
) -> None:
    record = {
        "photometrus": __version__,
        "python": platform.python_version(),
        "libraries": _libraries(),
        "command": command,
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "night": night.isoformat(),
        "band": products.band,
        "missing": [{"frame": name, "reason": reason} for name, reason in observation.missing],
        "notes": observation.notes,
        "chips": recorded_chips(products)
        | {
            f"C{result.chip}": {
                "coadd": _relative(result.coadd, products.root),
                "weight": _relative(result.weight, products.root),
                "extras": [_relative(path, products.root) for path in result.extras],
                "page": _relative(result.page, products.root),
                "error": result.error,
                "notes": result.notes,
                "made_from": asdict(result.made_from),
                "made": {_relative(path, products.root): n for path, n in result.made.items()},
                "numbers": result.numbers,
                "field_fit": asdict(result.field_fit) if result.field_fit else None,
                "frames": [asdict(verdict) for verdict in result.verdicts],
            }
            for result in observation.chips
        },
    }
    write_text(products.run_record, json.dumps(_finite(record), indent=1) + "\n")


def _libraries() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("numpy", "scipy", "numba", "astropy")}


def _relative(path: Path | None, root: Path) -> str | None:
    return None if path is None else str(path.relative_to(root))


def _finite(value: Any) -> Any:
    """NaN, which JSON does not have, as null."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
