"""What an earlier run finished, read back from its record; and why a chip is made again."""

import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

from photometrus.optics import FieldFit
from photometrus.origin import Origin
from photometrus.products import Products
from photometrus.track import ChipResult, Verdict


def recorded_chips(products: Products) -> dict[str, Any]:
    """The chips of ``run.json`` as they stand there, by ``C1`` ...; none when it is not ours."""
    try:
        record = json.loads(products.run_record.read_text(encoding="utf-8"))
        return dict(record["chips"]) if record["band"] == products.band else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def recorded(products: Products) -> dict[int, ChipResult]:
    """What the record tells of chips that have a stack, by number."""
    found = {}
    for name, entry in recorded_chips(products).items():
        try:
            result = _read(int(name.removeprefix("C")), entry, products.root)
        except (KeyError, TypeError, ValueError):
            continue  # of an older version
        if not result.error:
            found[result.chip] = result
    return found


def damage(result: ChipResult, products: Products) -> str:
    """Why the products of a chip are not those of its record; empty when they are."""
    if products.in_making(result.chip).exists():
        return "a run was stopped while it made it"
    for path, n_bytes in result.made.items():
        try:
            if path.stat().st_size != n_bytes:
                return f"{path.relative_to(products.root)} changed"
        except OSError:
            return f"{path.relative_to(products.root)} is gone"
    return ""


def _read(chip: int, entry: dict[str, Any], root: Path) -> ChipResult:
    """A chip's result from its entry in the record."""

    def path(text: str | None) -> Path | None:
        return None if text is None else root / text

    fit = entry["field_fit"]
    return ChipResult(
        chip=chip,
        coadd=path(entry["coadd"]),
        weight=path(entry["weight"]),
        page=path(entry["page"]),
        verdicts=[_verdict(frame) for frame in entry["frames"]],
        numbers={key: _number(value) for key, value in entry["numbers"].items()},
        notes=list(entry["notes"]),
        error=entry["error"],
        extras=[root / text for text in entry["extras"]],
        field_fit=None if fit is None else _field_fit(fit),
        made_from=Origin(**entry["made_from"]),
        made={root / text: n_bytes for text, n_bytes in entry["made"].items()},
    )


def _verdict(entry: dict[str, Any]) -> Verdict:
    real = {field.name for field in fields(Verdict) if field.type is float}
    values: dict[str, Any] = {k: _number(v) if k in real else v for k, v in entry.items()}
    return Verdict(**values)


def _field_fit(entry: dict[str, Any]) -> FieldFit:
    return FieldFit(
        rotator_deg=entry["rotator_deg"],
        values=tuple(entry["values"]),
        information=tuple(tuple(row) for row in entry["information"]),
        n_reference=entry["n_reference"],
    )


def _number(value: float | None) -> float:
    """JSON has no NaN: the record has null."""
    return math.nan if value is None else value
