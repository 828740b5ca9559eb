"""What a chip's products are made from, and in words what has changed since."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from photometrus import __version__
from photometrus.optics import FieldFit

LIBRARIES = ("numpy", "scipy", "numba", "astropy")
"""Those whose version may change the bits of a product."""
NOT_CODE = (
    "api",
    "doctor",
    "warming",
    "cli",
    "htmlreport",
    "simulate",
    "photometry",
    "night",
    "demo",
    "report",
    "lightcurve",
)
"""Rooms whose code changes no product of a chip."""
MEASURING = ("photometry", "report")
"""Those of them whose code changes what is measured of a stack."""
MAX_REASONS = 3
LESS = {
    "run.pages": (True, False),
    "run.keep": ("all", "final"),
    "run.exptime_map": (True, False),
    "run.depth_map": (True, False),
    "substacks.growing": (True, False),
    "substacks.alternating": (True, False),
    "photometry.plots": (True, False),
    "photometry.keep": (True, False),
    "photometry.parquet": (True, False),
}
"""Setting: (then, now) with which now nothing is wanted that is not there."""


@dataclass(frozen=True)
class Origin:
    """What a chip's products are made from.

    versions : of the package, its code, the libraries
    inputs : by kind and name, ``ramp 01599131C1``: its stamp, or ``{"missing": why}``
    settings : those that matter, ``sky.clip_sigma``
    shared : a digest of what all chips share, where it was used
    """

    versions: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    shared: str = ""


def changed(then: Origin, now: Origin) -> str:
    """What is not as it was then, in a few words; empty when the same would be made again.

    What all chips share is not looked at: it is known only when all are made.
    """
    reasons = [
        *_versions(then.versions, now.versions),
        *_inputs(then.inputs, now.inputs),
        *_settings(then.settings, now.settings),
    ]
    more = len(reasons) - MAX_REASONS
    return ", ".join(reasons[:MAX_REASONS]) + (f" and {more} more" if more > 0 else "")


def _versions(then: dict[str, str], now: dict[str, str]) -> Iterable[str]:
    for name in now:
        was = then.get(name, "none")
        if was != now[name]:
            yield (
                "the code of photometrus changed"
                if name == "code"
                else (f"{name} {was} → {now[name]}")
            )


def _inputs(then: dict[str, Any], now: dict[str, Any]) -> Iterable[str]:
    for name in sorted({*then, *now}):
        if name not in now:
            missing = "missing" in then[name]
            yield f"{name} did not answer then" if missing else f"{name} is no longer among them"
        elif name not in then:
            yield f"{name} is new"
        elif then[name].get("content") != now[name].get("content"):
            yield f"{name} changed"


def _settings(then: dict[str, Any], now: dict[str, Any]) -> Iterable[str]:
    for key in sorted({*then, *now}):
        was, is_now = then.get(key), now.get(key)
        if was != is_now and LESS.get(key) != (was, is_now):
            yield f"{key} {_shown(was)} → {_shown(is_now)}"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value) or "none"


def plain(settings: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Nested settings by their whole names, ``sky.clip_sigma``, as JSON gives them back."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            found |= plain(value, f"{before}{key}.")
        else:
            found[f"{before}{key}"] = list(value) if isinstance(value, tuple) else value
    return found


def shared_digest(shared: FieldFit | None) -> str:
    """What tells what all chips share from something else; empty for nothing."""
    return "" if shared is None else _digest(json.dumps(asdict(shared), sort_keys=True).encode())


@cache
def versions(*, photometry: bool = False) -> dict[str, str]:
    """Of the package, its code, and the libraries that change bits.

    photometry : of what measures a stack, too
    """
    names = (*LIBRARIES, "sep") if photometry else LIBRARIES
    return {
        "photometrus": __version__,
        "code": _digest(*_sources(MEASURING if photometry else ())),
        **{name: version(name) for name in names},
    }


def _sources(more: tuple[str, ...]) -> Iterable[bytes]:
    root = Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).parts[0].removesuffix(".py")
        if name not in NOT_CODE or name in more:
            yield path.read_bytes()


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
