"""What the commands that measure stacks do: values in, one call of a recipe, tables out."""

import math
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from photometrus.cards import figure
from photometrus.cli.board import MEASURING
from photometrus.cli.command import DONE, FAILED, LOSSES
from photometrus.cli.order import Order
from photometrus.cli.run import reduced
from photometrus.cli.show import Screen
from photometrus.errors import MissingInput, PhotometrusError, UsageError
from photometrus.products import Products

if TYPE_CHECKING:
    from photometrus.config import Config
    from photometrus.frame import Progress
    from photometrus.photometry.request import PhotometryRequest, Told
    from photometrus.photometry.standing import Standing
    from photometrus.sighting import Target
    from photometrus.workers import Each

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
    products = Products(observation.record.parent, order["band"])
    if order.get("restart", False):
        products.photometry_record.unlink(missing_ok=True)
    code = max(code, measured(order, stacks, config, order["band"], products.photometry_record))
    if config.run.pages:
        from photometrus.htmlreport.page import try_report

        try_report(observation.record.parent)  # once more, with what was found
    return code


def lightcurve(order: Order) -> int:
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


def stacks_in(folder: Path) -> list[Path]:
    """The chips' stacks in a folder; MissingInput when there is none."""
    found = [path for pattern in STACKS for path in folder.glob(pattern)]
    # coadd.Open-J.first-last.C1: growing and interleaved stacks have a word more.
    whole = [path for path in found if path.name.split(".fits")[0].count(".") == 3]
    if not whole:
        raise MissingInput(f"{folder}: no stacks, coadd.*.fits.fz, in it; give stack/")
    return sorted(whole)


def measured(
    order: Order, stacks: list[Path], config: "Config", band: str, record: Path | None = None
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
    screen: Screen,
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


def requested(order: Order, stack: Path, config: "Config", band: str) -> "PhotometryRequest":
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


def show(screen: Screen, results: "list[Told]", *, query: bool = False) -> None:
    """The tables of what was measured, the targets, the notes, the files."""
    if not query:
        from photometrus.photometry.request import COLUMNS

        system = results[0].system
        screen.table(f"magnitudes: {system or 'none'}", COLUMNS, [one.row for one in results])
    for one in results:
        if one.refused:
            screen.warn(f"{one.name}: not calibrated: {one.refused}")
        for note in one.notes:
            screen.warn(f"note: {one.name}: {note}")
        for target, _, sentence in one.sightings:
            screen.line(f"{one.name}: {target}: {sentence}")
        if len(one.sightings) == 1 and one.sightings[0][1] != "not covered":
            screen.raw("\n" + one.reports[0] + "\n" if one.reports else "")
        for path in one.made:
            screen.line(path)
