"""What the commands that show observations do."""

from photometrus.cli.command import DONE, FAILED, LOSSES
from photometrus.cli.order import Order
from photometrus.errors import PhotometrusError


def report(order: Order) -> int:
    """The page of an observation, or of all below a folder, made anew."""
    from photometrus.htmlreport.page import write_report
    from photometrus.htmlreport.tree import find_observations

    folder = order["parent"]
    # A folder with a log and no record yet is not one to be searched either.
    folders = find_observations(folder)
    if folders in ([], [folder]):
        order.screen.line(f"{write_report(folder)}")
        return DONE
    losses = []
    for one in folders:
        try:
            order.screen.line(f"{write_report(one)}")
        except PhotometrusError as error:
            losses.append((str(one.relative_to(folder)), "no report", str(error)))
    order.screen.losses(losses)
    return (FAILED if len(losses) == len(folders) else LOSSES) if losses else DONE


def serve(order: Order) -> int:
    """A tree of observations for browsers, until Ctrl-C."""
    from photometrus.serve.server import Server

    host = order.get("host", "127.0.0.1")
    with Server(order["path"], host, order.get("port", 8765)) as server:
        order.screen.line(f"{order['path']} is at {server.url} until Ctrl-C")
        if not server.loopback:
            order.screen.warn("whoever reaches this machine can read what is shown")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            order.screen.line("stopped")
    return DONE
