"""The page itself: the template with its style and script, all in one file."""

import base64
import hashlib
import logging
import math
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jinja2 import Environment, PackageLoader, TemplateError
from markupsafe import Markup

from photometrus import __version__
from photometrus.errors import PhotometrusError
from photometrus.htmlreport.observation import observation
from photometrus.htmlreport.pictures import Look
from photometrus.io.whole import whole
from photometrus.products import Products

log = logging.getLogger(__name__)

UNFIT = (OSError, ValueError, TypeError, KeyError, AttributeError, TemplateError)
"""What damaged products do to those who read them: the observation must not be lost by it."""


def write_report(root: Path, looks: Mapping[int, Look] = MappingProxyType({})) -> Path:
    """``report.html`` in the folder of an observation; its path.

    looks : chips' previews that are in memory; the others are made of what is on disk
    Raises MissingInput (nothing was reduced there), UsageError (a record that is none) and
    PhotometrusError (the disk).
    """
    path = Products(root, "").html_report
    try:
        text = page(root, looks)
    except UNFIT as error:
        raise PhotometrusError(
            f"{path}: cannot be made of what is there ({type(error).__name__}: {error}); reduce the"
            " observation again"
        ) from error
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def try_report(root: Path, looks: Mapping[int, Look] = MappingProxyType({})) -> None:
    """The same at the end of a recipe: what hinders it is logged and costs nothing else."""
    try:
        write_report(root, looks)
    except PhotometrusError as error:
        log.warning("no report.html: %s", error)


def page(root: Path, looks: Mapping[int, Look] = MappingProxyType({})) -> str:
    """The page's text. All that comes from headers, logs and files is escaped."""
    environment = Environment(
        loader=PackageLoader("photometrus.htmlreport", "assets"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "order": order, "utc": utc}
    style, script = _asset("page.css"), _asset("page.js")
    text = environment.get_template("page.html.j2").render(
        shown=observation(root, looks),
        version=__version__,
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        style_hash=source_hash(style),
        script_hash=source_hash(script),
    )
    # JSON and names on disk can hold halves of characters, which no file can.
    return text.encode("utf-8", "replace").decode("utf-8")


def number(value: Any, digits: int = 2, factor: float = 1.0) -> str:
    """A number with so many digits; a dash for what is unknown."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "–"
    return f"{value * factor:.{digits}f}"


def utc(value: Any) -> str:
    """``2026-11-22 17:06:23 UTC`` from what the record has."""
    return str(value or "–").replace("T", " ").replace("+00:00", " UTC")


def order(value: Any) -> str:
    """What a column is sorted by: the number in full, nothing for what is unknown."""
    known = isinstance(value, int | float) and math.isfinite(value)
    return repr(float(value)) if known else ""


def _asset(name: str) -> str:
    return (files("photometrus.htmlreport") / "assets" / name).read_text(encoding="utf-8")


def source_hash(text: str) -> str:
    """What lets this one script, or style, pass the page's content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
