"""`photometrus photometry`: magnitudes, limits and the transient, from stacks."""

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from photometrus.cli.angles import declination, places, radius, right_ascension
from photometrus.cli.board import MEASURING
from photometrus.cli.command import DONE, FAILED, LOSSES, Command
from photometrus.cli.options import BAND, COMMON, THREADS, Option
from photometrus.cli.reading import count, file, folder, number, one_of, positive, word
from photometrus.cli.times import moment
from photometrus.errors import MissingInput, PhotometrusError, UsageError

if TYPE_CHECKING:
    from photometrus.cli.order import Order
    from photometrus.cli.show import Screen
    from photometrus.config import Config
    from photometrus.frame import Progress
    from photometrus.photometry.request import PhotometryRequest, Told
    from photometrus.photometry.standing import Standing
    from photometrus.sighting import Target
    from photometrus.workers import Each

DEFAULT_RADIUS_ARCSEC = 4.0
STACKS = ("coadd.*.fits", "coadd.*.fits.fz")

FILEPATH = Option(
    "filepath", "one stack, coadd.*.fits.fz; any other FITS image with a WCS will do", "FILE", file
)
STACKPATH = Option(
    "stackpath", "instead: a folder of stacks, of which all are measured", "DIR", folder
)
SURVEY = Option(
    "survey", "stars to calibrate with: 2MASS, VHS, VIKING, PS1, ...",
    "NAME", str, "photometry.survey", default="the best that covers the field",
)  # fmt: skip
STARS = Option(
    "catalog", "instead: a file of stars with RAJ2000, DEJ2000, Jmag, e_Jmag, ...; or postgresql://...",
    "WHICH", str, "photometry.catalog",
)  # fmt: skip
CROP = Option(
    "crop", "stars within N pixels of the edges do not calibrate (at most a twelfth of the side)",
    "N", count, "photometry.crop_pix", default="300",
)  # fmt: skip
CLIP = Option(
    "sigma", "stars that are off by more of their errors are left out of the zero point, once",
    "S", positive, "zeropoint.clip_sigma", default="3",
)  # fmt: skip
DET_CUT = Option(
    "det_cut", "sources from so many sigma on, in the image filtered for stars",
    "S", positive, "detection.threshold_sigma", default="3",
)  # fmt: skip
MAG_LOW = Option(
    "mag_low", "brightest star of the catalogue that calibrates, in the catalogue's system",
    "MAG", number, "zeropoint.mag_low", default="12.5",
)  # fmt: skip
MAG_HIGH = Option(
    "mag_high", "faintest; without it, down to where the catalogue's errors or its end set a limit",
    "MAG", number, "zeropoint.mag_high",
)  # fmt: skip
MAGSYS = Option(
    "magsys", "AB, Vega, or native: the catalogue's own. The other is in further columns",
    "SYSTEM", one_of("AB", "Vega", "native"), "photometry.magsys", default="AB",
)  # fmt: skip
GRB_RA = Option("grb_ra", "right ascension: degrees, or 22:58:17.28", "RA", right_ascension)
GRB_DEC = Option("grb_dec", "declination: degrees, or -00:30:12.5", "DEC", declination)
GRB_RADIUS = Option(
    "grb_radius", "radius of the error circle: 5 (arcsec), 5arcsec, 2arcmin, 0.1deg; above"
    " 60 arcsec new sources are searched for in it",
    "R", radius, default="4",
)  # fmt: skip
GRB_COORDLIST = Option(
    "grb_coordlist", "many positions: a file with columns ra, dec (name, radius), or"
    " '[(RA,DEC),(RA,DEC)]'",
    "LIST", places,
)  # fmt: skip
GRB_NAME = Option("grb_name", "begins the names of the target's files", "NAME", word, default="GRB")
GRB_ONLY = Option("grb_only", "write the target's files only, no catalogue of all sources")
T0 = Option(
    "t0", "of the burst, UTC: 2024-06-06T16:02:11, or MJD; times are told after it", "TIME", moment
)
EXP_QUERY = Option("exp_query", "also write the stars that the survey or file gave")
EXP_QUERY_ONLY = Option("exp_query_only", "write those stars and measure nothing")
NO_PLOTS = Option(
    "no_plots", "draw no pages and no finding charts", key="photometry.plots", value=False
)
PLOTS_ONLY = Option("plots_only", "draw the pages and charts anew, write no tables")
KEEP_ALL = Option(
    "keep", "also write the segmentation, the PSF and the image without stars",
    key="photometry.keep",
)  # fmt: skip
PARQUET = Option("parquet", "write the sources as Parquet, too", key="photometry.parquet")
NO_COMPLETENESS = Option(
    "no_completeness", "put no stars in to see which are found: faster, without the 50 % point",
    key="photometry.completeness", value=False,
)  # fmt: skip
CALIBRATING = (SURVEY, STARS, CROP, CLIP, DET_CUT, MAG_LOW, MAG_HIGH, MAGSYS)
AIMING = (GRB_RA, GRB_DEC, GRB_RADIUS, GRB_COORDLIST, GRB_NAME, T0)
MAKING = (
    GRB_ONLY, EXP_QUERY, EXP_QUERY_ONLY, PARQUET, KEEP_ALL, NO_COMPLETENESS, NO_PLOTS, PLOTS_ONLY,
)  # fmt: skip


