"""What speaks for the magnitudes of a stack, or against them: for its two pages of photometry.

Numbers, small maps and tables that the recipe has when it is done; the pages measure nothing.
Magnitudes are in `PhotometryEvidence.system`, positions in pixels of the stack from 0.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from astropy.table import Table

from photometrus.evidence import Map
from photometrus.frame import Image

NAN = float("nan")
PLACES = (1 / 6, 1 / 2, 5 / 6)
"""Where the PSF is shown, in units of the stack's sides."""
SHAPE_CELLS = 10
"""Cells along the longer side in which its shape is told."""
STAMP_FWHM = 4.0
"""Half width of its picture."""


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
    """Of all that were matched: x, y; mag, mag_err (the catalogue's); expected (mean of the
    catalogue's and the stack's magnitude by their errors: residuals do not follow its noise); color
    (with `expected` in place of `mag`, for the same reason; NaN where not known); residual
    (catalogue less stack, all terms applied); used; reason (why not used; what follows a colon is
    for one star)."""
    trend: Line | None = None
    """Of the residuals of used stars with `expected`."""
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
    """Star less model, the median of stars of the stack, each of flux 1; None when not known."""
    n_stars: int
    """That the model was fitted to."""
    fwhm_arcsec: Map
    ellipticity: Map
    """1 - b/a."""
    angle_deg: Map
    """Of the long axis, counter-clockwise from +x; in the cells of `ellipticity`."""


class PointSpread(Protocol):
    """A PSF that may vary over the stack."""

    @property
    def half(self) -> int:
        """Largest half width of a stamp, pixels."""

    @property
    def fwhm_pix(self) -> float:
        """In the middle of the stack."""

    @property
    def stars(self) -> Table:
        """That it was fitted to: x, y, flux (ADU)."""

    def stamp(self, x: float, y: float, half: int | None = None) -> Any:
        """A star of flux 1; its middle pixel is the one that x, y lie in."""

    def shape_at(self, x: float, y: float) -> tuple[float, float, float]:
        """FWHM (pix), 1 - b/a, angle of the long axis (deg, ccw from +x)."""


def gather_psf(psf: PointSpread, data: Image, scale_arcsec: float) -> PsfEvidence:
    """The PSF where it is shown, its shape over the stack, and what it leaves of its own stars.

    data : float32 (ny, nx), ADU, background subtracted
    scale_arcsec : of a pixel
    """
    ny, nx = data.shape
    half = min(psf.half, int(np.ceil(STAMP_FWHM * psf.fwhm_pix)))
    places = [(fx * (nx - 1), fy * (ny - 1)) for fy in PLACES for fx in PLACES]
    side = -(-max(ny, nx) // SHAPE_CELLS)
    rows, columns = (np.arange(0, n, side) + (side - 1) / 2 for n in (ny, nx))
    shapes = np.array([[psf.shape_at(x, y) for x in columns] for y in rows])
    return PsfEvidence(
        stamps=[Stamp(x, y, psf.stamp(x, y, half)) for x, y in places],
        residual=_residual(psf, data, half),
        n_stars=len(psf.stars),
        fwhm_arcsec=Map(shapes[..., 0] * scale_arcsec, side),
        ellipticity=Map(shapes[..., 1], side),
        angle_deg=Map(shapes[..., 2], side),
    )


def _residual(psf: PointSpread, data: Image, half: int) -> Image | None:
    """Star less model of flux 1; the median, so that the stars' neighbours do not enter."""
    ny, nx = data.shape
    left = []
    for x, y, flux in psf.stars.iterrows("x", "y", "flux") if len(psf.stars) else ():
        i, j = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
        if half <= i < nx - half and half <= j < ny - half and flux > 0:
            cut = data[j - half : j + half + 1, i - half : i + half + 1]
            left.append(cut / flux - psf.stamp(x, y, half))
    return np.median(left, axis=0) if left else None


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
    """None when nothing could be fitted."""
    refusal: str = ""
    """Why there is no calibration, or why it cannot be trusted."""
    psf: PsfEvidence | None = None
    target: Place | None = None
    notes: list[str] = field(default_factory=list)
