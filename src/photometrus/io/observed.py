"""What was observed in a night, by its log: the ramps of a target, FLATs, a table of all."""

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
from astropy.table import Table

from photometrus.errors import UsageError, nearest
from photometrus.instrument import band_named
from photometrus.io.nightlog import repair_name
from photometrus.products import RampId

FLAT_TYPE = "FLAT"
MAX_LISTED = 20
"""Targets named in a message about one that is not there."""


def select(table: Table, target: str, band: str) -> list[RampId]:
    """The ramps (of chip 1) of a target in a band, in order of serial number.

    The name must be the log's, before or after its repair; the band one of instrument.BANDS.
    Raises UsageError that says what the night has when this is not among it.
    """
    band_named(band)
    name = repair_name(target)
    of_target = table[table["OBJNAME"] == name]
    if not len(of_target):
        raise UsageError(
            f"target {target!r}: not in {_title(table)}, which has {_what_is_there(table)}"
            f"{_nearest_name(name, table)}"
        )
    chosen = of_target[of_target["band"] == band]
    if not len(chosen):
        raise UsageError(
            f"target {target!r}: not observed in band {band} according to {_title(table)}, "
            f"which has it in {_bands(of_target)}"
        )
    return [RampId(int(serial), 1) for serial in chosen["serial"]]


def blocks(table: Table, target: str, band: str) -> list[list[RampId]]:
    """The ramps of `select`, one list per repeat of the observation (INT 1 begins a new one)."""
    wanted = select(table, target, band)
    number = dict(zip(table["serial"].tolist(), table["INT"].tolist(), strict=True))
    found: list[list[RampId]] = []
    for ramp in wanted:
        if not found or number[ramp.serial] == 1:
            found.append([])
        found[-1].append(ramp)
    return found


def flats(table: Table, band: str) -> Table:
    """The flat-field ramps of a band, with a column `half`: ``start`` or ``end`` of the night.

    A ramp is a flat when its object or its type is called so. The night's middle lies half way
    between the first and the last serial of the log. The table may have no rows.
    """
    band_named(band)
    called = [
        FLAT_TYPE in (name.upper(), kind.upper())
        for name, kind in zip(table["OBJNAME"], table["OBJTYPE"], strict=True)
    ]
    found = table[np.array(called, dtype=bool) & (table["band"] == band)]
    middle = (int(table["serial"][0]) + int(table["serial"][-1])) / 2
    found["half"] = np.where(found["serial"] <= middle, "start", "end")
    return found


def raw_frames(table: Table, ramps: Iterable[RampId]) -> list[RampId]:
    """The raw frames that made the ramps: NFRAMES successive serials from the ramp's own."""
    count = dict(zip(table["serial"].tolist(), table["NFRAMES"].tolist(), strict=True))
    return [
        RampId(ramp.serial + step, ramp.chip)
        for ramp in ramps
        for step in range(max(1, count[ramp.serial]))
    ]


def summarise(table: Table) -> Table:
    """What was observed, one row per target and band, in order of time.

    Columns: target, type, band (or the filter pair when it is none of ours), ramps, repeats,
    first and last (serials), start and end (DATEBEG of the first and the last ramp), exposure
    (EXPTIME of one ramp, s), total (s), observer.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for index, row in enumerate(table.iterrows("OBJNAME", "band", "FILTER1", "FILTER2")):
        name, band, one, two = (str(value) for value in row)
        groups.setdefault((name, band or f"{one}-{two}"), []).append(index)
    rows = [_summary(table[indices], *key) for key, indices in groups.items()]
    summary = Table(rows=rows)
    summary["exposure"].unit = summary["total"].unit = "s"
    return summary


def _summary(part: Table, target: str, band: str) -> dict[str, object]:
    """One row of `summarise` from the ramps of one target and band."""
    return {
        "target": target,
        "type": str(part["OBJTYPE"][0]),
        "band": band,
        "ramps": len(part),
        "repeats": max(1, int(np.sum(part["INT"] == 1))),
        "first": int(part["serial"][0]),
        "last": int(part["serial"][-1]),
        "start": str(part["DATEBEG"][0]),
        "end": str(part["DATEBEG"][-1]),
        "exposure": float(np.median(part["EXPTIME"])),
        "total": round(float(np.sum(part["EXPTIME"])), 3),
        "observer": str(part["OBSERVER"][0]),
    }


def _title(table: Table) -> str:
    return str(table.meta.get("name", "the night log"))


def _nearest_name(name: str, table: Table) -> str:
    """A hint at the name that was probably meant."""
    names = sorted({str(known) for known in table["OBJNAME"]})
    same = [known for known in names if known.casefold() == name.casefold()]
    return f"; did you mean {same[0]!r}?" if same else nearest(name, names)


def _bands(rows: Table) -> str:
    """``J (7 ramps), H (4)``: the bands of some ramps."""
    counts: Mapping[str, int] = Counter(
        str(band) or f"{one}-{two}"
        for band, one, two in rows.iterrows("band", "FILTER1", "FILTER2")
    )
    first, *rest = [f"{band} ({number} ramps)" for band, number in counts.items()]
    return ", ".join([first, *(text.replace(" ramps", "") for text in rest)])


def _what_is_there(table: Table) -> str:
    """The targets of a night with their bands, at most `MAX_LISTED` of them."""
    names = list(dict.fromkeys(str(name) for name in table["OBJNAME"]))
    told = []
    for name in names[:MAX_LISTED]:
        bands = dict.fromkeys(str(band) for band in table["band"][table["OBJNAME"] == name] if band)
        told.append(f"{name} ({' '.join(bands)})" if bands else name)
    more = len(names) - MAX_LISTED
    return ", ".join(told) + (f" and {more} more" if more > 0 else "")
