"""Chips and workers: wall time, processor time and memory of one to four chips, 1, 2, 4 workers.

    python benchmarks/scaling.py [--size 2048] [--ramps 5] [--repeat 3] [--memory 8GB] [--work DIR]

Four chips are simulated, and reduced one after the other (1, 2, 3, 4 of them), then all four with
``-workers`` 1, 2 and 4. The products must be the same bytes. Memory is that of all processes
together, what they share counted once.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from helpers import machine
from photometrus.simulate.night import SimulateConfig, simulate_night

CHIPS = (1, 2, 3, 4)
WORKERS = (1, 2, 4)
EVERY_S = 0.25


def prepare(work: Path, size: int, ramps: int) -> tuple[Path, Path]:
    """A simulated night, and its four chips' ramps on disk with their flats; used again."""
    night, tree = work / f"night{size}x{ramps}", work / f"tree{size}x{ramps}"
    if not (tree / "done").exists():
        simulate_night(night, SimulateConfig(size=size, ramps=ramps, density="sparse", seed=5))
        command(night, tree, "pipeline", "-target", "field1111", "-date", "20240606",
                "-archive", str(night))  # fmt: skip
        (tree / "done").touch()
    return night, tree


def command(night: Path, tree: Path, what: str, *more: str) -> dict[str, float]:
    """A command as a process of its own: seconds, processor seconds, peak of all its memory, GB."""
    words = [
        *(sys.executable, "-m", "photometrus", what, "-parent", str(tree), "-band", "J"),
        *("-catalog", str(night / "refcat_2mass.fits"), "-keep", "final", "-quiet"),
        *("-flat_dir", str(night / "flats"), *more),
    ]
    begun = time.monotonic()
    peak, cpu = 0, {}
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        whole = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, sample(whole, cpu))
            time.sleep(EVERY_S)
    seconds = time.monotonic() - begun
    if process.returncode not in (0, 3):
        raise SystemExit(f"{' '.join(words)}: exit code {process.returncode}")
    return {"seconds": seconds, "cpu_s": sum(cpu.values()), "peak_gb": peak / 1e9}


def sample(root: psutil.Process, cpu: dict[int, float]) -> int:
    """Bytes of a process and its children; what each has calculated so far goes into `cpu`."""
    total = 0
    try:
        for process in [root, *root.children(recursive=True)]:
            total += process.memory_full_info().pss
            used = process.cpu_times()
            cpu[process.pid] = used.user + used.system
    except psutil.Error:
        pass  # one has just ended
    return total


def products(tree: Path) -> dict[str, bytes]:
    """What a reduction makes, but for pages."""
    found = [path for kind in ("stack/*.f*", "sky/*") for path in tree.glob(kind)]
    return {path.name: path.read_bytes() for path in found}


def measure(work: Path, size: int, ramps: int, repeat: int, memory: str = "") -> list[dict]:
    """A row for each number of chips, one after the other, and for each number of workers."""
    night, tree = prepare(work, size, ramps)
    limit = ("-memory", memory) if memory else ()
    rows, first = [], None
    orders: list[tuple[int, int, Sequence[str]]] = [
        (n, 0, ("-chip", ",".join(map(str, CHIPS[:n])))) for n in CHIPS
    ]
    orders += [(len(CHIPS), n, ("-workers", str(n))) for n in WORKERS]
    for n_chips, n_workers, more in orders:
        runs = []
        for _ in range(repeat):
            for folder in ("stack", "sky"):
                shutil.rmtree(tree / folder, ignore_errors=True)
            (tree / "run.json").unlink(missing_ok=True)
            runs.append(command(night, tree, "stack", *more, *limit))
        if n_chips == len(CHIPS):
            made = products(tree)
            first = first or made
            if made != first:
                raise SystemExit(f"{n_workers} workers: other bytes than one after the other")
        row = {key: statistics.median(one[key] for one in runs) for key in runs[0]}
        rows.append({"chips": n_chips, "workers": n_workers, **row})
    return rows


COLUMNS = ["chips", "workers", "s", "processor time, s", "peak of all processes, GB"]


def table_rows(rows: list[dict]) -> list[list[str]]:
    """The cells of a table."""
    return [
        [
            f"{one['chips']}",
            f"{one['workers']}" if one["workers"] else "one after the other",
            f"{one['seconds']:.1f}",
            f"{one['cpu_s']:.1f}",
            f"{one['peak_gb']:.2f}",
        ]
        for one in rows
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--ramps", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--memory", default="", help="for all chips together")
    parser.add_argument("--work", type=Path)
    given = parser.parse_args()
    print(machine())
    work = given.work or Path(tempfile.mkdtemp(prefix="photometrus-bench-"))
    work.mkdir(parents=True, exist_ok=True)
    for row in table_rows(measure(work, given.size, given.ramps, given.repeat, given.memory)):
        print("".join(f"{cell:>22s}" for cell in row))
    if given.work is None:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
