"""Many reductions at once on few cores: all must end right, and in the same bits.

    python benchmarks/crowd.py -work /tmp/crowd [-runs 20] [-cold]

As many processes as are asked for reduce the same small chip (400 pixels, three ramps) at the same
time, each into a folder of its own, but with one flat store (empty at first: one makes the flat,
the others wait), one catalogue cache and one store of distortions. With ``-cold`` also the kernels'
cache is empty at first, and all compile at once. Another such run, alone, says what is right.
"""

import argparse
import filecmp
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from kills import products, simulated, words_of

FINAL = ("-keep", "final", "-no_plots")
TOLD = ("run.json", "config.toml")


def start(work: Path, name: str, store: str) -> subprocess.Popen:
    """A reduction of a chip into a folder of that name."""
    run, stores = work / name, work / store
    words = words_of(work, FINAL, "1")
    words[words.index("-parent") + 1] = str(run)
    words[words.index("-flat_dir") + 1] = str(stores / "flats")
    environment = {
        "PHOTOMETRUS_DISTORTIONS": str(stores / "distortions"),
        "PHOTOMETRUS_CACHE": str(stores / "cache"),
    }
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
    begun = time.monotonic()
    if start(work, "alone", "calm").wait():
        raise SystemExit(f"alone: failed, see {work / 'alone.txt'}")
    alone_s = time.monotonic() - begun
    begun = time.monotonic()
    running = [start(work, name, store) for name in names]
    codes = [process.wait() for process in running]
    seconds = time.monotonic() - begun
    wrong = {name: differences(work / "alone", work / name) for name in names}
    wrong = {name: files for name, files in wrong.items() if files}
    flats = [path.name for path in (work / store / "flats").glob("*")]
    print(f"alone {alone_s:.0f} s, {given.runs} at once {seconds:.0f} s")
    print(f"exit codes {sorted(set(codes))}, different: {wrong or 'none'}, flats {flats}")
    if any(codes) or wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
