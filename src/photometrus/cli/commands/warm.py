"""`photometrus warm`: the numerical kernels compiled."""

from typing import TYPE_CHECKING

from photometrus.cli.command import DONE, Command
from photometrus.cli.options import HELP, QUIET, VERBOSE

if TYPE_CHECKING:
    from photometrus.cli.order import Order


def warm(order: "Order") -> int:
    """The kernels."""
    from photometrus.warming import warm

    with order.screen.progress() as progress:
        seconds = warm(progress)
    order.screen.line(f"the numerical kernels are compiled ({seconds:.0f} s)")
    return DONE


WARM = Command(
    "warm",
    "compile the numerical kernels now, and not in the first run",
    "Reduces a small simulated chip and throws it away: numba then has compiled what every later\n"
    "run needs, about a minute's work. It is kept beside the package, or where the environment\n"
    "variable NUMBA_CACHE_DIR says.",
    {"General": (VERBOSE, QUIET, HELP)},
    "photometrus warm",
    run=warm,
)
