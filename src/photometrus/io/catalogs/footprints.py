"""Where surveys looked, for choosing among them without a network.

The maps of VHS and VIKING are the published ones (``mocs/``). The other footprints are drawn
from the surveys' papers as boxes, circles and a polygon; what is patchy inside is not known here,
so that a survey may lack a field that its outline holds, and the next one is to be asked then.
"""

from dataclasses import dataclass
from functools import cache
from importlib import resources

import astropy_healpix as healpix
import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from numpy.typing import NDArray

from photometrus.io.catalogs.columns import separation_deg

Degrees = NDArray[np.float64]
MOC_ORDER = 29
"""Positions are numbered at the finest order that fits an int64."""
POINTS = 800
"""A fraction of a circle is counted with as many points: exact to about 1/800."""


@dataclass(frozen=True)
class Box:
    """Longitudes from west to east (through 0 when the first is larger) and latitudes, degrees."""

    west: float
    east: float
    south: float
    north: float
    galactic: bool = False

    def holds(self, ra: Degrees, dec: Degrees) -> NDArray[np.bool_]:
        """Whether positions (degrees) are in it."""
        lon, lat = ra, dec
        if self.galactic:
            at = SkyCoord(ra, dec, unit="deg").galactic
            lon, lat = at.l.deg, at.b.deg
        width = (self.east - self.west) % 360.0 or 360.0
        inside = (lon - self.west) % 360.0 <= width
        return np.asarray(inside & (lat >= self.south) & (lat <= self.north))


@dataclass(frozen=True)
class Circle:
    """A circle on the sky, degrees."""

    ra: float
    dec: float
    radius: float

    def holds(self, ra: Degrees, dec: Degrees) -> NDArray[np.bool_]:
        """Whether positions (degrees) are in it."""
        return np.asarray(separation_deg(ra, dec, self.ra, self.dec) <= self.radius)


@dataclass(frozen=True)
class Polygon:
    """Corners in RA (which may be negative) and Dec, edges straight in these coordinates."""

    corners: tuple[tuple[float, float], ...]

    def holds(self, ra: Degrees, dec: Degrees) -> NDArray[np.bool_]:
        """Whether positions (degrees) are in it."""
        x = (ra + 180.0) % 360.0 - 180.0
        inside = np.zeros(x.shape, bool)
        for (x1, y1), (x2, y2) in zip(
            self.corners, (*self.corners[1:], self.corners[0]), strict=True
        ):
            if y1 != y2:
                crosses = (y1 > dec) != (y2 > dec)
                inside ^= crosses & (x < x1 + (dec - y1) * (x2 - x1) / (y2 - y1))
        return inside


@dataclass(frozen=True)
class Map:
    """A multi-order coverage map (IVOA MOC 2.0) beside this file."""

    name: str

    def holds(self, ra: Degrees, dec: Degrees) -> NDArray[np.bool_]:
        """Whether positions (degrees) are in it."""
        first, last = _ranges(self.name)
        at = healpix.lonlat_to_healpix(ra * u.deg, dec * u.deg, 2**MOC_ORDER, order="nested")
        i = np.searchsorted(first, at, side="right") - 1
        return np.asarray((i >= 0) & (at < last[np.maximum(i, 0)]))


