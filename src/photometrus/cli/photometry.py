"""The commands that measure stacks, as rows."""

from dataclasses import replace

from photometrus.cli.angles import declination, places, radius, right_ascension
from photometrus.cli.command import Command
from photometrus.cli.options import (
    BAND,
    COMMON,
    THREADS,
    Option,
    count,
    file,
    folder,
    number,
    one_of,
    positive,
    word,
)
from photometrus.cli.times import moment

FILEPATH = Option(
    "filepath", "a stack: coadd.....fits.fz, or any FITS image with a WCS", "FILE", file
)
STACKPATH = Option("stackpath", "folder of stacks: every chip's in it", "DIR", folder)
SURVEY = Option(
    "survey", "stars to calibrate with: 2MASS, VHS, VIKING, PS1, ...",
    "NAME", str, "photometry.survey", default="the best that covers the field",
)  # fmt: skip
STARS = Option(
    "catalog", "a file of stars with RAJ2000, DEJ2000, Jmag, e_Jmag, ...; or postgresql://...",
    "WHICH", str, "photometry.catalog",
)  # fmt: skip
CROP = Option(
    "crop", "pixels along the edges whose stars do not calibrate (at most a twelfth of the side)",
    "N", count, "photometry.crop_pix", default="300",
)  # fmt: skip
CLIP = Option(
    "sigma", "clipping of the zero point's stars",
    "S", positive, "zeropoint.clip_sigma", default="3",
)  # fmt: skip
DET_CUT = Option(
    "det_cut", "detection threshold, in units of the filtered noise",
    "S", positive, "detection.threshold_sigma", default="3",
)  # fmt: skip
MAG_LOW = Option(
    "mag_low", "brightest star of the catalogue that calibrates",
    "MAG", number, "zeropoint.mag_low", default="12.5",
)  # fmt: skip
MAG_HIGH = Option(
    "mag_high", "faintest; without it, as faint as the stars are unbiased",
    "MAG", number, "zeropoint.mag_high",
)  # fmt: skip
MAGSYS = Option(
    "magsys", "AB, Vega, or native: the catalogue's own. The other is in further columns",
    "SYSTEM", one_of("AB", "Vega", "native"), "photometry.magsys", default="AB",
)  # fmt: skip
GRB_RA = Option("grb_ra", "right ascension: degrees, or 22:58:17.28", "RA", right_ascension)
GRB_DEC = Option("grb_dec", "declination: degrees, or -00:30:12.5", "DEC", declination)
GRB_RADIUS = Option(
    "grb_radius", "of the error circle: arcsec, or 5arcsec, 2arcmin, 0.1deg; more than 60 arcsec:"
    " search for new sources",
    "R", radius, default="4",
)  # fmt: skip
GRB_COORDLIST = Option(
    "grb_coordlist", "many positions: a file with ra, dec (name, radius), or [(RA,DEC),(RA,DEC)]",
    "LIST", places,
)  # fmt: skip
GRB_NAME = Option("grb_name", "what the products are called", "NAME", word, default="GRB")
GRB_ONLY = Option("grb_only", "write the target's files only")
T0 = Option("t0", "of the burst, UTC: 2024-06-06T16:02:11, or MJD", "TIME", moment)
EXP_QUERY = Option("exp_query", "also write the catalogue's stars")
EXP_QUERY_ONLY = Option("exp_query_only", "write the catalogue's stars, measure nothing")
NO_PLOTS = Option("no_plots", "draw nothing", key="photometry.plots", value=False)
PLOTS_ONLY = Option("plots_only", "draw, and leave the tables as they are")
KEEP_ALL = Option(
    "keep", "also the segmentation, the PSF and the image without stars",
    key="photometry.keep",
)  # fmt: skip
PARQUET = Option("parquet", "the catalogue as Parquet, too", key="photometry.parquet")
NO_COMPLETENESS = Option(
    "no_completeness", "do not inject stars to measure what is found",
    key="photometry.completeness", value=False,
)  # fmt: skip

CALIBRATING = (SURVEY, STARS, CROP, CLIP, DET_CUT, MAG_LOW, MAG_HIGH, MAGSYS)
AIMING = (GRB_RA, GRB_DEC, GRB_RADIUS, GRB_COORDLIST, GRB_NAME, T0)
MAKING = (
    GRB_ONLY, EXP_QUERY, EXP_QUERY_ONLY, PARQUET, KEEP_ALL, NO_COMPLETENESS, NO_PLOTS, PLOTS_ONLY,
)  # fmt: skip

PHOTOMETRY = Command(
    "photometry",
    "magnitudes, limits and the transient, from a stack",
    "Finds and measures the sources of a stack, calibrates them by a catalogue's stars, says how\n"
    "deep the image is, and what is at the target's position.",
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
    "Exit code 0: done; 1: failed; 2: the command was wrong; 3: done, but not calibrated.\n"
    "The tables are beside the stack: *.ecsv, GRB_*.ecsv and GRB_*.txt, ready for a circular.",
    room="measuring",
)
LIGHTCURVE = Command(
    "lightcurve",
    "one position through all nights, bands and chips",
    "Measures one position on every stack below a folder, and makes one table and one plot.",
    {
        "What": (
            Option("path", "folder of observations, at any depth", "DIR", folder, needed=True),
            replace(GRB_RA, needed=True),
            replace(GRB_DEC, needed=True),
            replace(GRB_NAME, default="target"),
            BAND,
            T0,
        ),
        "Calibration": CALIBRATING,
        "To where": (
            Option("out", "folder for the table and the plot", "DIR", folder,
                   default="the folder of observations"),
        ),
        "Running": (THREADS,),
        "General": COMMON,
    },
    "photometrus lightcurve -path GRB240825A -grb_ra 344.57200 -grb_dec 1.02675"
    " -t0 2024-08-25T15:52:59",
    "Detections have magnitudes, the rest 3 sigma limits: lightcurve.<name>.ecsv and .png.",
    room="measuring",
)  # fmt: skip
