"""Hard cases: each is simulated at full size, reduced, and judged against the truth.

    python benchmarks/stress.py [CASE ...] [-work DIR] [-data DIR] [-keep] [-write] [-list]

A case is solved, refused with a reason, or WRONG: it calls itself solved and is not. Results are
kept in the work folder; -write puts all that are there into docs/stress.md. Exit code 3 when a
case is WRONG or ended in an error of the program.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from helpers import Numbers, machine, plain
from judge.astrometry import against_reference, astrometry
from judge.photometry import photometry
from judge.scene import build_scene
from judge.stack import read_stack
from judge.truth import Truth, read_truth
from photometrus import config as configuration
from photometrus.arrivals import Request
from photometrus.errors import MissingInput, PhotometrusError
from photometrus.pipeline import reduce_observation
from photometrus.simulate.night import simulate_night
from photometrus.track import ChipResult
from stress_cases import CASES, Case

ROOT = Path(__file__).resolve().parents[1]
MOST_RMS_MAS = 60.0
"""Per axis over the chip: more, of a field that is called solved, is wrong."""
MOST_AFFINE_MAS = 300.0
"""The same where all frames say `affine` or `shift`: their stars are too few for more."""
MOST_OFFSET_MAS = 60.0
"""The same of the mean offset to the catalogue, beyond four of its errors."""
MOST_RELATIVE_ARCSEC = 40.0
"""Of a field that is called aligned, but not solved: the telescope's pointing and the chip's place
are not better."""


def prepare(case: Case, work: Path, data: Path) -> Path:
    """The night of a case: simulated and spoilt, or the development data."""
    if case.data:
        if not (data / case.data).is_dir():
            raise MissingInput(f"{data / case.data}: no such development data; give -data")
        return data / case.data
    night = work / "nights" / case.name.replace(" ", "_")
    if not (night / "done").exists():
        shutil.rmtree(night, ignore_errors=True)
        simulate_night(night, case.night)
        if case.spoil is not None:
            case.spoil(night, case.night)
        (night / "done").touch()
    return night


def reduce(case: Case, night: Path, parent: Path) -> list[ChipResult]:
    """The pipeline on a night, as a user would run it."""
    meta = json.loads((night / "truth" / "meta.json").read_text(encoding="utf-8"))
    chips = tuple(int(chip) for chip in meta["chips"])
    exposure = meta["chips"][str(chips[0])]["exposures"][0]
    settings = {
        "archive": str(night / "nfs") if case.data else str(night),
        "catalog": str(night / "refcat_2mass.fits"),
        "flat_dir": str(parent / "flats"),
        "distortion_dir": str(parent / "distortion"),
    }
    config = configuration.load(None, {"run": {"keep": "final"}, "input": settings})
    config = configuration.merge(config, dict(case.config))
    request = Request(
        target=exposure["objname"],
        night=_night(meta["args"]),
        band=exposure["band"],
        chips=chips,
        parent=parent,
    )
    return reduce_observation(request, config).chips


def _night(args: dict[str, Any]) -> date:
    text = str(args.get("night") or args["date"])
    return date.fromisoformat(text)


def judge(case: Case, night: Path, parent: Path, result: ChipResult) -> Numbers:
    """One chip: what it says of itself, what the truth says, and the verdict."""
    lost = Counter(
        f"{'lost' if verdict.lost else 'left out'}: {verdict.reason}"
        for verdict in result.verdicts
        if not verdict.used
    )
    used = [verdict for verdict in result.verdicts if verdict.used]
    numbers: Numbers = {
        "case": case.name,
        "chip": result.chip,
        "hard": case.hard,
        "used": len(used),
        "given": len(result.verdicts),
        "lost": [f"{count} {why}" for why, count in lost.items()],
        "levels": dict(Counter(verdict.level for verdict in used)),
        "matched": float(np.mean([verdict.n_matched for verdict in used])) if used else 0.0,
        "notes": result.notes,
        "error": result.error,
    }
    if result.error:
        return numbers | {"verdict": "refused", "why": result.error}
    truth = read_truth(night / "truth", result.chip)
    try:
        scene = build_scene(read_stack(parent, result.chip), truth)
    except MissingInput as error:
        return numbers | {"verdict": "WRONG", "why": str(error)}
    numbers["astrometry"] = astrometry(scene)
    numbers["offset_arcsec"] = float(np.hypot(*scene.offset))
    numbers["photometry"] = photometry(scene, 18.5)
    numbers["reference"] = against_reference(scene, night / "refcat_2mass.fits")
    verdict, why = _verdict(case, numbers, truth)
    return plain(numbers | {"verdict": verdict, "why": why})


def _verdict(case: Case, numbers: Numbers, truth: Truth) -> tuple[str, str]:
    """Whether what a stack says of itself is true; and in words what is not."""
    fit, reference = numbers["astrometry"], numbers["reference"]
    rms = max(fit["rms_ra_mas"], fit["rms_dec_mas"])
    if set(numbers["levels"]) == {"relative"}:
        off = numbers["offset_arcsec"]
        if off > MOST_RELATIVE_ARCSEC:
            return "WRONG", f'aligned, {off:.0f}" from the truth'
        return "refused", f'frames aligned to each other, {off:.0f}" from the truth, said so'
    if case.refused:
        return "WRONG", "solved by a catalogue that is none of this field"
    limit = MOST_RMS_MAS if "full" in numbers["levels"] else MOST_AFFINE_MAS
    if not rms < limit:
        return "WRONG", f"rms {rms:.0f} mas"
    for axis in ("ra", "dec"):
        off = reference.get(f"beyond_catalog_{axis}_mas", 0.0)
        error = reference.get(f"beyond_catalog_{axis}_error_mas", 0.0)
        if abs(off) > MOST_OFFSET_MAS + 4 * error:
            return "WRONG", f"{off:.0f} mas from the catalogue in {axis}"
    bad = {truth.name(exposure) for exposure in truth.exposures if exposure["bad"]}
    return "solved", f"{len(bad)} bad frame{'s' * (len(bad) != 1)} simulated"


def run(case: Case, work: Path, data: Path, *, keep: bool) -> list[Numbers]:
    """A case from simulation to verdict, one row per chip."""
    night = prepare(case, work, data)
    parent = work / "reductions" / case.name.replace(" ", "_")
    shutil.rmtree(parent, ignore_errors=True)
    started = time.monotonic()
    try:
        results = reduce(case, night, parent)
        rows = [judge(case, night, parent, result) for result in results]
    except PhotometrusError as error:
        rows = [{"case": case.name, "hard": case.hard, "verdict": "refused", "why": str(error)}]
    except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError):
        # What crashes is what is looked for: the table must show it, and the other cases go on.
        words = traceback.format_exc().strip().splitlines()[-1]
        sys.stderr.write(traceback.format_exc())
        rows = [{"case": case.name, "hard": case.hard, "verdict": "CRASH", "why": words}]
    for row in rows:
        row["seconds"] = round(time.monotonic() - started, 1)
    shutil.rmtree(parent, ignore_errors=True)
    if not keep and not case.data:
        shutil.rmtree(night, ignore_errors=True)
        shutil.rmtree(night.parent / f"{night.name}-other", ignore_errors=True)
    return rows


HEADINGS = (
    "case",
    "what is hard",
    "chip",
    "frames",
    "not used",
    "level",
    "rms, mas",
    "corners, mas",
    "to the catalogue, mas",
    "photometric bias",
    "verdict",
)


def cells(row: Numbers) -> list[str]:
    """A row of the table."""

    def pair(numbers: Numbers, *names: str, sign: str = "") -> str:
        values = [numbers.get(name) for name in names]
        return " / ".join("-" if v is None else f"{v:{sign}.1f}" for v in values)

    fit = row.get("astrometry") or {}
    bias = (row.get("photometry") or {}).get("mid_bias")
    levels = row.get("levels") or {}
    return [
        row["case"],
        row["hard"],
        f"C{row['chip']}" if "chip" in row else "",
        f"{row['used']} of {row['given']}" if "used" in row else "",
        "; ".join(row.get("lost") or []),
        ", ".join(levels) + (f" ({row['matched']:.0f} stars)" if levels else ""),
        pair(fit, "rms_ra_mas", "rms_dec_mas"),
        pair(fit.get("corners") or {}, "rms_ra_mas", "rms_dec_mas"),
        pair(
            row.get("reference") or {},
            "beyond_catalog_ra_mas",
            "beyond_catalog_dec_mas",
            sign="+",
        ),
        "" if bias is None else f"{bias:+.3f}",
        f"{row['verdict']}: {row['why']}" if row["verdict"] != "solved" else "solved",
    ]


def table(rows: Sequence[Numbers]) -> str:
    """The rows as Markdown."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    for row in rows:
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells(row)) + " |")
    return "\n".join(lines) + "\n"


