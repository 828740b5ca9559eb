"""The numbers for people."""

from collections.abc import Mapping
from typing import Any

from helpers import flatten


def show(numbers: Mapping[str, Any], failures: list[str]) -> None:
    """Print the numbers as a table, the magnitude bins as another, then what failed."""
    from rich.console import Console
    from rich.table import Table as Shown

    console = Console()
    table = Shown(title=str(numbers["coadd"]))
    table.add_column("number", no_wrap=True)
    table.add_column("value", overflow="fold")
    for name, value in flatten(numbers):
        table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    console.print(table)
    rows = numbers["photometry"]["bins"]
    pulls = ("pull",) if rows and "pull" in rows[0] else ()
    names = ("mag", "stars", "bias", "+-", "scatter", *pulls)
    bins = Shown(*names, title="magnitude - truth - zero point")
    for row in rows:
        bins.add_row(
            f"{row['mag']:.2f}",
            str(row["n"]),
            *(f"{row[key]:+.4f}" for key in ("bias", "error", "scatter", *pulls)),
        )
    console.print(bins)
    for failure in failures:
        console.print(f"[red]beyond the limit:[/red] {failure}")
