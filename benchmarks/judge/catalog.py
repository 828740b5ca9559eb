"""A published catalogue, and which of its sources is which of the truth."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from scipy.spatial import cKDTree

from helpers import Array, to_plane
from judge.truth import Truth
from photometrus.errors import MissingInput

MATCH_ARCSEC = 1.0
SATURATED = 4


@dataclass(frozen=True, eq=False)
class Catalog:
    """A catalogue with the columns that `photometrus photometry` publishes.

    offset : published minus the truth's magnitudes, because of their systems
    """

    path: Path
    table: Table
    band: str
    offset: float

    @property
    def meta(self) -> Mapping[str, Any]:
        """Of the file."""
        return self.table.meta

    def column(self, name: str) -> Array:
        """A column as float64, NaN where it is masked; MissingInput when it is not there."""
        if name not in self.table.colnames:
            raise MissingInput(f"{self.path}: no column {name}")
        return np.ma.filled(np.ma.asarray(self.table[name].data).astype(float), np.nan)

    def magnitudes(self, kind: str) -> tuple[Array, Array]:
        """PSF, APER or AUTO magnitudes in the truth's system, and their errors."""
        name = f"{self.band}MAG_{kind}"
        return self.column(name) - self.offset, self.column(f"e_{name}")

    def has(self, kind: str) -> bool:
        """Whether there are such magnitudes."""
        return f"{self.band}MAG_{kind}" in self.table.colnames

    @property
    def zero_point_err(self) -> float:
        """Quoted: statistical and systematic together; NaN when it is not said."""
        parts = [float(self.meta.get(name, np.nan)) for name in ("stat_err", "sys_err")]
        return float(np.hypot(*parts))


def read_catalog(path: Path, band: str, offset: float | None = None) -> Catalog:
    """An ECSV; the truth is in Vega magnitudes, `offset` says otherwise."""
    if not path.is_file():
        raise MissingInput(f"{path}: no such catalogue; run photometrus photometry first")
    table = Table.read(path)
    if offset is None:
        in_ab = str(table.meta.get("system", "")) == "AB"
        offset = float(table.meta.get("ab_minus_vega", np.nan)) if in_ab else 0.0
    return Catalog(path, table, band, offset)


def match(catalog: Catalog, truth: Truth) -> tuple[Array, tuple[float, float]]:
    """For each source of the truth its row in the catalogue, or -1; and the shift taken out.

    Mutual nearest neighbours within an arcsecond, after the median shift (east, north, arcsec)
    of the first round. Sources of the truth that are fainter than the catalogue by far cannot take
    a place: those more than two magnitudes below its faintest are left out.
    """
    mag, _ = catalog.magnitudes("PSF")
    bright = np.flatnonzero(truth.mag < np.nanmax(mag) + 2.0)
    places = np.stack(truth.plane, axis=1)[bright]
    ra, dec = catalog.column("ALPHA_J2000"), catalog.column("DELTA_J2000")
    sources = np.stack(to_plane(ra, dec, truth.centre), axis=1)
    shift = np.zeros(2)
    for _ in range(2):
        tree = cKDTree(sources - shift)
        distance, row = tree.query(places, distance_upper_bound=MATCH_ARCSEC)
        found = np.flatnonzero(np.isfinite(distance))
        _, back = cKDTree(places).query((sources - shift)[row[found]])
        mutual = found[back == found]
        shift = shift + np.median(sources[row[mutual]] - shift - places[mutual], axis=0)
    rows = np.full(truth.mag.size, -1)
    rows[bright[mutual]] = row[mutual]
    return rows, (float(shift[0]), float(shift[1]))
