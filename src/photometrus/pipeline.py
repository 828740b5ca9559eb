"""The recipe of an observation: the night log, the ramps, the flats, every chip, the record."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from astropy.table import Table

from photometrus import astromatic, distortion_store
from photometrus import config as configuration
from photometrus.arrivals import Material, Request, arriving, check, chosen, joined
from photometrus.chip.agreement import central
from photometrus.config import Config
from photometrus.errors import FrameError, MissingInput, PhotometrusError, ServiceError
from photometrus.flats import Flats, store_folder
from photometrus.frame import LISTED, NOTICE, FrameInfo, Progress, no_progress
from photometrus.instrument import CHIPS, CHIPS_FIELD_RADIUS_DEG, night_of
from photometrus.io import rampfile
from photometrus.io.catalogs import default_cache, reference
from photometrus.io.lock import locked
from photometrus.io.whole import remove, settle, warn_of_links, write_text
from photometrus.jobs import Job, Runner
from photometrus.observation import Observation, write_record
from photometrus.optics import FieldFit, combined
from photometrus.origin import changed, shared_digest
from photometrus.products import Products, RampId
from photometrus.resume import damage, recorded
from photometrus.selection import Choice
from photometrus.space import check_room
from photometrus.track import ChipResult, Verdict
from photometrus.workers import load_meanwhile

log = logging.getLogger(__name__)


VOTERS = 9
"""Ramps whose headers say when and where an observation was made: one of them may be wrong."""


def reduce_observation(
    request: Request, config: Config, *, progress: Progress = no_progress
) -> Observation:
    """Download an observation (unless told not to) and reduce every chip of it.

    A chip is reduced as soon as its own ramps are there, while those of the next are downloaded.
    Raises PhotometrusError for what stops everything (no log, no such target, no archive); what
    stops a chip or a frame is in the result.
    """
    check(request.band, config)
    with (
        locked(request.parent, request.command, wait=request.wait),
        closing(arriving(request, config, progress)) as parts,
    ):
        return reduce_parts(parts, config, asked=request.chips, progress=progress)


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
    check(band, config)
    warn_of_links(parent)
    products = Products(parent, band)
    ramps = {chip: products.ramps_on_disk(chip) for chip in chips}
    if not any(ramps.values()):
        folders = ", ".join(str(products.ramps(chip)) for chip in chips)
        raise MissingInput(f"no *.ramp.fits in {folders}; use `photometrus getdata` first")
    choice = chosen(ramps, config)
    night = _night_of(products, ramps)
    material = Material(products, choice, night, command=command, restart=restart)
    with locked(parent, command, wait=wait):
        check_room(products, choice.ramps, config)
        return reduce_material(material, config, progress=progress)


def _night_of(products: Products, ramps: dict[int, list[RampId]]) -> date:
    """The night (local noon to noon) in which most readable ramps of a chip began."""
    begins = sorted(info.begin_mjd for info in _infos(products, ramps))
    return night_of(begins[(len(begins) - 1) // 2])


def _infos(products: Products, ramps: dict[int, list[RampId]]) -> list[FrameInfo]:
    """What the headers of some readable ramps say: of the first chip that has any."""
    for chip in sorted(ramps):
        infos = []
        for ramp in ramps[chip]:
            path = products.ramp(ramp)
            try:
                header, _ = rampfile.open_ramp(path)
                infos.append(rampfile.frame_info(header, path))
            except (FrameError, MissingInput):
                continue
            if len(infos) == VOTERS:
                break
        if infos:
            return infos
    raise MissingInput(f"{products.root}: none of the ramps can be read")


def reduce_material(
    material: Material,
    config: Config,
    *,
    run: Runner | None = None,
    progress: Progress = no_progress,
) -> Observation:
    """Every chip of what is on disk: see `reduce_parts`."""
    asked = sorted(material.choice.ramps)
    return reduce_parts([material], config, asked=asked, run=run, progress=progress)


def reduce_parts(
    parts: Iterable[Material],
    config: Config,
    *,
    asked: Sequence[int],
    run: Runner | None = None,
    progress: Progress = no_progress,
) -> Observation:
    """Every chip, one after the other or at once; and the record, which grows with each chip.

    Chips that an earlier run made of the same stand, unless it is a restart.
    parts : chips, as they arrive; asked : all that will
    run : where the chips are reduced; None: as the settings say
    """
    if config.run.engine == "astromatic":
        astromatic.check_programs()
    coming = iter(parts)
    first = next(coming)
    with (
        _distortions(first, config) as lent,
        nullcontext(run) if run is not None else Runner(config.run, len(asked)) as runner,
    ):
        equipped = (replace(part, distortions=lent) for part in chain([first], coming))
        return _reduce_parts(equipped, first, asked, config, runner, progress)


@contextmanager
def _distortions(material: Material, config: Config) -> Iterator[str]:
    """The store of distortions that an observation sees: a copy of its own until it is done.

    After an error, or when it is stopped, it stays: who goes on sees the same.
    """
    store = distortion_store.store_folder(config.input.distortion_dir)
    if store is None or material.distortions:
        yield material.distortions
        return
    private = material.products.distortions
    if material.restart:
        remove(private)
    distortion_store.lend(store, private, material.products.band)
    yield str(private)
    if distortion_store.give_back(private, store):
        remove(private)


def _reduce_parts(
    parts: Iterable[Material],
    material: Material,
    asked: Sequence[int],
    config: Config,
    runner: Runner,
    progress: Progress,
) -> Observation:
    """The same, with where the chips are reduced; `material` is the first part."""
    started = datetime.now(UTC)
    products = material.products
    for path in products.unfinished():
        remove(path)
    write_text(products.config, configuration.dump(config))
    if config.run.pages:
        load_meanwhile("photometrus.htmlreport.page")
    jobs: dict[int, Job] = {}
    chips: dict[int, ChipResult] = {}
    fresh: set[int] = set()
    one_at_a_time = threading.RLock()

    def record(state: str = "running") -> Observation:
        results = [_with_left_out(chips[chip], material.choice) for chip in sorted(chips)]
        observation = Observation(
            results,
            products.run_record,
            material.missing,
            material.choice.notes,
            tuple(sorted(set(chips) - fresh)),
        )
        write_record(
            observation,
            products,
            night=material.night,
            command=material.command,
            started=started,
            state=state,
            asked=asked,
        )
        return observation

    def done(result: ChipResult) -> None:
        with one_at_a_time:
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

    record()
    with _sending(runner) as send:
        for part in parts:
            material = joined([material, part]) if jobs else part
            new = _jobs(part, config)
            with one_at_a_time:
                chips |= {} if part.restart else _standing(new, products)
                jobs |= new
            for chip in sorted(set(new) & set(chips)):
                progress(f"C{chip} as before", 1, 1)
            todo = [job for chip, job in new.items() if chip not in chips]
            send(_knowing(todo, products, part.choice.ramps), progress, done)
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
    runner(_knowing(todo, products, material.choice.ramps), progress, again)
    observation = record("done")
    if config.run.pages:
        # Not above: a page for a browser needs libraries that a reduction does not.
        from photometrus.htmlreport.page import try_report

        looks = {chip: one.look for chip, one in chips.items() if one.look is not None}
        try_report(products.root, looks)
    else:
        products.html_report.unlink(missing_ok=True)  # it would tell of an earlier run
    return observation


@contextmanager
def _sending(runner: Runner) -> Iterator[Callable[..., object]]:
    """Calls `runner`; when it has a cluster, in threads, which are waited for at the end."""
    if not runner.at_once:
        yield runner
        return
    pool = ThreadPoolExecutor(len(CHIPS), thread_name_prefix="part")
    sent: list[Future[Any]] = []
    try:
        yield lambda *order: sent.append(pool.submit(runner, *order))
        for one in sent:
            one.result()
    finally:
        # Not waited for after an error: the cluster ends what still runs.
        pool.shutdown(wait=False, cancel_futures=True)


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
        log.log(NOTICE, "%s: made before of the same", names, extra=LISTED)
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
        info = central(_infos(products, ramps))
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
