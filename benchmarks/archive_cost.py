"""What a chip, a night and five years of the archive cost: by arithmetic from what was measured.

    python benchmarks/archive_cost.py [--cpu 15.3] [--wall 9.7] [--memory 1.16] [--write]

Seconds and memory of a chip of nine ramps on two cores, `-keep final`, are read from the table in
docs/performance.md (`make bench` writes it) unless they are given; --cpu is what ``time`` says of
``photometrus stack`` (user + sys). With --write the tables go into docs/cluster.md.
"""

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"
RAMP_GB = 0.0671
"""4096 x 4096 float32."""
RAMPS_PER_CHIP = 9
FINAL_GB, ALL_GB = 0.2, 2.0
"""Written per chip with -keep final and all."""
RAMP_S = 32.0
"""From one ramp to the next: 20 s, and 12 s between them."""
NIGHT_H, NIGHTS = 8.0, 1250
CHIPS = 4


@dataclass(frozen=True)
class Chip:
    """What one chip of nine ramps costs: seconds of the processor, seconds with two cores, GB."""

    cpu_s: float
    wall_s: float
    memory_gb: float


def measured(page: str) -> tuple[float, float]:
    """Seconds and memory (GB) of nine ramps with -keep final, from the table of performance.md."""
    found = re.search(r"^\| 9 \| final \| ([\d.]+) \|[^|]*\| ([\d.]+) \|", page, re.M)
    if found is None:
        raise SystemExit("docs/performance.md has no row for 9 ramps, -keep final: make bench")
    return float(found[1]), float(found[2])


def chips_per_night() -> int:
    """Ramps of a night in groups of nine, four chips each."""
    return int(NIGHT_H * 3600 / RAMP_S / RAMPS_PER_CHIP) * CHIPS


def span(seconds: float) -> str:
    """A time in the unit that fits."""
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s"


def volume(gb: float) -> str:
    """Bytes in the unit that fits."""
    return f"{gb / 1000:.3g} TB" if gb >= 1000 else f"{gb:.3g} GB"


def of_chip(chip: Chip) -> str:
    """The table of one chip."""
    rows = [
        ("processor time, `-keep final`", f"{chip.cpu_s:.0f} s"),
        ("the same on two cores, from command to page", f"{chip.wall_s:.1f} s"),
        ("memory, two threads", f"{chip.memory_gb:.2f} GB"),
        ("read: 9 ramps of 67 MB", volume(RAMPS_PER_CHIP * RAMP_GB)),
        ("written, `-keep final`", f"{FINAL_GB:g} GB, all of it in `stack/` and `sky/`"),
        ("written, `-keep all`", f"{ALL_GB:g} GB"),
    ]
    head = ["| of one chip, 9 ramps | number |", "|---|---|"]
    return "\n".join(head + [f"| {what} | {number} |" for what, number in rows])


def of_archive(chip: Chip) -> str:
    """The table of a night and of five years."""
    n = chips_per_night()
    ramps_gb = n * RAMPS_PER_CHIP * RAMP_GB
    cpu = n * chip.cpu_s
    fetched = {rate: ramps_gb * 8 / rate for rate in (1, 10)}
    rows = [
        ("chips", f"{n}", f"{n * NIGHTS:,}".replace(",", " ")),
        ("ramps", volume(ramps_gb), volume(ramps_gb * NIGHTS)),
        ("stacks and skies (`-keep final`)", volume(n * FINAL_GB), volume(n * NIGHTS * FINAL_GB)),
        ("processor time of one core", span(cpu), span(cpu * NIGHTS)),
        ("one workstation, 16 cores, 32 GB", span(cpu / 16), span(cpu / 16 * NIGHTS)),
        ("100 cores", span(cpu / 100), span(cpu / 100 * NIGHTS)),
    ]
    rows += [
        (f"to fetch the ramps at {rate} Gbit/s", span(seconds), span(seconds * NIGHTS))
        for rate, seconds in fetched.items()
    ]
    head = ["| | a night | five years |", "|---|---|---|"]
    return "\n".join(head + [f"| {' | '.join(row)} |" for row in rows])


def saturates(chip: Chip) -> str:
    """What is full first, with how many cores."""
    in_mb = 1000 * RAMPS_PER_CHIP * RAMP_GB / chip.cpu_s
    final_mb, all_mb = (1000 * gb / chip.cpu_s for gb in (FINAL_GB, ALL_GB))
    return f"""\
1. **The line to the archive**: a core takes in 0.6 GB per {chip.cpu_s:.0f} s, {in_mb:.0f} MB/s; \
{125 / in_mb:.0f} cores take 1 Gbit/s, {1250 / in_mb:.0f} take 10. Compressed ramps \
(`-ftype ramp_fz`) halve it. The ramps of the next chip are fetched while the present one is \
reduced, those of a night's next fields too, with `input.downloads` connections.
2. **The shared disk**: of 100 cores, each reads {in_mb:.0f} MB/s (and again from the page cache: \
blocks of rows are read in every pass) and writes {final_mb:.0f} MB/s with `-keep final`, \
{all_mb:.0f} with `-keep all`: {0.1 * (in_mb + final_mb):.1f} GB/s, or \
{0.1 * (in_mb + all_mb):.1f}. Use `-keep final` on a cluster, and leave 1 GB beside each worker \
for the ramps in the page cache.
3. **Memory**: {chip.memory_gb:.1f} GB for a chip with two threads; `-memory` decides how many \
chips go at once.
4. The scheduler never: a chip is one task of some thousand bytes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cpu", type=float, default=15.3, help="processor seconds of a chip")
    parser.add_argument("--wall", type=float, help="its seconds on two cores")
    parser.add_argument("--memory", type=float, help="its memory, GB")
    parser.add_argument("--write", action="store_true", help="into docs/cluster.md")
    given = parser.parse_args()
    wall_s, memory_gb = given.wall, given.memory
    if wall_s is None or memory_gb is None:
        read = measured((DOCS / "performance.md").read_text(encoding="utf-8"))
        wall_s, memory_gb = wall_s or read[0], memory_gb or read[1]
    chip = Chip(given.cpu, wall_s, memory_gb)
    parts = {
        "cost of a chip": of_chip(chip),
        "cost of the archive": of_archive(chip),
        "what saturates": saturates(chip),
    }
    print("\n\n".join(parts.values()))
    if given.write:
        path = DOCS / "cluster.md"
        text = path.read_text(encoding="utf-8")
        for name, body in parts.items():
            pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.S)
            text = pattern.sub(lambda found, body=body: f"{found[1]}{body}\n{found[2]}", text)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
