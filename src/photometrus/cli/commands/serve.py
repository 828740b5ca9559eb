"""`photometrus serve`: a tree of observations for browsers."""

from typing import TYPE_CHECKING

from photometrus.cli.command import DONE, Command
from photometrus.cli.options import COMMON, Option
from photometrus.cli.reading import folder, port
from photometrus.errors import MissingInput

if TYPE_CHECKING:
    from photometrus.cli.order import Order


def serve(order: "Order") -> int:
    """A tree of observations for browsers, until Ctrl-C."""
    from photometrus.serve.server import Server

    host, top = order.get("host", "127.0.0.1"), order["path"]
    if not top.is_dir():
        raise MissingInput(f"{top}: no such folder; give the one that holds the observations")
    with Server(top, host, order.get("port", 8765)) as server:
        order.screen.line(f"{top} is at {server.url} until Ctrl-C")
        if not server.loopback:
            order.screen.warn("whoever reaches this machine can read what is shown")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            order.screen.line("stopped")
    return DONE


SERVE = Command(
    "serve",
    "a tree of observations for browsers, followed live",
    "Shows the observations below a folder on a page of its own: a table of all, reports, files,\n"
    "logs; what is running is followed. It only reads. Ctrl-C ends it.",
    {
        "What": (Option("path", "folder that holds observations", "DIR", folder, needed=True),),
        "Where": (
            Option("host", "address to listen at", "ADDRESS", default="127.0.0.1"),
            Option("port", "port to listen at; 0: any that is free", "N", port, default="8765"),
        ),
        "General": COMMON,
    },
    "photometrus serve /data/reduced",
    "From afar:  ssh -L 8765:127.0.0.1:8765 HOST, then http://127.0.0.1:8765/ at home.",
    bare="path",
    run=serve,
)
