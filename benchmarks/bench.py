"""How fast, beside the usual tools: `make bench`.

    python benchmarks/bench.py [--ramps 9 20 60] [--repeat 3] [--work DIR] [--quick] [--write]

Simulates a full-size chip, times each kernel beside the tool that people use for it (`beside`) and
against what the memory allows (`roofline`), the whole chip against the number of ramps (`chip`),
four chips of a quarter of the size against chips and workers (`scaling`), and prints ratios with
the machine and the versions. With --write the tables and plots go into docs/performance.md. About
a quarter of an hour; with --quick a small chip once, to see that it works.
"""

import argparse
import re
import statistics
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import matplotlib.pyplot as plt

import beside
import chip
import roofline
import scaling
from helpers import machine

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "performance.md"
QUICK = {"size": 1024, "ramps": [5, 9], "repeat": 1}
FULL = {"size": 4096, "ramps": [9, 20, 60], "repeat": 3}
DISTINCT = 20
"""Ramps that are simulated."""
LIMITS_S = {"final": {9: 10.0, 20: 18.0, 60: 45.0}, "all": {9: 16.0}}
"""What is asked of a machine of two cores."""


def kernels(work: Path, night: Path, n_ramps: int) -> list[beside.Pair]:
    """Every comparison, on the frames of one reduction."""
    parent = work / "reduction"
    chip.run(night, work, n_ramps, "all")
    flat = sorted((parent / "C1_FF").glob("*.flat.fits"))
    subtracted = sorted((parent / "C1_sub").glob("*.sky.flat.fits"))
    stack = next((parent / "stack").glob("coadd.*.fits.fz"))
    pairs = []
    with beside.scratch() as name:
        scratch = Path(name)
        pairs += beside.sky_stack(flat)
        pairs += beside.stacking(subtracted, scratch)
        pairs += beside.finding(subtracted[0], scratch)
        pairs += beside.resampling(subtracted[0])
    pairs += beside.photometry(stack, night / "refcat_2mass.fits")
    pairs += beside.whole_chip(parent, night / "refcat_2mass.fits", night / "flats")
    return pairs


def whole(work: Path, night: Path, ramps: list[int], repeat: int) -> list[dict]:
    """Seconds and peak memory of a chip against the number of ramps and what is kept."""
    rows = []
    for keep in ("final", "all"):
        for n in ramps if keep == "final" else ramps[:1]:
            runs = [chip.run(night, work, n, keep) for _ in range(repeat)]
            rows.append(
                {
                    "ramps": n,
                    "keep": keep,
                    "seconds": statistics.median(one["seconds"] for one in runs),
                    "peak_gb": max(one["peak_gb"] for one in runs),
                    "limit_s": LIMITS_S[keep].get(n),
                }
            )
    return rows


def table(columns: list[str], rows: list[list[str]]) -> str:
    """A table of Markdown."""
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def kernel_table(pairs: list[beside.Pair]) -> str:
    """The comparisons."""
    rows = [
        [
            one.what,
            one.tool,
            f"{one.tool_s:.2f}",
            f"{one.ours_s:.2f}",
            f"{one.ratio:.1f}",
            f"{one.wanted:g}" if one.wanted else "",
        ]
        for one in pairs
    ]
    return table(["what", "tool", "tool, s", "photometrus, s", "ratio", "wanted"], rows)


def chip_table(rows: list[dict]) -> str:
    """The whole chip."""
    cells = [
        [
            str(one["ramps"]),
            one["keep"],
            f"{one['seconds']:.1f}",
            f"{one['limit_s']:g}" if one["limit_s"] else "",
            f"{one['peak_gb']:.2f}",
        ]
        for one in rows
    ]
    return table(["ramps", "-keep", "s", "wanted, s", "peak, GB"], cells)


