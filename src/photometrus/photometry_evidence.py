"""What speaks for the magnitudes of a stack, or against them: for its two pages of photometry.

Numbers, small maps and tables that the recipe has when it is done; the pages measure nothing.
Magnitudes are in `PhotometryEvidence.system`, positions in pixels of the stack from 0.
"""

from dataclasses import dataclass, field

from astropy.table import Table

from photometrus.evidence import Map
from photometrus.frame import Image

NAN = float("nan")


@dataclass(frozen=True)
class Line:
    """A straight line, intercept + slope (x - pivot), with errors of 1 sigma."""

    slope: float
    slope_err: float
    pivot: float
    intercept: float = 0.0
    intercept_err: float = 0.0


@dataclass(frozen=True, eq=False)
class Calibration:
    """The zero point, and the stars that it is of.

    A star's magnitude is its instrumental one, + zero_point, + the colour's line at its colour,
    + the position term at its place.
    """

    survey: str
    zero_point: float
    err_stat: float
    err_sys: float
    scatter: float
    """Of one star about the solution, mag."""
    n_stars: int
    """That were used."""
    stars: Table
    """Of all that were matched: x, y; mag, mag_err (the catalogue's, in the stack's band),
    color (mag, NaN where not known); residual (magnitude from the stack less the catalogue's, all
    terms applied); used; reason (why not used; what follows a colon is for one star)."""
    trend: Line | None = None
    """Of the residuals of used stars with magnitude."""
    color_term: Line | None = None
    color: str = ""
    """Name of the colour: J − H."""
    position: Map | None = None
    """What the position term adds to magnitudes; None when the stars do not support one."""


@dataclass(frozen=True, eq=False)
class Depth:
    """How faint the stack sees a star."""

    limit_5sigma: float
    """Of the whole stack (median), mag."""
    limit_3sigma: float
    limits: Map
    """5 sigma limit in cells of the stack, mag."""
    completeness: Table | None = None
    """Of injected stars: mag, injected, recovered (numbers)."""
    limit50: float = NAN
    """Where half of them are recovered, mag."""
    limit50_err: float = NAN


@dataclass(frozen=True, eq=False)
class Stamp:
    """The PSF at a place of the stack: float (side, side), of flux 1."""

    x: float
    y: float
    values: Image


@dataclass(frozen=True, eq=False)
class PsfEvidence:
    """The PSF and how well it fits."""

    stamps: list[Stamp]
    """At 3 x 3 places, in any order."""
    residual: Image | None
    """Mean of star less model over stars of the stack, each of flux 1; None when not known."""
    n_stars: int
    """That the model was fitted to."""
    fwhm_arcsec: Map
    ellipticity: Map
    """1 - b/a."""
    angle_deg: Map
    """Of the long axis, counter-clockwise from +x; in the cells of `ellipticity`."""


@dataclass(frozen=True)
class Place:
    """A target in the stack, and how faint it could be seen there."""

    name: str
    x: float
    y: float
    limit_5sigma: float = NAN


@dataclass(frozen=True, eq=False)
class PhotometryEvidence:
    """What the pages of a stack's photometry show."""

    stack: str
    """Its name."""
    band: str
    shape: tuple[int, int]
    """(ny, nx), pixels."""
    system: str
    """AB or Vega; empty when there is no zero point and magnitudes are instrumental."""
    sources: Table
    """Of all sources: mag_psf, mag_psf_err, stellarity (0 galaxy to 1 star), flags."""
    depth: Depth
    calibration: Calibration | None = None
    refusal: str = ""
    """Why there is no calibration."""
    psf: PsfEvidence | None = None
    target: Place | None = None
    notes: list[str] = field(default_factory=list)
