"""What is known of each observation below a folder, kept as long as its files do not change."""

import math
import os
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from photometrus.errors import MissingInput, PhotometrusError
from photometrus.htmlreport.observation import Observation, outline
from photometrus.htmlreport.page import UNFIT
from photometrus.htmlreport.tables import depth_of
from photometrus.htmlreport.tree import find_observations
from photometrus.io.below import open_below, place_below
from photometrus.io.lock import Lock, lock_of
from photometrus.passwords import without_password
from photometrus.products import Products

LOOK_EVERY_S = 5.0
"""Between two walks through the whole tree."""
SILENT_AFTER_S = 900.0
"""A run that has written nothing for so long may not be one any more, where no lock tells."""
TAIL_BYTES = 20_000
"""Of the log's end."""
STAMP = re.compile(r"^(\S+Z) +[A-Z]+ +")
"""Time and level of a line of the log."""


ENDED, STOPPED = "exit code ", "stopped by"
"""How the last line of a log begins when its command came to an end, or was interrupted."""
COMMAND = "command: "
"""How the line with the command begins."""
WORDS = {
    "running": "Running",
    "silent": "Running, but silent",
    "interrupted": "Interrupted",
    "ended": "Not reduced",
}
"""What is said of a run that is not through."""


Stamp = tuple[tuple[int, ...], Lock | None, bool]
"""What changes when a row does: times of change, the lock, whether the last of them is recent."""


@dataclass(frozen=True)
class Row:
    """An observation as the table of all shows it.

    parts : the folders from the top to it
    state : running, silent, interrupted, ended, good, losses, failed, damaged
    said : what became of it so far; step : the last line of its log, while it is not through
    again : what to type so that it goes on, when it was interrupted
    when : of its last sign of life, UTC
    """

    parts: tuple[str, ...]
    state: str
    said: str
    step: str
    when: datetime
    observation: Observation | None = None
    depth: float = math.nan
    again: str = ""

    @property
    def name(self) -> str:
        """The target, or the folder."""
        return self.observation.name if self.observation else self.parts[-1] if self.parts else "–"

    def median_of(self, key: str) -> float:
        """The median of a number of the chips; NaN when it is not known."""
        chips = self.observation.chips if self.observation else []
        known = [float(v) for chip in chips if isinstance(v := chip.numbers.get(key), int | float)]
        return median(known) if known else math.nan


class Tree:
    """The observations below a folder; safe to be asked from several threads."""

    def __init__(self, top: Path) -> None:
        self.top = top.resolve()
        self.lock = threading.Lock()
        self.looked = -math.inf
        self.folders: list[Path] = []
        self.known: dict[Path, tuple[Stamp, Row]] = {}
        self.shown: tuple[list[Row], str] = [], ""
        """What was last made of which rows, for who makes it."""

    def rows(self) -> list[Row]:
        """All observations, the latest first."""
        with self.lock:
            if time.monotonic() - self.looked > LOOK_EVERY_S:
                self.folders = find_observations(self.top)
                self.looked = time.monotonic()
                self.known = {path: self.known[path] for path in self.folders if path in self.known}
            rows = [self._row(folder) for folder in self.folders]
        return sorted(rows, key=lambda row: (row.state == "running", row.when), reverse=True)

    def row(self, parts: Sequence[str]) -> Row:
        """One of them; MissingInput when none is there."""
        folder = place_below(self.top, parts)
        if not folder.is_dir() or not any(map(os.path.lexists, _signs(folder))):
            raise MissingInput(f"{'/'.join(parts)}: no observation")
        with self.lock:
            return self._row(folder)

    def _row(self, folder: Path) -> Row:
        times = stamp_of(folder)
        lock = lock_of(folder)
        stamp = times, lock, time.time() - max(times) / 1e9 < SILENT_AFTER_S
        before = self.known.get(folder)
        if before and before[0] == stamp:
            return before[1]
        parts = folder.relative_to(self.top).parts
        row = _read(self.top, parts, lock, max(times) / 1e9)
        self.known[folder] = stamp, row
        return row


