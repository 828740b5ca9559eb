"""A night of several fields in several bands, as one archive."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from astropy.table import Table, vstack

from photometrus.products import log_name
from photometrus.simulate.night import SimulateConfig, simulate_night

LOG_FOLDER = "nfs/prime01/work/LOG/Ramp_LOG"
SERIALS = 4000
"""Between one field and the next; more than a small observation has."""


def many_fields(root: Path, parts: Sequence[SimulateConfig]) -> Path:
    """One archive of all parts of a night: ramps, one log, FLATs once per band, one catalogue."""
    lines: dict[str, str] = {}
    catalogs: dict[str, Table] = {}
    banded: set[str] = set()
    for number, part in enumerate(parts):
        own = replace(
            part,
            first_serial=1_600_000 + SERIALS * number,
            flats=0 if part.band in banded else part.flats,
            log_dirt=False,
        )
        banded.add(part.band)
        folder = simulate_night(root / "parts" / f"{number:02d}", own)
        header, *rows = (folder / LOG_FOLDER / log_name(part.night)).read_text().splitlines()
        lines |= {row.split()[1]: row for row in rows}
        for path in folder.glob("nfs/xion4/**/*.ramp"):
            place = root / path.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, place)
        catalogs[part.target] = Table.read(folder / "refcat_2mass.fits")
    log = root / LOG_FOLDER / log_name(parts[0].night)
    log.parent.mkdir(parents=True)
    log.write_text("\n".join([header, *(lines[name] for name in sorted(lines))]) + "\n")
    vstack(list(catalogs.values()), metadata_conflicts="silent").write(root / "refcat.fits")
    return root


def fields(n_fields: int, bands: Sequence[str], **values: object) -> list[SimulateConfig]:
    """Every field in every band; fields are far enough from each other to share no star."""
    return [
        SimulateConfig(
            target=f"field{1111 * (k + 1)}", band=band, ra_deg=201.3 + 3.0 * k, seed=k + 1, **values
        )
        for band in bands
        for k in range(n_fields)
    ]
