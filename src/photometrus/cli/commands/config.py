"""`photometrus config`: the settings, shown or written as a file to begin with."""

from pathlib import Path
from typing import TYPE_CHECKING

from photometrus.cli.command import DONE, Command
from photometrus.cli.options import COMMON, Option
from photometrus.cli.reading import path
from photometrus.errors import UsageError

if TYPE_CHECKING:
    from photometrus.cli.order import Order


def config(order: "Order") -> int:
    """The settings."""
    from photometrus.config import dump
    from photometrus.io.whole import write_text

    text = dump(order.config())
    out = order.get("out")
    if out is None:
        order.screen.raw(text)
        return DONE
    if out.exists():
        raise UsageError(f"-out {out}: is there already; give another name")
    write_text(out, text)
    order.screen.line(f"{out}: change what you like, give it with -config {out}")
    return DONE


def init(order: "Order") -> int:
    """A file of settings to begin with."""
    from photometrus.config import commented

    out = order.get("out", Path("photometrus.toml"))
    if out.exists():
        raise UsageError(f"-out {out}: is there already; give another name")
    out.write_text(commented(order.config()), encoding="utf-8")
    order.screen.line(f"{out}: uncomment and change what you like, give it with -config {out}")
    return DONE


CONFIG = Command(
    "config",
    "the settings, all with their values",
    "Shows every setting as TOML: the defaults, or what FILE makes of them. Keep what you change\n"
    "and give it with -config; options on the command line go before it.",
    {
        "What": (Option("out", "write it there instead", "FILE", path),),
        "General": COMMON,
    },
    "photometrus config -out prime.toml",
    "A file with words on every setting:  photometrus config init",
    run=config,
)
SHOW = Command(
    "config show",
    "the same as config alone",
    CONFIG.about,
    CONFIG.groups,
    "photometrus config show -config prime.toml",
    CONFIG.after,
    run=config,
)
INIT = Command(
    "config init",
    "a file of settings to begin with, with words on each",
    "Writes every setting with its default and what it means, as comments: what you uncomment\n"
    "and change holds.",
    {
        "What": (Option("out", "the file", "FILE", path, default="photometrus.toml"),),
        "General": COMMON,
    },
    "photometrus config init -out prime.toml",
    "Then:  photometrus pipeline ... -config prime.toml",
    run=init,
)
FORMS = (CONFIG, SHOW, INIT)
