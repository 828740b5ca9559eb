"""An option of the command line as a row: its name, how its text is read, where it goes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from photometrus.cli.reading import (
    ALL_CHIPS,
    angle,
    band,
    checked,
    chips,
    count,
    file,
    file_text,
    folder,
    folder_text,
    night,
    one_of,
    positive,
    scheduler,
    step,
)
from photometrus.instrument import DEFAULT_ROTATOR_DEG
from photometrus.memory import read_size
from photometrus.selection import ALL, read_conditions, read_ramps, read_slice


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
PARENT = Option(
    "parent", "folder of the observation, made if missing", "DIR", folder,
    default="<target>_<date>/<band>",
)  # fmt: skip
NO_DOWNLOAD = Option("no_download", "the log and the ramps are on disk already")
RUNNING = (
    RESTART,
    WAIT,
    PARALLEL,
    SCHEDULER,
    WORKERS,
    THREADS,
    MEMORY,
    KEEP,
    COMPRESS,
    NO_COMPRESS,
    NO_PLOTS,
)
"""How an observation is reduced, whatever it is made of."""
COMMON = (CONFIG, VERBOSE, QUIET, HELP)
