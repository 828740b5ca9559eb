"""The night log: what was observed, as a clean table.

The observatory writes one line per ramp, blank-separated and without quotes, into
``ramp_fit_log_YYYY-MM-DD.dat``; warnings, half lines and object names with blanks get in between.
The line bears the file name of chip 1; the other chips took a ramp of the same serial.
"""

import logging
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from photometrus.errors import MissingInput, UsageError, nearest
from photometrus.instrument import band_named, band_of
from photometrus.products import RampId, parse_ramp

log = logging.getLogger(__name__)

STANDARD_HEADER = (
    "# DATEBEG, filename,OBJNAME,OBJTYPE,OBSERVER,CHIP,FILTER1,FILTER2,EXPTIME,EXPTIMEE,EXPTIMEC,"
    "NFRAMES,DITHTYP,DITHRAD,DITHPH,DITH_REP,TEMPDET,FOCUS,NINT,INT"
)
"""The header of a log that has lost its own."""

JUNK_STARTS = ("Warning", "ERROR", "#")
JUNK_MARK = "!"
"""A line that starts with one of the first or contains the second is not a ramp."""

NAME_REPAIRS = (
    ("all sky grid", "all_sky_grid"),
    ("no_grid  ", "no_grid "),
    ("no_grid_test  ", "no_grid_test "),
    ("field10554_ test", "field10554_test"),
    ("fucus test", "focus_test"),
    ("galactic plane", "galactic_plane"),
    ("standard star", "standard_star"),
    ("rotator test", "rotator_test"),
    ("SKY M7", "SKY_M7"),
    ("LVC S230522n", "LVC_S230522n"),
    ("Dec test", "Dec_test"),
    ("Galctic plane", "Galactic_plane"),
    ("Glactic plane", "Galactic_plane"),
    ("Galactic plane", "Galactic_plane"),
    ("Galactic Plane", "Galactic_plane"),
    ("Vignetting Test", "Vignetting_Test"),
    ("SPIS J0539-0059", "SPIS_J0539-0059"),
    ("Frost Check", "Frost_Check"),
    ("GainTest LED", "GainTest_LED"),
)
"""Names as they were typed, and as they are meant; any other blank becomes an underscore."""

FILE_NAME = re.compile(r"[0-9]{8}C[1-4](\.[A-Za-z0-9.]+)?")
NO_VALUE = frozenset({"none", "nan", "null", "n/a", "-", "--"})
"""How a line says that it does not know (compared in lower case)."""
LARGEST_INTEGER = 2**31 - 1
FLAT_TYPE = "FLAT"
MAX_LINE = 2000
"""Characters: a ramp's line has about 200. What is longer is not looked at."""
MAX_RAMPS = 20_000
"""More than a night can hold: one every three seconds from dusk to dawn."""
MAX_LISTED = 20
"""Targets named in a message about one that is not there."""


def _integer(token: str) -> int:
    """The whole number a token stands for, 0 for no value; ValueError otherwise."""
    if token.lower() in NO_VALUE:
        return 0
    value = float(token)
    if not abs(value) <= LARGEST_INTEGER or value != int(value):
        raise ValueError(token)
    return int(value)


def _real(token: str) -> float:
    """The number a token stands for, NaN for no value; ValueError otherwise."""
    return math.nan if token.lower() in NO_VALUE else float(token)


def _chip(token: str) -> int:
    chip = 1 if token.lower() in NO_VALUE else _integer(token)
    if chip not in (1, 2, 3, 4):
        raise ValueError(token)
    return chip


def _word(token: str) -> str:
    """A token that is not a number: what tells a name from a shifted column."""
    try:
        float(token)
    except ValueError:
        return token
    raise ValueError(token)


def _file(token: str) -> str:
    if FILE_NAME.fullmatch(token) is None:
        raise ValueError(token)
    return token


COLUMNS: dict[str, tuple[Callable[[str], Any], str | None]] = {
    "DATEBEG": (str, None),
    "filename": (_file, None),
    "OBJNAME": (str, None),
    "OBJTYPE": (str, None),
    "OBSERVER": (str, None),
    "CHIP": (_chip, None),
    "FILTER1": (_word, None),
    "FILTER2": (_word, None),
    "EXPTIME": (_real, "s"),
    "EXPTIMEE": (_real, "s"),
    "EXPTIMEC": (_real, "s"),
    "NFRAMES": (_integer, None),
    "DITHTYP": (_word, None),
    "DITHRAD": (_real, "arcsec"),
    "DITHPH": (_real, "deg"),
    "DITH_REP": (_integer, None),
    "TEMPDET": (_real, "K"),
    "FOCUS": (_real, None),
    "NINT": (_integer, None),
    "INT": (_integer, None),
}
"""A column of the log: what reads its tokens, and its unit."""
STANDARD_COLUMNS = tuple(COLUMNS)
NEEDED_COLUMNS = frozenset({"filename", "OBJNAME", "FILTER1", "FILTER2"})
"""A header without one of these is not a header."""
ABSENT: dict[Callable[[str], Any], float | int] = {_real: math.nan, _integer: 0, _chip: 1}
"""What a column holds that an older log does not have (text: empty)."""


def repair_name(name: str) -> str:
    """An object name as it stands in the clean log: known misspellings mended, blanks closed."""
    for wrong, right in NAME_REPAIRS:
        name = name.replace(wrong, right)
    return "_".join(name.split())


