"""What the page tells of an observation: its record, and what lies beside it."""

import json
import math
import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any

from photometrus.errors import MissingInput, PhotometrusError, UsageError
from photometrus.htmlreport.pictures import Look, Picture, Preview, figure, preview
from photometrus.htmlreport.provenance import changed_settings
from photometrus.htmlreport.tables import Photometry, marks, photometry
from photometrus.io.fitsfile import header_wcs, read_image, read_image_header
from photometrus.passwords import without_password
from photometrus.products import Products

QUARTERS = {1: ("north-west", 0, 1), 2: ("north-east", 0, 0), 3: ("south-west", 1, 1),
            4: ("south-east", 1, 0)}  # fmt: skip
"""Of the field, by chip at the default rotator angle: in words, row and column with east left."""
WORDS = {(row, column): words for words, row, column in QUARTERS.values()}


@dataclass(frozen=True)
class Chip:
    """A chip: what the record says of it, and its pictures."""

    number: int
    record: dict[str, Any]
    coadd: str = ""
    target: str = ""
    waiting: bool = False
    """Its reduction has not come to an end yet."""
    files: list[tuple[str, str]] = field(default_factory=list)
    """(what it is, path below the folder) of products that may be wanted."""
    preview: Preview | None = None
    page: Picture | None = None
    photometry: Photometry = field(default_factory=Photometry)

    @property
    def frames(self) -> list[dict[str, Any]]:
        """The verdicts on its frames."""
        return self.record.get("frames") or []

    @property
    def used(self) -> int:
        """Frames in its stack."""
        return sum(bool(frame.get("used")) for frame in self.frames)

    @property
    def numbers(self) -> dict[str, Any]:
        """What was measured."""
        return self.record.get("numbers") or {}

    @property
    def depth(self) -> float:
        """5 sigma of the latest photometry, mag; NaN without."""
        catalogs = self.photometry.catalogs
        return float(catalogs[-1]["limit_5sigma"] or math.nan) if catalogs else math.nan


@dataclass(frozen=True)
class Observation:
    """All that the page tells."""

    record: dict[str, Any]
    config: str
    name: str
    chips: list[Chip]
    curves: list[tuple[str, Picture]] = field(default_factory=list)
    """Light curves beside the record."""

    @property
    def running(self) -> bool:
        """Whether the record says that a run is at work, or was when it was killed."""
        return self.record.get("state") == "running"

    @property
    def command(self) -> str:
        """The command as typed, without passwords."""
        return without_password(str(self.record.get("command") or "–"))

    @property
    def changed(self) -> list[tuple[str, str, str]]:
        """(key, value, default) of the settings that are not the defaults'."""
        return changed_settings(self.config)

    @property
    def inputs(self) -> list[tuple[str, str]]:
        """What the chips were made of."""
        rows = []
        for chip in self.chips:
            names = sorted(str(frame.get("frame")) for frame in chip.frames)
            if names:
                rows.append((f"Ramps of C{chip.number}", f"{len(names)}: {names[0]} … {names[-1]}"))
        return rows

    @property
    def frames(self) -> list[dict[str, Any]]:
        """The verdicts on all frames, each with its chip's number."""
        return [{"chip": chip.number, **frame} for chip in self.chips for frame in chip.frames]

    @property
    def losses(self) -> list[tuple[str, str, str]]:
        """(what, what happened, why) of everything that is not in the stacks; frames of one fate
        together.
        """
        rows = [
            (str(one.get("frame")), "not downloaded", str(one.get("reason")))
            for one in self.record.get("missing") or []
        ]
        for chip in self.chips:
            if chip.record.get("error"):
                rows.append((f"C{chip.number}", "no stack", str(chip.record["error"])))
            for frame in chip.frames:
                if not frame.get("used"):
                    fate = "lost" if frame.get("lost") else "left out"
                    rows.append((str(frame.get("frame")), fate, str(frame.get("reason") or "")))
        return rows

    @property
    def verdict(self) -> tuple[str, str, str]:
        """(running, good, losses or failed; headline; sentence)."""
        stacks = sum(bool(chip.coadd) for chip in self.chips)
        fates = Counter(fate for _, fate, _ in self.losses)
        lost = fates["lost"] + fates["not downloaded"]
        used, given = sum(chip.used for chip in self.chips), len(self.frames)
        sentence = f"{used} of {given} frames are in {_many(stacks, 'stack')}"
        sentence += f"; {fates['left out']} left out by judgement, " if fates["left out"] else "; "
        sentence += f"{lost} lost." if lost else "none lost."
        waiting = [f"C{chip.number}" for chip in self.chips if chip.waiting]
        if self.running:
            done = len(self.chips) - len(waiting)
            still = f" Still to come: {', '.join(waiting)}." if waiting else ""
            words = f"Not finished: {done} of {_many(len(self.chips), 'chip')} done"
            return "running", words, (sentence if self.frames else "No chip is done yet.") + still
        if not stacks:
            return "failed", "No stack could be made", sentence
        missing = len(self.chips) - stacks
        if missing:
            words = f"Done, with losses: {_many(missing, 'chip')} without a stack"
            return "losses", words, sentence
        if lost:
            words = f"Done, with losses: {_many(lost, 'frame')} could not be used"
            return "losses", words, sentence
        return "good", "Complete", sentence

    @property
    def facts(self) -> list[tuple[str, str]]:
        """The numbers that come first."""
        used, given = sum(chip.used for chip in self.chips), len(self.frames)
        rows = [
            ("Night", str(self.record.get("night", ""))),
            ("Band", str(self.record.get("band", ""))),
            ("Chips", ", ".join(f"C{chip.number}" for chip in self.chips)),
            ("Frames used", f"{used} of {given}"),
            ("Exposure", self._number("exposure_s", "{:.1f} s")),
            ("Seeing", self._number("seeing_arcsec", "{:.2f}″")),
            ("Astrometry", self._number("rms_arcsec", "{:.0f} mas", 1000.0)),
        ]
        known = [chip.depth for chip in self.chips if math.isfinite(chip.depth)]
        if known:
            rows.append(("Depth, 5σ", f"{median(known):.2f}"))
        for chip in self.chips:
            for target in chip.photometry.targets:
                if target.covered:
                    rows.append((str(target.numbers.get("target") or "Target"), target.words))
        return rows

    def _number(self, key: str, form: str, factor: float = 1.0) -> str:
        values = [chip.numbers.get(key) for chip in self.chips]
        known = [float(value) for value in values if isinstance(value, int | float)]
        return form.format(median(known) * factor) if known else "–"

    @property
    def places(self) -> dict[int, tuple[str, int, int]]:
        """Where each chip is on the sky: in words, row and column with east left.

        All four tell it by their stacks; fewer, or a field between two quarters, stand as at the
        default rotator angle.
        """
        planes = {c.number: c.preview.plane for c in self.chips if c.preview}
        if len(planes) < 4:
            return QUARTERS
        first = planes[1]
        cos = math.cos(math.radians(first["dec"]))
        off = {
            k: (((p["ra"] - first["ra"] + 180.0) % 360.0 - 180.0) * cos, p["dec"])
            for k, p in planes.items()
        }
        east, north = (sum(v[i] for v in off.values()) / 4 for i in (0, 1))
        cells = {k: (int(v[1] < north), int(v[0] < east)) for k, v in off.items()}
        if len(set(cells.values())) < 4:
            return QUARTERS
        return {k: (WORDS[cell], *cell) for k, cell in cells.items()}


