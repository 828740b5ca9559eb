"""What became of an observation: its chips, its losses, its record on disk."""

import json
import math
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from photometrus import __version__
from photometrus.cards import Loss, card
from photometrus.io.whole import write_text
from photometrus.products import Products
from photometrus.resume import recorded_chips
from photometrus.track import CHIP_COLUMNS, ChipResult


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

    @property
    def told(self) -> list[str]:
        """What the user should know, each once, before it the chips that it holds for."""
        chips: dict[str, list[str]] = {note: [] for note in self.notes}
        for one in self.chips:
            for note in one.notes:
                who = chips.setdefault(note, [])
                who += [] if f"C{one.chip}" in who else [f"C{one.chip}"]
        lines = (f"{' '.join(who)}: {note}" if who else note for note, who in chips.items())
        return list(dict.fromkeys(lines))

    def __repr__(self) -> str:
        return f"<Observation in {self.record.parent}: {self.chips}, {len(self.losses)} not in it>"

    def _repr_html_(self) -> str:
        """In a notebook: what the command shows."""
        root = self.record.parent
        rows = [chip.row(root) for chip in self.chips]
        return card(str(root), CHIP_COLUMNS, rows, self.losses, self.told)


def write_record(
    observation: Observation,
    products: Products,
    *,
    night: date,
    command: str,
    started: datetime,
    state: str,
    asked: Sequence[int],
) -> None:
    """Write ``run.json``: every verdict and number, and what else an earlier run left in it.

    state : ``running`` or ``done``; asked : the chips that are to be reduced
    """
    record = {
        "photometrus": __version__,
        "python": platform.python_version(),
        "libraries": _libraries(),
        "command": command,
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "night": night.isoformat(),
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
                "made_from": asdict(result.made_from),
                "made": {_relative(path, products.root): n for path, n in result.made.items()},
                "numbers": result.numbers,
                "field_fit": asdict(result.field_fit) if result.field_fit else None,
                "frames": [asdict(verdict) for verdict in result.verdicts],
            }
            for result in observation.chips
        },
    }
    write_text(products.run_record, json.dumps(_finite(record), indent=1) + "\n")


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
