"""`photometrus astrom ...`: single steps of astrometry."""

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from photometrus.cli.command import Command
from photometrus.cli.options import BAND, CATALOG, COMMON, ROTATOR, Option
from photometrus.cli.reading import folder, path, positive
from photometrus.cli.step import run_step

if TYPE_CHECKING:
    from photometrus.cli.order import Order


def angle(order: "Order") -> int:
    """First WCS."""
    from photometrus import steps

    paths = (order["input"], order["output"])
    return run_step(order, partial(steps.place, *paths, order.config()), order["output"])


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
    run=angle,
)


def shift(order: "Order") -> int:
    """Find and fit."""
    from photometrus import steps

    call = partial(steps.shift, order["dir"], order["band"], order.config())
    return run_step(order, call, order["dir"])


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
    run=shift,
)


def astromatic(order: "Order") -> int:
    """SExtractor and SCAMP."""
    from photometrus import steps

    call = partial(steps.scamp, order["path"], order["band"], order.config())
    return run_step(order, call, order["path"])


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
    run=astromatic,
)


def net(order: "Order") -> int:
    """astrometry.net."""
    from photometrus import steps

    paths = (order["input"], order["output"])
    radius_deg = order.get("rad", 1.0)
    call = partial(steps.solve_field, *paths, order.config(), radius_deg=radius_deg)
    return run_step(order, call, order["output"])


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
    run=net,
)  # fmt: skip


STEPS = (ANGLE, SHIFT, ASTROMATIC, NET)
