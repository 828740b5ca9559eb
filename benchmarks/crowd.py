"""Many reductions at once on few cores: all must end right, and in the same bits.

    python benchmarks/crowd.py -work /tmp/crowd [-runs 20] [-cold]

As many processes as are asked for reduce the same small chip (400 pixels, three ramps) at the same
time, each into a folder of its own, but with one flat store (empty at first: one makes the flat,
the others wait) and one store of distortions. With ``-cold`` the cache of kernels is empty at
first, too, and all compile at once; and so is that of the reference catalogue, for which all ask a
real web server at once. Another such run, alone, says what is right.
"""

import argparse
import filecmp
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from astropy import units as u
from astropy.table import Table

from kills import products, simulated, words_of
from photometrus.io.fz import fault

FINAL = ("-keep", "final", "-no_plots")
TOLD = ("run.json", "config.toml")


class Stars(SimpleHTTPRequestHandler):
    """Answers every cone search with all stars that the night has; counts the questions."""

    asked: list[str] = []

    def do_GET(self) -> None:
        """One answer."""
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *args: object) -> None:
        """Nothing is told."""


@contextmanager
def service(work: Path) -> Iterator[str]:
    """A web server that knows the stars of the night: its address as a cone search."""
    folder = work / "service"
    folder.mkdir(exist_ok=True)
    stars = Table.read(work / "night" / "refcat.fits")
    for name in ("RAJ2000", "DEJ2000"):
        stars[name].unit = u.deg
    stars.write(folder / "stars.xml", format="votable", overwrite=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Stars, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"scs+http://127.0.0.1:{server.server_address[1]}/stars.xml?"
    finally:
        server.shutdown()
        server.server_close()


def start(work: Path, name: str, store: str, stars: str = "") -> subprocess.Popen:
    """A reduction of a chip into a folder of that name.

    stars : the service that gives them, instead of a file
    """
    run, stores = work / name, work / store
    words = words_of(work, FINAL, "1")
    words[words.index("-parent") + 1] = str(run)
    words[words.index("-flat_dir") + 1] = str(stores / "flats")
    environment = {
        "PHOTOMETRUS_DISTORTIONS": str(stores / "distortions"),
        "PHOTOMETRUS_CACHE": str(stores / "cache"),
    }
    if stars:
        words[words.index("-catalog") + 1] = "2MASS"
        environment["PHOTOMETRUS_VO_2MASS"] = stars
    if store == "cold":
        environment["NUMBA_CACHE_DIR"] = str(stores / "kernels")
    command = [sys.executable, "-m", "photometrus", *words]
    with (work / f"{name}.txt").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | environment)


def differences(one: Path, other: Path) -> list[str]:
    """Products of two runs that are not the same."""
    first, second = products(one), products(other)
    found = sorted(set(first) ^ set(second))
    return found + [
        name
        for name in sorted(set(first) & set(second))
        if name not in TOLD and not filecmp.cmp(first[name], second[name], shallow=False)
    ]


def halves(store: Path) -> list[str]:
    """Files of the stores that are not whole, or should not be there."""
    tiles = [path for path in (store / "cache").rglob("*") if path.is_file()]
    return [path.name for path in tiles if path.suffix != ".fits" or fault(path, all_units=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-work", type=Path, required=True)
    parser.add_argument("-runs", type=int, default=20)
    parser.add_argument("-size", type=int, default=400)
    parser.add_argument("-cold", action="store_true")
    given = parser.parse_args()
    work = given.work
    work.mkdir(parents=True, exist_ok=True)
    simulated(work, given.size)
    store = "cold" if given.cold else "warm"
    names = [f"run{k:02d}" for k in range(given.runs)]
    for name in (*names, "alone", "calm", store):
        shutil.rmtree(work / name, ignore_errors=True)
    with service(work) if given.cold else nullcontext("") as stars:
        begun = time.monotonic()
        if start(work, "alone", "calm", stars).wait():
            raise SystemExit(f"alone: failed, see {work / 'alone.txt'}")
        alone_s = time.monotonic() - begun
        Stars.asked.clear()
        begun = time.monotonic()
        running = [start(work, name, store, stars) for name in names]
        codes = [process.wait() for process in running]
        seconds = time.monotonic() - begun
    wrong = {name: differences(work / "alone", work / name) for name in names}
    wrong = {name: files for name, files in wrong.items() if files}
    flats = [path.name for path in (work / store / "flats").glob("*")]
    half = halves(work / store)
    print(f"alone {alone_s:.0f} s, {given.runs} at once {seconds:.0f} s")
    print(f"exit codes {sorted(set(codes))}, different: {wrong or 'none'}, flats {flats}")
    if given.cold:
        n_tiles = len(list((work / store / "cache").rglob("*.fits")))
        n_kernels = len(list((work / store / "kernels").rglob("*.nbc")))
        print(f"{len(Stars.asked)} questions, {n_tiles} tiles, {n_kernels} kernels, half: {half}")
    if any(codes) or wrong or half:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
