"""What the commands that measure stacks do: values in, one call of a recipe, tables out."""

import math
import re
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from photometrus.cli.command import DONE, FAILED, LOSSES
from photometrus.cli.order import Order
from photometrus.cli.run import reduced
from photometrus.cli.show import Screen, figure
from photometrus.errors import MissingInput, PhotometrusError, UsageError
from photometrus.instrument import filters_of

if TYPE_CHECKING:
    from photometrus.config import Config
    from photometrus.photometry.request import Photometry
    from photometrus.sighting import Target

DEFAULT_RADIUS_ARCSEC = 4.0
STACKS = ("coadd.*.fits", "coadd.*.fits.fz")


def photometry(order: Order) -> int:
    """One stack, or every chip's in a folder."""
    filepath, stackpath = order.get("filepath"), order.get("stackpath")
    if (filepath is None) == (stackpath is None):
        raise UsageError(
            "photometrus photometry: give a stack with -filepath FILE, or a folder of them with"
            " -stackpath DIR"
        )
    stacks = [filepath] if filepath is not None else stacks_in(stackpath)
    return measured(order, stacks, order.config(), order.get("band", ""))


def full(order: Order) -> int:
    """The pipeline, then the photometry of every chip."""
    code, observation = reduced(order)
    stacks = [chip.coadd for chip in observation.chips if chip.coadd is not None]
    if not stacks:
        return FAILED
    config = order.config()
    what, catalog = config.photometry, config.input.catalog
    if "no_plots" in order.given:
        what = replace(what, plots=False)
    if not what.survey and not what.catalog and Path(catalog).is_file():
        what = replace(what, catalog=catalog)
    config = replace(config, photometry=what)
    code = max(code, measured(order, stacks, config, order["band"]))
    if config.run.pages:
        from photometrus.htmlreport.page import try_report

        try_report(observation.record.parent)  # once more, with what was found
    return code


def lightcurve(order: Order) -> int:
    """One position on all stacks below a folder."""
    from photometrus.io.results import write_table
    from photometrus.io.whole import make_folder
    from photometrus.lightcurve import find_stacks, light_curve
    from photometrus.photometry.epoch import measure_epoch
    from photometrus.plots.lightcurve import draw_light_curve
    from photometrus.workers import cores, threads

    root, name, config = order["path"], order.get("grb_name", "target"), order.config()
    band = order.get("band")
    stacks = [path for path in find_stacks(root) if band is None or is_of(path, band)]
    system = config.photometry.magsys
    with (
        order.screen.progress() as progress,
        threads(config.run.threads or cores()) as each,
    ):
        table = light_curve(
            stacks,
            order["grb_ra"],
            order["grb_dec"],
            partial(measure_epoch, config=config, each=each),
            config.lightcurve,
            system=system,
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


def is_of(stack: Path, band: str) -> bool:
    """Whether a stack's name says that it is of a band; any other name may be of any."""
    words = re.match(r"coadd\.(\w+-\w+)\.", stack.name)
    return words is None or words[1] == "-".join(filters_of(band))


def stacks_in(folder: Path) -> list[Path]:
    """The chips' stacks in a folder; MissingInput when there is none."""
    found = [path for pattern in STACKS for path in folder.glob(pattern)]
    # coadd.Open-J.first-last.C1: growing and interleaved stacks have a word more.
    whole = [path for path in found if path.name.split(".fits")[0].count(".") == 3]
    if not whole:
        raise MissingInput(f"{folder}: no stacks, coadd.*.fits.fz, in it; give stack/")
    return sorted(whole)


def measured(order: Order, stacks: list[Path], config: "Config", band: str) -> int:
    """Measure stacks one after the other and show what came of each; the exit code."""
    from photometrus.photometry.recipe import measure_stack
    from photometrus.photometry.request import PhotometryRequest
    from photometrus.workers import cores, threads

    request = PhotometryRequest(
        stack=stacks[0],
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
    results: list[Photometry] = []
    failed = False
    for stack in stacks:
        begun = time.monotonic()
        try:
            with (
                order.screen.progress() as progress,
                threads(config.run.threads or cores()) as each,
            ):
                one = measure_stack(
                    replace(request, stack=stack), config, each=each, progress=progress
                )
        except PhotometrusError as error:
            if len(stacks) == 1:
                raise
            order.screen.warn(f"{stack.name}: {error}")
            failed = True
            continue
        results.append(one)
        order.screen.step(f"{stack.name}: {time.monotonic() - begun:.1f} s")
    if not results:
        return FAILED
    show(order.screen, results, query=request.query_only)
    refused = any(one.refused for one in results)
    return LOSSES if failed or refused else DONE


def targets_of(order: Order) -> "tuple[Target, ...]":
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


def show(screen: Screen, results: "list[Photometry]", *, query: bool = False) -> None:
    """The tables of what was measured, the targets, the notes, the files."""
    if not query:
        columns = ("stack", "sources ", 'FWHM " ', "zero point ", "+- stat ", "sys ", "stars ",
                   "from", "5 sigma ", "50 % ")  # fmt: skip
        system = results[0].system
        screen.table(f"magnitudes: {system or 'none'}", columns, [_row(one) for one in results])
    for one in results:
        if one.refused:
            screen.warn(f"{one.info.name}: not calibrated: {one.refused}")
        for note in one.notes:
            screen.warn(f"note: {one.info.name}: {note}")
        for sighting in one.sightings:
            screen.line(f"{one.info.name}: {sighting.target.name}: {sighting.sentence}")
        if len(one.sightings) == 1 and one.sightings[0].verdict != "not covered":
            screen.raw("\n" + one.reports[0] + "\n" if one.reports else "")
        for path in one.made:
            screen.line(f"{path}")


def _row(one: "Photometry") -> tuple[str, ...]:
    zp = one.zero_point
    zp = zp if zp is not None and zp.trusted else None
    value = math.nan if zp is None else zp.value + zp.offset(one.system)
    return (
        one.info.name,
        f"{len(one.sources)}",
        figure(one.fwhm_arcsec, 2),
        figure(value, 3),
        figure(zp.err_stat if zp is not None else None, 3),
        figure(zp.err_sys if zp is not None else None, 3),
        f"{zp.n_stars if zp is not None else 0}",
        (zp.survey if zp is not None else "") or "-",
        figure(one.limit_5sigma, 2),
        figure(one.limit50, 2),
    )
