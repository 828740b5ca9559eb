"""The archive and the flats: night log, ramps, masters."""

import logging
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
from astropy.table import Table

from photometrus.config import Config
from photometrus.errors import FrameError, MissingInput, TooFewFrames, UsageError
from photometrus.flats import flats_of_night, make_master, store_folder
from photometrus.frame import Progress, no_progress
from photometrus.io import rampfile
from photometrus.io.archive import Archive, fetch_log, get_log, open_archive
from photometrus.io.download import counted, download, write_failed
from photometrus.io.lock import locked
from photometrus.io.nightlog import read_log, repair_name
from photometrus.io.observed import raw_frames, select, summarise
from photometrus.io.whole import warn_of_links
from photometrus.products import Products, RampId, flat_name, log_name, parse_ramp
from photometrus.selection import choose
from photometrus.steps.frames import StepResult, pool

log = logging.getLogger(__name__)


def night_log(night: date, config: Config, target: str = "", band: str = "") -> Table:
    """What was observed in a night, one row per target and band; with `target` only its rows.

    Raises MissingInput when the target (in that band) is not there, saying what is.
    """
    with open_archive(config.input.archive or None, config.transfer) as archive:
        table = get_log(archive, night).table
    summary = summarise(table)
    if not target:
        return summary[summary["band"] == band] if band else summary
    rows = summary[summary["target"] == repair_name(target)]
    try:
        if band or not len(rows):
            select(table, target, band or "J")  # says what the night has instead
    except UsageError as error:
        raise MissingInput(str(error)) from error
    return rows[rows["band"] == band] if band else rows


def get_data(
    products: Products,
    target: str,
    night: date,
    chips: Sequence[int],
    config: Config,
    *,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> StepResult:
    """The night log and the ramps (or raw frames) of a target; what is missing is listed."""
    warn_of_links(products.root)
    with (
        locked(products.root),
        open_archive(config.input.archive or None, config.transfer) as archive,
    ):
        log_of_night = get_log(archive, night)
        table = log_of_night.table
        on_first = select(table, target, products.band)
        log_of_night.write(products.root)  # not before: a wrong target leaves nothing
        ramps = {chip: [ramp.on_chip(chip) for ramp in on_first] for chip in chips}
        choice = choose(ramps, {chip: config.for_chip(chip).select for chip in chips})
        wanted = [ramp for chip in chips for ramp in choice.ramps[chip]]
        if config.input.ftype.startswith("raw"):
            wanted = raw_frames(table, wanted)
        result = _download(archive, wanted, products, config, progress, overwrite=overwrite)
    result.notes += choice.notes
    result.left_out = [(str(ramp), reason) for ramp, reason in choice.left_out.items()]
    write_failed(
        products.failed_downloads, [(parse_ramp(f"{name}."), why) for name, why in result.lost]
    )
    return result


def _download(
    archive: Archive,
    wanted: list[RampId],
    products: Products,
    config: Config,
    progress: Progress,
    *,
    overwrite: bool = False,
) -> StepResult:
    """Ramps into their folders."""
    raw = config.input.ftype.startswith("raw")

    def destination(ramp: RampId) -> Path:
        return products.ramps(ramp.chip) / f"{ramp}.fits" if raw else products.ramp(ramp)

    got = download(
        archive,
        wanted,
        destination,
        kind=config.input.ftype,
        overwrite=overwrite,
        workers=config.input.downloads,
        progress=counted(progress, len(wanted)),
    )
    here = [destination(ramp) for ramp in (*got.fetched, *got.present)]
    lost = [(str(ramp), reason) for ramp, reason in got.missing]
    notes = [f"{len(got.present)} were there already"] if got.present else []
    return StepResult(sorted(here), lost, notes, given=len(wanted))


def make_flat(
    products: Products,
    night: date,
    chips: Sequence[int],
    out: Path,
    config: Config,
    *,
    progress: Progress = no_progress,
) -> StepResult:
    """Master flats from the FLAT ramps on disk, one per chip, into the folder `out`.

    Which ramps are FLATs of the night's start or end is in the night log beside the chips'
    folders; without a log, their headers say whether they are FLATs of the band.
    """
    result = StepResult(given=len(chips))
    log_path = products.root / log_name(night)
    listed = flats_of_night(read_log(log_path), products.band) if log_path.exists() else None
    if listed is None:
        result.notes.append(f"no {log_path.name} in {products.root}: the ramps' headers decide")
    for k, chip in enumerate(chips, start=1):
        try:
            paths = _flat_ramps(products, chip, listed)
            path = out / flat_name(products.band, night, chip)
            with pool(config) as each:
                flat = make_master(paths, path, config.flat, each=each)
            result.made.append(path)
            result.notes.append(f"{path.name}: {flat.source}, {np.mean(flat.bad != 0):.2%} bad")
        except (MissingInput, TooFewFrames) as error:
            result.lost.append((f"C{chip}", str(error)))
        progress("flats", k, len(chips))
    return result


def _flat_ramps(products: Products, chip: int, listed: list[RampId] | None) -> list[Path]:
    """The FLAT ramps of a chip; MissingInput when there are none."""
    folder = products.ramps(chip)
    if listed is not None:
        paths = [products.ramp(ramp.on_chip(chip)) for ramp in listed]
        paths = [path for path in paths if path.exists()]
    else:
        paths = [path for path in sorted(folder.glob("*.ramp.fits")) if _is_flat(path, products)]
    if not paths:
        raise MissingInput(
            f"{folder}: no FLAT ramps of band {products.band}; process autoflat fetches some"
        )
    return paths


def _is_flat(path: Path, products: Products) -> bool:
    try:
        header, _ = rampfile.open_ramp(path)
    except FrameError as error:
        log.warning("%s", error)
        return False
    called = {str(header.get(key, "")).strip().upper() for key in ("OBJNAME", "OBJTYPE")}
    filters = "-".join(str(header.get(key, "")).strip() for key in ("FILTER1", "FILTER2"))
    return "FLAT" in called and filters == products.filters


def auto_flat(
    products: Products,
    night: date,
    chips: Sequence[int],
    config: Config,
    *,
    fetch: bool = True,
    progress: Progress = no_progress,
) -> StepResult:
    """Master flats of a night from the archive's FLAT ramps, into the flat store.

    fetch : False when log and ramps are below `products.root` already
    """
    lost: list[tuple[str, str]] = []
    if fetch:
        with open_archive(config.input.archive or None, config.transfer) as archive:
            table = read_log(fetch_log(archive, night, products.root))
            on_first = flats_of_night(table, products.band)
            if not on_first:
                raise MissingInput(
                    f"no FLAT ramps of band {products.band} on {night.isoformat()}; "
                    "see `photometrus log` for the nights around it"
                )
            wanted = [ramp.on_chip(chip) for chip in chips for ramp in on_first]
            lost = _download(archive, wanted, products, config, progress).lost
    out = store_folder(config.input.flat_dir)
    result = make_flat(products, night, chips, out, config, progress=progress)
    result.lost = lost + result.lost
    return result
