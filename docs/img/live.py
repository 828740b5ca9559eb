"""A reduction on a terminal, docs/live.png: python docs/img/live.py (needs Chromium)."""

import subprocess
import tempfile
import time
from io import StringIO
from pathlib import Path

from PIL import Image, ImageChops
from rich.console import Console

from photometrus.cli.board import REDUCING, Board
from photometrus.cli.live import View

OUT = Path(__file__).parents[1] / "live.png"
COMMAND = "photometrus pipeline -target field1111 -date 20240606 -band J -parallel"
TOLD = (
    ("download", 76, 76, -24.0, -61.0), ("flats", 1, 1, -61.0, -61.0),
    ("C1 finished", 1, 1, -20.0, -44.0), ("C2 artifacts", 12, 19, -4.0, -23.0),
    ("C3 stars", 11, 19, -3.0, -6.0),
)  # fmt: skip
"""Step, done, of, when it is told and when its row began, seconds from now."""


def board() -> Board:
    """Two chips at work, one done, one to come, and a note."""
    shown = Board(REDUCING, ["C1", "C2", "C3", "C4"])
    now = time.monotonic()
    for step, done, of, when, begun in TOLD:
        row = step.split()[0]
        if row in shown.rows:
            last = {"C1": 10, "C2": 5, "C3": 2}[row]
            for column in REDUCING[:last]:
                shown.tell(f"{row} {column.steps[-1]}", 0, 1, now + begun)
                shown.tell(f"{row} {column.steps[-1]}", 1, 1, now + begun)
        else:
            shown.tell(step, 0, of, now + begun)
        shown.tell(step, done, of, now + when)
    shown.notes = ["01599152C1: truncated: 33 MB of 67 MB"]
    shown.message = "2MASS: 16 of 16 tiles from the cache"
    return shown


def main() -> None:
    """Draw it."""
    console = Console(
        record=True, width=84, height=20, file=StringIO(), force_terminal=True, highlight=False
    )
    console.print(f"[bold]$[/] {COMMAND}")
    view = View(board())
    view.begun -= 61
    console.print(view)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "live.svg"
        page.write_text(console.export_svg(title="photometrus"), encoding="utf-8")
        width, height = 1050, 330
        subprocess.run(
            ["chromium", "--headless", "--no-sandbox", "--hide-scrollbars",  # noqa: S607
             f"--window-size={width},{height}", f"--screenshot={OUT}", page.as_uri()],
            check=True, capture_output=True,
        )  # fmt: skip
    with Image.open(OUT) as image:
        shot = image.convert("RGB")
    box = ImageChops.difference(shot, Image.new("RGB", shot.size, "white")).getbbox()
    shot.crop(box).quantize(64).save(OUT, optimize=True)


if __name__ == "__main__":
    main()
