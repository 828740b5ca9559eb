"""What surveys answered, kept by HEALPix tile: a field that was asked once costs no network again.

One file per survey and tile (nested order 7: 0.46 deg a side), written whole or not at all, so
that several processes may fill the folder at once. What is missing is asked for in one circle
around the missing tiles, and in halves of them when a service says that this is too much; every
tile that lies wholly in a circle that was answered is kept.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import Table, vstack
from astropy_healpix import HEALPix

from photometrus.errors import ServiceError, StorageError, UsageError
from photometrus.io.catalogs.columns import place, separation_deg
from photometrus.io.catalogs.files import read
from photometrus.io.whole import whole

log = logging.getLogger(__name__)

CACHE_VARIABLE = "PHOTOMETRUS_CACHE"
TILES = HEALPix(nside=2**7, order="nested")
FORMAT = 1
"""Part of the folder's name: raised when what is kept of a survey changes."""
MARGIN_DEG = 1e-3
"""More than any position is moved by rounding, or a tile's edge bends between two corners."""

Cone = tuple[float, float, float]
"""RA, Dec and radius, degrees."""
Ask = Callable[[Cone], Table]


class TooManyRows(ServiceError):  # noqa: N818 - reads as a sentence where it is raised
    """A service gives fewer rows than there are: ask for less of the sky."""


def default_cache() -> Path:
    """$PHOTOMETRUS_CACHE, or ``photometrus`` in the user's cache folder."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "photometrus"


def cached(survey: str, cone: Cone, folder: Path, ask: Ask) -> Table:
    """A survey's rows in all tiles that a cone touches: from the folder, else asked for."""
    here = folder / f"{survey}.v{FORMAT}"
    wanted = tiles_of(cone)
    found = {tile: rows for tile in wanted if (rows := _kept(here / f"{tile}.fits")) is not None}
    missing = [tile for tile in wanted if tile not in found]
    if found:
        log.info("%s: %d of %d tiles from %s", survey, len(found), len(wanted), here)
    if missing:
        found |= _fetch(missing, ask, here)
    return vstack([found[tile] for tile in wanted], metadata_conflicts="silent")


def tiles_of(cone: Cone) -> list[int]:
    """The tiles that a cone touches."""
    ra, dec, radius = cone
    # The search may miss tiles that are touched between their corners: a wider one, then exact.
    near = TILES.cone_search_lonlat(ra * u.deg, dec * u.deg, (radius + 0.7) * u.deg)
    lon, lat = TILES.boundaries_lonlat(near, 16)
    apart = separation_deg(lon.to_value(u.deg), lat.to_value(u.deg), ra, dec).min(axis=1)
    own = TILES.lonlat_to_healpix(ra * u.deg, dec * u.deg)
    return sorted({int(own), *(int(tile) for tile in near[apart <= radius + 0.02])})


def tiles_in(cone: Cone) -> list[int]:
    """The tiles that lie wholly in a cone."""
    ra, dec, radius = cone
    near = TILES.cone_search_lonlat(ra * u.deg, dec * u.deg, radius * u.deg)
    return [int(tile) for tile in near[_reach(near, ra, dec) <= radius - MARGIN_DEG]]


def around(tiles: list[int]) -> Cone:
    """The cone around tiles, in numbers of six decimals, as it is asked for."""
    xyz = np.array(TILES.healpix_to_xyz(np.array(tiles))).mean(axis=1)
    ra = round(float(np.degrees(np.arctan2(xyz[1], xyz[0]))) % 360.0, 6)
    dec = round(float(np.degrees(np.arctan2(xyz[2], np.hypot(xyz[0], xyz[1])))), 6)
    radius = float(_reach(np.array(tiles), ra, dec).max()) + 2 * MARGIN_DEG
    return ra, dec, round(radius, 6)


def halves(tiles: list[int]) -> tuple[list[int], list[int]]:
    """Tiles parted across the direction in which they stretch farthest."""
    xyz = np.array(TILES.healpix_to_xyz(np.array(tiles))).T
    off = xyz - xyz.mean(axis=0)
    along = off @ np.linalg.svd(off, full_matrices=False)[2][0]
    order = [tiles[i] for i in np.argsort(along, kind="stable")]
    return order[: len(order) // 2], order[len(order) // 2 :]


def _reach(tiles: np.ndarray, ra: float, dec: float) -> np.ndarray:
    """How far the farthest point of each tile is from a place, degrees."""
    lon, lat = TILES.boundaries_lonlat(tiles, 4)
    return separation_deg(lon.to_value(u.deg), lat.to_value(u.deg), ra, dec).max(axis=1)


def _fetch(tiles: list[int], ask: Ask, here: Path) -> dict[int, Table]:
    """Rows per tile, of these tiles and of those that came with them; kept on the way."""
    cone = around(tiles)
    try:
        rows = ask(cone)
    except TooManyRows:
        if len(tiles) == 1:
            raise
        first, second = halves(tiles)
        return _fetch(first, ask, here) | _fetch(second, ask, here)
    if not len(rows):  # nothing at all is more often a fault than a sky without stars
        log.warning("no stars within %.2f deg of %.3f %+.3f: not kept", cone[2], *cone[:2])
        return dict.fromkeys(tiles, rows)
    ra, dec = place(rows)
    rows, ra, dec = (column[np.isfinite(ra + dec)] for column in (rows, ra, dec))
    at = TILES.lonlat_to_healpix(ra * u.deg, dec * u.deg)
    got = {tile: rows[at == tile] for tile in sorted({*tiles_in(cone), *tiles})}
    for tile, part in got.items():
        _keep(part, here / f"{tile}.fits")
    return got


def _kept(path: Path) -> Table | None:
    """A tile's rows; None when there is no such file or none that can be read."""
    if not path.is_file():
        return None
    try:
        return read(path)
    except UsageError as error:
        log.warning("damaged, asking again: %s", error)
        return None


def _keep(rows: Table, path: Path) -> None:
    """Write a tile, whole or not at all; a folder that refuses costs a warning only."""
    try:
        with whole(path) as part:
            rows.write(part, format="fits", overwrite=True)
    except StorageError as error:
        log.warning("not kept: %s", error)
