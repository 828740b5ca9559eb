"""Positions and angles as people write them; read as text, never evaluated."""

import re
from dataclasses import dataclass
from pathlib import Path

NUMBER = r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+"
DECIMAL = re.compile(rf"(?P<sign>[-+]?)(?P<number>(?:{NUMBER})(?:[eE][-+]?[0-9]+)?)(?:deg|d|°)?")
SEXAGESIMAL = re.compile(
    rf"(?P<sign>[-+]?)\s*(?P<first>[0-9]+)\s*(?P<mark>[:hd°\s])\s*(?P<second>[0-9]+)"
    rf"(?:\s*[:m'′\s]\s*(?:(?P<third>{NUMBER})\s*(?:s|\"|″|'')?)?)?"
)
LENGTH = re.compile(rf"(?P<number>{NUMBER})[\s_]*(?P<unit>[a-zA-Z]+|\"|″|'|′|''|°)?")
ARCSEC = {
    "arcsec": 1.0, "arcsecs": 1.0, "arcsecond": 1.0, "arcseconds": 1.0, "as": 1.0,
    '"': 1.0, "″": 1.0, "''": 1.0,
    "arcmin": 60.0, "arcmins": 60.0, "arcminute": 60.0, "arcminutes": 60.0, "am": 60.0,
    "'": 60.0, "′": 60.0,
    "deg": 3600.0, "degs": 3600.0, "degree": 3600.0, "degrees": 3600.0, "d": 3600.0, "°": 3600.0,
}  # fmt: skip
PAIR = re.compile(r"[(\[]([^()\[\]]*)[)\]]")
RA_NAMES = ("ra", "ra_deg", "raj2000", "ra_icrs", "alpha_j2000", "grb_ra", "right_ascension")
DEC_NAMES = ("dec", "dec_deg", "dej2000", "decj2000", "de_icrs", "delta_j2000", "grb_dec", "de")
NAME_NAMES = ("name", "id", "object", "objname", "target")
RADIUS_NAMES = ("radius", "radius_arcsec", "grb_radius", "rad", "err", "error")


@dataclass(frozen=True)
class Place:
    """A position in a list; None and empty where the list does not tell."""

    ra_deg: float
    dec_deg: float
    name: str = ""
    radius_arcsec: float | None = None


def right_ascension(text: str) -> float:
    """Degrees, 0 to 360, from degrees or hours: ``344.572``, ``22:58:17.28``, ``22h58m17.28s``."""
    sign, degrees, mark = _angle(text, "344.572 or 22:58:17.28")
    if mark and mark not in "d°":
        degrees *= 15.0
    if sign < 0 or degrees > 360.0:
        raise ValueError("a right ascension is 0 to 360 degrees, or 0 to 24 hours")
    return degrees % 360.0


def declination(text: str) -> float:
    """Degrees, -90 to 90, from ``-0.5``, ``-00:30:00`` or ``-00d30m00s``; the sign is kept."""
    sign, degrees, mark = _angle(text, "-0.5 or -00:30:00")
    if mark == "h":
        raise ValueError("a declination is in degrees, not in hours")
    if degrees > 90.0:
        raise ValueError("a declination is -90 to 90 degrees")
    return sign * degrees


def radius(text: str) -> float:
    """Arcseconds from ``5``, ``5arcsec``, ``5_arcsec``, ``5"``, ``2arcmin``, ``2'``, ``0.1deg``."""
    match = LENGTH.fullmatch(text.strip())
    factor = ARCSEC.get((match["unit"] or "arcsec").lower()) if match else None
    if match is None or factor is None:
        raise ValueError("expected a radius, for example 5, 5arcsec, 2arcmin or 0.1deg")
    arcsec = float(match["number"]) * factor
    if not 0 < arcsec <= 10 * 3600:
        raise ValueError("a radius is above 0 and at most 10 degrees")
    return arcsec


def places(text: str) -> tuple[Place, ...]:
    """Positions from a file, or from a list as ``[(344.572, 1.02675), (344.6, 1.03)]``.

    A file has a position per line, with blanks, commas, semicolons or tabs between: RA, Dec and,
    if wanted, a name and a radius; # begins a comment. A first line with names (ra, dec, name,
    radius in any order, as in ECSV and CSV) says which column is which.
    """
    # A list is never a file's name: it begins with a bracket.
    if text.lstrip()[:1] in ("[", "("):
        return _inline(text)
    path = Path(text).expanduser()
    if not path.is_file():
        raise ValueError("no such file; expected one, or a list as [(344.572,1.02675),(...)]")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise ValueError("cannot be read as text") from None
    return _from_lines(lines)


