"""The commands as rows: what each does, its options, a sample, what comes next."""

from collections.abc import Iterator
from dataclasses import replace

from photometrus.cli.beginning import BEGINNING
from photometrus.cli.command import Command, needed
from photometrus.cli.options import (
    ARCHIVE,
    ASTROMNET,
    BAND,
    BESIDE,
    CATALOG,
    CHIP,
    CHOOSING,
    COMMON,
    COMPRESS,
    DATE,
    ENGINE,
    EXCLUDE,
    FLAT_DIR,
    FTYPE,
    HEADER_FILTER,
    HELP,
    KEEP,
    MEMORY,
    NET_REFINE,
    NO_COMPRESS,
    NO_FF,
    NO_PLOTS,
    NO_SHIFT,
    PARALLEL,
    QUIET,
    RAMPNUM,
    RESTART,
    ROTATOR,
    SCHEDULER,
    SIGMA,
    SKY_OVERRIDE,
    TARGET,
    THREADS,
    VERBOSE,
    WAIT,
    WORKERS,
    Option,
    angle,
    band,
    bands,
    count,
    folder,
    names,
    night,
    number,
    one_of,
    optional,
    pair,
    path,
    port,
    positive,
)
from photometrus.cli.photometry import AIMING, CALIBRATING, LIGHTCURVE, MAKING, PHOTOMETRY

SAMPLE = "photometrus pipeline -parent ../../field1111/ -target field1111 -date 20240606 -band J"


PARENT = Option(
    "parent", "folder of the observation, made if missing", "DIR", folder,
    default="<target>_<date>/<band>",
)  # fmt: skip
NO_DOWNLOAD = Option("no_download", "the log and the ramps are on disk already")
OVERWRITE = Option("overwrite", "fetch also what is there")
IN_PATH = Option("in_path", "folder of the frames to work on", "DIR", folder, needed=True)
OUT_PATH = Option("out_path", "folder for the result, made if missing", "DIR", folder, needed=True)
PIPELINE_NEXT = """\
Exit code 0: done; 1: failed; 2: the command was wrong; 3: done, with losses, listed in a table.
The stacks are in stack/, everything that was measured is in run.json.
Was the field observed?  photometrus log -date 20240606 -target field1111"""

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

PIPELINE = Command(
    "pipeline",
    "all of it: log, ramps, flats, sky, astrometry, one stack per chip",
    "Fetches the night log and the ramps of an observation and reduces each chip to a stack with\n"
    "a weight map. What is on disk already is not fetched again, and a chip that was made of the\n"
    "same files with the same settings is not made again: stopped, it goes on where it was.",
    {
        "What": (PARENT, *needed(TARGET, DATE, BAND), CHIP),
        "Which frames": CHOOSING,
        "From where": (ARCHIVE, FTYPE, NO_DOWNLOAD, CATALOG, FLAT_DIR),
        "How": (ROTATOR, NO_SHIFT, ASTROMNET, NO_FF, SIGMA, SKY_OVERRIDE, ENGINE),
        "Beside the stack": BESIDE,
        "Running": RUNNING,
        "General": COMMON,
    },
    SAMPLE,
    PIPELINE_NEXT,
)
_TAKEN = {option.name for option in PIPELINE.options}


def _free(options: tuple[Option, ...]) -> tuple[Option, ...]:
    """Those whose names mean nothing in `pipeline`."""
    return tuple(option for option in options if option.name not in _TAKEN)


