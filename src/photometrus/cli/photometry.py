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
    room="measuring",
)
LIGHTCURVE = Command(
    "lightcurve",
    "one position through all nights, bands and chips",
    "Measures one position on every stack below a folder, whether something is seen there or not,\n"
    "and makes one table and one plot, all in one magnitude system.",
    {
        "What": (
            Option("path", "folder of observations, at any depth", "DIR", folder, needed=True),
            replace(GRB_RA, needed=True),
            replace(GRB_DEC, needed=True),
            replace(GRB_NAME, words="name of the table and the plot", default="target"),
            replace(BAND, words=BAND.words + "; without it, all"),
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
    "From S/N 3 on a point has a magnitude, else a limit: lightcurve.<name>.ecsv and .png.\n"
    "Exit code 3: some stacks could not be measured; they are in a table.",
    room="measuring",
)  # fmt: skip
