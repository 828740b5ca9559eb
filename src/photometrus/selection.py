"""Which ramps a reduction takes: the first of the sequence, not these, those whose header says so.

The settings are text as users type it, so that options and the configuration read alike.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from photometrus.errors import UsageError, nearest
from photometrus.products import RampId

SLICE = re.compile(r"(?P<first>\d+)|(?P<start>(-?\d+)?):(?P<stop>(-?\d+)?)")
RAMPS = re.compile(r"(?P<first>\d{7,8})(C(?P<chip>[1-4]))?(-(?P<last>\d{7,8})(C(?P=chip))?)?", re.I)
CONDITION = re.compile(
    r"(?P<key>[A-Z0-9_-]{1,8})\s*:\s*(?P<sign><=|>=|!=|<|>|=)?\s*(?P<text>[^\s<>=!].*)", re.I
)
ALL = "all"


@dataclass(frozen=True)
class SelectConfig:
    """What the user knows about the ramps; a text that cannot be read is a UsageError."""

    ramps: str = ""  # "5": the first five; "2:9": a slice, as in Python; empty or "0": all
    exclude: str = ""  # never used: "01599152", "01599152C3", "01599131-01599145", commas between
    include: str = ""  # in the stack whatever the judgement says: the same, or "all"
    header: str = ""  # only ramps whose header has it: "DITHRAD:60", "AIRMASS:<1.5"

    def __post_init__(self) -> None:
        read_slice(self.ramps)
        read_ramps(self.exclude)
        read_ramps("" if self.include == ALL else self.include)
        read_conditions(self.header)


@dataclass(frozen=True)
class RampRange:
    """Ramps from a serial to a serial, both in it, of one chip or of all (None)."""

    text: str
    first: int
    last: int
    chip: int | None = None

    def __contains__(self, ramp: RampId) -> bool:
        return self.first <= ramp.serial <= self.last and self.chip in (None, ramp.chip)


@dataclass(frozen=True)
class Condition:
    """What a header must say: ``AIRMASS:<1.5``."""

    key: str
    sign: str
    text: str

    def __str__(self) -> str:
        return f"{self.key}:{'' if self.sign == '=' else self.sign}{self.text}"

    def holds(self, value: Any) -> bool:
        """Whether a header's value fulfils it: as numbers when both are, else as words."""
        if isinstance(value, bool):
            return _compared("T" if value else "F", self.sign, self.text[:1].upper())
        wanted, found = _number(self.text), _number(value)
        if wanted is not None and found is not None:
            return _compared(found, self.sign, wanted)
        if wanted is not None and self.sign not in ("=", "!="):
            return False  # a word is neither below nor above a number
        return _compared(str(value).strip().casefold(), self.sign, self.text.casefold())


