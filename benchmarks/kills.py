"""Kill a reduction at random instants, type the same command again until it is done, compare bits.

    python benchmarks/kills.py -work /tmp/kills -kills 200

A small four-chip observation (512 pixels, three ramps) is reduced without disturbance, then again
and again from nothing, its whole process group killed (SIGKILL) after a random time, and gone on
with, however often that takes. After each kill every file under a final name must be whole; at the
end products, flats and the store of distortions must be those of the undisturbed run, bit for bit,
and nothing else may be left. Every fourth time with ``-keep all`` and pages, else ``-keep final``.
Mostly in a forked child whose imports are done, so that kills fall on work; every eighth time as a
real command.

With ``-parallel`` the disturbed runs reduce their chips on a local cluster of two workers, and the
undisturbed one does not. Every second kill hits the first process only, as the system does when
memory is short: its workers must end by themselves, while the next run has already begun. With
``-full`` what is killed measures the stacks, too.
"""

import argparse
import filecmp
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
from astropy.coordinates import SkyCoord
from astropy.table import Table

from photometrus.cli import main
from photometrus.instrument import CHIPS, DEFAULT_ROTATOR_DEG
from photometrus.io.fz import fault
from photometrus.products import JOURNAL
from photometrus.wcs import pointing_wcs

STYLES = (("-keep", "final", "-no_plots"), ("-keep", "all"))
ALL_EVERY = 4
COMMAND_EVERY = 8
LONGEST, LONGEST_PARALLEL = 0.4, 1.0
"""Of the time of an undisturbed run: the longest wait before a kill. Workers take long to start."""
PATIENCE = 0.05
TOLD = ("run.json", "report.html", "photometry.json")
"""Products that tell when they were made, or others."""
PARALLEL = ("-parallel", "-workers", "2")
ORPHANS_S = 60.0
"""For processes whose first one was killed to end, on a machine that has other work."""
DITHER_ARCSEC = 100.0
PATIENCE_S = 1800.0


def simulated(work: Path, size: int) -> Path:
    night = work / "night"
    if not night.is_dir():
        words = ["simulate", "-out", str(night), "-size", str(size), "-ramps", "3", "-flats", "2"]
        words += ["-density", "bulge", "-no_bad_frame", "-no_satellite", "-chip_offset", "0"]
        words += ["-pointing_error", "0.5,2", "-rotator_error", "0.01", "-quiet"]
        assert main(words) == 0
        crop(night, size)
    return night


def crop(night: Path, size: int) -> None:
    """The deep catalogue where the chips' windows are: all of it would take most of the time."""
    stars = Table.read(night / "refcat_deep.fits")
    field = json.loads((night / "truth" / "meta.json").read_text())["args"]
    axis = (field["ra_deg"], field["dec_deg"])
    at = SkyCoord(stars["RAJ2000"], stars["DEJ2000"], unit="deg")
    near = np.zeros(len(stars), bool)
    for chip in CHIPS:
        centre = pointing_wcs(chip, axis, DEFAULT_ROTATOR_DEG).pixel_to_world(size / 2, size / 2)
        near |= at.separation(centre).arcsec < 0.5 * size * 0.75 + DITHER_ARCSEC
    stars[near].write(night / "refcat.fits")


def words_of(
    work: Path, style: tuple[str, ...], chips: str, command: str = "pipeline"
) -> list[str]:
    night, run = work / "night", work / "run"
    return [
        *(command, "-parent", str(run / "p"), "-target", "field1111", "-date", "20240606"),
        *("-band", "J", "-archive", str(night), "-catalog", str(night / "refcat.fits")),
        *("-flat_dir", str(run / "flats"), "-no_shift", "-quiet", "-chip", chips, *style),
    ]


