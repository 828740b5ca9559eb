"""What people type in a notebook, as the values that recipes take; UsageError with a sentence."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, fields, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, TypeVar

from photometrus import config as configuration
from photometrus.cli import angles, reading, times
from photometrus.config import Config
from photometrus.errors import MissingInput, UsageError, nearest
from photometrus.instrument import CHIPS
from photometrus.products import parse_date
from photometrus.sighting import Target
from photometrus.simulate.config import SimulateConfig
from photometrus.track import ChipResult

T = TypeVar("T")
PathLike = str | Path
Settings = Mapping[str, Any]
"""Changes to the configuration: ``{"sky": {"clip_sigma": 4.0}}`` or ``{"sky.clip_sigma": 4.0}``."""


def path_of(value: PathLike) -> Path:
    """A path; ``~`` is the home."""
    return Path(value).expanduser()


def night_of(value: str | date) -> date:
    """The night of ``20240606``, ``2024-06-06`` or a date."""
    if isinstance(value, datetime):
        return value.date()
    return value if isinstance(value, date) else parse_date(str(value))


def chips_of(value: int | str | Iterable[int] | None) -> tuple[int, ...]:
    """Chip numbers from 1, [1, 3], "1,3"; None is all."""
    if value is None:
        return tuple(CHIPS)
    text = str(value) if isinstance(value, int | str) else ",".join(str(chip) for chip in value)
    return _read(reading.chips, text, "chips")


def band_of(value: str) -> str:
    """Z, Y, J or H."""
    return reading.band(value)


def bands_of(value: str | Iterable[str]) -> tuple[str, ...]:
    """Bands from ["J", "H"], "J,H"; none is all."""
    text = value if isinstance(value, str) else ",".join(value)
    return reading.bands(text) if text else ()


def right_ascension(value: float | str) -> float:
    """Degrees from a number of them, or as people write it."""
    return _read(angles.right_ascension, value, "ra")


def declination(value: float | str) -> float:
    """Degrees from a number of them, or as people write it."""
    return _read(angles.declination, value, "dec")


def moment(value: str | float | datetime | None) -> float:
    """MJD (UTC) of ISO, MJD, JD or a datetime (without a zone: UTC); NaN for None."""
    if value is None:
        return math.nan
    if isinstance(value, datetime):
        value = (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    return _read(times.moment, value, "t0")


def targets_of(
    ra: float | str | None,
    dec: float | str | None,
    radius: float | str,
    name: str,
    more: Iterable[Any],
) -> tuple[Target, ...]:
    """One position, and those of a list: Target, or (ra, dec) with name and radius if wanted."""
    if (ra is None) != (dec is None):
        raise UsageError("a target has both ra and dec; one of them is missing")
    size = _read(angles.radius, radius, "radius")
    found = []
    if ra is not None and dec is not None:
        found.append(Target(name, right_ascension(ra), declination(dec), size))
    for one in more:
        if isinstance(one, Target):
            found.append(one)
            continue
        if isinstance(one, str) or not 2 <= len(one) <= 4:
            raise UsageError(f"target {one!r}: expected (ra, dec), (ra, dec, name, radius)")
        words = one[2] if len(one) > 2 else name
        own = _read(angles.radius, one[3], "radius") if len(one) > 3 else size
        found.append(Target(words, right_ascension(one[0]), declination(one[1]), own))
    return tuple(found)


def stack_of(value: PathLike | ChipResult) -> Path:
    """The path of a stack; MissingInput when a chip has none."""
    if not isinstance(value, ChipResult):
        return path_of(value)
    if value.coadd is None:
        raise MissingInput(f"C{value.chip}: no stack: {value.error}")
    return value.coadd


def configured(
    config: Config | PathLike | None,
    settings: Settings | None,
    given: Mapping[str, PathLike | None],
) -> Config:
    """The configuration: defaults, or a Config, or a TOML file; settings over it, then arguments.

    given : arguments by the setting that they are, ``input.archive``; None where not given
    """
    changes: dict[str, Any] = {}
    _lay(changes, _nested(settings or {}))
    _lay(changes, _nested({key: str(value) for key, value in given.items() if value is not None}))
    if isinstance(config, Config):
        base = asdict(config)
        _lay(base, changes)
        return configuration.load(None, base)
    return configuration.load(None if config is None else path_of(config), changes)


def simulation(values: Mapping[str, Any]) -> SimulateConfig:
    """What the simulator shall make; UsageError for a name that it does not have."""
    known = {field.name for field in fields(SimulateConfig)}
    for name in values:
        if name not in known:
            raise UsageError(f"simulate_night: no {name!r}{nearest(name, known)}")
    changes = dict(values)
    if "night" in changes:
        changes["night"] = night_of(changes["night"])
    if "chips" in changes:
        changes["chips"] = chips_of(changes["chips"])
    return replace(SimulateConfig(), **changes)


def _read(reader: Callable[[str], T], value: object, what: str) -> T:
    try:
        return reader(str(value))
    except ValueError as error:
        raise UsageError(f"{what} {value!r}: {error}") from None


def _nested(settings: Settings) -> dict[str, Any]:
    """``{"sky.clip_sigma": 4}`` as ``{"sky": {"clip_sigma": 4}}``, at any depth."""
    nested: dict[str, Any] = {}
    for key, value in settings.items():
        *outer, last = str(key).split(".")
        part = {last: _nested(value) if isinstance(value, Mapping) else value}
        for word in reversed(outer):
            part = {word: part}
        _lay(nested, part)
    return nested


def _lay(under: dict[str, Any], over: Mapping[str, Any]) -> None:
    """Lay a nested dict over another, in place."""
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(under.get(key), dict):
            _lay(under[key], value)
        else:
            under[key] = value