@dataclass(frozen=True)
class Choice:
    """The ramps of each chip that are taken, and why the others are not."""

    ramps: dict[int, list[RampId]]
    left_out: dict[RampId, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_slice(text: str) -> slice:
    """The part of a sequence: ``5``, ``2:9``, ``-3:``; all of it for ``0`` and nothing."""
    match = SLICE.fullmatch(text.strip() or "0")
    if match is None:
        raise UsageError(f"ramps {text!r}: expected 5 (the first five), 2:9 or -3: (a slice)")
    if match["first"]:
        return slice(int(match["first"]) or None)
    start, stop = (int(part) if part else None for part in match.group("start", "stop"))
    return slice(start, stop)


def read_ramps(text: str) -> list[RampRange]:
    """Ramps by serial, name or range, with commas between."""
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = RAMPS.fullmatch(part.removesuffix(".ramp.fits"))
        if match is None:
            raise UsageError(
                f"ramps {part!r}: expected a serial 01599152 (all chips), a name 01599152C3 or a "
                "range 01599131-01599145, with commas between"
            )
        first, last = int(match["first"]), int(match["last"] or match["first"])
        if last < first:
            raise UsageError(f"ramps {part!r}: ends before it begins; turn the two round")
        chip = int(match["chip"]) if match["chip"] else None
        found.append(RampRange(part, first, last, chip))
    return found


def read_conditions(text: str) -> list[Condition]:
    """Conditions on a header, ``KEY:value`` or ``KEY:<value``, with commas between."""
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = CONDITION.fullmatch(part)
        if match is None:
            raise UsageError(
                f"header filter {part!r}: expected KEY:value, for example DITHRAD:60 or "
                "AIRMASS:<1.5, with commas between"
            )
        found.append(Condition(match["key"].upper(), match["sign"] or "=", match["text"]))
    return found


def choose(ramps: Mapping[int, Sequence[RampId]], configs: Mapping[int, SelectConfig]) -> Choice:
    """The ramps of each chip that slice and exclusions leave.

    ramps : by chip; configs : by chip

    The sequence, of which slices are taken, is that of the serials of all chips in order: chips
    stay alike when one lacks a ramp. It is counted before anything is excluded. UsageError when
    no ramp is left, or one is both excluded and included.
    """
    sequence = sorted({ramp.serial for of_chip in ramps.values() for ramp in of_chip})
    taken: dict[int, list[RampId]] = {}
    left_out: dict[RampId, str] = {}
    notes: list[str] = []
    for chip, of_chip in ramps.items():
        config = configs[chip]
        part = set(sequence[read_slice(config.ramps)])
        exclude = read_ramps(config.exclude)
        include = [] if config.include == ALL else read_ramps(config.include)
        for ramp in of_chip:
            if _named(ramp, exclude) and _named(ramp, include):
                raise UsageError(f"{ramp}: both excluded and included; take it out of one of them")
            if _named(ramp, exclude):
                left_out[ramp] = "left out by -exclude"
            elif ramp.serial not in part:
                left_out[ramp] = f"left out by -rampnum {config.ramps}"
        taken[chip] = [ramp for ramp in of_chip if ramp not in left_out]
        notes += [
            f"{one.text} is not among the {len(sequence)} ramps {sequence[0]:08d} to "
            f"{sequence[-1]:08d}: check -exclude and -include"
            for one in (*exclude, *include)
            if sequence and not any(one.first <= serial <= one.last for serial in sequence)
        ]
    if left_out and not any(taken.values()):
        reasons = ", ".join(
            sorted({text.removeprefix("left out by ") for text in left_out.values()})
        )
        raise UsageError(f"no ramp of {len(sequence)} is left: {reasons}; choose less strictly")
    return Choice(taken, left_out, list(dict.fromkeys(notes)))


def is_included(ramp: RampId, config: SelectConfig) -> bool:
    """Whether the user wants the ramp in the stack whatever the judgement says."""
    return config.include == ALL or _named(ramp, read_ramps(config.include))


def by_header(headers: Mapping[str, Mapping[str, Any]], config: SelectConfig) -> dict[str, str]:
    """The frames whose headers do not say what was asked for, and what they say instead.

    headers : by the frames' names; each at least a mapping of FITS keywords

    UsageError when none has a keyword, or none is left.
    """
    conditions = read_conditions(config.header) if headers else []
    left_out: dict[str, str] = {}
    for one in conditions:
        if not any(one.key in header for header in headers.values()):
            known = {key for header in headers.values() for key in header}
            raise UsageError(
                f"header filter {one}: none of {len(headers)} headers has {one.key}"
                f"{nearest(one.key, known)}"
            )
        for name, header in headers.items():
            if one.key not in header:
                left_out.setdefault(name, f"left out by -header_filter {one}: it has none")
            elif not one.holds(header[one.key]):
                said = str(header[one.key]).strip()
                left_out.setdefault(name, f"left out by -header_filter {one}: it is {said}")
    if conditions and len(left_out) == len(headers):
        reasons = "; ".join(sorted(set(left_out.values()))[:3])
        raise UsageError(f"no frame of {len(headers)} is left: {reasons}; choose less strictly")
    return left_out


def _named(ramp: RampId, ranges: Iterable[RampRange]) -> bool:
    return any(ramp in one for one in ranges)


def _number(value: Any) -> float | None:
    """A header's value, or a text, as a number; None when it is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _compared(found: Any, sign: str, wanted: Any) -> bool:
    """Two numbers, or two words in one case."""
    if sign == "=":
        return bool(found == wanted)
    if sign == "!=":
        return bool(found != wanted)
    if sign.startswith("<"):
        return bool(found < wanted or (sign == "<=" and found == wanted))
    return bool(found > wanted or (sign == ">=" and found == wanted))