class Process:
    """The command in a process group of its own: forked, or begun as a user would."""

    def __init__(self, words: list[str], log: Path, *, real: bool) -> None:
        self.log = log
        if real:
            with log.open("ab") as out:
                command = [sys.executable, "-m", "photometrus", *words]
                made = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
            self.pid = made.pid
        else:
            self.pid = os.fork()
            if self.pid == 0:
                self._child(words)

    def _child(self, words: list[str]) -> None:
        code = 99
        try:
            os.setsid()
            out = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(out, 1)
            os.dup2(out, 2)
            code = main(words)
        except BaseException:  # noqa: BLE001 - shown, and the exit code tells
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def wait(self, seconds: float) -> int | None:
        """The exit code; None when it still runs after so many seconds."""
        end = time.monotonic() + seconds
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() >= end:
                return None
            time.sleep(0.005)

    def kill(self, *, alone: bool = False) -> list[psutil.Process]:
        """The whole group at once, or the first process alone; all those that it had begun."""
        with suppress(psutil.NoSuchProcess):
            begun = psutil.Process(self.pid).children(recursive=True)
        with suppress(ProcessLookupError):
            (os.kill if alone else os.killpg)(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        return begun


def products(root: Path) -> dict[str, Path]:
    return {
        str(path.relative_to(root)): path
        for path in root.rglob("*")
        if path.is_file() and path.name not in (".lock", JOURNAL)
    }


def differences(calm: Path, run: Path, *, settings: bool = True) -> Iterator[str]:
    """What is not as in the undisturbed run.

    settings : whether command and settings must be the same, too
    """
    one, two = products(calm), products(run)
    yield from (f"{name}: missing" for name in sorted(set(one) - set(two)))
    yield from (f"{name}: left over" for name in sorted(set(two) - set(one)))
    for name in sorted(set(one) & set(two)):
        if Path(name).name == "run.json":
            if timeless(one[name], settings=settings) != timeless(two[name], settings=settings):
                yield f"{name}: differs in more than times"
        elif Path(name).name == "config.toml" and not settings:
            continue
        elif Path(name).name not in TOLD and not filecmp.cmp(one[name], two[name], shallow=False):
            yield f"{name}: differs"


def timeless(path: Path, *, settings: bool = True) -> dict:
    """The record without the times of day, and how long it took; or without the command."""
    record = json.loads(path.read_text())
    for key in ("started", "finished", *(() if settings else ("command",))):
        del record[key]
    for chip in record["chips"].values():
        del chip["numbers"]["seconds"]
        for one in chip["made_from"]["inputs"].values():
            one.pop("modified", None)
    return record


def halves(run: Path) -> Iterator[str]:
    """Files that have their final name and are not whole."""
    for path in products(run).values():
        if any(part.startswith(".") for part in path.relative_to(run).parts):
            continue
        if path.suffix in (".fits", ".new", ".fz", ".cat", ".wcs"):
            wrong = fault(path, all_units=True)
            if wrong:
                yield f"{path}: {wrong}"
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".html" and not path.read_text().rstrip().endswith("</html>"):
            yield f"{path}: cut off"
        elif path.suffix != ".part" and path.stat().st_size == 0:
            yield f"{path}: empty"


def disturbed(
    words: list[str], work: Path, calm_s: float, dice: random.Random, *, real: bool
) -> int:
    """A run from nothing to its end, killed on the way; how often.

    With workers every second kill hits the first process alone.
    """
    parallel = PARALLEL[0] in words
    longest = calm_s * (LONGEST_PARALLEL if parallel else LONGEST)
    run = work / "run"
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir()
    kills = 0
    orphans: list[psutil.Process] = []
    while True:
        process = Process(words, work / "log.txt", real=real)
        # A little longer each time: on a busy machine a run must come to its end nevertheless.
        code = process.wait(dice.uniform(0.0, longest * (1 + PATIENCE * kills)))
        if code is None:
            orphans += process.kill(alone=parallel and kills % 2 == 1)
            kills += 1
            wrong = list(halves(run))
            if wrong:
                raise SystemExit("half files: " + "; ".join(wrong))
            continue
        if code:
            raise SystemExit(f"exit code {code}, see {work / 'log.txt'}")
        _, left = psutil.wait_procs(orphans, ORPHANS_S)
        if left:
            raise SystemExit(f"still there after its first process was killed: {left}")
        return kills


def calm(words: list[str], work: Path, name: str) -> float:
    """The undisturbed run, kept under a name; its seconds."""
    run = work / "run"
    for folder in (run, work / name):
        shutil.rmtree(folder, ignore_errors=True)
    run.mkdir(parents=True)
    begun = time.monotonic()
    code = Process(words, work / "log.txt", real=False).wait(PATIENCE_S)
    seconds = time.monotonic() - begun
    if code != 0:
        raise SystemExit(f"the undisturbed run: exit code {code}, see {work / 'log.txt'}")
    run.rename(work / name)
    return seconds


def campaign(given: argparse.Namespace) -> dict:
    """Kill so often; what came of it."""
    work: Path = given.work
    way = PARALLEL if given.parallel else ()
    command = "full" if given.full else "pipeline"
    work.mkdir(parents=True, exist_ok=True)
    simulated(work, given.size)
    os.environ["PHOTOMETRUS_DISTORTIONS"] = str(work / "run" / "distortions")
    dice = random.Random(given.seed)
    # The kernels are compiled, or read, once; the children have them.
    shutil.rmtree(work / "run", ignore_errors=True)
    assert main([*words_of(work, STYLES[0], given.chips, command), *given.more]) == 0
    seconds: dict[int, float] = {}
    kills, runs, worst = 0, 0, 0
    while kills < given.kills:
        k = int(runs % ALL_EVERY == ALL_EVERY - 1)
        real = runs % COMMAND_EVERY == 1
        words = [*words_of(work, STYLES[k], given.chips, command), *given.more]
        if k not in seconds:
            seconds[k] = calm(words, work, f"calm{k}")
            if way:  # workers take a while to start
                seconds[k] = calm([*words, *way], work, "at_once")
        n = disturbed([*words, *way], work, seconds[k], dice, real=real)
        wrong = list(differences(work / f"calm{k}", work / "run", settings=not way))
        if wrong:
            raise SystemExit(f"run {runs + 1}, killed {n} times: " + "; ".join(wrong))
        kills, runs, worst = kills + n, runs + 1, max(worst, n)
        print(f"{runs} runs, {kills} kills (this one {n}): all the same", flush=True)
    return {"kills": kills, "runs": runs, "most": worst, "calm_s": list(seconds.values())}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-work", type=Path, required=True)
    parser.add_argument("-kills", type=int, default=200)
    parser.add_argument("-seed", type=int, default=1)
    parser.add_argument("-size", type=int, default=512)
    parser.add_argument("-chips", default="1,2,3,4")
    parser.add_argument("-parallel", action="store_true")
    parser.add_argument("-full", action="store_true")
    parser.add_argument("more", nargs="*", help="further words of the command, after --")
    print(campaign(parser.parse_args()))