def stamp_of(folder: Path) -> tuple[int, ...]:
    """What changes when an observation does: times of change, ns; 0 for what is not there."""
    return tuple(_changed(path) for path in (*_signs(folder), folder / "stack"))


def report_stamp(folder: Path) -> tuple[int, ...]:
    """What changes when a report's contents do."""
    products = Products(folder, "")
    shown = [products.run_record, products.config]
    shown += sorted([*folder.glob("lightcurve.*"), *folder.glob("stack/*")])
    return tuple(_changed(path) for path in shown)


def check_links(top: Path, folder: Path) -> None:
    """Raise MissingInput when a file that a report shows is a link out of the tree."""
    shown = [*_signs(folder), Products(folder, "").config, folder / "stack"]
    shown += [*folder.glob("lightcurve.*"), *folder.glob("stack/*")]
    for path in shown:
        if not path.resolve().is_relative_to(top):
            raise MissingInput(f"{path.relative_to(top)}: a link that leaves the tree")


def log_lines(top: Path, parts: Sequence[str]) -> list[str]:
    """The last lines of an observation's log; none when there is none."""
    try:
        file, known = open_below(top, (*parts, Products(Path(), "").journal.name))
    except MissingInput:
        return []
    with file:
        file.seek(max(0, known.st_size - TAIL_BYTES))
        text = file.read(TAIL_BYTES).decode("utf-8", errors="replace")
    return text.splitlines()[1 if known.st_size > TAIL_BYTES else 0 :]


def _signs(folder: Path) -> tuple[Path, Path]:
    products = Products(folder, "")
    return products.run_record, products.journal


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _life(lock: Lock | None, changed: float, last: str, *, record: bool) -> str:
    """What a run is that is not through: running, silent, interrupted, ended.

    record : whether there is one; it is written under the lock. `getdata` writes a log without one
    """
    if lock is not None and lock.state != "unknown":
        return "running" if lock.state == "held" else "interrupted"
    if lock is None and (record or last.startswith(STOPPED)):
        return "interrupted"
    if lock is None and last.startswith(ENDED):
        return "ended"
    return "running" if time.time() - changed < SILENT_AFTER_S else "silent"


def _command(lock: Lock | None, lines: Sequence[str]) -> str:
    """The command of a run without a record: by its lock, else by its log."""
    if lock is not None and lock.holder is not None:
        return without_password(lock.holder.command)
    told = [text for line in lines if (text := STAMP.sub("", line)).startswith(COMMAND)]
    return told[-1].removeprefix(COMMAND) if told else ""


def _read(top: Path, parts: tuple[str, ...], lock: Lock | None, changed: float) -> Row:
    """The row of what is on disk now."""
    folder, when = top.joinpath(*parts), datetime.fromtimestamp(changed, UTC)
    lines = log_lines(top, parts)
    last = STAMP.sub("", lines[-1]) if lines else ""
    recorded = Products(folder, "").run_record.exists()
    life = _life(lock, changed, last, record=recorded)
    if not recorded:
        again = _command(lock, lines) if life == "interrupted" else ""
        return Row(parts, life, WORDS[life], last, when, again=again)
    try:
        check_links(top, folder)
        found = outline(folder)
        kind, said, _ = found.verdict
        limits = [depth_of(folder / chip.coadd) for chip in found.chips if chip.coadd]
    except (PhotometrusError, *UNFIT) as error:
        said = f"Cannot be read: {error}".replace(str(top), "")
        return Row(parts, "damaged", said, "", when)
    depth = median(known) if (known := [v for v in limits if math.isfinite(v)]) else math.nan
    held = lock is not None and lock.state == "held"
    if not found.running and not held:
        return Row(parts, kind, said, "", when, found, depth)
    said = said.replace("Not finished", WORDS[life], 1) if found.running else "Running anew"
    again = found.command if life == "interrupted" else ""
    return Row(parts, life, said, last, when, found, depth, again)
