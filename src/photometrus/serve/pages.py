"""The pages of the server: all observations, and one of them while it runs."""

import os
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from operator import is_not
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from photometrus import __version__
from photometrus.htmlreport.page import number, order, source_hash
from photometrus.serve.tree import Row, Tree, log_lines

LOG_LINES = 60


@dataclass(frozen=True)
class Product:
    """A file of an observation: its path below it, its size in bytes."""

    path: str
    size: int


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("photometrus.serve", "assets"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "order": order,
        "link": link,
        "size": size,
        "address": address,
    }
    environment.globals |= {"version": __version__}
    return environment


def link(row: Row, room: str = "o") -> str:
    """Where an observation is on this server."""
    return f"/{room}/" + "".join(f"{quote(os.fsencode(part), safe='')}/" for part in row.parts)


def address(path: str) -> str:
    """A path below an observation, in a link."""
    return quote(os.fsencode(path))


def size(value: int) -> str:
    """``12.3 MB``."""
    return f"{value / 1e6:.1f} MB" if value >= 1e5 else f"{value / 1e3:.1f} kB"


def rows_fragment(tree: Tree) -> str:
    """The rows of the table of all; those of before, when none has changed."""
    rows = tree.rows()
    before, text = tree.shown
    if not rows or len(rows) != len(before) or any(map(is_not, rows, before)):
        text = _environment().get_template("rows.html.j2").render(rows=rows)
        tree.shown = rows, text
    return text


def index_page(tree: Tree) -> str:
    """All observations."""
    return _page(
        "index.html.j2", live="/rows", title=tree.top.name or "/", body=rows_fragment(tree)
    )


def observation_fragment(tree: Tree, row: Row) -> str:
    """What is known of one observation now: its chips, its log, its files."""
    lines = log_lines(tree.top, row.parts)[-LOG_LINES:]
    products = list(_products(tree.top.joinpath(*row.parts)))
    template = _environment().get_template("observation.html.j2")
    return template.render(row=row, log=lines, products=products)


def observation_page(tree: Tree, row: Row) -> str:
    """The same as a page."""
    body = observation_fragment(tree, row)
    return _page("one.html.j2", live=link(row, "live"), title=row.name, body=body)


def _page(template: str, *, live: str, title: str, body: str) -> str:
    return (
        _environment()
        .get_template(template)
        .render(
            live=live,
            title=title,
            body=Markup(body),  # noqa: S704 - a template of ours, which has escaped what it was given
            style=Markup(style()),  # noqa: S704 - our own file
            script=Markup(script()),  # noqa: S704 - our own file
        )
    )


@cache
def style() -> str:
    """The style of the reports, and what the table of all needs besides."""
    report = files("photometrus.htmlreport") / "assets" / "page.css"
    own = files("photometrus.serve") / "assets" / "serve.css"
    return report.read_text(encoding="utf-8") + own.read_text(encoding="utf-8")


@cache
def script() -> str:
    """What follows the server, and sorts."""
    return (files("photometrus.serve") / "assets" / "serve.js").read_text(encoding="utf-8")


@cache
def policy() -> str:
    """The content security policy of these pages: our own script and style, nothing else."""
    return (
        "default-src 'none'; connect-src 'self'; base-uri 'none'; form-action 'none';"
        f" frame-ancestors 'none'; style-src '{source_hash(style())}';"
        f" script-src '{source_hash(script())}'"
    )


def _products(folder: Path) -> list[Product]:
    """What may be wanted: the files beside the record, the stacks and what lies beside them."""
    found = []
    for inner in (folder, folder / "stack"):
        for path in sorted(inner.glob("*")):
            if path.is_file() and not path.is_symlink() and not path.name.startswith("."):
                name = path.relative_to(folder).as_posix()
                found.append(Product(name, path.stat().st_size))
    return found
