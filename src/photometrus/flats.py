"""The flat store: master flats by band, night and chip; chosen, made, kept."""

import contextlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from photometrus.config import Config
from photometrus.errors import MissingInput, PhotometrusError, TooFewFrames
from photometrus.frame import Frame
from photometrus.instrument import BORDER_PIXELS
from photometrus.io import fitsfile, rampfile
from photometrus.io.archive import Archive, fetch_log, nights_near
from photometrus.io.download import DownloadEvent, download
from photometrus.io.lock import alone
from photometrus.io.nightlog import read_log
from photometrus.io.observed import flats as flats_of_log
from photometrus.io.whole import remove
from photometrus.products import FLAT_NAME, RampId, flat_name, log_name
from photometrus.stages import detrend
from photometrus.stages.detrend import Flat, FlatConfig
from photometrus.workers import Each, try_each

log = logging.getLogger(__name__)

STORE_VARIABLE = "PHOTOMETRUS_FLATS"
MAX_RAMPS = 40
"""Of one half-night; more do not make a better flat."""


def store_folder(given: str = "") -> Path:
    """The flat store: as given, $PHOTOMETRUS_FLATS, or a folder in the user's data folder."""
    named = given or os.environ.get(STORE_VARIABLE, "")
    if named:
        return Path(named).expanduser()
    data = os.environ.get("XDG_DATA_HOME", "") or str(Path.home() / ".local" / "share")
    return Path(data) / "photometrus" / "flats"


@dataclass(frozen=True)
class Flats:
    """The master flats on disk, seen from one night."""

    folder: Path
    night: date

    def nearest(self, band: str, chip: int, max_days: int) -> Path | None:
        """The flat nearest in date, the earlier of two as near; None when none is near enough."""
        found = []
        for path in sorted(self.folder.glob(f"mflat.{band}.*.C{chip}.fits")):
            match = FLAT_NAME.match(path.name)
            if match:
                try:
                    days = abs((date.fromisoformat(match["date"]) - self.night).days)
                except ValueError:
                    continue
                found.append((days, path))
        if not found:
            return None
        days, path = min(found)
        return path if days <= max_days else None

    def choose(
        self, band: str, chip: int, frames: Sequence[Frame], config: FlatConfig
    ) -> tuple[Flat, str]:
        """The store's nearest flat, else one made from the science frames; and a note about it."""
        shape = frames[0].pixels.shape
        path = self.nearest(band, chip, config.max_days_away)
        trouble = f"no flat of {band} C{chip} in {self.folder}"
        if path is not None:
            try:
                return read_flat(path, shape, config), ""
            except PhotometrusError as error:
                trouble = str(error)
        try:
            flat = detrend.make_sky_flat([frame.pixels for frame in frames], config)
        except TooFewFrames:
            return detrend.unit_flat(shape), (
                f"NOT FLAT-FIELDED: {trouble}, and {len(frames)} science frames cannot make one; "
                "give -flat_dir"
            )
        return flat, (
            f"{trouble}: the flat was made from the {len(frames)} science frames themselves, the "
            "sky's own gradient is in it; give -flat_dir for a better one"
        )


def read_flat(path: Path, shape: tuple[int, int], config: FlatConfig = FlatConfig()) -> Flat:
    """A master flat from disk, with its bad-pixel map when it has one.

    shape : of the trimmed frames; a flat with the border still on it is trimmed, a larger one is
        cut to the detector's window. Raises MissingInput when it cannot be used.
    """
    response, _ = fitsfile.read_image(path)
    if response.shape[0] % 128 == 0 and response.shape[0] > shape[0]:
        response = response[BORDER_PIXELS:-BORDER_PIXELS, BORDER_PIXELS:-BORDER_PIXELS]
    if response.shape[0] < shape[0] or response.shape[1] < shape[1]:
        raise MissingInput(
            f"{path}: {response.shape[1]} x {response.shape[0]} pixels, the frames have "
            f"{shape[1]} x {shape[0]}; give a flat of the whole chip"
        )
    if not np.nanmedian(response[::16]) > 0:  # some of the rows tell
        raise MissingInput(f"{path}: its median is not positive; not a flat")
    response = response[: shape[0], : shape[1]]
    marked = fitsfile.read_flags(path)
    if marked is None or marked.shape[0] < shape[0] or marked.shape[1] < shape[1]:
        return detrend.finish_flat(response, path.name, config)
    return Flat(response, marked[: shape[0], : shape[1]], path.name)


def make_master(
    paths: Sequence[Path], out: Path, config: FlatConfig = FlatConfig(), *, each: Each = map
) -> Flat:
    """A master flat from FLAT ramps on disk, written to `out` with its bad-pixel map.

    Unreadable ramps are left out, and those of another size than most. Raises TooFewFrames when
    none can be used.
    """
    used = _usable(paths, each)
    first_header, first = next(iter(used.values()))
    unit = detrend.unit_flat(tuple(n - 2 * BORDER_PIXELS for n in first.shape))
    pixels = [detrend.CalibratedPixels(raw, unit) for _, raw in used.values()]
    flat = detrend.make_flat(pixels, config)
    header = fitsfile.product_header(first_header, None, flat.response.shape)
    header["BUNIT"] = ("", "relative response, median 1")
    header["FLATFROM"] = (flat.source[:60], "what it was made from")
    header["NCOMBINE"] = (len(used), "FLAT ramps")
    for k, path in enumerate([*used][:99], start=1):
        header[f"FRAM{k:04d}"] = (path.name, "FLAT ramp")
    fitsfile.write_with_flags(out, flat.response, flat.bad, header)
    return flat