def photometry(order: "Order") -> int:
    """One stack, or every chip's in a folder."""
    filepath, stackpath = order.get("filepath"), order.get("stackpath")
    if (filepath is None) == (stackpath is None):
        raise UsageError(
            "photometrus photometry: give a stack with -filepath FILE, or a folder of them with"
            " -stackpath DIR"
        )
    stacks = [filepath] if filepath is not None else stacks_in(stackpath)
    return measured(order, stacks, order.config(), order.get("band", ""))


def stacks_in(folder: Path) -> list[Path]:
    """The chips' stacks in a folder; MissingInput when there is none."""
    found = [path for pattern in STACKS for path in folder.glob(pattern)]
    # coadd.Open-J.first-last.C1: growing and interleaved stacks have a word more.
    whole = [path for path in found if path.name.split(".fits")[0].count(".") == 3]
    if not whole:
        raise MissingInput(f"{folder}: no stacks, coadd.*.fits.fz, in it; give stack/")
    return sorted(whole)


def measured(
    order: "Order", stacks: list[Path], config: "Config", band: str, record: Path | None = None
) -> int:
    """Measure stacks one after the other and show what came of each; the exit code.

    record : of what was measured before; those that would come out the same stand
    """
    from photometrus.photometry.standing import Standing
    from photometrus.workers import cores, threads

    request = requested(order, stacks[0], config, band)
    partly = request.query_only or request.plots_only
    standing = None if record is None or partly else Standing(record)
    results: list[Told] = []
    rows = dict(zip(stacks, row_names(stacks), strict=True))
    order.keep_journal(observation_of(stacks[0]))
    with (
        order.screen.progress(MEASURING, list(rows.values())) as progress,
        threads(config.run.threads or cores()) as each,
    ):
        for stack, row in rows.items():
            measure = partial(_measured, standing, replace(request, stack=stack), config, each)
            try:
                results.append(measure(partial(_of_row, row, progress), order.screen))
            except PhotometrusError as error:
                if len(stacks) == 1:
                    raise
                progress(f"{row} failed", 1, 1)
                order.screen.warn(f"{stack.name}: {error}")
    if not results:
        return FAILED
    show(order.screen, results, query=request.query_only)
    refused = any(one.refused for one in results)
    return LOSSES if len(results) < len(stacks) or refused else DONE


def _measured(
    standing: "Standing | None",
    request: "PhotometryRequest",
    config: "Config",
    each: "Each",
    progress: "Progress",
    screen: "Screen",
) -> "Told":
    """What is told of a stack: measured now, or before."""
    from photometrus.photometry.recipe import measure_stack

    before = None if standing is None else standing.of(request, config)
    if before is not None:
        progress("as before", 1, 1)
        return before
    begun = time.monotonic()
    one = measure_stack(request, config, each=each, progress=progress)
    if standing is not None:
        standing.keep(request, config, one)
    progress("finished", 1, 1)
    screen.step(f"{request.stack.name}: {time.monotonic() - begun:.1f} s")
    return one.told()


