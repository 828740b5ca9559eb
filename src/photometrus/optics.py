"""The correction to a chip's template: its terms, what is believed of them beforehand, the solver.

East and north each have Legendre terms of the pixel; both share the radial distortion about the
telescope axis, since that is what the optics of a telescope do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from astropy.wcs import WCS

from photometrus.instrument import CHIP_CRPIX, PIXEL_SCALE_ARCSEC
from photometrus.wcs import (
    axis_pixel,
    crval,
    fit_tan_sip,
    from_plane,
    pixel_to_sky,
    template_distortion,
    to_plane,
)

Array = Any  # float64 array
UNIT_ARCSEC = 2048.0 * PIXEL_SCALE_ARCSEC
"""From the middle of a chip to its edge: where the linear terms have their value."""
RADIAL_UNIT_PIX = 2500.0 / PIXEL_SCALE_ARCSEC
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
    """The shape of the correction to a chip's template.

    Legendre terms, east and north each their own; and two that both share: the radial distortion
    about the telescope axis (cubic), and the template's own departure from such a distortion, of
    which it is not known how much is the telescope's and how much its fit's.
    """

    chip: int
    degree: int

    def basis(self, x: Array, y: Array) -> Array:
        """Legendre terms: float64 (n, terms)."""
        return _basis(x, y, self.degree)

    def shared(self, wcs: WCS, x: Array, y: Array, centre: tuple[float, float]) -> Array:
        """Displacements by the shared terms, float64 (n, 2 SHARED): east and north of each.

        The radial one is 1 at 2500" from the axis; the departure is the template's, in arcsec.
        In the plane about `centre`: near a pole its north is not that of the frame.
        """
        matrix = plane_matrix(wcs, centre)
        scale = np.sqrt(abs(np.linalg.det(matrix)))
        radial = matrix @ _radial_pix(self.chip, x, y) / scale
        departure = matrix @ _departure_pix(self.chip, x, y)
        return np.concatenate([radial, departure]).T

    def shared_terms(self) -> tuple[Array, Array]:
        """The shared terms as Legendre terms along x and along y, arcsec: float64 (terms, SHARED).

        As near as the degree allows, over the chip.
        """
        grid = np.linspace(0, 2 * (CHIP_CRPIX - 1), 33)
        x, y = (g.ravel() for g in np.meshgrid(grid, grid))
        departure = PIXEL_SCALE_ARCSEC * _departure_pix(self.chip, x, y)
        both = np.stack([_radial_pix(self.chip, x, y), departure], axis=2)
        inverse = np.linalg.pinv(self.basis(x, y))
        return inverse @ both[0], inverse @ both[1]

    def apply(self, wcs: WCS, terms: Array, shared: Array, centre: tuple[float, float]) -> WCS:
        """The WCS with a correction added, as TAN-SIP.

        terms : float64 (terms, 2), arcsec east and north in the plane about `centre`
        shared : float64 (SHARED,), factors of the shared terms
        """
        grid = np.linspace(0, 2 * (CHIP_CRPIX - 1), 21)
        x, y = (g.ravel() for g in np.meshgrid(grid, grid))
        xi, eta = to_plane(*pixel_to_sky(wcs, x, y), centre)
        change = self.basis(x, y) @ terms + displacement(self.shared(wcs, x, y, centre), shared)
        ra, dec = from_plane(xi + change[:, 0], eta + change[:, 1], centre)
        return fit_tan_sip(x, y, ra, dec, crval(wcs))


SHARED = 2


def displacement(shared: Array, factors: Array) -> Array:
    """East and north, float64 (n, 2), of shared terms (n, 2 SHARED) with their factors."""
    return shared.reshape(len(shared), SHARED, 2).transpose(0, 2, 1) @ factors


def _cubic_pix(chip: int, x: Array, y: Array) -> Array:
    """Cubic displacement away from the telescope axis, 1 at RADIAL_UNIT_PIX: float64 (2, n)."""
    axis = axis_pixel(chip)
    offset = np.stack([np.asarray(x) - axis[0], np.asarray(y) - axis[1]]) / RADIAL_UNIT_PIX
    return offset * (offset**2).sum(axis=0)


@cache
def _template_parts(chip: int) -> tuple[Array, float]:
    """How a template's distortion is made up over the chip.

    returns the linear part (3, 2) of the cubic displacement, and the factor (pixels) with which
    that displacement, less its linear part, is nearest to the template's distortion
    """
    grid = np.linspace(0, 2 * (CHIP_CRPIX - 1), 33)
    x, y = (g.ravel() for g in np.meshgrid(grid, grid))
    flat = _basis(x, y, 1)
    cubic = _cubic_pix(chip, x, y).T
    linear = np.linalg.lstsq(flat, cubic, rcond=None)[0]
    radial = cubic - flat @ linear
    target = np.stack(template_distortion(chip, x, y), axis=1)
    target = target - flat @ np.linalg.lstsq(flat, target, rcond=None)[0]
    return linear, float((radial * target).sum() / (radial**2).sum())


def _radial_pix(chip: int, x: Array, y: Array) -> Array:
    """The cubic displacement without its linear part over the chip: float64 (2, n).

    The linear part is the template's own: where the chips are, and how they are stretched there,
    was measured; a change of the distortion must not change that.
    """
    linear, _ = _template_parts(chip)
    return _cubic_pix(chip, x, y) - (_basis(x, y, 1) @ linear).T


def _departure_pix(chip: int, x: Array, y: Array) -> Array:
    """What of a template's distortion is not radial, pixels: float64 (2, n)."""
    _, factor = _template_parts(chip)
    return np.stack(template_distortion(chip, x, y)) - factor * _radial_pix(chip, x, y)