@cache
def _ranges(name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The map's cells as sorted ranges [first, last) of the finest order."""
    with (
        resources.as_file(resources.files(__package__) / "mocs" / name) as path,
        fits.open(path) as hdus,
    ):
        order, cell = healpix.uniq_to_level_ipix(hdus[1].data["UNIQ"].astype(np.int64))
    shift = 2 * (MOC_ORDER - np.asarray(order, np.int64))
    first = np.sort(np.asarray(cell, np.int64) << shift)
    along = np.argsort(np.asarray(cell, np.int64) << shift)
    return first, first + (np.int64(1) << shift[along])


Shape = Box | Circle | Polygon | Map
SKY = (Box(0.0, 360.0, -90.0, 90.0),)
_VVV = (  # Minniti et al. 2010, New Astronomy 15, 433: bulge and southern disc
    Box(350.0, 10.4, -10.3, 5.1, galactic=True),
    Box(294.7, 350.0, -2.25, 2.25, galactic=True),
)
_DES = Polygon(
    # The survey's own outline, round 19, without the points along its straight or smooth edges.
    (
        *((23.0, -7.0), (0.0, -7.0), (0.0, -2.0), (-43.0, -2.0), (-43.0, 2.0), (0.0, 2.0)),
        *((0.0, 5.0), (45.0, 5.0), (45.0, -9.0), (50.0, -9.9), (55.0, -11.2), (60.0, -13.9)),
        *((64.2, -16.9), (66.0, -18.0), (86.0, -18.0), (88.7, -22.0), (90.5, -28.0)),
        *((92.2, -33.9), (94.0, -39.5), (95.8, -44.8), (97.2, -48.8), (98.5, -53.4)),
        *((99.0, -57.6), (98.2, -61.3), (84.0, -61.5), (69.2, -65.6), (65.3, -66.9)),
        *((49.8, -66.9), (40.4, -66.5), (23.4, -65.5), (4.0, -65.0), (-57.0, -65.0)),
        *((-56.0, -60.0), (-60.0, -60.0), (-60.0, -52.5), (-58.4, -50.0), (-55.0, -50.0)),
        *((-54.0, -40.0), (-3.0, -40.0), (-1.5, -38.6), (0.0, -35.1), (2.6, -30.1)),
        *((5.5, -25.5), (8.9, -21.2), (12.6, -17.5), (17.1, -14.2), (23.0, -11.2)),
    )
)
_CLUSTERS = tuple(
    # Lawrence et al. 2007, MNRAS 379, 1599: areas, here as the circle of half that area
    Circle(ra, dec, round((area / 2.0 / np.pi) ** 0.5, 2))
    for ra, dec, area in (
        *((266.5, 5.7, 3.1), (56.75, 24.1, 79.0), (51.1, 49.0, 50.0), (130.0, 19.7, 28.0)),
        *((82.2, -2.6, 154.0), (242.5, -23.0, 154.0), (66.75, 15.9, 291.0), (186.0, 26.0, 79.0)),
    )
)
FOOTPRINTS: dict[str, tuple[Shape, ...]] = {
    "VHS": (Map("vhs-dr6.fits"),),
    "VIKING": (Map("viking-dr5.fits"),),
    "VVV": _VVV,
    "VIRAC2": _VVV,
    "LAS": (  # Lawrence et al. 2007: inner parts of the equatorial block, and stripe 82
        Box(125.0, 233.0, 0.0, 14.0),
        Box(328.0, 58.0, -1.2, 1.2),
    ),
    "UHS": (Box(0.0, 360.0, 0.0, 60.0),),  # Dye et al. 2018, MNRAS 473, 5113: less UKIDSS
    "GCS": _CLUSTERS,
    "GPS": (  # Lucas et al. 2008, MNRAS 391, 136
        Box(15.0, 107.0, -5.0, 5.0, galactic=True),
        Box(141.0, 230.0, -5.0, 5.0, galactic=True),
        Box(358.0, 15.0, -2.0, 2.0, galactic=True),
    ),
    "PS1": (Box(0.0, 360.0, -30.0, 90.0),),  # Chambers et al. 2016, arXiv:1612.05560
    "SDSS": (  # Ahumada et al. 2020, ApJS 249, 3: inner parts of the two caps, and stripe 82
        Box(130.0, 230.0, 0.0, 55.0),
        Box(330.0, 30.0, 0.0, 20.0),
        Box(310.0, 59.0, -1.2, 1.2),
    ),
    "SkyMapper": (Box(0.0, 360.0, -90.0, 2.0),),  # Onken et al. 2024: complete to there
    "DES": (_DES,),
    "2MASS": SKY,
    "Gaia": SKY,
}


def coverage(survey: str, ra_deg: float, dec_deg: float, radius_deg: float) -> float:
    """The fraction of a circle on the sky that lies in a survey's footprint (0 .. 1)."""
    ra, dec = points_in(ra_deg, dec_deg, radius_deg)
    inside = np.zeros(ra.shape, bool)
    for shape in FOOTPRINTS[survey]:
        inside |= shape.holds(ra, dec)
    return float(inside.mean())


def points_in(ra_deg: float, dec_deg: float, radius_deg: float) -> tuple[Degrees, Degrees]:
    """Points spread evenly over a circle on the sky, as a sunflower's seeds are; degrees."""
    i = np.arange(POINTS)
    # Even in area on the sphere: 1 - cos of the distance grows evenly.
    apart = np.arccos(1.0 - (i + 0.5) / POINTS * (1.0 - np.cos(np.radians(radius_deg))))
    turn = i * np.pi * (3.0 - 5.0**0.5)
    centre = SkyCoord(ra_deg, dec_deg, unit="deg")
    at = centre.directional_offset_by(turn * u.rad, apart * u.rad)
    return at.ra.deg, at.dec.deg
