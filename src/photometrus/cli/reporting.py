"""What the commands that show observations do."""

from photometrus.cli.command import DONE
from photometrus.cli.order import Order


def report(order: Order) -> int:
    """The page of an observation, made anew."""
    from photometrus.htmlreport.page import write_report

    order.screen.line(f"{write_report(order['parent'])}")
    return DONE