def template_radial_arcsec(chip: int) -> float:
    """The radial distortion of a chip's template at 2500" from the axis, sky less pixels."""
    return _template_parts(chip)[1] * PIXEL_SCALE_ARCSEC


def plane_matrix(wcs: WCS, centre: tuple[float, float]) -> Array:
    """Arcsec per pixel at the reference pixel, in the plane about `centre`: float64 (2, 2)."""
    step = 100.0
    x = wcs.wcs.crpix[0] - 1 + step * np.array([1, -1, 0, 0])
    y = wcs.wcs.crpix[1] - 1 + step * np.array([0, 0, 1, -1])
    plane = np.stack(to_plane(*pixel_to_sky(wcs, x, y), centre))
    return (plane[:, ::2] - plane[:, 1::2]) / (2 * step)


def _orientation(wcs: WCS) -> Array:
    """The linear part of a WCS without its scale: what it does to directions, float64 (2, 2)."""
    return wcs.pixel_scale_matrix / np.sqrt(abs(np.linalg.det(wcs.pixel_scale_matrix)))


def linear_parts(wcs: WCS) -> tuple[Array, Array, Array, Array]:
    """Stretch, turn and two shears as combinations of (east u, east v, north u, north v).

    With L the linear terms and Q the template's orientation, M = L Q^T = [[a, b], [c, d]]:
    (a + d) / 2 stretches, (c - b) / 2 turns (from east to north), the others shear.
    """
    east, north = _orientation(wcs)
    a, b = np.r_[east, 0, 0], np.r_[north, 0, 0]
    c, d = np.r_[0, 0, east], np.r_[0, 0, north]
    return (a + d) / 2, (c - b) / 2, (a - d) / 2, (b + c) / 2


def linear_columns(p: int, first: int = 0) -> list[int]:
    """Where east u, east v, north u, north v stand among p terms east and p terms north.

    first : where the constant stands that precedes them
    """
    return [first + 2, first + 1, p + first + 2, p + first + 1]


@dataclass(frozen=True, eq=False)
class Prior:
    """What is believed beforehand of [terms east, terms north, shared factors]: k = 2 p + SHARED.

    precision : float64 (k, k), inverse covariance; pull : float64 (k,), precision @ mean
    """

    precision: Array
    pull: Array

    def __add__(self, other: "Prior") -> "Prior":
        """Both beliefs, independent of each other."""
        return Prior(self.precision + other.precision, self.pull + other.pull)


def template_prior(
    sigma: Array, wcs: WCS, shared_sigma: Sequence[float], shear_arcsec: float
) -> Prior:
    """The template as a prior: its correction is zero within limits.

    sigma : float64 (p,), priors of the terms. The linear terms are split by what they do to the
    template's linear part: turn and stretch it (free by `sigma`), or shear it (telescopes do not).
    shared_sigma, shear_arcsec : priors of the shared factors, and of the shear at the chip's edge
    """
    p = sigma.size
    matrix = np.diag(1 / np.concatenate([sigma, sigma, shared_sigma]) ** 2)
    if p >= 3:
        free, stiff = sigma[1], min(sigma[1], shear_arcsec)
        limits = (free, free, stiff, stiff)
        matrix[np.ix_(linear_columns(p), linear_columns(p))] = sum(
            np.outer(part, part) / limit**2
            for part, limit in zip(linear_parts(wcs), limits, strict=True)
        )
    return Prior(matrix, np.zeros(len(matrix)))