def observation(root: Path, looks: Mapping[int, Look] = MappingProxyType({})) -> Observation:
    """The observation in a folder, with its pictures.

    looks : previews of chips that are in memory
    Raises MissingInput (no run.json in it) and UsageError (a run.json that is none).
    """
    found = outline(root)
    shown = [
        one if one.waiting else _chip(root, one.number, one.record, looks.get(one.number))
        for one in found.chips
    ]
    name = next((chip.target for chip in shown if chip.target), "") or found.name
    path, config = Products(root, "").config, ""
    if path.is_file():
        config = without_password(path.read_text(encoding="utf-8", errors="replace"))
    curves = [
        (f"Light curve of {path.stem.removeprefix('lightcurve.')}", picture)
        for path in sorted(root.glob("lightcurve.*.png"))
        if (picture := figure(path))
    ]
    return Observation(found.record, config, name, shown, curves)


def outline(root: Path) -> Observation:
    """The same as its record alone tells it: no settings, no pictures, no photometry.

    Raises as `observation`.
    """
    path = root / "run.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        chips = {int(name[1:]): dict(said) for name, said in record["chips"].items()}
        asked = [int(chip) for chip in record.get("chips_asked") or []]
        str(record["band"])
    except FileNotFoundError:
        raise MissingInput(
            f"{root}: no run.json in it; give the folder of an observation, -parent of the pipeline"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path}: not the record of an observation ({error}); reduce it again"
        ) from error
    shown = [
        Chip(number, said, coadd=str(said["coadd"]) if _inside(root, said.get("coadd")) else "")
        for number, said in sorted(chips.items())
    ]
    if record.get("state") == "running":
        shown += [Chip(number, {}, waiting=True) for number in asked if number not in chips]
    shown.sort(key=lambda chip: chip.number)
    return Observation(record, "", name_of(record, root), shown)


def name_of(record: dict[str, Any], root: Path) -> str:
    """What an observation without stacks is called: by its command, else by its folder."""
    try:
        words = shlex.split(str(record.get("command") or ""))
    except ValueError:
        words = []
    for option, value in pairwise(words):
        if option in ("-target", "--target"):
            return value
    here = root.resolve()
    return here.parent.name if here.name == record.get("band") else here.name


def _chip(root: Path, number: int, record: dict[str, Any], look: Look | None) -> Chip:
    """The chip with its pictures; a stack that is not there any more has none."""
    chip = Chip(number, record)
    page, coadd = _inside(root, record.get("page")), _inside(root, record.get("coadd"))
    if coadd is None:
        return chip
    try:
        header = read_image_header(coadd)
        shown, sky = look or preview(read_image(coadd)[0], header_wcs(header))
    except PhotometrusError:
        return chip
    files = [("stack", coadd), ("weight", _inside(root, record.get("weight"))), ("page", page)]
    measured = photometry(coadd)
    return Chip(
        number,
        record,
        coadd=coadd.relative_to(root).as_posix(),
        files=[(kind, path.relative_to(root).as_posix()) for kind, path in files if path],
        target=str(header.get("OBJNAME") or header.get("OBJECT") or "").strip(),
        preview=replace(shown, marks=marks(measured, sky)),
        page=figure(page) if page else None,
        photometry=measured,
    )


def _inside(root: Path, name: Any) -> Path | None:
    """A file that the record names, if it is there and its name does not leave the folder."""
    if not isinstance(name, str) or Path(name).is_absolute() or ".." in Path(name).parts:
        return None
    return root / name if (root / name).is_file() else None


def _many(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
