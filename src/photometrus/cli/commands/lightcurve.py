"""`photometrus lightcurve`: one position through all nights, bands and chips."""

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from photometrus.cards import figure
from photometrus.cli.command import DONE, LOSSES, Command
from photometrus.cli.commands.photometry import CALIBRATING, GRB_DEC, GRB_NAME, GRB_RA, T0
from photometrus.cli.options import BAND, COMMON, THREADS, Option
from photometrus.cli.reading import folder

if TYPE_CHECKING:
    from photometrus.cli.order import Order


def lightcurve(order: "Order") -> int:
    """One position on all stacks below a folder."""
    from photometrus.io.results import write_table
    from photometrus.io.whole import make_folder
    from photometrus.photometry.curve import curve_below
    from photometrus.plots.lightcurve import draw_light_curve

    root, name, config = order["path"], order.get("grb_name", "target"), order.config()
    system = config.photometry.magsys
    with order.screen.progress() as progress:
        table = curve_below(
            root,
            order["grb_ra"],
            order["grb_dec"],
            config,
            band=order.get("band", ""),
            t0_mjd=order.get("t0", math.nan),
            progress=progress,
        )
    out = order.get("out", root)
    make_folder(out)
    path = out / f"lightcurve.{name}.ecsv"
    write_table(path, table)
    draw_light_curve(path.with_suffix(".png"), table, name)
    columns = ("middle (UTC)", "band", "chip ", "magnitude ", "+- ", "3 sigma limit ", "S/N ",
               "survey", "stack")  # fmt: skip
    rows = [
        (
            str(row["date"]), str(row["band"]), f"{row['chip']}",
            figure(float(row["mag"]), 3) if row["detection"] else "-",
            figure(float(row["mag_err"]), 3) if row["detection"] else "-",
            figure(float(row["limit_3sigma"]), 2), figure(float(row["snr"]), 1),
            str(row["survey"]), str(row["coadd"]),
        )
        for row in table
    ]  # fmt: skip
    order.screen.table(f"{name}: {system} magnitudes", columns, rows)
    lost = [(stack, "not measured", why) for stack, why in table.meta["lost"].items()]
    order.screen.losses(lost)
    order.screen.line(f"{path}")
    order.screen.line(f"{path.with_suffix('.png')}")
    return LOSSES if lost else DONE


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
    run=lightcurve,
)  # fmt: skip
