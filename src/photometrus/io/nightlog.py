"""The night log: what was observed, as a clean table.

The observatory writes one line per ramp, blank-separated and without quotes, into
``ramp_fit_log_YYYY-MM-DD.dat``; warnings, half lines and object names with blanks get in between.
The line bears the file name of chip 1; the other chips took a ramp of the same serial.
"""

import logging
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from photometrus.errors import MissingInput
from photometrus.instrument import band_of
from photometrus.products import parse_ramp

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
MAX_LINE = 2000
"""Characters: a ramp's line has about 200. What is longer is not looked at."""
MAX_RAMPS = 20_000
"""More than a night can hold: one every three seconds from dusk to dawn."""


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
