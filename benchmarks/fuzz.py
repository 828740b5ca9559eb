"""Feeds spoilt files to every reader: whatever comes, the answer is a result or an error of ours.

    python benchmarks/fuzz.py -minutes 10 -out /tmp/findings

A child process reads one input after the other, with a limit on its memory and on the time of each
input; the parent sees when it dies or hangs, and goes on behind the input that did it. Input n of a
seed is the same on every machine. Anything but a PhotometrusError is a finding: its input is kept
in -out. Exit code 1 when there is one.
"""

import argparse
import json
import logging
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fuzz_cases import CASES, Case, seeds
from photometrus.errors import PhotometrusError

INPUT_S = 20
"""An input that takes longer hangs. (The slowest valid one takes 0.2 s.)"""
DEAD_S = 60
"""The child is killed when it has not answered for so long: it hangs outside of Python."""
MEMORY_BYTES = 1 << 30
"""What a reader may take above what the child has when it begins."""
BATCH = 50
"""Inputs of one child."""


class SlowError(Exception):
    """An input took longer than INPUT_S."""


def main() -> int:
    """Fuzz for so many minutes; 0 without a finding."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-minutes", type=float, default=10.0)
    parser.add_argument("-seed", type=int, default=1)
    parser.add_argument("-case", default="", help="only cases whose names have this in them")
    parser.add_argument("-out", type=Path, default=Path("findings"))
    given = parser.parse_args()
    return parent(given.minutes * 60, given.seed, given.case, given.out)


# ---------------------------------------------------------------- the parent


def parent(seconds: float, seed: int, only: str, out: Path) -> int:
    """Children in turn, each with some inputs of one case, until the time is over."""
    out.mkdir(parents=True, exist_ok=True)
    cases = [case for case in CASES if only in case.name]
    reached = {case.name: 0 for case in cases}
    outcomes: Counter[str] = Counter()
    findings: Counter[str] = Counter()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seeds(folder)
        check(folder, cases)
        while time.monotonic() - begun < seconds:
            for case in cases:
                told, death = batch(folder, case, reached[case.name], seed, out)
                for line in told:
                    outcomes[line["outcome"]] += 1
                    if line["outcome"] == "finding":
                        findings[f"{case.name}: {line['what']}"] += 1
                reached[case.name] += len(told)
                if death:
                    findings[f"{case.name}: {death}"] += 1
                    keep(folder, case, reached[case.name], seed, out)
                    reached[case.name] += 1
                if time.monotonic() - begun > seconds:
                    break
            minutes = (time.monotonic() - begun) / 60
            print(f"{minutes:5.1f} min  {dict(outcomes)}  {len(findings)} findings", flush=True)
    tell(reached, outcomes, findings, (time.monotonic() - begun) / 60)
    return 1 if findings else 0


def check(folder: Path, cases: Sequence[Case]) -> None:
    """Every valid input must be read; and the kernels are compiled then."""
    with tempfile.TemporaryDirectory() as place:
        for case in cases:
            path = Path(place) / case.file
            shutil.copy(folder / case.seed, path)
            case.feed(path)


def batch(folder: Path, case: Case, first: int, seed: int, out: Path) -> tuple[list[dict], str]:
    """What a child tells of its inputs, and how it died ("" when it did not)."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        child(folder, case, range(first, first + BATCH), seed, out, writing)
    os.close(writing)
    told, silent = [], False
    with os.fdopen(reading, "rb") as stream:
        while True:
            if not select.select([stream], [], [], DEAD_S)[0]:
                silent = True
                os.kill(pid, signal.SIGKILL)
                break
            line = stream.readline()
            if not line:
                break
            told.append(json.loads(line))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if silent:
        return told, f"hangs for more than {DEAD_S} s"
    return told, "" if code == 0 else f"dies of {signal.Signals(-code).name if code < 0 else code}"


def tell(reached: dict, outcomes: Counter, findings: Counter, minutes: float) -> None:
    """The sum of it."""
    print(f"\n{sum(outcomes.values())} inputs in {minutes:.1f} minutes: {dict(outcomes)}")
    for case, n in reached.items():
        print(f"  {n:7d}  {case}")
    print(f"{len(findings)} findings")
    for what, n in findings.most_common():
        print(f"  {n:5d} x {what}")


# ---------------------------------------------------------------- the child


def child(folder: Path, case: Case, numbers: range, seed: int, out: Path, tell_to: int) -> None:
    """Reads inputs, writes a line of JSON about each, and ends."""
    code = 3
    try:
        warnings.simplefilter("ignore")
        logging.disable()
        signal.signal(signal.SIGALRM, _slow)
        limit_memory()
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / case.file
            for n in numbers:
                path.write_bytes(spoilt(folder, case, n, seed))
                line = json.dumps({"n": n} | outcome(case, path))
                if "finding" in line:
                    keep(folder, case, n, seed, out)
                os.write(tell_to, line.encode() + b"\n")
        code = 0
    finally:
        os._exit(code)  # nothing of the parent's is tidied twice


def outcome(case: Case, path: Path) -> dict[str, str]:
    """What became of an input."""
    signal.alarm(INPUT_S)
    try:
        case.feed(path)
    except PhotometrusError:
        return {"outcome": "refused"}
    except BaseException as error:  # noqa: BLE001 - that is what is looked for
        return {"outcome": "finding", "what": described(error)}
    finally:
        signal.alarm(0)
    return {"outcome": "read"}


def limit_memory() -> None:
    """No more than MEMORY_BYTES above what is mapped now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _slow(*_: object) -> None:
    raise SlowError(f"more than {INPUT_S} s")


def spoilt(folder: Path, case: Case, n: int, seed: int) -> bytes:
    """Input n of a case: a seed's file, spoilt in one to three ways."""
    raw = (folder / case.seed).read_bytes()
    draw = np.random.RandomState([seed, zlib.crc32(case.name.encode()), n])
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        raw = case.ways[draw.randint(len(case.ways))](raw, draw)
    return raw


def keep(folder: Path, case: Case, n: int, seed: int, out: Path) -> None:
    """The input in a file of its own."""
    where = out / f"{case.name.replace(', ', '-').replace(' ', '-')}.{n}"
    where.mkdir(parents=True, exist_ok=True)
    (where / case.file).write_bytes(spoilt(folder, case, n, seed))


def described(error: BaseException) -> str:
    """The error and the last line of ours that it went through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "photometrus" in frame.filename]
    last = ours[-1] if ours else frames[-1]
    text = (str(error).splitlines() or [""])[0][:100]
    return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno} ({text})"


if __name__ == "__main__":
    sys.exit(main())