FULL = Command(
    "full",
    "pipeline, then photometry of every chip",
    "Reduces an observation and measures its stacks: all options of pipeline, and those of\n"
    "photometry that have names of their own. A file given with -catalog serves both.",
    {
        **{title: group for title, group in PIPELINE.groups.items() if title != "General"},
        "The target": AIMING,
        "Calibration": _free(CALIBRATING),
        "What is made of the stacks": _free(MAKING),
        "General": COMMON,
    },
    "photometrus full -target GRB240825A -date 20240825 -band J -grb_ra 22:58:17.28"
    " -grb_dec +01:01:36.3",
    PIPELINE_NEXT,
    room="measuring",
)
STACK = Command(
    "stack",
    "the same for ramps that are on disk",
    "Reduces the ramps in PARENT/C1 ... C4 to one stack per chip.",
    {
        "What": (
            replace(PARENT, words="folder that holds C1, C2, ...", default="", needed=True),
            replace(BAND, needed=True),
            replace(CHIP, default="those with ramps on disk"),
        ),
        "Which frames": CHOOSING,
        "With": (CATALOG, FLAT_DIR),
        "How": (ROTATOR, NO_SHIFT, NET_REFINE, ASTROMNET, NO_FF, SIGMA, SKY_OVERRIDE, ENGINE),
        "Beside the stack": BESIDE,
        "Running": RUNNING,
        "General": COMMON,
    },
    "photometrus stack -parent ../../field1111/ -band J -chip 1,3",
    PIPELINE_NEXT,
)
NIGHT = Command(
    "night",
    "all that was observed in a night",
    "Reduces every field of a night in every band, each into PARENT/<target>_<date>/<band>. What\n"
    "was done before, of the same files and with the same settings, is not done again: stopped\n"
    "in the middle, it goes on where it was.",
    {
        "What": (
            replace(DATE, needed=True),
            replace(TARGET, words="only these fields", shown="A,B", read=names, default="all"),
            replace(BAND, words="only these bands", shown="J,H", read=bands, default="all"),
            Option("observer", "only what this one observed", "NAME", default="all"),
            CHIP,
            replace(PARENT, words="folder for all of it, made if missing", default="."),
        ),
        "Which frames": CHOOSING,
        "From where": (ARCHIVE, FTYPE, CATALOG, FLAT_DIR),
        "How": (ROTATOR, NO_SHIFT, ASTROMNET, NO_FF, SIGMA, ENGINE),
        "Beside the stack": BESIDE,
        "Running": RUNNING,
        "General": COMMON,
    },
    "photometrus night -date 20240606 -parallel -keep final",
    "Exit code 0: done; 1: failed; 2: the command was wrong; 3: done, with losses.\n"
    "The table is night_<date>.ecsv. What was observed?  photometrus log -date 20240606",
)
GETDATA = Command(
    "getdata",
    "the night log and the ramps of an observation",
    "Fetches, and lists what the archive does not have in failed_downloads_list.txt.",
    {
        "What": (*needed(TARGET, DATE, BAND), CHIP, PARENT),
        "Which frames": (RAMPNUM, EXCLUDE),
        "From where": (ARCHIVE, FTYPE, OVERWRITE),
        "General": COMMON,
    },
    "photometrus getdata -target field1111 -date 20240606 -band J -chip 1,2",
    "Then:  photometrus stack -parent field1111_20240606/J -band J",
)
LOG = Command(
    "log",
    "what was observed in a night",
    "Shows fields, bands, ramps and times of a night. With -target: whether it is there, and in\n"
    "which bands; the exit code is 1 when it is not.",
    {
        "What": (replace(DATE, needed=True), TARGET, BAND),
        "From where": (ARCHIVE,),
        "General": COMMON,
    },
    "photometrus log -date 20240606 -target field1111",
    "Then:  photometrus pipeline -target field1111 -date 20240606 -band J",
)
GENFLAT = Command(
    "process genflat",
    "master flats from FLAT ramps on disk",
    "Makes mflat.<band>.<date>.C<chip>.fits, with a bad-pixel map, from the FLAT ramps in DIR/C#\n"
    "by pairwise subtraction. The night log in DIR says which ramps are FLATs of the night's\n"
    "start or end; without it, their headers say which are FLATs.",
    {
        "What": (
            Option("dir", "folder that holds C1, C2, ...", "DIR", folder, needed=True),
            *needed(DATE, BAND),
            CHIP,
        ),
        "To where": (replace(FLAT_DIR, default="DIR/mflats", key=""),),
        "General": COMMON,
    },
    "photometrus process genflat -dir flats_20240606 -date 20240606 -band J",
    "Then:  photometrus stack ... -flat_dir flats_20240606/mflats",
)
AUTOFLAT = Command(
    "process autoflat",
    "the same, from the archive's FLAT ramps of a night",
    "Fetches the night log and its FLAT ramps of the band and makes master flats from them.",
    {
        "What": (*needed(DATE, BAND), CHIP),
        "From where": (
            ARCHIVE,
            Option("dir", "folder for the log and ramps", "DIR", folder, default="flats_<date>"),
            NO_DOWNLOAD,
        ),
        "To where": (FLAT_DIR,),
        "General": COMMON,
    },
    "photometrus process autoflat -date 20240606 -band J",
    "The pipeline finds the flats in the store by band, chip and date.",
)
FLATFIELD = Command(
    "process flatfield",
    "*.ramp.new (or *.ramp.fits) to *.flat.fits",
    "Trims the border of 4 pixels (the WCS moves with it), divides by a flat, marks bad pixels\n"
    "with NaN.",
    {
        "What": (
            IN_PATH,
            OUT_PATH,
            Option("flat_path", "a master flat, or a store of them", "PATH", path, needed=True),
        ),
        "General": COMMON,
    },
    "photometrus process flatfield -in_path C1_astrom -out_path C1_FF -flat_path mflats",
    "Then:  photometrus process gensky -in_path C1_FF -sky_path sky",
)
GENSKY = Command(
    "process gensky",
    "*.flat.fits to a sky",
    "Makes the sky of a sequence of dithered frames in two passes: the second hides the stars\n"
    "that the first one shows.",
    {
        "What": (
            IN_PATH,
            Option("sky_path", "folder or .fits file for the sky", "PATH", path, needed=True),
        ),
        "Which frames": (RAMPNUM, EXCLUDE),
        "How": (SIGMA,),
        "General": COMMON,
    },
    "photometrus process gensky -in_path C1_FF -sky_path sky",
    "Then:  photometrus process skysub -in_path C1_FF -out_path C1_sub -sky_path sky",
)
SKYSUB = Command(
    "process skysub",
    "*.flat.fits to *.sky.flat.fits",
    "Subtracts the sky, scaled to each frame, and the smooth residual that is left.",
    {
        "What": (
            IN_PATH,
            OUT_PATH,
            Option("sky_path", "the sky, or the folder it is in", "PATH", path, needed=True),
        ),
        "General": COMMON,
    },
    "photometrus process skysub -in_path C1_FF -out_path C1_sub -sky_path sky",
    "Then:  photometrus astrom shift -dir C1_sub -band J",
)
STACK_FRAMES = Command(
    "process stack",
    "*.sky.flat.fits, solved, to a stack",
    "Stacks the frames of one chip as they are, by the WCS in their headers: nothing is judged.",
    {
        "What": (
            IN_PATH,
            replace(
                PARENT,
                words="folder of the observation, for stack/ in it",
                default="the one that holds in_path",
            ),
        ),
        "Which frames": (RAMPNUM, EXCLUDE, HEADER_FILTER),
        "Beside the stack": BESIDE,
        "Running": (COMPRESS, NO_COMPRESS),
        "General": COMMON,
    },
    "photometrus process stack -in_path field1111/C1_sub -increm -num 5",
    "The stack is in stack/. `photometrus stack` does all steps at once, and judges the frames.",
)
ANGLE = Command(
    "astrom angle",
    "*.ramp.fits to *.ramp.new with a first WCS",
    "Writes copies of the ramps with the WCS that pointing, rotator and focal plane give, the\n"
    "distortion included.",
    {
        "What": (
            Option("input", "folder of the ramps", "DIR", folder, needed=True),
            Option("output", "folder for the result, made if missing", "DIR", folder, needed=True),
        ),
        "How": (ROTATOR,),
        "General": COMMON,
    },
    "photometrus astrom angle -input C1 -output C1_astrom",
    "Then:  photometrus process flatfield -in_path C1_astrom -out_path C1_FF -flat_path mflats",
)
SHIFT = Command(
    "astrom shift",
    "*.sky.flat.fits: find the field, fit the stars",
    "Finds each frame among the reference stars, fits its WCS to them and writes it into the\n"
    "frame, with the sources as .cat and the solution as .head beside it. The WCS of before goes\n"
    "to old/*.head.",
    {
        "What": (
            Option("dir", "folder of the frames", "DIR", folder, needed=True),
            replace(BAND, needed=True),
        ),
        "How": (CATALOG, ROTATOR),
        "General": COMMON,
    },
    "photometrus astrom shift -dir C1_sub -band J -catalog refcat.fits",
    "Then:  photometrus astrom astromatic -path C1_sub -band J",
)
ASTROMATIC = Command(
    "astrom astromatic",
    "*.sky.flat.fits: the real SExtractor and SCAMP",
    "Writes .cat with SExtractor and .head with SCAMP beside each frame.",
    {
        "What": (
            Option("path", "folder of the frames", "DIR", folder, needed=True),
            replace(BAND, needed=True),
        ),
        "How": (CATALOG,),
        "General": COMMON,
    },
    "photometrus astrom astromatic -path C1_sub -band J -catalog refcat.fits",
    "SWarp reads the .head files:  swarp C1_sub/*.sky.flat.fits",
)
NET = Command(
    "astrom net",
    "frames solved with the real astrometry.net",
    "Writes copies (*.new) with the WCS that solve-field finds.",
    {
        "What": (
            Option("input", "folder of the frames", "DIR", folder, needed=True),
            Option("output", "folder for the result, made if missing", "DIR", folder, needed=True),
        ),
        "How": (
            replace(CATALOG, words=CATALOG.words + "; an index is built from it"),
            Option(
                "net_cfg", "configuration of solve-field, with index files of your own",
                "FILE", path, "input.astrometry_net_cfg", default="an index is built",
            ),
            Option("rad", "how far the pointing may be off, degrees", "DEG", positive, default="1"),
        ),
        "General": COMMON,
    },
    "photometrus astrom net -input C1_sub -output C1_net -catalog refcat.fits",
)  # fmt: skip
SIMULATE = Command(
    "simulate",
    "a realistic night, to try things out",
    "Writes a night as the archive has it: night log with its dirt, ramps and FLATs of each chip,\n"
    "reference catalogues, and the truth. Full size takes most of a minute per chip.",
    {
        "What": (
            Option("out", "folder for it, made if missing", "DIR", folder, needed=True),
            Option("size", "pixels on a side, border included", "N", count, default="4096"),
            CHIP,
            Option("ramps", "per chip", "N", count, default="9"),
            Option("blocks", "how often the field is observed", "N", count, default="1"),
            Option("band", BAND.words, "BAND", band, default="J"),
            Option("target", "name of the field", "FIELD", default="field1111"),
            Option("date", "night", "YYYYMMDD", night, default="20240606"),
            Option("seed", "another number, another night", "N", count, default="1"),
        ),
        "Sky": (
            Option("ra", "of the field, degrees", "DEG", number, default="201.3"),
            Option("dec", "of the field, degrees", "DEG", number, default="-0.52"),
            Option(
                "density", "of stars: sparse, normal, bulge", "NAME",
                one_of("sparse", "normal", "bulge"), default="normal",
            ),
            Option("seeing", "lowest and highest FWHM, arcsec", "A,B", pair, default="1.2,1.7"),
            Option("sky_mag", "per square arcsec; none: as usual", "MAG", optional, default="none"),
            Option("transient", "its magnitude, or none", "MAG", optional, default="17.5"),
        ),
        "Telescope": (
            Option("nframes", "reads in a ramp", "N", count, default="7"),
            Option("flats", "FLAT ramps", "N", count, default="4"),
            Option(
                "flat_time", "of the night: start, end, both", "WHEN",
                one_of("start", "end", "both"), default="start",
            ),
            Option(
                "dither", "Circle, Random or None", "TYPE",
                one_of("Circle", "Random", "None"), default="Circle",
            ),
            Option("dither_radius", "arcsec", "R", number, default="60"),
            Option("rot_val", "rotator offset; degrees, or 172800arcsec", "DEG", angle,
                   default="48"),
            Option("pointing_error", "of a frame, lowest and highest, arcsec", "A,B", pair,
                   default="5,20"),
            Option("chip_offset", "of each chip, arcsec", "R", number, default="20"),
            Option("rotator_error", "degrees", "DEG", number, default="0.06"),
            Option(
                "distortion", "radial, or template: the observatory's own", "NAME",
                one_of("radial", "template"), default="radial",
            ),
        ),
        "Trouble": (
            Option(
                "rotoff", "how headers give it: number, junk, absent, wrong", "HOW",
                one_of("number", "junk", "absent", "wrong"), default="number",
            ),
            Option("no_bad_frame", "without the one bad frame", value=False),
            Option("no_satellite", "without the trail", value=False),
            Option("no_dirt", "a clean log", value=False),
            Option("no_log_header", "a log that has lost its header", value=False),
        ),
        "Archive": (
            Option(
                "layout", "nfs, nfs_fz (compressed) or sftp", "NAME",
                one_of("nfs", "nfs_fz", "sftp"), default="nfs",
            ),
        ),
        "General": (VERBOSE, QUIET, HELP),
    },
    "photometrus simulate -out night -size 1024 -ramps 5",
    "Then:  photometrus pipeline -target field1111 -date 20240606 -band J -archive night "
    "-catalog night/refcat_2mass.fits",
)  # fmt: skip
REPORT = Command(
    "report",
    "the page of an observation for a browser, made anew",
    "Writes report.html into the folder of an observation: verdict, the chips as on the sky,\n"
    "frames, quality, photometry, how it was made. One file that needs no network. Of a folder\n"
    "that holds observations, all of them get theirs.",
    {
        "What": (
            replace(
                PARENT,
                words="folder that holds run.json, or observations",
                default="",
                needed=True,
            ),
        ),
        "General": COMMON,
    },
    "photometrus report ../../field1111/",
    "The pipeline writes it, too; do it again after photometry.",
    room="reporting",
    bare="parent",
)
SERVE = Command(
    "serve",
    "a tree of observations for browsers, followed live",
    "Shows the observations below a folder on a page of its own: a table of all, reports, files,\n"
    "logs; what is running is followed. It only reads. Ctrl-C ends it.",
    {
        "What": (Option("path", "folder that holds observations", "DIR", folder, needed=True),),
        "Where": (
            Option("host", "address to listen at", "ADDRESS", default="127.0.0.1"),
            Option("port", "port to listen at; 0: any that is free", "N", port, default="8765"),
        ),
        "General": COMMON,
    },
    "photometrus serve /data/reduced",
    "From afar:  ssh -L 8765:127.0.0.1:8765 HOST, then http://127.0.0.1:8765/ at home.",
    room="reporting",
    bare="path",
)
WARM = Command(
    "warm",
    "compile the numerical kernels now, and not in the first run",
    "Reduces a small simulated chip and throws it away: numba then has compiled what every later\n"
    "run needs, about a minute's work. It is kept beside the package, or where the environment\n"
    "variable NUMBA_CACHE_DIR says.",
    {"General": (VERBOSE, QUIET, HELP)},
    "photometrus warm",
)
COMMANDS = {
    command.name: command
    for command in (
        PIPELINE, PHOTOMETRY, FULL, LIGHTCURVE, NIGHT, STACK, GETDATA, LOG, GENFLAT, AUTOFLAT,
        FLATFIELD, GENSKY, SKYSUB, STACK_FRAMES, ANGLE, SHIFT, ASTROMATIC, NET, REPORT, SERVE,
        SIMULATE, WARM, *BEGINNING,
    )
}  # fmt: skip
GROUPS = {"process": "steps on pixels", "astrom": "steps of astrometry"}


def members(group: str) -> list[str]:
    """The steps of ``process`` or ``astrom``, by their second word."""
    return [name.split()[1] for name in COMMANDS if name.startswith(group + " ")]


def overview() -> Iterator[tuple[str, str]]:
    """(command, summary) for each line of the overview."""
    seen = set()
    for name, command in COMMANDS.items():
        first = name.split()[0]
        if first in GROUPS:
            if first not in seen:
                yield first, f"{GROUPS[first]}: {', '.join(members(first))}"
            seen.add(first)
        elif name == first:
            yield name, command.summary
