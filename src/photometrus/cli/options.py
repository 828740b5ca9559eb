"""An option of the command line as a row: its name, how its text is read, where it goes."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from photometrus.errors import nearest
from photometrus.instrument import CHIPS, DEFAULT_ROTATOR_DEG, band_named
from photometrus.memory import read_size
from photometrus.products import parse_date
from photometrus.selection import ALL, read_conditions, read_ramps, read_slice

ANGLE = re.compile(r"(?P<number>[-+]?[0-9.]+(e[-+]?\d+)?)\s*(?P<unit>deg|d|arcsec|as|\")?", re.I)
SCHEDULER_ADDRESS = re.compile(r"[a-z]+://[^\s/]+:\d+")
ALL_CHIPS = ",".join(map(str, CHIPS))


@dataclass(frozen=True)
class Option:
    """One option.

    name : without dashes; ``-name`` and ``--name`` are the same
    words : what it does, for the help
    shown : what stands for its value in the help; empty for a switch, which takes none
    read : makes the value from its text; raises ValueError with the rest of a sentence
    key : where it goes in the Config; empty when it belongs to the command itself
    value : what a switch stands for
    default : what holds without it, for the help; a key's is compared with the Config in a test
    needed : the command cannot do without it
    """

    name: str
    words: str
    shown: str = ""
    read: Callable[[str], Any] = str
    key: str = ""
    value: Any = True
    default: str = ""
    needed: bool = False


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
SHELLS = ("bash", "zsh", "fish")


def names(text: str) -> tuple[str, ...]:
    """Words with commas between: in order, each once."""
    found = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not found:
        raise ValueError("expected names with commas between")
    return found


def bands(text: str) -> tuple[str, ...]:
    """Bands of PRIME from ``J,H``."""
    return tuple(band(name) for name in names(text))


def spelled(option: Option) -> str:
    """The option as it is typed, with what stands for its value."""
    return f"-{option.name} {option.shown}".strip()


def overrides(options: Sequence[Option], given: dict[str, Any]) -> dict[str, Any]:
    """The options that go into the Config, as a nested dict."""
    nested: dict[str, Any] = {}
    for option in options:
        if option.key and option.name in given:
            section, key = option.key.split(".")
            nested.setdefault(section, {})[key] = given[option.name]
    return nested


DATE = Option("date", "night of the observation (ISO 2024-06-06, too)", "YYYYMMDD", night)
TARGET = Option("target", "field, as the log's OBJNAME calls it", "FIELD")
BAND = Option("band", "filter: Z, Y, J or H", "BAND", band)
CHIP = Option("chip", "chips, with commas between", "1,2,3,4", chips, default=ALL_CHIPS)
ROTATOR = Option(
    "rot_val", "rotator offset where the header's is unreadable; degrees, or 172800arcsec",
    "DEG", angle, "run.rotator_deg", default=f"{DEFAULT_ROTATOR_DEG:g}",
)  # fmt: skip
ARCHIVE = Option(
    "archive", "where the ramps are: a folder, http(s)://..., sftp://user@host/...",
    "URL", str, "input.archive", default="$PHOTOMETRUS_ARCHIVE",
)  # fmt: skip
FTYPE = Option(
    "ftype", "kind of file: ramp, real_time_ramp, ramp_fz, raw, raw_fz",
    "KIND", one_of("ramp", "real_time_ramp", "ramp_fz", "raw", "raw_fz"), "input.ftype",
    default="ramp",
)  # fmt: skip
CATALOG = Option(
    "catalog", "reference stars: a file with RAJ2000, DEJ2000, Jmag..., a survey's name, or none",
    "WHICH", str, "input.catalog", default="2MASS",
)  # fmt: skip
FLAT_DIR = Option(
    "flat_dir", "store of master flats, mflat.<band>.<date>.C<chip>.fits",
    "DIR", folder_text, "input.flat_dir", default="$PHOTOMETRUS_FLATS, or your data folder",
)  # fmt: skip
SKY_OVERRIDE = Option(
    "sky_override", "subtract this sky instead of making one",
    "FILE", file_text, "input.sky_override",
)  # fmt: skip
SIGMA = Option(
    "sigma", "clipping of the sky, in units of a pixel's scatter among the frames",
    "S", positive, "sky.clip_sigma", default="3",
)  # fmt: skip
ENGINE = Option(
    "engine", "native, or astromatic: the real SExtractor, SCAMP and SWarp",
    "NAME", one_of("native", "astromatic"), "run.engine", default="native",
)  # fmt: skip
KEEP = Option(
    "keep", "all products, or final: sky, stack and logs only",
    "WHAT", one_of("all", "final"), "run.keep", default="all",
)  # fmt: skip
PARALLEL = Option("parallel", "process the chips at once", key="run.parallel")
SCHEDULER = Option(
    "scheduler", "the same on a running Dask cluster: tcp://host:8786, or its file cluster.json",
    "ADDRESS", scheduler, "run.scheduler",
)  # fmt: skip
WORKERS = Option(
    "workers", "processes of -parallel; 0: as there are cores and memory",
    "N", count, "run.workers", default="0",
)  # fmt: skip
THREADS = Option(
    "threads", "threads per chip; 0: as there are cores and memory",
    "N", count, "run.threads", default="0",
)  # fmt: skip
MEMORY = Option(
    "memory", "not more than this: 4GB, 800MB, or 50% of what the machine has",
    "SIZE", checked(partial(read_size, of=1)), "run.memory", default="what the machine has",
)  # fmt: skip
NO_SHIFT = Option(
    "no_shift", "believe the pointing, do not search for the field",
    key="run.search_pointing", value=False,
)  # fmt: skip
NO_FF = Option("no_FF", "do not divide by a flat", key="run.flat_field", value=False)
ASTROMNET = Option(
    "astromnet", "refine with the real astrometry.net, when it is better", key="run.astrometry_net"
)
NET_REFINE = Option("net_refine", "the same as -astromnet", key="run.astrometry_net")
COMPRESS = Option(
    "compress", "write the stack as .fits.fz (this is the default)", key="run.compress"
)
NO_COMPRESS = Option("no_compress", "write the stack as .fits", key="run.compress", value=False)
RAMPNUM = Option(
    "rampnum", "only so many: 5 the first five, 2:9 or -3: a slice as in Python, 0 all",
    "N or A:B", checked(read_slice), "select.ramps", default="0",
)  # fmt: skip
EXCLUDE = Option(
    "exclude", "never these: serials (all chips), names, ranges 01599131-01599145, with commas",
    "RAMPS", checked(read_ramps), "select.exclude",
)  # fmt: skip
INCLUDE = Option(
    "include", "these stay in, however cloudy or blurred: as -exclude, or all",
    "RAMPS", checked(read_ramps, ALL), "select.include",
)  # fmt: skip
HEADER_FILTER = Option(
    "header_filter", "only where the header says so: DITHRAD:60, 'AIRMASS:<1.5' (also > <= >= !=)",
    "KEY:VALUE,...", checked(read_conditions), "select.header",
)  # fmt: skip
INCREM = Option(
    "increm", "also growing stacks of the first -num frames, twice as many, ...",
    key="substacks.growing",
)  # fmt: skip
ALT = Option(
    "alt", "also two stacks of every other frame: what is real is in both",
    key="substacks.alternating",
)  # fmt: skip
NUM = Option("num", "frames by which -increm grows", "N", step, "substacks.frames", default="5")
EXPTIME_MAP = Option("exptime_map", "also the exposure of each pixel, s", key="run.exptime_map")
DEPTH_MAP = Option(
    "depth_map", "also the 5 sigma limit of each pixel, ADU in 1.5 arcsec radius",
    key="run.depth_map",
)  # fmt: skip
CHOOSING = (RAMPNUM, EXCLUDE, INCLUDE, HEADER_FILTER)
BESIDE = (INCREM, ALT, NUM, EXPTIME_MAP, DEPTH_MAP)
RESTART = Option("restart", "make all again, also what was made of the same before")
WAIT = Option("wait", "for another run in the same folder, instead of giving up")
NO_PLOTS = Option(
    "no_plots",
    "do not draw the chips' pages, stack/qa.*.png, nor write report.html",
    key="run.pages",
    value=False,
)
CONFIG = Option("config", "settings that hold where no option is given", "FILE.toml", file)
VERBOSE = Option("verbose", "tell also what goes well")
QUIET = Option("quiet", "tell only what goes wrong")
HELP = Option("h", "this help")
COMMON = (CONFIG, VERBOSE, QUIET, HELP)