def clean_log(text: str) -> str:
    """The log without its dirt: one header line, then one line per ramp, single blanks.

    Lines that are not ramps are dropped, names are repaired, a repeated line is written once.
    The result is as valid an input as the original. Never raises: without ramps only the header
    is left; of more than `MAX_RAMPS` the first.
    """
    columns, rows, _ = _rows(text)
    lines = [" ".join(columns)]
    lines += [" ".join(row.get(name, "None") for name in columns) for row in rows]
    return "\n".join(dict.fromkeys(lines)) + "\n"


def parse_log(text: str, name: str = "night log") -> Table:
    """The log as a table, one row per ramp, in order of serial number.

    text : the log as it came, or after `clean_log`
    name : what to call it in messages

    Columns: those of `COLUMNS`, any further ones of the log's own header as text, and `serial`
    (int64), `band` (a name of instrument.BANDS, or empty). Of two lines with one serial the later
    counts. Raises MissingInput when no line is a ramp, or more are than a night can hold.
    """
    _, rows, strange = _rows(text)
    if strange:
        log.warning("%s: %d lines dropped, e.g. %.60r", name, len(strange), strange[0])
    if len(rows) > MAX_RAMPS:
        raise MissingInput(f"{name}: more than {MAX_RAMPS} ramps; is it the log of one night?")
    if not rows:
        raise MissingInput(f"{name}: {_emptiness(text)}; is it the right file, whole and a log?")
    by_serial = {parse_ramp(row["filename"] + ".").serial: row for row in rows}
    if len(by_serial) < len(rows):
        log.info("%s: %d repeated lines", name, len(rows) - len(by_serial))
    serials = sorted(by_serial)
    ordered = [by_serial[serial] for serial in serials]
    table = Table(meta={"name": name})
    table["serial"] = np.array(serials, dtype=np.int64)
    for column, (read, unit) in COLUMNS.items():
        absent = ABSENT.get(read, "")
        values = [read(row[column]) if column in row else absent for row in ordered]
        table[column] = values
        table[column].unit = unit
    extra = dict.fromkeys(key for row in ordered for key in row if key not in COLUMNS)
    for column in extra:
        table[column] = [row.get(column, "") for row in ordered]
    table["band"] = [
        band_of(one, two) or "" for one, two in zip(table["FILTER1"], table["FILTER2"], strict=True)
    ]
    return table


def read_log(path: Path) -> Table:
    """The table of a log on disk, clean or not; MissingInput when it is absent or empty."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MissingInput(
            f"{path}: the night log cannot be read ({error.strerror}); download it with getdata"
        ) from error
    return parse_log(decode(content), path.name)


def decode(content: bytes) -> str:
    """The text of a log's bytes; what is not UTF-8 becomes a replacement character."""
    return content.decode("utf-8-sig", errors="replace")


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


def _rows(text: str) -> tuple[tuple[str, ...], list[dict[str, str]], list[str]]:
    """The log's columns, its ramps as column -> token in the order of the lines, other lines.

    Ends one after `MAX_RAMPS`.
    """
    columns: tuple[str, ...] = ()
    current = STANDARD_COLUMNS
    rows: list[dict[str, str]] = []
    strange: list[str] = []
    for line in text.splitlines():
        if len(line) > MAX_LINE:
            strange.append(line[:MAX_LINE])
            continue
        if len(rows) > MAX_RAMPS:
            break
        header = _header(line)
        if header:
            current = header
            columns = columns or header
        elif _is_junk(line):
            continue
        elif (row := _row(line, current)) is not None:
            rows.append(row)
        else:
            strange.append(line)
    return columns or STANDARD_COLUMNS, rows, strange


def _is_junk(line: str) -> bool:
    """True for what the observatory itself writes between the ramps, and for blank lines."""
    bare = line.strip()
    return not bare or bare.startswith(JUNK_STARTS) or JUNK_MARK in bare


def _header(line: str) -> tuple[str, ...]:
    """The column names of a header line, in the log's or the clean form; empty when it is none."""
    words = tuple(line.lstrip("# \t").replace(",", " ").split())
    unique = set(words)
    return words if unique >= NEEDED_COLUMNS and len(unique) == len(words) else ()


def _row(line: str, columns: tuple[str, ...]) -> dict[str, str] | None:
    """The tokens of a ramp's line by column, the name's blanks closed; None when it is no ramp.

    The name is what is left after taking the known number of columns from both ends, so any
    number of blanks may be in it. A half line shifts columns, and a shifted column shows: a
    number where a word belongs, or the other way round.
    """
    tokens = line.split()
    before = columns.index("OBJNAME")
    after = len(columns) - before - 1
    if len(tokens) < len(columns) or not line.isprintable():
        return None
    words = tokens[before : len(tokens) - after]
    row = dict(
        zip(
            columns,
            [*tokens[:before], repair_name(" ".join(words)), *tokens[len(tokens) - after :]],
            strict=True,
        )
    )
    try:
        for column, token in row.items():
            if column in COLUMNS:
                COLUMNS[column][0](token)
    except ValueError:
        return None
    return row


def _emptiness(text: str) -> str:
    """What is wrong with a log that has no ramps."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return "the log is empty"
    if "\0" in text or text.count("\ufffd") > len(text) / 10:
        return "the log is not text"
    return f"none of its {len(lines)} lines describes a ramp"


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
