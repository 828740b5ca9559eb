"""The point-spread function of a stack: what a star of unit flux looks like, anywhere on it."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from photometrus.kernels.psf import star_grid, star_image

Array = NDArray[Any]
DIRECTIONS = 24
"""In so many directions the half maximum is looked for."""


@dataclass(frozen=True, eq=False)
class Psf:
    """A spatially varying PSF; its sum within `reference_pix` of the star is 1 everywhere.

    cube : float32 (n_terms, g, g), B-spline coefficients of each term of a polynomial in (x, y)
    step : grid points per pixel
    frame : float64 (4,), middle x, y and half widths of the image, to which x, y are scaled
    half : largest half width of a stamp
    """

    cube: Array
    step: int
    frame: Array
    half: int
    fwhm_pix: float
    """In the middle of the image."""
    reference_pix: float
    n_stars: int = 0
    degree: int = 0
    residual_rms: float = 0.0
    """Of the PSF stars' cores, as a fraction of a star's local brightness, noise taken out."""
    stars: Table = field(default_factory=Table)
    """The stars that it is made of: x, y, flux (ADU), chi2 (reduced, of the core)."""
    notes: list[str] = field(default_factory=list)

    def grid(self, x: float, y: float) -> Array:
        """The local grid of spline coefficients: float32 (g, g)."""
        out = np.zeros((self.cube.shape[1], self.cube.shape[1]), np.float32)
        star_grid(self.cube, float(x), float(y), self.frame, out.shape[0], out)
        return out

    def moved(self, x0: float, y0: float) -> "Psf":
        """The PSF of a part of the image that begins at x0, y0."""
        return replace(self, frame=self.frame - np.array([x0, y0, 0.0, 0.0]))

    def planes(self, x: float, y: float, half: int, number: int) -> Array:
        """A star of unit flux; its derivatives by x, by y; its Laplacian: the first `number`.

        float64 (number, 2 half + 1, 2 half + 1), centred on pixel (round(x), round(y))
        """
        half = min(half, self.half)
        out = np.empty((number, 2 * half + 1, 2 * half + 1))
        dx, dy = x - np.floor(x + 0.5), y - np.floor(y + 0.5)
        star_image(self.grid(x, y), self.step, dx, dy, half, out)
        return out

    def stamp(self, x: float, y: float, half: int | None = None) -> Array:
        """A star of unit flux at 0-based x, y: float32 (2 half + 1, 2 half + 1).

        Its middle pixel is (floor(x + 0.5), floor(y + 0.5)); half is at most `self.half`.
        """
        image: Array = self.planes(x, y, self.half if half is None else half, 1)[0]
        return image.astype(np.float32)

    def noise_area(self, x: float, y: float) -> float:
        """1 / sum(psf^2): so many sky pixels' noise is in the flux of a faint star."""
        return float(1.0 / np.sum(self.planes(x, y, self.half, 1) ** 2))

    def enclosed(self, x: float, y: float, radius: float) -> float:
        """The fraction of a star's flux within `radius` pixels (grid points, shared at the rim)."""
        half = self.cube.shape[1] // 2
        axis = np.arange(-half, half + 1)
        grid = self.grid(x, y)
        # Spline coefficients sum to the same as the values that they stand for.
        return float((grid * disc(axis, radius * self.step)).sum() / self.step**2)

    def shape_at(self, x: float, y: float) -> tuple[float, float, float]:
        """FWHM (pix, geometric mean of the axes), 1 - b/a, position angle (deg, ccw from +x)."""
        return half_maximum(self.grid(x, y), self.step)

    def fwhm_at(self, x: float, y: float) -> float:
        """FWHM in pixels, the geometric mean of the two axes."""
        return self.shape_at(x, y)[0]

    def ellipticity_at(self, x: float, y: float) -> float:
        """1 - b/a of the contour at half maximum."""
        return self.shape_at(x, y)[1]


def disc(axis: Array, radius: float) -> Array:
    """How much of each grid point lies within a circle: 1 inside, 0 outside, shared at the rim."""
    return np.clip(radius + 0.5 - np.hypot(axis[:, None], axis[None, :]), 0.0, 1.0)


def half_maximum(coefficients: Array, step: int) -> tuple[float, float, float]:
    """FWHM (pix), ellipticity and angle (deg) of the ellipse through the half maximum."""
    c = coefficients.shape[0] // 2
    angles = np.arange(DIRECTIONS) * 2 * np.pi / DIRECTIONS
    radii = np.arange(0, c - 2, 0.05)
    rows = c + radii[:, None] * np.sin(angles)
    columns = c + radii[:, None] * np.cos(angles)
    profile = map_coordinates(coefficients, [rows, columns], order=3, prefilter=False)
    below = profile < 0.5 * profile[0]
    first = np.maximum(np.argmax(below, axis=0), 1)
    each = np.arange(DIRECTIONS)
    inner, outer = profile[first - 1, each], profile[first, each]
    t = (inner - 0.5 * profile[0]) / np.maximum(inner - outer, 1e-12)
    radius = (radii[first - 1] + 0.05 * np.clip(t, 0, 1)) / step
    design = np.stack([np.ones(DIRECTIONS), np.cos(2 * angles), np.sin(2 * angles)], axis=1)
    mean, cosine, sine = np.linalg.lstsq(design, radius**-2.0, rcond=None)[0]
    part = min(float(np.hypot(cosine, sine)), 0.99 * float(mean))
    major, minor = (mean - part) ** -0.5, (mean + part) ** -0.5
    angle = 0.5 * np.degrees(np.arctan2(-sine, -cosine))
    return float(2 * np.sqrt(major * minor)), float(1 - minor / major), float(angle)
