"""Which frames were used, and whether the bad ones were recognised."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from helpers import Array, Numbers
from judge.stack import Stack
from judge.truth import Truth

RAMP = re.compile(r"\d{8}C[1-4]")
DROPPED = re.compile(r"drop|reject|exclu|lost|unus|skip|fail|unsolved|\bbad\b", re.IGNORECASE)
VERDICT_KEYS = ("verdict", "status", "state", "decision", "result", "outcome")
USED_KEYS = ("used", "accepted", "stacked", "coadded", "in_coadd", "in_stack")
WEIGHT_KEYS = ("weight", "relative_weight", "coadd_weight", "stack_weight")


def frame_records(node: object, key: str = "") -> list[tuple[str, Mapping[str, Any]]]:
    """Every (ramp, record) in run.json, wherever it stands."""
    name = RAMP.search(key)
    if isinstance(node, str):
        return [(name[0], {"verdict": node})] if name else []
    if isinstance(node, list):
        return [record for item in node for record in frame_records(item, key)]
    if not isinstance(node, Mapping):
        return []
    texts = (RAMP.search(value) for value in node.values() if isinstance(value, str))
    name = name or next((text for text in texts if text), None)
    own = [(name[0], node)] if name else []
    return own + [record for k, v in node.items() for record in frame_records(v, k)]


def frame_verdicts(parent: Path, chip: int) -> dict[str, Numbers]:
    """What run.json says of each frame: dropped, weight, and its words; tolerant of its keys."""
    path = parent / "run.json"
    if not path.is_file():
        return {}
    verdicts: dict[str, Numbers] = {}
    for name, record in frame_records(json.loads(path.read_text(encoding="utf-8"))):
        if not name.endswith(f"C{chip}"):
            continue
        words = " ".join(str(record[k]) for k in VERDICT_KEYS if isinstance(record.get(k), str))
        used = next((record[k] for k in USED_KEYS if isinstance(record.get(k), bool)), None)
        weight = next(
            (float(record[k]) for k in WEIGHT_KEYS if isinstance(record.get(k), int | float)), None
        )
        if not words and used is None and weight is None:
            continue
        entry = verdicts.setdefault(name, {"dropped": False, "weight": None, "words": ""})
        gone = used is False or weight == 0 or (used is None and bool(DROPPED.search(words)))
        entry["dropped"] = entry["dropped"] or gone
        entry["weight"] = weight if weight is not None else entry["weight"]
        entry["words"] = words or entry["words"]
    return verdicts


def frames_used(stack: Stack, truth: Truth, verdicts: Mapping[str, Numbers]) -> list[str]:
    """The frames in the stack: by run.json, else by the coadd's header, else the good ones."""
    every = [truth.name(e) for e in truth.exposures]
    told = [name for name in every if name in verdicts]
    if len(told) >= len(every) / 2:
        return [name for name in told if not verdicts[name]["dropped"]]
    header = " ".join(str(card.value) for card in stack.header.cards)
    listed = [name for name in every if name in header]
    if len(listed) >= 2:
        return listed
    return [truth.name(e) for e in truth.exposures if not e["bad"]]


def frame_weights(truth: Truth, verdicts: Mapping[str, Numbers], frames: list[str]) -> Array:
    """Weights of the frames in the stack, sum 1: as run.json tells, else by the photons."""
    told = [verdicts.get(name, {}).get("weight") for name in frames]
    if not all(told):
        seen = [truth.seen(e) for e in truth.exposures if truth.name(e) in frames]
        told = [star**2 / variance for star, variance in seen]
    weights = np.array(told, dtype=float)
    return weights / weights.sum()


def frame_numbers(truth: Truth, verdicts: Mapping[str, Numbers], used: list[str]) -> Numbers:
    """Which frames were used, and whether the bad ones were recognised."""
    numbers: Numbers = {"n_exposures": len(truth.exposures), "n_used": len(used)}
    weights = [v["weight"] for v in verdicts.values() if v["weight"]]
    typical = float(np.median(weights)) if weights else None
    bad: list[Numbers] = []
    for exposure in (e for e in truth.exposures if e["bad"]):
        name = truth.name(exposure)
        verdict = verdicts.get(name, {})
        weight = verdict.get("weight")
        bad.append(
            {
                "name": name,
                "in_stack": name in used,
                "relative_weight": weight / typical if weight is not None and typical else None,
                "words": verdict.get("words", ""),
            }
        )
    numbers["bad"] = bad
    numbers["bad_recognised"] = all(
        not b["in_stack"] or (b["relative_weight"] is not None and b["relative_weight"] < 0.5)
        for b in bad
    )
    good = [truth.name(e) for e in truth.exposures if not e["bad"]]
    numbers["good_lost"] = len([name for name in good if name not in used])
    return numbers
