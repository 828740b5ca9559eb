"""The recipe of an observation: the night log, the ramps, the flats, every chip, the record."""

import json
import logging
import math
import platform
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from astropy.table import Table

from photometrus import __version__, astromatic
from photometrus import config as configuration
from photometrus.arrivals import Material, Request, arriving, chosen, joined
from photometrus.cards import Loss, card
from photometrus.config import Config
from photometrus.errors import FrameError, MissingInput, PhotometrusError, ServiceError
from photometrus.flats import Flats, store_folder
from photometrus.frame import Progress, no_progress
from photometrus.instrument import CHIPS, CHIPS_FIELD_RADIUS_DEG, band_named, night_of
from photometrus.io import fitsfile
from photometrus.io.catalogs import default_cache, reference
from photometrus.io.whole import warn_of_links, whole
from photometrus.jobs import Job, Runner
from photometrus.optics import FieldFit, combined
from photometrus.products import Products, RampId
from photometrus.resume import finished, recorded_chips
from photometrus.selection import Choice
from photometrus.stackfiles import check_extras
from photometrus.track import CHIP_COLUMNS, ChipResult, Verdict
from photometrus.workers import load_meanwhile

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

    @property
    def losses(self) -> list[Loss]:
        """What of it is not in the stacks."""
        missing: list[Loss] = [(name, "not downloaded", why) for name, why in self.missing]
        return missing + [loss for chip in self.chips for loss in chip.losses]

    def __repr__(self) -> str:
        return f"<Observation in {self.record.parent}: {self.chips}, {len(self.losses)} not in it>"

    def _repr_html_(self) -> str:
        """In a notebook: what the command shows."""
        root = self.record.parent
        rows = [chip.row(root) for chip in self.chips]
        notes = [*self.notes, *(f"C{one.chip}: {note}" for one in self.chips for note in one.notes)]
        return card(str(root), CHIP_COLUMNS, rows, self.losses, notes)


def reduce_observation(
    request: Request, config: Config, *, progress: Progress = no_progress
) -> Observation:
    """Download an observation (unless told not to) and reduce every chip of it.

    A chip is reduced as soon as its own ramps are there, while those of the next are downloaded.
    Raises PhotometrusError for what stops everything (no log, no such target, no archive); what
    stops a chip or a frame is in the result.
    """
    with closing(arriving(request, config, progress)) as parts:
        return reduce_parts(parts, config, asked=request.chips, progress=progress)


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
    warn_of_links(parent)
    products = Products(parent, band)
    ramps = {chip: products.ramps_on_disk(chip) for chip in chips}
    if not any(ramps.values()):
        folders = ", ".join(str(products.ramps(chip)) for chip in chips)
        raise MissingInput(f"no *.ramp.fits in {folders}; use `photometrus getdata` first")
    choice = chosen(ramps, config)
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

    parts : chips, as they arrive; asked : all that will
    run : where the chips are reduced; None: as the settings say
    """
    if config.run.engine == "astromatic":
        astromatic.check_programs()
    started = datetime.now(UTC)
    coming = iter(parts)
    material = next(coming)
    products = material.products
    for path in products.unfinished():
        path.unlink(missing_ok=True)
    _write_text(products.config, configuration.dump(config))
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
        _write_record(observation, material, started, state, asked)
        return observation

    def done(result: ChipResult) -> None:
        with one_at_a_time:
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
    with nullcontext(run) if run is not None else Runner(config.run, len(asked)) as runner:
        with _sending(runner) as send:
            for part in chain([material], coming):
                material = part if part is material else joined([material, part])
                new = _jobs(part, config)
                jobs |= new
                with one_at_a_time:
                    chips |= _unchanged(new, products) if part.resume else {}
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
        todo = [job for chip, job in stiff.items() if chips[chip].made_from != job.made_from()]
        runner(_knowing(todo, products, material.choice.ramps), progress, again)
    observation = record("done")
    if config.run.pages:
        # Not above: a page for a browser needs libraries that a reduction does not.
        from photometrus.htmlreport.page import try_report

        try_report(products.root)
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
    observation: Observation,
    material: Material,
    started: datetime,
    state: str,
    asked: Sequence[int],
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
        "chips_asked": sorted(asked),
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
