"""``make demo``: a small four-chip night from the telescope to the transient, on this machine.

Simulates a night, serves it as a web archive on loopback, and runs the real command against it, as
a user would. Then the products, a picture of each stack, and the magnitude of a transient.
"""

import json
import shlex
import shutil
import subprocess
import sys
import threading
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from photometrus.io import fitsfile
from photometrus.plots.preview import preview
from photometrus.simulate.night import SimulateConfig, simulate_night

GOOD_CODES = (0, 3)
"""Done; done with losses."""
SHOWN = 2
"""Files of a folder that are named in the tree."""


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files and keeps silent about it."""

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; its exit code is 0 when all four stacks and the transient are there."""
    parser = ArgumentParser(prog="python -m photometrus.demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder (default: demo)")
    parser.add_argument("--size", type=int, default=1024, help="pixels of a chip (default: 1024)")
    parser.add_argument("--ramps", type=int, default=5, help="per chip (default: 5)")
    args = parser.parse_args(argv)
    begun = time.monotonic()
    root, night = args.out, args.out / "night"
    if root.exists() and any(root.iterdir()) and not (night / "truth").is_dir():
        tell(f"{root} is there and is not a demo; give another folder as --out")
        return 2
    shutil.rmtree(root, ignore_errors=True)

    heading("1. A night at the telescope, simulated")
    config = SimulateConfig(size=args.size, ramps=args.ramps)
    simulate_night(night, config)
    tell(
        f"{config.target}, band {config.band}, {config.ramps} ramps on each of "
        f"{len(config.chips)} chips of {config.size} pixels, one of them cloudy and trailed, "
        f"one with a satellite; in {night}"
    )

    heading("2. The pipeline, with the archive on a web server")
    parent = root / config.target
    with served(night) as url:
        command = [
            *("pipeline", "-parent", str(parent), "-target", config.target),
            *("-date", f"{config.night:%Y%m%d}", "-band", config.band, "-archive", url),
            *("-catalog", str(night / "refcat_2mass.fits"), "-flat_dir", str(root / "mflats")),
        ]
        code = run(command)

    heading("3. What is on disk")
    for line in tree(parent):
        tell(line)

    heading("4. Pictures")
    pictures = draw(parent, root)
    for picture in pictures:
        tell(str(picture))
    tell("How good each stack is, on a page of its own:")
    for page in sorted(parent.glob("stack/qa.*.png")):
        tell(str(page))

    heading("5. The transient")
    measured = measure(parent, night)
    tell(f"\n{time.monotonic() - begun:.0f} s; everything is in {root}/")
    tell(f"Open {parent}/report.html in a browser. The same by hand: docs/tutorial.md")
    stacked = code in GOOD_CODES and len(pictures) == len(config.chips)
    return 0 if stacked and measured else 1


def run(command: Sequence[str]) -> int:
    """Run a command of photometrus as it is typed; its exit code."""
    tell("$ photometrus " + shlex.join(command) + "\n")
    code = subprocess.run([sys.executable, "-m", "photometrus", *command], check=False).returncode
    tell(f"\nexit code {code}")
    return code


def tell(line: str) -> None:
    """A line on the terminal."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def heading(words: str) -> None:
    """A line over a part."""
    tell(f"\n== {words} ==")


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The URL under which a folder is served on loopback."""
    handler = partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def tree(root: Path, indent: str = "") -> Iterator[str]:
    """The lines of a folder's tree; of many files of a kind, the first and how many more."""
    if not indent:
        yield f"{root}/"
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    for folder in folders:
        yield f"{indent}  {folder.name}/"
        yield from tree(folder, indent + "  ")
    kinds: dict[str, list[str]] = {}
    for path in sorted(path for path in root.iterdir() if path.is_file()):
        ramp = path.name[:1].isdigit()
        kinds.setdefault(path.name.partition(".")[2] if ramp else path.name, []).append(path.name)
    for names in kinds.values():
        more = f"  and {len(names) - 1} more" if len(names) > SHOWN else ""
        for name in names[:1] if more else names:
            yield f"{indent}  {name}{more}"


def record_of(parent: Path) -> dict[str, Any]:
    """What the run noted."""
    record: dict[str, Any] = json.loads((parent / "run.json").read_text(encoding="utf-8"))
    return record


def measure(parent: Path, night: Path) -> bool:
    """Measure the first chip's transient; whether it was measured, and is on a finding chart."""
    record = record_of(parent)
    chip, result = next(iter(record["chips"].items()))
    if result["coadd"] is None:
        return False
    truth = json.loads((night / "truth" / "meta.json").read_text(encoding="utf-8"))["transient"]
    command = [
        *("photometry", "-filepath", str(parent / result["coadd"]), "-magsys", "Vega"),
        *("-catalog", str(night / "refcat_deep.fits"), "-grb_name", "transient"),
        *("-grb_ra", f"{truth['ra']:.6f}", "-grb_dec", f"{truth['dec']:.6f}"),
    ]
    code = run(command)
    tell(f"what went in on {chip}: {record['band']} = {truth['mag']:.2f} (Vega)")
    charts = sorted(parent.glob("stack/transient_*_Chart_*.png"))
    for chart in charts:
        tell(f"its finding chart: {chart}")
    return code == 0 and bool(charts)


def draw(parent: Path, out: Path) -> list[Path]:
    """A picture of each stack that the run's record names."""
    record = record_of(parent)
    pictures = []
    for chip, result in record["chips"].items():
        if result["coadd"] is None:
            continue
        data, header = fitsfile.read_image(parent / result["coadd"])
        numbers = result["numbers"]
        title = (
            f"{header.get('OBJECT', '')} {record['band']} {chip}: {numbers['n_frames']:.0f} frames,"
            f" {numbers['exposure_s']:.0f} s, seeing {numbers['seeing_arcsec']:.2f}″"
        )
        picture = out / f"preview.{chip}.png"
        preview(picture, data, fitsfile.header_wcs(header), title)
        pictures.append(picture)
    return pictures


if __name__ == "__main__":
    sys.exit(main())