def requested(order: "Order", stack: Path, config: "Config", band: str) -> "PhotometryRequest":
    """What is wanted of a stack; UsageError for what contradicts itself."""
    from photometrus.photometry.request import PhotometryRequest

    request = PhotometryRequest(
        stack=stack,
        band=band,
        targets=targets_of(order),
        target_name=order.get("grb_name", "GRB"),
        t0_mjd=order.get("t0"),
        targets_only=order.get("grb_only", False),
        query=order.get("exp_query", False),
        query_only=order.get("exp_query_only", False),
        plots_only=order.get("plots_only", False),
        command=order.text,
    )
    if request.plots_only and not config.photometry.plots:
        raise UsageError("-plots_only draws and -no_plots does not; give one of them")
    if request.targets_only and not request.targets:
        raise UsageError("-grb_only needs a target: -grb_ra and -grb_dec, or -grb_coordlist")
    return request


def row_names(stacks: Sequence[Path]) -> list[str]:
    """What the rows of stacks are called while they are measured: by chip, where that will do."""
    found = [re.search(r"\.(C[1-4])\.", path.name) for path in stacks]
    chips = [match[1] for match in found if match]
    return chips if len(set(chips)) == len(stacks) else [path.name for path in stacks]


def observation_of(stack: Path) -> Path:
    """The folder of the observation that a stack is of; its own, when it stands alone."""
    folder = stack.absolute().parent
    return folder.parent if folder.name == "stack" else folder


def _of_row(row: str, progress: "Progress", step: str, done: int, of: int) -> None:
    progress(f"{row} {step}", done, of)


def targets_of(order: "Order") -> "tuple[Target, ...]":
    """The targets that were given; UsageError when one half of a position is missing."""
    from photometrus.sighting import Target

    name = order.get("grb_name", "GRB")
    radius = order.get("grb_radius", DEFAULT_RADIUS_ARCSEC)
    ra, dec, listed = order.get("grb_ra"), order.get("grb_dec"), order.get("grb_coordlist", ())
    if (ra is None) != (dec is None):
        raise UsageError("a target has both -grb_ra and -grb_dec; one of them is missing")
    if ra is None and not listed and "grb_radius" in order.given:
        raise UsageError("-grb_radius needs a position: -grb_ra and -grb_dec, or -grb_coordlist")
    one = () if ra is None else (Target(name, ra, dec, radius),)
    many = tuple(
        Target(place.name or name, place.ra_deg, place.dec_deg, place.radius_arcsec or radius)
        for place in listed
    )
    return one + many


def show(screen: "Screen", results: "list[Told]", *, query: bool = False) -> None:
    """The tables of what was measured, the targets, the notes, the files."""
    if not query:
        from photometrus.photometry.request import COLUMNS

        system = results[0].system
        screen.table(f"magnitudes: {system or 'none'}", COLUMNS, [one.row for one in results])
    for one in results:
        if one.refused:
            screen.warn(f"{one.name}: not calibrated: {one.refused}")
        screen.notes(f"{one.name}: {note}" for note in one.notes)
        for target, _, sentence in one.sightings:
            screen.line(f"{one.name}: {target}: {sentence}")
        if len(one.sightings) == 1 and one.sightings[0][1] != "not covered":
            screen.raw("\n" + one.reports[0] + "\n" if one.reports else "")
        for path in one.made:
            screen.line(path)


PHOTOMETRY = Command(
    "photometry",
    "magnitudes, limits and the transient, from a stack",
    "Finds and measures the sources of a stack, calibrates them by a catalogue's stars, says how\n"
    "deep the image is, and what is at the target's position. It needs -filepath or -stackpath;\n"
    "the rest has defaults.",
    {
        "What": (FILEPATH, STACKPATH, replace(BAND, default="what the header says")),
        "The target": AIMING,
        "Calibration": CALIBRATING,
        "What is made": MAKING,
        "Running": (THREADS,),
        "General": COMMON,
    },
    "photometrus photometry -filepath stack/coadd.Open-J.01599131-01599329.C2.fits.fz -band J"
    " -survey VHS -grb_ra 344.57200 -grb_dec 1.02675 -grb_radius 5.0",
    "Exit code 0: done; 1: failed; 2: the command was wrong; 3: a stack is not calibrated.\n"
    "Beside the stack: coadd.*.ecsv, all sources; GRB_*.ecsv, the target; GRB_*_Report_*.txt,\n"
    "ready for a circular; two pages of plots and a finding chart.",
    run=photometry,
)
