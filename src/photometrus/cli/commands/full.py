"""`photometrus full`: the pipeline, then the photometry of its stacks."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from photometrus.cli.command import FAILED, Command
from photometrus.cli.commands.photometry import AIMING, CALIBRATING, MAKING, measured
from photometrus.cli.commands.pipeline import NEXT, PIPELINE, reduced
from photometrus.cli.options import COMMON, Option
from photometrus.products import Products

if TYPE_CHECKING:
    from photometrus.cli.order import Order

_TAKEN = {option.name for option in PIPELINE.options}


def _free(options: tuple[Option, ...]) -> tuple[Option, ...]:
    """Those whose names mean nothing in `pipeline`."""
    return tuple(option for option in options if option.name not in _TAKEN)


def full(order: "Order") -> int:
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
    NEXT,
    run=full,
)
