"""`photometrus simulate`: a night to try things out with."""

import time
from typing import TYPE_CHECKING

from photometrus.cli.command import DONE, Command
from photometrus.cli.options import BAND, CHIP, HELP, QUIET, VERBOSE, Option
from photometrus.cli.reading import (
    angle,
    band,
    count,
    folder,
    night,
    number,
    one_of,
    optional,
    pair,
)
from photometrus.errors import UsageError

if TYPE_CHECKING:
    from photometrus.cli.order import Order

FIELDS = {
    "chip": "chips",
    "date": "night",
    "ra": "ra_deg",
    "dec": "dec_deg",
    "seeing": "seeing_arcsec",
    "transient": "transient_mag",
    "dither": "dither_type",
    "dither_radius": "dither_radius_arcsec",
    "rot_val": "rotator_deg",
    "pointing_error": "pointing_error_arcsec",
    "chip_offset": "chip_offset_arcsec",
    "rotator_error": "rotator_error_deg",
    "no_bad_frame": "bad_frame",
    "no_satellite": "satellite",
    "no_dirt": "log_dirt",
    "no_log_header": "log_header",
}
"""Options of ``simulate`` whose field in SimulateConfig is called otherwise."""
NO_FIELDS = ("out", "quiet", "verbose")


def simulate(order: "Order") -> int:
    """A night."""
    from photometrus.simulate.night import SimulateConfig, simulate_night

    values = {
        FIELDS.get(name, name): value
        for name, value in order.given.items()
        if name not in NO_FIELDS
    }
    out = order["out"]
    if out.is_dir() and any(out.iterdir()) and not (out / "truth").is_dir():
        raise UsageError(f"-out {out}: a folder with other things in it; give an empty one")
    begun = time.monotonic()
    simulate_night(out, SimulateConfig(**values), progress=order.screen.step)
    order.screen.line(f"{out}: done in {time.monotonic() - begun:.0f} s")
    return DONE


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
    run=simulate,
)  # fmt: skip
