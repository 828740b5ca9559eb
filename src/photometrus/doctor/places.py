"""Folders on this machine: where products go, where flats, distortions and catalogues are kept."""

import os
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from photometrus.config import Config
from photometrus.distortion_store import OFF
from photometrus.distortion_store import store_folder as distortions_folder
from photometrus.doctor.finding import Finding
from photometrus.flats import store_folder as flats_folder
from photometrus.instrument import BANDS, CHIPS
from photometrus.io.catalogs.tiles import default_cache
from photometrus.products import FLAT_NAME

RAMP_BYTES = 300_000_000
"""A full-size ramp (67 MB) with all products on its way."""
FEW_RAMPS, ENOUGH_RAMPS = 4, 120
"""Nothing can be made of fewer; a usual observation of four chips has no more."""
DISTORTION = re.compile(r"distortion\.(?P<band>\w)\.C(?P<chip>\d)\.json")


def examine(config: Config, parent: Path) -> Iterator[Finding]:
    """The disk below `parent`, and the stores."""
    yield disk(parent)
    yield flats(flats_folder(config.input.flat_dir), asked=config.run.flat_field)
    yield distortions(distortions_folder(config.input.distortion_dir))
    yield tiles(Path(config.input.cache) if config.input.cache else default_cache())


def disk(parent: Path) -> Finding:
    """Whether products can be written, and how many."""
    there = _existing(parent)
    if not os.access(there, os.W_OK | os.X_OK):
        return Finding(
            "disk", "problem", f"{there}: not writable", "give another folder with -parent"
        )
    free = shutil.disk_usage(there).free
    n_ramps = free // RAMP_BYTES
    words = f"{_size(free)} free at {there.absolute()}: about {n_ramps} ramps with all products"
    if n_ramps >= ENOUGH_RAMPS:
        return Finding("disk", "ok", words)
    return Finding(
        "disk",
        "problem" if n_ramps < FEW_RAMPS else "warning",
        words,
        "free some space, give another -parent, or reduce with -keep final",
    )


def flats(folder: Path, *, asked: bool) -> Finding:
    """Which master flats there are."""
    nights: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(folder.glob("mflat.*.fits")):
        match = FLAT_NAME.match(path.name)
        if match:
            nights[match["band"]][int(path.name.rpartition(".C")[2][0])].append(match["date"])
    shut = _shut(folder)
    if shut and asked:
        return Finding("flats", "warning", shut, "give -flat_dir or $PHOTOMETRUS_FLATS")
    if not nights:
        return Finding(
            "flats", "warning", f"none in {folder}; they are made of the archive's FLAT ramps",
            "photometrus process autoflat -date YYYYMMDD -band J makes them before they are needed",
        )  # fmt: skip
    told = []
    for band in BANDS:
        dates = sorted({date for found in nights[band].values() for date in found})
        chips = "".join(str(chip) for chip in CHIPS if nights[band][chip])
        told.append(f"{band} {f'C{chips} to {dates[-1]}' if dates else 'none'}")
    return Finding("flats", "ok", f"{', '.join(told)} ({folder})")


def distortions(folder: Path | None) -> Finding:
    """Which distortions earlier nights have left."""
    if folder is None:
        return Finding("distortions", "ok", f"not kept, as $PHOTOMETRUS_DISTORTIONS={OFF} wants")
    shut = _shut(folder)
    if shut:
        return Finding(
            "distortions", "warning", shut, f"give $PHOTOMETRUS_DISTORTIONS, a folder or {OFF}"
        )
    found: dict[str, str] = defaultdict(str)
    for path in sorted(folder.glob("distortion.*.json")):
        match = DISTORTION.fullmatch(path.name)
        if match:
            found[match["band"]] += match["chip"]
    words = ", ".join(f"{band} C{chips}" for band, chips in found.items())
    return Finding(
        "distortions", "ok", f"{words or 'none yet, they come by themselves'} ({folder})"
    )


def tiles(folder: Path) -> Finding:
    """Which catalogues are on this machine."""
    shut = _shut(folder)
    if shut:
        return Finding("catalogues here", "warning", shut, "give $PHOTOMETRUS_CACHE")
    kept = {path.name: sum(1 for _ in path.glob("*.fits")) for path in sorted(folder.glob("*.v*"))}
    words = ", ".join(f"{name.partition('.')[0]} {n} tiles" for name, n in kept.items() if n)
    return Finding(
        "catalogues here", "ok", f"{words or 'none yet, they come when asked'} ({folder})"
    )


def _shut(folder: Path) -> str:
    """Why nothing can be kept in a folder; nothing when it can."""
    there = _existing(folder)
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return ""
    return f"{there}: not {'writable' if there.is_dir() else 'a folder'}; nothing can be kept there"


def _existing(path: Path) -> Path:
    path = path.absolute()
    return next(one for one in (path, *path.parents) if one.exists())


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.0f} GB" if n_bytes >= 1e10 else f"{n_bytes / 1e9:.1f} GB"