PAGE = """# Hard cases

What the pipeline makes of fields, nights and catalogues that are hard, measured against the truth
of the simulation by `python benchmarks/stress.py -write` ({machine}). A case is *solved*, or
*refused* with the reason that the user is told; WRONG would be a field that is called solved and is
not. Rms is per axis (right ascension / declination) of bright unsaturated stars after the mean
offset; *to the catalogue* is the mean offset from the reference catalogue's stars; the photometric
bias is the median magnitude error between 16 and 18 against the zero point of the bright stars.
Few stars of 0.15" cannot do better than some tenths of an arcsecond: a frame that says `affine`
says so.

{table}"""


def main(argv: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", nargs="*", help="names of cases; all when none is given")
    parser.add_argument("-work", type=Path, help="folder of nights, reductions and results")
    parser.add_argument("-data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("-keep", action="store_true", help="keep the simulated nights")
    parser.add_argument("-write", action="store_true", help="write docs/stress.md")
    parser.add_argument("-list", action="store_true", help="name the cases and stop")
    given = parser.parse_args(argv)
    by_name = {case.name: case for case in CASES}
    if given.list:
        print("\n".join(f"{case.name:20} {case.hard}" for case in CASES))
        return 0
    unknown = [name for name in given.case if name not in by_name]
    if unknown:
        parser.error(f"no case {unknown[0]!r}; -list names them")
    work = given.work or Path(tempfile.mkdtemp(prefix="photometrus-stress-"))
    work.mkdir(parents=True, exist_ok=True)
    kept = work / "results.json"
    results = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    for name in given.case or by_name:
        results[name] = run(by_name[name], work, given.data, keep=given.keep)
        kept.write_text(json.dumps(plain(results), indent=1) + "\n", encoding="utf-8")
        print(table(results[name]).split("\n", 2)[2], end="", flush=True)
    rows = [row for name in by_name for row in results.get(name, [])]
    if given.write:
        page = PAGE.format(machine=machine(), table=table(rows))
        (ROOT / "docs" / "stress.md").write_text(page, encoding="utf-8")
    if given.work is None:
        shutil.rmtree(work)
    return 3 if any(row["verdict"] in ("WRONG", "CRASH") for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
