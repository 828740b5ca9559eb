"""Transients of known magnitude, and none: what `photometrus photometry` says of them.

    python benchmarks/transients.py [--fields 20] [--first 0] [--size 1024] [--work DIR]

Each field is simulated with a seed of its own (ramps of one chip, a transient of J 15 to 21 in it,
or, in every fifth, none), reduced and measured by the real commands. A magnitude must be within two
of its errors (zero point's included) of the truth in 95 % of the fields, and nothing may be
detected where nothing is.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from helpers import machine

ABSENT_MAG = 30.0
"""Fainter than anything: the simulator gives the place, and no photon."""
SEED = 4000
DETECTED_SNR = 5.0


@dataclass(frozen=True)
class Field:
    """One simulated observation."""

    seed: int
    mag: float

    @property
    def absent(self) -> bool:
        """Whether there is nothing at the place that is looked at."""
        return self.mag == ABSENT_MAG


@dataclass(frozen=True)
class Answer:
    """What the pipeline says of the place, AB magnitudes made Vega's by its own offset."""

    snr: float
    mag: float
    error: float
    limit: float

    @property
    def detected(self) -> bool:
        """Whether it claims a detection, of five sigma."""
        return self.snr >= DETECTED_SNR


def fields(number: int) -> list[Field]:
    """Magnitudes from 15 to 21 evenly, in an order that mixes them; every fifth field is empty."""
    mags = np.linspace(15.0, 21.0, number)[np.random.RandomState(1).permutation(number)]
    return [
        Field(SEED + k, ABSENT_MAG if k % 5 == 4 else round(float(mag), 2))
        for k, mag in enumerate(mags)
    ]


def run(*words: object) -> None:
    """A command of photometrus; its words when it fails."""
    command = [sys.executable, "-m", "photometrus", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 3):
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def answer(field: Field, size: int, work: Path) -> tuple[Answer, float]:
    """The pipeline's word on a field, and the true magnitude."""
    night, parent = work / f"night{field.seed}", work / f"field{field.seed}"
    run(
        *("simulate", "-out", night, "-size", size, "-ramps", 5, "-chip", 1, "-seed", field.seed),
        *("-transient", field.mag, "-distortion", "template"),
    )
    run(
        *("pipeline", "-parent", parent, "-target", "field1111", "-date", "20240606", "-band", "J"),
        *("-chip", 1, "-archive", night, "-catalog", night / "refcat_2mass.fits"),
        *("-flat_dir", work / f"flats{field.seed}", "-keep", "final", "-no_plots"),
    )
    true = json.loads((night / "truth" / "meta.json").read_text())["transient"]
    stack = next((parent / "stack").glob("coadd.*.C1.fits.fz"))
    run(
        *("photometry", "-filepath", stack, "-catalog", night / "refcat_deep.fits"),
        *("-grb_ra", true["ra"], "-grb_dec", true["dec"], "-grb_radius", "3", "-magsys", "Vega"),
        "-no_plots",
    )
    report = json.loads(next((parent / "stack").glob("GRB_*Report*.json")).read_text())
    # What is published: the source in the circle; without one, what is forced at the place.
    found = report["snr"] is not None and report["snr"] >= DETECTED_SNR
    mag, error, snr = (
        report[f"{'' if found else 'forced_'}{k}"] for k in ("mag", "mag_err", "snr")
    )
    error = float(np.hypot(error or np.nan, report["mag_sys_err"] or 0.0))
    said = Answer(float(snr), float(mag or np.nan), error, float(report["limit_5sigma"]))
    shutil.rmtree(night)
    shutil.rmtree(parent)
    return said, float(true["mag"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fields", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="go on from this field")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--work", type=Path)
    given = parser.parse_args()
    work = given.work or Path(tempfile.mkdtemp(prefix="photometrus-transients-"))
    print(machine())
    print(f"{'seed':>5} {'true':>6} {'mag':>7} {'error':>6} {'S/N':>7} {'limit':>6}  verdict")
    right = false = there = 0
    for field in fields(given.fields)[given.first :]:
        said, true = answer(field, given.size, work)
        if field.absent:
            ok = not said.detected
            false += said.detected
            word = "limit" if ok else "FALSE DETECTION"
        else:
            there += 1
            if said.detected:
                ok = abs(said.mag - true) <= 2 * said.error
                word = "within 2 errors" if ok else f"off by {(said.mag - true) / said.error:+.1f}"
            else:
                # A limit is right when the star is no brighter than noise lets it seem.
                ok = true > said.limit - 0.5
                word = "fainter than the limit" if ok else "MISSED"
            right += ok
        shown = "none" if field.absent else f"{true:.2f}"
        print(
            f"{field.seed:5d} {shown:>6} {said.mag:7.3f} {said.error:6.3f} {said.snr:7.1f}"
            f" {said.limit:6.2f}  {word}",
            flush=True,
        )
    print(f"{right}/{there} right, {false} false detections")
    if given.work is None:
        shutil.rmtree(work)
    return 0 if right >= 0.95 * there and not false else 3


if __name__ == "__main__":
    sys.exit(main())
