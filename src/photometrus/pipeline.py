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

from photometrus import __version__, astromatic
from photometrus import config as configuration
from photometrus.config import Config
from photometrus.errors import FrameError, MissingInput, PhotometrusError, ServiceError, UsageError
from photometrus.flats import Flats, prepare, store_folder
from photometrus.frame import Progress, no_progress
from photometrus.htmlreport.page import try_report
from photometrus.instrument import CHIPS_FIELD_RADIUS_DEG, band_named, night_of
from photometrus.io import fitsfile
from photometrus.io.archive import fetch_log, open_archive
from photometrus.io.catalogs import default_cache, reference
from photometrus.io.download import Downloads, counted, download, write_failed
from photometrus.io.nightlog import read_log, select
from photometrus.io.whole import make_folder, whole
from photometrus.jobs import Job, Runner
from photometrus.optics import FieldFit, combined
from photometrus.products import Products, RampId
from photometrus.resume import finished, recorded_chips
from photometrus.selection import Choice, choose
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
    resume: bool = False
    """Whether a chip that was made of the same files with the same settings stands."""


@dataclass(frozen=True)
class Material:
    """What is on disk to make an observation of."""

    products: Products
    choice: Choice
    night: date
    missing: list[tuple[str, str]] = field(default_factory=list)
    command: str = ""
    resume: bool = False
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
    return reduce_material(gather(request, config, progress), config, progress=progress)


def gather(request: Request, config: Config, progress: Progress = no_progress) -> Material:
    """The ramps and flats of an observation on disk, downloaded unless told not to.

    Raises PhotometrusError for what stops everything.
    """
    band_named(request.band)
    check_extras(config)
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
    return Material(products, choice, request.night, missing, request.command, request.resume)


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


def reduce_folder(
    parent: Path,
    band: str,
    chips: Sequence[int],
    config: Config,
    *,
    command: str = "",
    progress: Progress = no_progress,
) -> Observation:
    """Reduce chips whose ramps are on disk already."""
    band_named(band)
    check_extras(config)
    products = Products(parent, band)
    ramps = {chip: products.ramps_on_disk(chip) for chip in chips}
    if not any(ramps.values()):
        folders = ", ".join(str(products.ramps(chip)) for chip in chips)
        raise MissingInput(f"no *.ramp.fits in {folders}; use `photometrus getdata` first")
    choice = _chosen(ramps, config)
    material = Material(products, choice, _night_of(products, ramps), command=command)
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

    run : where the chips are reduced; None: as the settings say
    """
    if config.run.engine == "astromatic":
        astromatic.check_programs()
    started = datetime.now(UTC)
    products, choice = material.products, material.choice
    for path in products.unfinished():
        path.unlink(missing_ok=True)
    _write_text(products.config, configuration.dump(config))
    jobs = _jobs(material, config)
    chips = _unchanged(jobs, products) if material.resume else {}
    fresh: set[int] = set()

    def record(state: str = "running") -> Observation:
        results = [_with_left_out(chips[chip], choice) for chip in sorted(chips)]
        observation = Observation(
            results,
            products.run_record,
            material.missing,
            choice.notes,
            tuple(sorted(set(chips) - fresh)),
        )
        _write_record(observation, material, started, state)
        return observation

    def done(result: ChipResult) -> None:
        fresh.add(result.chip)
        chips[result.chip] = replace(result, made_from=jobs[result.chip].made_from())
        record()

    def again(result: ChipResult) -> None:
        fresh.add(result.chip)
        first, job = chips[result.chip], stiff[result.chip]
        if result.error:
            # Nothing of the second try was written: the first one stands.
            log.warning("C%d: %s; its own solution is kept", result.chip, result.error)
            result = first
        # What its own stars said stands: the second fit is relative to what chips share.
        chips[result.chip] = replace(result, field_fit=first.field_fit, made_from=job.made_from())
        record()

    record()
    with nullcontext(run) if run is not None else Runner(config.run) as runner:
        todo = [job for chip, job in jobs.items() if chip not in chips]
        todo = _knowing(todo, products, choice.ramps)
        runner(todo, progress, done)
        shared = shared_field(list(chips.values()), config)
        stiff = {
            chip: replace(jobs[chip], shared=shared)
            for chip, result in chips.items()
            if shared is not None and _is_weak(result, config)
        }
        todo = [job for chip, job in stiff.items() if chips[chip].made_from != job.made_from()]
        runner(_knowing(todo, products, choice.ramps), progress, again)
    observation = record("done")
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


def _unchanged(jobs: dict[int, Job], products: Products) -> dict[int, ChipResult]:
    """The chips that an earlier run made of the same files with the same settings."""
    return {
        chip: result
        for chip, result in finished(products).items()
        if chip in jobs and result.made_from.partition(".")[0] == jobs[chip].made_from()
    }


def _knowing(jobs: list[Job], products: Products, ramps: dict[int, list[RampId]]) -> list[Job]:
    """The jobs, told whether the services of reference catalogues answer."""
    if not jobs:
        return []
    unavailable = _ask_once(jobs[0].find, products, ramps)
    return [replace(job, find=partial(job.find, unavailable=unavailable)) for job in jobs]


def _with_left_out(chip: ChipResult, choice: Choice) -> ChipResult:
    """The result with a verdict also on the ramps that the user left out."""
    verdicts = {
        str(ramp): Verdict(str(ramp), used=False, reason=reason)
        for ramp, reason in choice.left_out.items()
        if ramp.chip == chip.chip
    } | {verdict.frame: verdict for verdict in chip.verdicts}
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
    observation: Observation, material: Material, started: datetime, state: str
) -> None:
    products = material.products
    record = {
        "photometrus": __version__,
        "python": platform.python_version(),
        "libraries": _libraries(),
        "command": material.command,
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "night": material.night.isoformat(),
        "band": products.band,
        "state": state,
        "chips_asked": sorted(material.choice.ramps),
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
                "made_from": result.made_from,
                "numbers": result.numbers,
                "field_fit": asdict(result.field_fit) if result.field_fit else None,
                "frames": [asdict(verdict) for verdict in result.verdicts],
            }
            for result in observation.chips
        },
    }
    _write_text(products.run_record, json.dumps(_finite(record), indent=1) + "\n")


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


def _write_text(path: Path, text: str) -> None:
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")
