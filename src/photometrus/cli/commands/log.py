"""`photometrus log`: what was observed in a night."""

from dataclasses import replace
from typing import TYPE_CHECKING

from photometrus.cli.command import DONE, FAILED, Command
from photometrus.cli.options import ARCHIVE, BAND, COMMON, DATE, TARGET

if TYPE_CHECKING:
    from photometrus.cli.order import Order


def log(order: "Order") -> int:
    """The table of a night."""
    from photometrus import steps

    rows = steps.night_log(
        order["date"], order.config(), order.get("target", ""), order.get("band", "")
    )
    columns = ("field", "type", "band", "ramps ", "repeats ", "exposure s ", "start (UTC)",
               "end (UTC)", "first ", "last ", "observer")  # fmt: skip
    names = ("target", "type", "band", "ramps", "repeats", "exposure", "start", "end", "first",
             "last", "observer")  # fmt: skip
    forms = {"exposure": ".2f", "first": "08d", "last": "08d"}  # serials as in files' names
    cells = [tuple(format(row[name], forms.get(name, "")) for name in names) for row in rows]
    order.screen.table(f"night of {order['date'].isoformat()}", columns, cells)
    return DONE if len(rows) else FAILED


LOG = Command(
    "log",
    "what was observed in a night",
    "Shows fields, bands, ramps and times of a night. With -target: whether it is there, and in\n"
    "which bands; the exit code is 1 when it is not.",
    {
        "What": (replace(DATE, needed=True), TARGET, BAND),
        "From where": (ARCHIVE,),
        "General": COMMON,
    },
    "photometrus log -date 20240606 -target field1111",
    "Then:  photometrus pipeline -target field1111 -date 20240606 -band J",
    run=log,
)
