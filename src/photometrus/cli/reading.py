"""The text of an option's value as the value; ValueError with the rest of a sentence."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from photometrus.errors import nearest
from photometrus.instrument import CHIPS, band_named
from photometrus.products import parse_date

ALL_CHIPS = ",".join(map(str, CHIPS))
ANGLE = re.compile(r"(?P<number>[-+]?[0-9.]+(e[-+]?\d+)?)\s*(?P<unit>deg|d|arcsec|as|\")?", re.I)
SCHEDULER_ADDRESS = re.compile(r"[a-z]+://[^\s/]+:\d+")


def night(text: str) -> date:
    """A date, ``yyyymmdd`` or ISO."""
    return parse_date(text)


def band(text: str) -> str:
    """A band of PRIME."""
    return band_named(text).name


def chips(text: str) -> tuple[int, ...]:
    """Chip numbers from ``1,3``: in order, each once."""
    parts = [part.strip() for part in text.split(",")]
    if not set(parts) <= {str(chip) for chip in CHIPS}:
        raise ValueError(f"PRIME has chips {ALL_CHIPS}; write for example -chip 1,3")
    return tuple(sorted({int(part) for part in parts}))


def angle(text: str) -> float:
    """Degrees from ``48``, ``-45.7``, ``48deg`` or ``172800arcsec``."""
    match = ANGLE.fullmatch(text.strip())
    if match is None:
        raise ValueError("expected degrees, for example 48, or 172800arcsec")
    degrees = number(match["number"])
    unit = (match["unit"] or "deg").lower()
    if unit in ("arcsec", "as", '"'):
        degrees /= 3600.0
    if abs(degrees) > 360:
        raise ValueError(f"more than a turn in degrees; did you mean {match['number']}arcsec?")
    return degrees


def number(text: str) -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError:
        raise ValueError("expected a number") from None
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError("expected a finite number")
    return value


def positive(text: str) -> float:
    """A number above zero."""
    value = number(text)
    if value <= 0:
        raise ValueError("expected a number above 0")
    return value


def count(text: str) -> int:
    """A whole number, 0 or more."""
    if not (text.isascii() and text.isdecimal()):
        raise ValueError("expected a whole number, 0 or more")
    return int(text)


def port(text: str) -> int:
    """A port, or 0."""
    value = count(text)
    if value > 65535:
        raise ValueError("expected a port, 0 to 65535")
    return value


def step(text: str) -> int:
    """A whole number, 1 or more."""
    value = count(text)
    if value == 0:
        raise ValueError("expected a whole number, 1 or more")
    return value


def checked(read: Callable[[str], Any], *words: str) -> Callable[[str], str]:
    """Gives the text back as it is, when `read` can read it or it is one of `words`."""

    def check(text: str) -> str:
        if text not in words:
            read(text)
        return text

    return check


def pair(text: str) -> tuple[float, float]:
    """Two numbers with a comma between."""
    parts = text.split(",")
    if len(parts) != 2:
        raise ValueError("expected two numbers with a comma between, for example 1.2,1.7")
    return number(parts[0]), number(parts[1])


def optional(text: str) -> float | None:
    """A number, or ``none``."""
    return None if text.lower() == "none" else number(text)


def folder(text: str) -> Path:
    """A folder that is there or can be made."""
    path = Path(text).expanduser()
    if path.exists() and not path.is_dir():
        raise ValueError("expected a folder, this is a file")
    return path


def file(text: str) -> Path:
    """A file that is there."""
    path = Path(text).expanduser()
    if path.is_dir():
        raise ValueError("expected a file, this is a folder")
    if not path.is_file():
        raise ValueError("no such file")
    return path


def file_text(text: str) -> str:
    """A file that is there, as the Config holds it."""
    return str(file(text))


def folder_text(text: str) -> str:
    """A folder, as the Config holds it."""
    return str(folder(text))


def word(text: str) -> str:
    """A name that can be part of a file's."""
    if not re.fullmatch(r"[\w.+-]{1,64}", text):
        raise ValueError("expected letters, digits, . _ + -, for example GRB240825A")
    return text


def path(text: str) -> Path:
    """A file or folder."""
    return Path(text).expanduser()


@dataclass(frozen=True)
class OneOf:
    """Reads one of some words."""

    choices: tuple[str, ...]

    def __call__(self, text: str) -> str:
        """The word; ValueError for any other."""
        if text not in self.choices:
            raise ValueError(f"expected {', '.join(self.choices)}{nearest(text, self.choices)}")
        return text


def one_of(*choices: str) -> OneOf:
    """Reads one of some words."""
    return OneOf(choices)


def scheduler(text: str) -> str:
    """Where a Dask scheduler is: an address or a file."""
    if text.endswith(".json"):
        return str(path(text))
    if SCHEDULER_ADDRESS.fullmatch(text) is None:
        raise ValueError("expected tcp://host:8786, tls://host:8786 or a scheduler file, *.json")
    return text


FILES, FOLDERS = (file, file_text, path), (folder, folder_text)
"""How files and folders are read."""


def names(text: str) -> tuple[str, ...]:
    """Words with commas between: in order, each once."""
    found = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not found:
        raise ValueError("expected names with commas between")
    return found


def bands(text: str) -> tuple[str, ...]:
    """Bands of PRIME from ``J,H``."""
    return tuple(band(name) for name in names(text))
