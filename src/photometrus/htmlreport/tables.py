"""What photometry left beside a stack: magnitudes, limits, targets."""

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from photometrus.htmlreport.pictures import Picture, Sky, figure
from photometrus.io.stackfile import stem

MARKS = 600
"""Of a kind on one preview: the brightest."""


HEAD = 50_000
"""Characters at the begin of a catalogue that hold its metadata, and more."""
DEPTH = re.compile(r"^# .*limit_5sigma: ([0-9.]{1,20})", re.MULTILINE)


@dataclass(frozen=True)
class Measured:
    """A catalogue of sources: what its metadata say, and its own columns."""

    path: Path
    sources: Table

    def __getitem__(self, key: str) -> Any:
        return self.sources.meta.get(key)


@dataclass(frozen=True)
class TargetReport:
    """A target on one stack.

    numbers : as `report.record` writes them; text : for a circular; chart : the finding chart
    """

    stack: str
    numbers: dict[str, Any]
    text: str
    chart: Picture | None

    @property
    def covered(self) -> bool:
        """Whether the stack shows its position."""
        return self.numbers.get("verdict") != "not covered"

    @property
    def words(self) -> str:
        """The magnitude with its error, or the limit: ``H = 18.34 ± 0.10 AB``."""
        known = {key: v for key, v in self.numbers.items() if isinstance(v, int | float)}
        band, system = self.numbers.get("band"), self.numbers.get("system")
        if "mag" in known:
            err = math.hypot(known.get("mag_err", 0.0), known.get("mag_sys_err", 0.0))
            return f"{band} = {known['mag']:.2f} ± {err:.2f} {system}"
        if "limit_3sigma" in known:
            return f"{band} > {known['limit_3sigma']:.1f} {system}"
        return "–"


@dataclass(frozen=True)
class Photometry:
    """Of one stack. `figures` : (what it is, picture)."""

    catalogs: list[Measured] = field(default_factory=list)
    targets: list[TargetReport] = field(default_factory=list)
    figures: list[tuple[str, Picture]] = field(default_factory=list)


def photometry(coadd: Path) -> Photometry:
    """What is beside a stack; what cannot be read is as if it were not there."""
    name = stem(coadd)
    catalogs = [read for path in _newest_last(coadd, f"{name}.*.ecsv") if (read := _sources(path))]
    pages = (("Calibration", "calibration"), ("Depth and PSF", "depth"))
    figures = [
        (words, picture)
        for words, kind in pages
        for path in _newest_last(coadd, f"{name}.*.{kind}.png")
        if (picture := figure(path))
    ]
    reports = _newest_last(coadd, "*_Report_*.json")
    targets = [found for path in reports if (found := _target(path, name))]
    return Photometry(catalogs, targets, figures)


def depth_of(coadd: Path) -> float:
    """5 sigma of a stack's latest catalogue, mag, from the head of its file; NaN without."""
    for path in reversed(_newest_last(coadd, f"{stem(coadd)}.*.ecsv")):
        with path.open(encoding="utf-8", errors="replace") as file:
            found = DEPTH.search(file.read(HEAD))
        if found:
            return float(found[1])
    return math.nan


def marks(measured: Photometry, sky: Sky) -> dict[str, list[tuple[float, float, str]]]:
    """What to lay over a preview: `stars` of the catalogue, `others` that it lacks, `targets`."""
    found: dict[str, list[tuple[float, float, str]]] = {"stars": [], "others": [], "targets": []}
    if measured.catalogs:
        catalog = measured.catalogs[-1]
        band = str(catalog["band"] or "")
        table = catalog.sources
        mag = _numbers(table, f"{band}MAG_PSF")
        known = np.isfinite(_numbers(table, f"{band}MAG_CAT"))
        x, y = sky.place(_numbers(table, "ALPHA_J2000"), _numbers(table, "DELTA_J2000"))
        for kind, which in (("stars", known), ("others", ~known)):
            chosen = np.flatnonzero(which & np.isfinite(x) & np.isfinite(mag))
            for k in chosen[np.argsort(mag[chosen])][:MARKS]:
                found[kind].append((round(x[k], 1), round(y[k], 1), f"{band} = {mag[k]:.2f}"))
    for target in measured.targets:
        ra, dec = target.numbers.get("ra_deg"), target.numbers.get("dec_deg")
        if target.covered and isinstance(ra, float) and isinstance(dec, float):
            x, y = (float(v) for v in sky.place(ra, dec))
            found["targets"].append((round(x, 1), round(y, 1), str(target.numbers.get("target"))))
    return found


def _newest_last(coadd: Path, pattern: str) -> list[Path]:
    return sorted(coadd.parent.glob(pattern), key=lambda path: path.stat().st_mtime)


def _sources(path: Path) -> Measured | None:
    try:
        table = Table.read(path, format="ascii.ecsv")
    except (OSError, ValueError):
        return None
    return Measured(path, table) if "ALPHA_J2000" in table.colnames else None


def _target(path: Path, stack: str) -> TargetReport | None:
    """What a report says, if it is of this stack."""
    try:
        numbers = json.loads(path.read_text(encoding="utf-8"))
        text = path.with_suffix(".txt").read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        return None
    if not isinstance(numbers, dict) or numbers.get("stack") != stack:
        return None
    chart = path.with_name(path.name.replace("_Report_", "_Chart_")).with_suffix(".png")
    return TargetReport(stack, numbers, text, figure(chart))


def _numbers(table: Table, name: str) -> Any:
    if name not in table.colnames:
        return np.full(len(table), math.nan)
    return np.ma.filled(np.ma.asarray(table[name], float), math.nan)
