"""photometrus beside SExtractor + SCAMP + SWarp on the same calibrated frames, as a table.

    python benchmarks/compare_astromatic.py NIGHT --chip 3 [--work DIR] [--write]

NIGHT is a simulated night: an archive (``nfs/``), ``refcat_2mass.fits``, ``truth/``. Three stacks
of the same frames are made, each by a process of its own that is weighed, and measured by the
judge:

- photometrus, from the ramps;
- classic: its flat-fielded frames, a clipped-median sky without masks, the programs, SWarp's own
  background subtraction;
- programs: photometrus' sky-subtracted frames through the programs.

``--write NAME`` puts the table into docs/benchmarks.md, between the marks of that name.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers import Numbers, flatten, machine
from judge.measure import measure
from judge.truth import read_truth

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
CHAINS = ("photometrus", "classic", "programs")
ROWS = {
    "astrometry, rms RA / Dec, mas": ("astrometry.rms_ra_mas", "astrometry.rms_dec_mas", ".1f"),
    "the same in the corners": (
        "astrometry.corners.rms_ra_mas",
        "astrometry.corners.rms_dec_mas",
        ".1f",
    ),
    "beyond the catalogue, RA / Dec, mas": (
        "reference.beyond_catalog_ra_mas",
        "reference.beyond_catalog_dec_mas",
        "+.1f",
    ),
    '5 sigma in empty apertures of 1.5", mag': ("depth.limit_mag", ".2f"),
    "the photons allow": ("depth.expected_mag", ".2f"),
    "noise where faint stars are / in empty apertures": (
        "depth.sigma_at_stars_over_empty",
        ".2f",
    ),
    "aperture noise / that of the weight map": ("depth.weight_map_ratio", ".3f"),
    "FWHM / weighted mean of the frames": ("fwhm.ratio", ".3f"),
    "ellipticity added": ("fwhm.ellipticity_added", ".4f"),
    "background rms of 64-pixel bins, robust / all, ADU": (
        "background.scaled.robust_rms_adu",
        "background.scaled.rms_adu",
        ".3f",
    ),
    "bias of stars of magnitude 16 to 18": ("photometry.mid_bias", "+.3f"),
    "worst bin above statistics": ("photometry.worst_excess", ".3f"),
    "whole light of bright stars / disc galaxies, mag": (
        "total_flux.stars.bias",
        "total_flux.galaxies.bias",
        "+.3f",
    ),
    "spurious above 5 sigma per 10 square arcmin": ("spurious.per_10_arcmin2", ".2f"),
    "wall / processor time, s": ("cost.wall_s", "cost.cpu_s", ".0f"),
    "peak memory, GB": ("cost.peak_gb", ".2f"),
}
"""What a row shows: dotted names of numbers, and their format."""


@dataclass(frozen=True)
class Night:
    """A simulated night, and the chip of it that is reduced."""

    root: Path
    chip: int

    @property
    def catalog(self) -> Path:
        """The reference catalogue."""
        return self.root / "refcat_2mass.fits"

    def asked(self) -> dict[str, str]:
        """Target, night and band as the main command wants them."""
        exposure = read_truth(self.root / "truth", self.chip).exposures[0]
        night = exposure["date"][:10].replace("-", "")
        return {"target": exposure["objname"], "date": night, "band": exposure["band"]}


def weigh(command: list[str], log: Path) -> Numbers:
    """Wall and processor seconds and the peak memory of a process with its children."""
    begin = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) not in (0, 3):
        raise SystemExit(f"{' '.join(command)}\n{log.read_text()}")
    return {
        "wall_s": time.monotonic() - begin,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_gb": usage.ru_maxrss / 1e6,
    }


def command_of(chain: str, night: Night, work: Path) -> list[str]:
    """The command of a chain; its tree is `work` / its name."""
    asked = night.asked()
    if chain == "photometrus":
        return [
            *(sys.executable, "-m", "photometrus", "pipeline", "-parent", str(work / chain)),
            *("-target", asked["target"], "-date", asked["date"], "-band", asked["band"]),
            *("-chip", str(night.chip), "-archive", str(night.root)),
            *("-catalog", str(night.catalog), "-flat_dir", str(work / "flats")),
        ]
    (flat,) = (work / "flats").glob(f"mflat.{asked['band']}.*.C{night.chip}.fits")
    return [
        *(sys.executable, str(HERE / "classic.py"), str(work / "photometrus"), str(work / chain)),
        *("--chip", str(night.chip), "--band", asked["band"], "--catalog", str(night.catalog)),
        *("--flat", str(flat), "--sky", "median" if chain == "classic" else "own"),
    ]


def compare(night: Night, work: Path) -> dict[str, Numbers]:
    """The judge's numbers of every chain, its cost among them."""
    found = {}
    for chain in CHAINS:
        cost = weigh(command_of(chain, night, work), work / f"{chain}.log")
        numbers = measure(work / chain, night.root / "truth", night.chip, night.catalog)
        found[chain] = {**numbers, "cost": cost}
        (work / f"{chain}.json").write_text(json.dumps(found[chain], indent=1), encoding="utf-8")
    return found


def on_one_scale(found: Mapping[str, Numbers]) -> None:
    """Add the backgrounds on the flux scale of the first chain: SCAMP chooses another for its own.

    Changes the numbers in place.
    """
    zero = next(iter(found.values()))["photometry"]["zero_point"]
    for numbers in found.values():
        factor = 10 ** (0.4 * (zero - numbers["photometry"]["zero_point"]))
        sky = numbers["background"]
        sky["scaled"] = {key: sky[key] * factor for key in ("rms_adu", "robust_rms_adu")}


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The numbers as a table in Markdown."""
    leaves = {chain: dict(flatten(numbers)) for chain, numbers in found.items()}
    lines = [f"| | {' | '.join(leaves)} |", "|---|" + "---|" * len(leaves)]
    for title, (*keys, style) in ROWS.items():
        cells = []
        for numbers in leaves.values():
            values = [numbers.get(key) for key in keys]
            cells.append(" / ".join("-" if v is None else format(v, style) for v in values))
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def put(page: Path, name: str, text: str) -> None:
    """Replace what stands between the marks of `name` in the page."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    old = page.read_text(encoding="utf-8")
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(old):
        raise SystemExit(f"{page}: no marks {begin} and {end} to write between")
    page.write_text(pattern.sub(lambda _: f"{begin}\n{text}\n{end}", old), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("night", type=Path)
    parser.add_argument("--chip", type=int, default=3)
    parser.add_argument("--work", type=Path, help="keep the trees here")
    parser.add_argument("--write", metavar="NAME", help="write into docs/benchmarks.md, mark NAME")
    given = parser.parse_args()
    night = Night(given.night.resolve(), given.chip)
    with tempfile.TemporaryDirectory(prefix="photometrus-compare-") as name:
        work = given.work or Path(name)
        work.mkdir(parents=True, exist_ok=True)
        found = compare(night, work)
    on_one_scale(found)
    text = f"{machine()}\n\n{table(found)}"
    print(text)
    if given.write:
        put(PAGE, given.write, text)


if __name__ == "__main__":
    main()
