"""The store of distortions: one file per band and chip, what good solutions said, by night."""

import json
import logging
import os
import shutil
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import numpy as np

from photometrus.distortion import Distortion, aged, kept_terms, together
from photometrus.errors import StorageError
from photometrus.io.lock import alone as alone_in
from photometrus.io.whole import make_folder, remove, storing, write_text

log = logging.getLogger(__name__)

STORE_VARIABLE = "PHOTOMETRUS_DISTORTIONS"
OFF = "none"
OWN = "own"
"""Folder in what was lent, for what the borrower has to say: what it reads does not change."""
MAX_ENTRIES = 10
MAX_DAYS = 400


@dataclass(frozen=True)
class Entry:
    """What the frames of one observation said of a chip's distortion."""

    night: str
    first: str
    last: str
    """Its first and its last ramp: an observation is not its own witness."""
    n_frames: int
    n_reference: int
    information: list[list[float]]
    pull: list[float]

    @property
    def distortion(self) -> Distortion:
        """As a distortion."""
        return Distortion(np.array(self.information), np.array(self.pull))

    def days_from(self, night: date) -> int:
        """Nights between this entry and another, at least 0."""
        return abs((date.fromisoformat(self.night) - night).days)

    def overlaps(self, first: str, last: str) -> bool:
        """Whether it holds some of the same ramps."""
        return self.first <= last and first <= self.last


@dataclass(frozen=True)
class DistortionStore:
    """The stored distortions of one chip and band, seen from one observation.

    folder : None: nothing is found or kept; night, ramps : of the observation
    degree : of the model; what is of another is not found
    """

    folder: Path | None
    band: str
    chip: int
    night: date
    ramps: tuple[str, ...]
    degree: int

    @property
    def path(self) -> Path | None:
        """``distortion.J.C3.json``."""
        name = f"distortion.{self.band}.C{self.chip}.json"
        return None if self.folder is None else self.folder / name

    def stored(self) -> Distortion | None:
        """What other observations say, each by its age; None when there are none."""
        found = [
            aged(entry.distortion, entry.days_from(self.night), self.degree)
            for entry in self.others()
            if entry.days_from(self.night) <= MAX_DAYS
        ]
        return together(found) if found else None

    def others(self) -> list[Entry]:
        """Entries of other ramps: an observation is not its own witness, however often reduced."""
        first, last = min(self.ramps), max(self.ramps)
        return [entry for entry in self.entries() if not entry.overlaps(first, last)]

    def entries(self) -> list[Entry]:
        """All that is in the store; a file that cannot be read or is of another model is empty."""
        found = [] if self.path is None else _entries(self.path)
        size = len(kept_terms(self.degree))
        try:
            sound = all(
                np.shape(one.information) == (size, size) and np.shape(one.pull) == (size,)
                for one in found
            )
        except ValueError:  # rows of different lengths
            return []
        return found if sound else []

    def keep(self, distortion: Distortion, n_reference: int, *, alone: bool = False) -> None:
        """Keep this observation's word beside the others', the newest few; or in their place."""
        if self.path is None or self.folder is None:
            return
        entry = Entry(
            night=self.night.isoformat(),
            first=min(self.ramps),
            last=max(self.ramps),
            n_frames=len(self.ramps),
            n_reference=n_reference,
            information=[[_short(value) for value in row] for row in distortion.information],
            pull=[_short(value) for value in distortion.pull],
        )
        own = self.folder / OWN
        path = own / self.path.name if own.is_dir() else self.path
        _write(path, [entry] if alone else [*self.others(), entry])


def lend(store: Path, private: Path, band: str) -> None:
    """A copy of a band's part of the store, for one observation alone; an earlier copy stays.

    What the observation says goes beside it: however often it is stopped and gone on with, it reads
    the same.
    """
    if private.exists():
        return
    make_folder(private.parent)
    part = private.with_name(f"{private.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    make_folder(part / OWN)
    with storing(part):
        for path in store.glob(f"distortion.{band}.C?.json"):
            shutil.copy(path, part)
        part.replace(private)


def give_back(private: Path, store: Path) -> bool:
    """What an observation left beside its copy of the store goes into the store; whether it did.

    A store that may not be written is no reason to call an observation failed that is complete.
    """
    said = sorted((private / OWN).glob("distortion.*.json"))
    if not said:
        return True
    try:
        with alone_in(store, "distortion_dir (in the configuration)"):
            for path in store.glob("distortion.*.part"):
                remove(path)  # of a run that was killed while it wrote
            for path in said:
                _take_over(_entries(path), store / path.name)
    except StorageError as error:
        log.warning("what these frames say of the distortion is not in the store yet: %s", error)
        return False
    return True


def _take_over(own: list[Entry], path: Path) -> None:
    known = _entries(path)
    new = [entry for entry in own if entry not in known]
    if not new:
        return
    first, last = min(one.first for one in new), max(one.last for one in new)
    others = [entry for entry in known if not entry.overlaps(first, last)]
    if len(own) == len(new):  # it contradicted what was stored
        others = [entry for entry in others if entry.night == new[0].night]
    _write(path, [*others, *new])


def _entries(path: Path) -> list[Entry]:
    """All entries of a file; a file that cannot be read is empty."""
    if not path.exists():
        return []
    try:
        return [Entry(**row) for row in json.loads(path.read_text(encoding="utf-8"))["entries"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s: not readable (%s), begun anew", path, error)
        return []


def _write(path: Path, entries: list[Entry]) -> None:
    """The newest few."""
    kept = sorted(entries, key=lambda one: (one.night, one.first))[-MAX_ENTRIES:]
    write_text(path, json.dumps({"entries": [asdict(one) for one in kept]}) + "\n")


def _short(value: float) -> float:
    """Seven digits: more says nothing."""
    return float(f"{value:.7g}")


def store_folder(given: str = "") -> Path | None:
    """The store: as given, $PHOTOMETRUS_DISTORTIONS, or in the user's data folder; none is off."""
    named = given or os.environ.get(STORE_VARIABLE, "")
    if named.lower() == OFF:
        return None
    if named:
        return Path(named).expanduser()
    data = os.environ.get("XDG_DATA_HOME", "") or str(Path.home() / ".local" / "share")
    return Path(data) / "photometrus" / "distortion"
