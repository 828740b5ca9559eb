"""`photometrus process ...`: single steps on pixels, a folder in, a folder out."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from photometrus.cli.command import Command, needed
from photometrus.cli.options import (
    ARCHIVE,
    BAND,
    BESIDE,
    CHIP,
    COMMON,
    COMPRESS,
    DATE,
    EXCLUDE,
    FLAT_DIR,
    HEADER_FILTER,
    NO_COMPRESS,
    NO_DOWNLOAD,
    PARENT,
    RAMPNUM,
    SIGMA,
    Option,
)
from photometrus.cli.reading import folder, path
from photometrus.cli.step import run_step
from photometrus.products import Products

if TYPE_CHECKING:
    from photometrus.cli.order import Order

IN_PATH = Option("in_path", "folder of the frames to work on", "DIR", folder, needed=True)
OUT_PATH = Option("out_path", "folder for the result, made if missing", "DIR", folder, needed=True)


def genflat(order: "Order") -> int:
    """Master flats from FLAT ramps on disk."""
    from photometrus import steps

    folder = order["dir"]
    out = Path(order.get("flat_dir", folder / "mflats"))
    what = (Products(folder, order["band"]), order["date"], order.chips, out)
    return run_step(order, partial(steps.make_flat, *what, order.config()), out)


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
    run=genflat,
)


def autoflat(order: "Order") -> int:
    """Master flats from the archive."""
    from photometrus import steps
    from photometrus.flats import store_folder

    night, config = order["date"], order.config()
    products = Products(order.get("dir", Path(f"flats_{night:%Y%m%d}")), order["band"])
    fetch = not order.get("no_download", False)
    call = partial(steps.auto_flat, products, night, order.chips, config, fetch=fetch)
    return run_step(order, call, store_folder(config.input.flat_dir))


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
    run=autoflat,
)


def flatfield(order: "Order") -> int:
    """Trim and divide by a flat."""
    from photometrus import steps

    paths = (order["in_path"], order["out_path"], order["flat_path"])
    return run_step(order, partial(steps.flatten, *paths, order.config()), order["out_path"])


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
    run=flatfield,
)


def gensky(order: "Order") -> int:
    """Make a sky."""
    from photometrus import steps

    paths = (order["in_path"], order["sky_path"])
    return run_step(order, partial(steps.make_sky, *paths, order.config()), order["sky_path"])


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
    run=gensky,
)


def skysub(order: "Order") -> int:
    """Subtract a sky."""
    from photometrus import steps

    paths = (order["in_path"], order["out_path"], order["sky_path"])
    return run_step(order, partial(steps.subtract_sky, *paths, order.config()), order["out_path"])


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
    run=skysub,
)


def stack(order: "Order") -> int:
    """Stack solved frames."""
    from photometrus import steps

    folder = order["in_path"]
    parent = order.get("parent", folder.absolute().parent)
    call = partial(steps.stack, folder, parent, order.config())
    return run_step(order, call, parent / "stack")


STACK = Command(
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
    run=stack,
)


STEPS = (GENFLAT, AUTOFLAT, FLATFIELD, GENSKY, SKYSUB, STACK)
