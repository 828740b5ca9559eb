"""Results as small tables: for a notebook in HTML, where whatever came from files is only text."""

import math
from collections.abc import Iterable, Sequence
from html import escape

Loss = tuple[str, str, str]
"""What is not in a result, what happened to it, and why."""


def figure(value: float | None, digits: int, factor: float = 1.0) -> str:
    """A number for a table; a dash when there is none."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value * factor:.{digits}f}"


def card(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    losses: Sequence[Loss] = (),
    notes: Iterable[str] = (),
) -> str:
    """A table as HTML; below it what is not in it, and notes.

    columns : a name that ends in a blank is of a column set flush right
    """
    parts = [f"<p><b>{escape(title)}</b></p>", _table(columns, rows)]
    if losses:
        parts.append("<p>not in it:</p>" + _table(("what", "happened", "why"), losses))
    told = "".join(f"<li>{escape(note)}</li>" for note in notes)
    if told:
        parts.append(f"<ul>{told}</ul>")
    return "<div>" + "".join(parts) + "</div>"


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    sides = ["right" if name.endswith(" ") else "left" for name in columns]

    def line(cells: Sequence[object], tag: str) -> str:
        inside = "".join(
            f'<{tag} style="text-align:{side}">{escape(str(cell).strip())}</{tag}>'
            for cell, side in zip(cells, sides, strict=True)
        )
        return f"<tr>{inside}</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f"<table><thead>{line(columns, 'th')}</thead><tbody>{body}</tbody></table>"