def plot(rows: list[dict], scaled: list[dict], path: Path) -> None:
    """Time and memory against ramps, chips and workers."""
    figure, axes = plt.subplots(2, 3, figsize=(10, 5.5), constrained_layout=True, sharey="row")
    final = [one for one in rows if one["keep"] == "final"]
    serial = [one for one in scaled if not one["workers"]]
    at_once = [one for one in scaled if one["workers"]]
    columns = (
        ("ramps, one chip", final, "ramps"),
        ("chips of a quarter, one after the other", serial, "chips"),
        ("workers, four chips of a quarter", at_once, "workers"),
    )
    for (seconds, memory), (label, found, key) in zip(axes.T, columns, strict=True):
        x = [one[key] for one in found]
        seconds.plot(x, [one["seconds"] for one in found], "o-")
        memory.plot(x, [one["peak_gb"] for one in found], "o-", color="C1")
        memory.set_xlabel(label)
        for one in (seconds, memory):
            one.set_xticks(x)
    axes[0, 0].set_ylabel("s")
    axes[1, 0].set_ylabel("peak memory, GB")
    for one in axes.flat:
        one.set_ylim(0)
        one.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def tools() -> str:
    """The versions of the tools beside."""
    names = ("astropy", "photutils", "reproject", "ccdproc")
    found = []
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} not installed")
    return ", ".join(found)


def put(text: str, name: str, body: str) -> str:
    """`text` with `body` between the markers of a name."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.S)
    return pattern.sub(lambda found: f"{found[1]}{body}\n{found[2]}", text)


def write(where: str, rows: list, pairs: list, scaled: list, ridge: tuple[list, float]) -> None:
    """The tables and plots into docs/performance.md."""
    found, roof = ridge
    text = PAGE.read_text(encoding="utf-8")
    picture = "![time and memory against ramps, chips and workers](performance.png)"
    text = put(text, "chip", f"{where}\n\n{chip_table(rows)}\n\n{picture}")
    text = put(text, "scaling", table(scaling.COLUMNS, scaling.table_rows(scaled)))
    text = put(text, "kernels", kernel_table(pairs))
    under = table(roofline.COLUMNS, roofline.table_rows(found, roof))
    picture = "![kernels under the roof of the memory](roofline.png)"
    text = put(text, "roofline", f"Triad: {roof:.1f} GB/s.\n\n{under}\n\n{picture}")
    PAGE.write_text(text, encoding="utf-8")
    plot(rows, scaled, PAGE.with_name("performance.png"))
    roofline.plot(found, roof, PAGE.with_name("roofline.png"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ramps", type=int, nargs="+")
    parser.add_argument("--repeat", type=int)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--quick", action="store_true", help="small and once")
    parser.add_argument("--write", action="store_true", help="into docs/performance.md")
    given = parser.parse_args()
    usual = QUICK if given.quick else FULL
    ramps, repeat = given.ramps or usual["ramps"], given.repeat or usual["repeat"]
    temporary = None if given.work else tempfile.TemporaryDirectory(prefix="photometrus-bench-")
    work = given.work or Path(temporary.name)
    work.mkdir(parents=True, exist_ok=True)
    where = f"{machine()}; {tools()}"
    print(where)
    size = usual["size"]
    # What is more than these comes again.
    night = chip.prepare(work, min(max(ramps), DISTINCT), "sparse", size)
    chip.flat_store(night)
    rows = whole(work, night, ramps, repeat)
    print(chip_table(rows), flush=True)
    scaled = scaling.measure(work, size // 2, 5, 1)
    print(table(scaling.COLUMNS, scaling.table_rows(scaled)), flush=True)
    roof = roofline.triad()
    found = list(roofline.kernels(size - 8, 9))
    print(table(roofline.COLUMNS, roofline.table_rows(found, roof)), flush=True)
    pairs = kernels(work, night, ramps[0])
    print(kernel_table(pairs))
    if given.write:
        write(where, rows, pairs, scaled, (found, roof))
    missed = [one for one in rows if one["limit_s"] and one["seconds"] > one["limit_s"]]
    missed += [one for one in pairs if one.wanted and one.ratio < one.wanted]
    print(f"{len(missed)} of what is wanted is missed")
    return 3 if missed and not given.quick else 0


if __name__ == "__main__":
    sys.exit(main())