def _usable(paths: Sequence[Path], each: Each) -> dict[Path, tuple[Any, Any]]:
    """Header and pixels of the ramps that can be read and have the commonest size.

    Of two sizes as common it is the larger.
    """
    opened, lost = try_each(rampfile.open_ramp, list(paths), each)
    if not opened:
        raise TooFewFrames(f"flat: none of {len(paths)} FLAT ramps can be read")
    counts = Counter(raw.shape for _, (_, raw) in opened)
    ny, nx = usual = max(counts, key=lambda shape: (counts[shape], shape[0] * shape[1]))
    odd = [(path, raw.shape) for path, (_, raw) in opened if raw.shape != usual]
    reasons = [(path, f"{x} x {y} pixels, most have {nx} x {ny}") for path, (y, x) in odd]
    for path, why in [*lost, *reasons]:
        log.warning("flat: %s left out: %s", path.name, why)
    return {path: ramp for path, ramp in opened if ramp[1].shape == usual}


def flats_of_night(table: Table, band: str) -> list[RampId]:
    """The FLAT ramps (of chip 1) that make the night's master: those of its start, or its end."""
    rows = flats_of_log(table, band)
    for half in ("start", "end"):
        serials = [int(serial) for serial in rows["serial"][rows["half"] == half]]
        if len(serials) >= 2:
            return [RampId(serial, 1) for serial in serials[:MAX_RAMPS]]
    return [RampId(int(serial), 1) for serial in rows["serial"][:MAX_RAMPS]]


def prepare(
    archive: Archive,
    night: date,
    band: str,
    chips: Sequence[int],
    config: Config,
    log_folder: Path,
    *,
    each: Each = map,
) -> list[str]:
    """Make the flats that the store lacks from the archive's FLATs of the night or nearest nights.

    log_folder : where the night's log already is. Returns notes about what could not be had.
    """
    supply = FlatSupply(archive, night, band, config, log_folder)
    notes = [note for chip in chips for note in supply.prepare(chip, each)]
    return list(dict.fromkeys(notes))


class FlatSupply:
    """Flats for the chips of an observation, chip by chip: see `prepare`.

    watch : told of every event of the downloads
    """

    def __init__(
        self,
        archive: Archive,
        night: date,
        band: str,
        config: Config,
        log_folder: Path,
        watch: Callable[[DownloadEvent], None] | None = None,
    ) -> None:
        self.archive = archive
        self.night = night
        self.band = band
        self.config = config
        self.log_folder = log_folder
        self.watch = watch
        self.store = Flats(store_folder(config.input.flat_dir), night)
        self._source: tuple[date, list[RampId]] | None = None

    def prepare(self, chip: int, each: Each = map) -> list[str]:
        """Make the flat of a chip if the store lacks it; notes about what could not be had."""
        if not self.lacks(chip):
            return []
        with alone(self.store.folder, "-flat_dir"):
            for path in self.store.folder.glob("mflat.*.part"):
                remove(path)  # of a run that was killed while it wrote
            # Another run may have made it meanwhile.
            return self._supply(chip, each) if self.lacks(chip) else []

    def lacks(self, chip: int) -> bool:
        """Whether the store has no flat of a chip that is near enough."""
        return self.store.nearest(self.band, chip, self.config.flat.max_days_away) is None

    def _supply(self, chip: int, each: Each) -> list[str]:
        if self._source is None:
            self._source = _nearest_flats(
                self.archive, self.night, self.band, self.store.folder, self.log_folder
            )
        night, ramps = self._source
        if not ramps:
            where = f"{self.band} on {self.night} or the nights around it"
            return [f"the archive has no FLAT ramps of {where}"]
        return self._make(night, [ramp.on_chip(chip) for ramp in ramps], chip, each)

    def _make(self, night: date, ramps: list[RampId], chip: int, each: Each) -> list[str]:
        folder = self.store.folder / "ramps" / f"{night:%Y%m%d}" / f"C{chip}"
        given = self.config.input
        got = download(
            self.archive,
            ramps,
            partial(_ramp_in, folder),
            kind=given.ftype if given.ftype.startswith("ramp") else "ramp",
            workers=given.downloads,
            progress=self.watch,
        )
        here = sorted((*got.fetched, *got.present))
        notes = []
        if got.missing:
            _, why = got.missing[0]
            lacking = f"{len(got.missing)} of {len(ramps)} FLAT ramps were not downloaded"
            notes.append(f"C{chip}: flat: {lacking}: {why}")
        try:
            out = self.store.folder / flat_name(self.band, night, chip)
            paths = [_ramp_in(folder, ramp) for ramp in here]
            make_master(paths, out, self.config.flat, each=each)
            log.info("C%d: flat %s from %d FLAT ramps", chip, out.name, len(here))
        except TooFewFrames as error:
            notes.append(f"C{chip}: {error}")
        # The master holds all that they said.
        for ramp in here:
            _ramp_in(folder, ramp).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty: something of somebody else's
            folder.rmdir()
            folder.parent.rmdir()
            folder.parent.parent.rmdir()
        return notes


def _ramp_in(folder: Path, ramp: RampId) -> Path:
    return folder / f"{ramp}.ramp.fits"


def _nearest_flats(
    archive: Archive, night: date, band: str, folder: Path, log_folder: Path
) -> tuple[date, list[RampId]]:
    """FLAT ramps of the night, or of the nearest night that has some; an empty list without any."""
    path = log_folder / log_name(night)
    if path.exists():
        ramps = flats_of_night(read_log(path), band)
        if ramps:
            return night, ramps
    for other in nights_near(archive, night, 6):
        try:
            ramps = flats_of_night(read_log(fetch_log(archive, other, folder / "logs")), band)
        except PhotometrusError as error:
            log.warning("log of %s: %s", other, error)
            continue
        if ramps:
            return other, ramps
    return night, []
