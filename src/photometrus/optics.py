"""The correction to a chip's template: its terms, what is believed of them beforehand, the solver.

East and north each have Legendre terms of the pixel; both share one radial term about the telescope
axis, since that is what the optics of a telescope do.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.wcs import WCS

from photometrus.instrument import CHIP_CRPIX
from photometrus.wcs import crval, fit_tan_sip, from_plane, pixel_to_sky, to_plane

Array = Any  # float64 array
RADIAL_UNIT_ARCSEC = 2500.0
"""From the telescope axis to about the outer corner of a chip."""


def _basis(x: Array, y: Array, degree: int) -> Array:
    """Legendre products of the pixel up to a total degree: float64 (n, terms), in order."""
    u = (np.asarray(x, float) + 1 - CHIP_CRPIX) / 2048.0
    v = (np.asarray(y, float) + 1 - CHIP_CRPIX) / 2048.0
    p = np.polynomial.legendre.legvander(u, degree)
    q = np.polynomial.legendre.legvander(v, degree)
    return np.stack([p[:, i] * q[:, n - i] for n in range(degree + 1) for i in range(n + 1)], 1)


def degrees(degree: int) -> Array:
    """The total degree of each column of `_basis`."""
    return np.array([n for n in range(degree + 1) for _ in range(n + 1)])


@dataclass(frozen=True, eq=False)
class Optics:
    """The shape of the correction to a chip's template: Legendre terms, and one radial term."""

    axis_pix: tuple[float, float]
    """Where the telescope axis falls (0-based pixel, outside the chip)."""
    degree: int

    def basis(self, x: Array, y: Array) -> Array:
        """Legendre terms: float64 (n, terms)."""
        return _basis(x, y, self.degree)

    def radial(self, wcs: WCS, x: Array, y: Array, centre: tuple[float, float]) -> Array:
        """Displacement (east, north), float64 (n, 2), cubic, 1 at 2500" from the axis.

        In the plane about `centre`: near a pole its north is not that of the frame.
        """
        matrix = _plane_matrix(wcs, centre)
        offset = np.stack([np.asarray(x) - self.axis_pix[0], np.asarray(y) - self.axis_pix[1]])
        vector = matrix @ offset / RADIAL_UNIT_ARCSEC
        return (vector * (vector**2).sum(axis=0)).T

    def apply(self, wcs: WCS, terms: Array, radial: float, centre: tuple[float, float]) -> WCS:
        """The WCS with a correction added, as TAN-SIP.

        terms : float64 (terms, 2), arcsec east and north in the plane about `centre`
        """
        grid = np.linspace(0, 2 * (CHIP_CRPIX - 1), 21)
        x, y = (g.ravel() for g in np.meshgrid(grid, grid))
        xi, eta = to_plane(*pixel_to_sky(wcs, x, y), centre)
        change = self.basis(x, y) @ terms + radial * self.radial(wcs, x, y, centre)
        ra, dec = from_plane(xi + change[:, 0], eta + change[:, 1], centre)
        return fit_tan_sip(x, y, ra, dec, crval(wcs))


def _plane_matrix(wcs: WCS, centre: tuple[float, float]) -> Array:
    """Arcsec per pixel at the reference pixel, in the plane about `centre`: float64 (2, 2)."""
    step = 100.0
    x = wcs.wcs.crpix[0] - 1 + step * np.array([1, -1, 0, 0])
    y = wcs.wcs.crpix[1] - 1 + step * np.array([0, 0, 1, -1])
    plane = np.stack(to_plane(*pixel_to_sky(wcs, x, y), centre))
    return (plane[:, ::2] - plane[:, 1::2]) / (2 * step)


def prior(sigma: Array, wcs: WCS, radial_arcsec: float, shear_arcsec: float) -> Array:
    """Precision matrix (2 p + 1)^2 of [terms east, terms north, radial factor].

    sigma : float64 (p,), priors of the terms. The linear terms are split by what they do to the
    template's linear part: turn and stretch it (free by `sigma`), or shear it (telescopes do not).
    radial_arcsec, shear_arcsec : priors of the radial factor, and of the shear at the chip's edge
    """
    p = sigma.size
    diagonal = np.concatenate([1 / sigma**2, 1 / sigma**2, [1 / radial_arcsec**2]])
    matrix = np.diag(diagonal)
    if p >= 3:
        # Columns 1 and 2 are v and u. With L = M Q, Q the template's orientation, M = L Q^T.
        linear = [2, 1, p + 2, p + 1]  # east u, east v, north u, north v
        turned = wcs.pixel_scale_matrix / np.sqrt(abs(np.linalg.det(wcs.pixel_scale_matrix)))
        a, b = np.r_[turned[0], 0, 0], np.r_[turned[1], 0, 0]
        c, d = np.r_[0, 0, turned[0]], np.r_[0, 0, turned[1]]
        free, stiff = sigma[1], min(sigma[1], shear_arcsec)
        block = sum(
            np.outer(part, part) / (2 * limit) ** 2
            for part, limit in ((a + d, free), (c - b, free), (a - d, stiff), (b + c, stiff))
        )
        matrix[np.ix_(linear, linear)] = block
    return matrix


def solve(normal: Array, right: Array, precision: Array) -> tuple[Array, float]:
    """Terms (p, 2) and the radial factor that minimise a quadratic form with a prior.

    normal : float64 (p + 2, p + 2), of the columns [terms, radial east, radial north]
    right : float64 (p + 2, 2), of the same rows against the east and north targets
    precision : float64 (2 p + 1, 2 p + 1), from `prior`

    East and north have terms of their own and share the radial factor.
    """
    p = normal.shape[0] - 2
    whole = precision.copy()
    whole[:p, :p] += normal[:p, :p]
    whole[p:-1, p:-1] += normal[:p, :p]
    whole[:p, -1] += normal[:p, p]
    whole[-1, :p] += normal[:p, p]
    whole[p:-1, -1] += normal[:p, p + 1]
    whole[-1, p:-1] += normal[:p, p + 1]
    whole[-1, -1] += normal[p, p] + normal[p + 1, p + 1]
    target = np.concatenate([right[:p, 0], right[:p, 1], [right[p, 0] + right[p + 1, 1]]])
    solution = np.linalg.solve(whole, target)
    return np.stack([solution[:p], solution[p:-1]], axis=1), float(solution[-1])
