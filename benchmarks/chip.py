"""One chip, ramps on disk to finished products: wall time and peak memory against number of ramps.

    python benchmarks/chip.py --ramps 9 20 40 [--keep all|final] [--repeat 1] [--work DIR]
    python benchmarks/chip.py --ramps 9 60 200 --size 2048 --distinct 20

Simulates one chip (J, normal density) with the largest number of ramps asked for, but with
--distinct not more than that: these come again, later and under other numbers. Then it runs
``photometrus stack`` as a process of its own on the first N of them, page cache warm, and prints
medians with the machine and the versions.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.time import Time

from helpers import machine
from photometrus.simulate.night import SimulateConfig, simulate_night

AGAIN_DAYS = 0.02
"""Between a ramp and its next appearance."""


def prepare(work: Path, n_ramps: int, density: str, size: int = 4096) -> Path:
    """A simulated night; used again when it is there."""
    night = work / f"night{n_ramps}{density}{size}"
    if not (night / "done").exists():
        config = SimulateConfig(chips=(1,), ramps=n_ramps, density=density, size=size)
        simulate_night(night, config)
        (night / "done").touch()
    return night


def science_ramps(night: Path, n_ramps: int) -> list[Path]:
    """The ramps of the field; when they are not enough, the same ones later, by other numbers."""
    folder = night / "nfs/xion4/prime/Data/reramp/C1"
    ramps = sorted(folder.glob("*.fits.ramp"))
    first = [path for path in ramps if path.stat().st_size > 0 and is_science(path)]
    found = list(first)
    again = night / "again"
    again.mkdir(exist_ok=True)
    while len(found) < n_ramps:
        turn, which = divmod(len(found), len(first))
        source = first[which]
        path = again / f"{int(source.name[:8]) + 10_000 * turn:08d}{source.name[8:]}"
        if not path.exists():
            shutil.copyfile(source, path)
            alter(path, turn)
        found.append(path)
    return found[:n_ramps]


def alter(path: Path, turn: int) -> None:
    """Another time in a ramp's header, and pixels that are not exactly those of the first."""
    days = AGAIN_DAYS * turn
    with fits.open(path, mode="update") as hdus:
        header = hdus[0].header
        hdus[0].data += np.float32(0.01 * turn)  # ADU; a duplicate would be left out
        for key in ("MJD-BEG", "MJD-END"):
            if key in header:
                header[key] += days
        for key in ("DATE-BEG", "DATE-OBS"):
            if key in header:
                header[key] = (Time(header[key], format="isot") + days).isot


def run(night: Path, work: Path, n_ramps: int, keep: str, *more: str) -> dict:
    """One reduction in a process of its own: seconds and peak resident memory."""
    parent = work / "reduction"
    shutil.rmtree(parent, ignore_errors=True)
    (parent / "C1").mkdir(parents=True)
    for path in science_ramps(night, n_ramps):
        link = parent / "C1" / path.name.replace(".fits.ramp", ".ramp.fits")
        os.link(path, link)
        with path.open("rb") as file:  # warm the page cache
            while file.read(1 << 24):
                pass
    command = [
        *(sys.executable, "-m", "photometrus", "stack", "-parent", str(parent), "-chip", "1"),
        *("-band", "J", "-catalog", str(night / "refcat_2mass.fits"), "-keep", keep),
        *("-flat_dir", str(night / "flats"), *more),
    ]
    # As users have it: Python keeps the byte code of what it has imported once.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    start = time.monotonic()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=errors, env=environment
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
        if os.waitstatus_to_exitcode(status) not in (0, 3):
            errors.seek(0)
            raise SystemExit(errors.read().decode())
    return {"seconds": seconds, "peak_gb": usage.ru_maxrss / 1e6}


def is_science(path: Path) -> bool:
    """Whether a ramp is of the target and not a FLAT."""
    with path.open("rb") as file:
        return b"'FLAT" not in file.read(2880 * 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ramps", type=int, nargs="+", default=[9, 20, 40])
    parser.add_argument("--keep", choices=("all", "final"), default="all")
    parser.add_argument("--density", default="normal")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--distinct", type=int, default=200)
    parser.add_argument("--memory", default="", help="-memory of the reduction")
    parser.add_argument("--work", type=Path)
    arguments = parser.parse_args()
    work = arguments.work or Path(tempfile.mkdtemp(prefix="photometrus-bench-"))
    print(machine())
    distinct = min(arguments.distinct, max(arguments.ramps))
    night = prepare(work, distinct, arguments.density, arguments.size)
    flat_store(night)
    more = ("-memory", arguments.memory) if arguments.memory else ()
    print(f"{'ramps':>5} {'seconds':>8} {'peak GB':>8}   (keep {arguments.keep})")
    for n_ramps in arguments.ramps:
        runs = [run(night, work, n_ramps, arguments.keep, *more) for _ in range(arguments.repeat)]
        seconds = statistics.median(one["seconds"] for one in runs)
        peak = max(one["peak_gb"] for one in runs)
        print(f"{n_ramps:5d} {seconds:8.1f} {peak:8.2f}")
    if arguments.work is None:
        shutil.rmtree(work)


def flat_store(night: Path) -> None:
    """The master flat of the night, made once."""
    if list((night / "flats").glob("mflat.*")):
        return
    from datetime import date

    from photometrus.config import load
    from photometrus.flats import prepare as make_flats
    from photometrus.io.archive import fetch_log, open_archive

    config = load(None, {"input": {"flat_dir": str(night / "flats")}})
    with open_archive(str(night)) as archive:
        fetch_log(archive, date(2024, 6, 6), night)
        make_flats(archive, date(2024, 6, 6), "J", [1], config, night)


if __name__ == "__main__":
    main()