@dataclass(frozen=True)
class FieldFit:
    """What all chips of an exposure share, as one of them (or all) sees it.

    values : stretch and turn of the template at the edge of a chip (arcsec); radial distortion at
        2500" from the axis (arcsec, with the template's); departure factor
    information : their inverse covariance
    """

    rotator_deg: float
    """The rotator offset that the turn refers to."""
    values: tuple[float, ...]
    information: tuple[tuple[float, ...], ...]
    n_reference: int

    def at(self, rotator_deg: float) -> Array:
        """The values with the turn referred to another rotator offset."""
        out = np.array(self.values)
        # Position angles grow from north to east, the turn from east to north.
        angle = (rotator_deg - self.rotator_deg + 180.0) % 360.0 - 180.0
        out[1] += np.radians(angle) * UNIT_ARCSEC
        return out


def field_fit(
    chip: int,
    wcs: WCS,
    terms: Array,
    shared: Array,
    curvature: Array,
    rotator_deg: float,
    n_reference: int,
) -> FieldFit:
    """What a chip's solution says of the stretch, the turn and the shared factors.

    wcs : the template where the chip was found; terms, shared : its correction
    curvature : float64 (2 p + SHARED)^2, normal matrix of `solve` with its prior
    """
    p = (curvature.shape[0] - SHARED) // 2
    pick = np.zeros((2 + SHARED, curvature.shape[0]))
    pick[0, linear_columns(p)], pick[1, linear_columns(p)] = linear_parts(wcs)[:2]
    pick[2:, -SHARED:] = np.eye(SHARED)
    linear = np.array([terms[2, 0], terms[1, 0], terms[2, 1], terms[1, 1]])
    values = [float(part @ linear) for part in linear_parts(wcs)[:2]]
    information = np.linalg.inv(pick @ np.linalg.inv(curvature) @ pick.T)
    rows = tuple(tuple(float(value) for value in row) for row in information)
    # The templates differ in how much radial distortion they hold; the sum is what chips share.
    radial = template_radial_arcsec(chip) + float(shared[0])
    return FieldFit(rotator_deg, (*values, radial, float(shared[1])), rows, n_reference)


def combined(fits: Sequence[FieldFit]) -> FieldFit:
    """What several chips say together: the mean of their values, weighted by information."""
    rotator = fits[0].rotator_deg
    matrices = [np.array(fit.information) for fit in fits]
    total = sum(matrices[1:], matrices[0])
    pull = sum(m @ fit.at(rotator) for m, fit in zip(matrices, fits, strict=True))
    values = np.linalg.solve(total, pull)
    rows = tuple(tuple(float(value) for value in row) for row in total)
    return FieldFit(rotator, tuple(map(float, values)), rows, sum(f.n_reference for f in fits))


def shared_factors(chip: int, field: FieldFit) -> tuple[float, float]:
    """What all chips share of the shared factors, as corrections to a chip's template."""
    _, _, radial, departure = field.values
    return radial - template_radial_arcsec(chip), departure


def stretched(optics: Optics, wcs: WCS, field: FieldFit, rotator_deg: float) -> WCS:
    """A template with what all chips share applied to it."""
    stretch, turn, *_ = field.at(rotator_deg)
    shared = shared_factors(optics.chip, field)
    linear = np.array([[stretch, -turn], [turn, stretch]]) @ _orientation(wcs)
    terms = np.zeros((len(degrees(optics.degree)), 2))
    terms[2], terms[1] = linear[:, 0], linear[:, 1]
    return optics.apply(wcs, terms, np.array(shared), crval(wcs))


def solve(normal: Array, right: Array, prior: Prior) -> tuple[Array, Array, Array]:
    """Terms (p, 2), shared factors, and the curvature, of a quadratic form with a prior.

    normal : float64 (p + 2 SHARED)^2, of the columns [terms, east and north of each shared term]
    right : float64 (p + 2 SHARED, 2), of the same rows against the east and north targets

    East and north have terms of their own and share the factors of the shared terms.
    """
    p = normal.shape[0] - 2 * SHARED
    east, north = slice(p, None, 2), slice(p + 1, None, 2)
    whole = prior.precision.copy()
    whole[:p, :p] += normal[:p, :p]
    whole[p : 2 * p, p : 2 * p] += normal[:p, :p]
    whole[:p, 2 * p :] += normal[:p, east]
    whole[p : 2 * p, 2 * p :] += normal[:p, north]
    whole[2 * p :, :p] += normal[:p, east].T
    whole[2 * p :, p : 2 * p] += normal[:p, north].T
    whole[2 * p :, 2 * p :] += normal[east, east] + normal[north, north]
    target = np.concatenate([right[:p, 0], right[:p, 1], right[east, 0] + right[north, 1]])
    solution = np.linalg.solve(whole, target + prior.pull)
    return np.stack([solution[:p], solution[p : 2 * p]], axis=1), solution[2 * p :], whole
