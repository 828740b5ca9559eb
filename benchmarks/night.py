"""A small night of 12 fields and bands on a Dask cluster: stopped in the middle, gone on with.

    python benchmarks/night.py [--size 768] [--workers 2] [--work DIR]

Simulates three fields in Z, Y, J and H (one chip's window, three ramps each) as one archive, starts
a scheduler and workers as processes of their own, stops ``photometrus night`` after four fields and
types it again. Then the same serially: the products must be the same bytes.
"""

import argparse
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from astropy.table import Table

from helpers import machine

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from nights import fields, many_fields  # noqa: E402
from test_cluster import running_cluster  # noqa: E402


def command(archive: Path, root: Path, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "photometrus", "night", "-date", "20240606", "-chip", "1"),
        *("-parent", str(root), "-archive", str(archive), "-quiet", "-no_plots"),
        *("-catalog", str(archive / "refcat.fits"), "-flat_dir", str(archive / "flats"), *more),
    ]


def stacks(root: Path) -> dict[str, Path]:
    return {str(path.relative_to(root)): path for path in root.glob("*/*/stack/*")}


def stopped(words: list[str], root: Path, after: int) -> None:
    """Start the command, and interrupt it when so many fields are recorded."""
    with subprocess.Popen(words, start_new_session=True) as process:
        while len(list(root.glob("*/*/run.json"))) < after and process.poll() is None:
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        print(f"interrupted after {after} fields; exit code {process.wait()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=768)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--work", type=Path)
    arguments = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory(dir=arguments.work, prefix="photometrus-night-") as name:
        measure(Path(name), arguments.size, arguments.workers)


def measure(work: Path, size: int, n_workers: int) -> None:
    os.environ["PHOTOMETRUS_DISTORTIONS"] = str(work / "distortions")
    small = {"size": size, "chips": (1,), "ramps": 3, "flats": 2}
    parts = fields(3, "ZYJH", **small, bad_frame=False, satellite=False)
    archive = many_fields(work / "archive", parts)
    root, serial = work / "cluster", work / "serial"
    with running_cluster(work, n_workers) as (file, _):
        words = command(archive, root, "-scheduler", str(file))
        begun = time.monotonic()
        stopped(words, root, 4)
        first = time.monotonic() - begun
        recorded = {folder.parent for folder in root.glob("*/*/run.json")}
        before = {path: path.stat().st_mtime_ns for path in stacks(root).values()}
        before = {p: when for p, when in before.items() if p.parents[1] in recorded}
        code = subprocess.run(words, check=False).returncode
        print(f"{first:.0f} s, then {time.monotonic() - begun - first:.0f} s; exit code {code}")
    again = sum(path.stat().st_mtime_ns != when for path, when in before.items())
    table = Table.read(root / "night_20240606.ecsv")
    table["target", "band", "frames_used", "seeing_arcsec", "seconds", "state"].pprint_all()
    print(f"{len(before)} files of {len(recorded)} fields were there, {again} were made again")
    os.environ["PHOTOMETRUS_DISTORTIONS"] = str(work / "distortions of the serial run")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command(archive, serial), check=True)
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    print(f"serial: {seconds:.0f} s of processor time for {len(table)} chips")
    one, two = stacks(root), stacks(serial)
    same = set(one) == set(two) and all(
        one[name].read_bytes() == two[name].read_bytes() for name in one
    )
    print("the same bytes" if same else "DIFFERENT BYTES")


if __name__ == "__main__":
    main()