def _angle(text: str, example: str) -> tuple[float, float, str]:
    """Sign, absolute value, and the mark behind the first part: empty for a plain number."""
    text = text.strip().replace("−", "-")  # a minus of typesetters
    match = DECIMAL.fullmatch(text)
    if match is not None:
        value = float(match["number"])
        if value == float("inf"):
            raise ValueError("expected a finite number")
        return (-1.0 if match["sign"] == "-" else 1.0), value, ""
    match = SEXAGESIMAL.fullmatch(text)
    if match is None:
        raise ValueError(f"expected degrees or sexagesimal, for example {example}")
    minutes, seconds = float(match["second"]), float(match["third"] or 0.0)
    if minutes >= 60.0 or seconds >= 60.0:
        raise ValueError("minutes and seconds are below 60")
    value = float(match["first"]) + minutes / 60.0 + seconds / 3600.0
    return (-1.0 if match["sign"] == "-" else 1.0), value, match["mark"]


def _inline(text: str) -> tuple[Place, ...]:
    inner = text.strip()
    groups = PAIR.findall(inner)
    if not groups or PAIR.sub("", inner).strip(" []()\t\n,;"):
        raise ValueError("expected a list of pairs, for example [(344.572,1.02675),(344.6,1.03)]")
    return tuple(_place([part.strip(" \"'") for part in group.split(",")]) for group in groups)


def _place(cells: list[str]) -> Place:
    """RA, Dec, and, in either order, a name and a radius."""
    if len(cells) < 2:
        raise ValueError("a position is RA and Dec with a comma between")
    name, size = "", None
    for cell in filter(None, cells[2:4]):
        if LENGTH.fullmatch(cell) and size is None:
            size = radius(cell)
        else:
            name = cell
    return Place(right_ascension(cells[0]), declination(cells[1]), name, size)


def _from_lines(lines: list[str]) -> tuple[Place, ...]:
    rows = [(number, _cells(line)) for number, line in enumerate(lines, 1)]
    rows = [(number, cells) for number, cells in rows if cells]
    order = _order(rows[0][1]) if rows else None
    found = []
    for number, cells in rows[1:] if order else rows:
        try:
            found.append(_ordered(cells, order) if order else _place(cells))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    if not found:
        raise ValueError("no position in it; expected lines with RA and Dec")
    return tuple(found)


def _cells(line: str) -> list[str]:
    """The cells of a line without its comment; blanks count only where nothing else separates."""
    line = line.split("#", 1)[0].strip()
    for separator in (",", ";", "\t"):
        if separator in line:
            return [cell.strip().strip("\"'") for cell in line.split(separator)]
    cells = line.split()
    # 22 58 17.28 +01 01 36.3 [...]: six numbers are two sexagesimal ones.
    plain = [cell for cell in cells[:6] if re.fullmatch(rf"[-+]?(?:{NUMBER})", cell)]
    if len(plain) == 6 and all("." not in cells[k] for k in (0, 1, 3, 4)):
        return [" ".join(cells[:3]), " ".join(cells[3:6]), *cells[6:]]
    return [cell.strip("\"'") for cell in cells]


def _order(cells: list[str]) -> list[int | None] | None:
    """Where RA, Dec, name and radius are, when these cells are names of columns."""
    lower = [cell.lower() for cell in cells]
    known = (RA_NAMES, DEC_NAMES, NAME_NAMES, RADIUS_NAMES)
    order = [next((lower.index(name) for name in names if name in lower), None) for names in known]
    return order if order[0] is not None and order[1] is not None else None


def _ordered(cells: list[str], order: list[int | None]) -> Place:
    def cell(at: int | None) -> str:
        if at is None:
            return ""
        if at >= len(cells):
            raise ValueError(f"{len(cells)} columns, expected {at + 1} or more")
        return cells[at]

    ra, dec, name, size = (cell(at) for at in order)
    return Place(right_ascension(ra), declination(dec), name, radius(size) if size else None)
