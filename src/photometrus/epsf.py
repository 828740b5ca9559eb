"""A PSF is learned from the images of stars: a Moffat function, and what it leaves."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import spline_filter

from photometrus.kernels.psf import MARGIN, gather, refit, terms
from photometrus.pointspread import disc

Array = NDArray[Any]
MODEL_ERROR = 0.03
"""A PSF's model may be wrong by this fraction, pixel by pixel, as far as weights are concerned:
the brightest stars do not decide alone."""
CLIP = 6.0
"""A pixel this many sigma off (a cosmic ray, an undetected neighbour) is left out."""
WINGS_FROM = 2.0
"""FWHM from where on what the Moffat function leaves is taken as round."""


@dataclass(eq=False)
class Images:
    """Stars cut out of a stack.

    data, weight : float32 (n, size, size), around each star's nearest pixel; 0 weight = bad
    stars : float64 (n, 6): x, y on the chip, dx, dy from the middle pixel, flux, reduced chi^2
    shapes : float64 (n, 3), ln(scale radius), e1, e2 of a Moffat function of exponent `beta`
    """

    data: Array
    weight: Array
    stars: Array
    shapes: Array
    beta: float

    def part(self, select: Array) -> "Images":
        """Some of them."""
        return Images(
            self.data[select],
            self.weight[select],
            self.stars[select].copy(),
            self.shapes[select],
            self.beta,
        )

    def core(self, half: int) -> "Images":
        """Smaller cut-outs of all of them."""
        middle = self.data.shape[1] // 2
        part = np.s_[:, middle - half : middle + half + 1, middle - half : middle + half + 1]
        data = np.ascontiguousarray(self.data[part])
        weight = np.ascontiguousarray(self.weight[part])
        return Images(data, weight, self.stars.copy(), self.shapes, self.beta)


@dataclass(frozen=True)
class Geometry:
    """Of a PSF: grid points per pixel, half width (pix), where it sums to 1, what is its core."""

    step: int
    half: int
    reference_pix: float
    fwhm_pix: float
    frame: tuple[float, float, float, float]

    @property
    def size(self) -> int:
        """Of the grid, in points."""
        return 2 * (self.step * (self.half + 2) + MARGIN) + 1

    @property
    def axis(self) -> Array:
        """The grid's coordinate in pixels."""
        return (np.arange(self.size) - self.size // 2) / self.step


def n_terms(degree: int) -> int:
    """Terms of a polynomial of two variables."""
    return (degree + 1) * (degree + 2) // 2


def design(x: Array, y: Array, degree: int, geometry: Geometry) -> Array:
    """The polynomial's terms at some positions: float64 (n, n_terms)."""
    out = np.empty((len(x), n_terms(degree)))
    frame = np.array(geometry.frame)
    for row, a, b in zip(out, x, y, strict=True):
        terms(float(a), float(b), frame, row)
    return out


def moffat(axis: Array, shape: Array, beta: float) -> Array:
    """(1 + q)^-beta on a grid, see `kernels.moffat.fit_moffats`; peak 1."""
    u, v = axis[None, :], axis[:, None]
    _, e1, e2 = shape
    q = ((1 - e1) * u * u - 2 * e2 * u * v + (1 + e1) * v * v) * np.exp(-2 * shape[0])
    result: Array = (1 + q) ** -beta
    return result


def varying_moffat(images: Images, degree: int, geometry: Geometry) -> Array:
    """A grid for each term of the polynomial, from the stars' shapes: float64 (n_terms, g, g)."""
    values = design(images.stars[:, 0], images.stars[:, 1], degree, geometry)
    weight = np.ones(len(values))
    for _ in range(4):
        root = np.sqrt(weight)[:, None]
        fitted = np.linalg.lstsq(values * root, images.shapes * root, rcond=None)[0]
        left = images.shapes - values @ fitted
        scatter = 1.4826 * np.median(np.abs(left), axis=0) + 1e-4
        weight = 1 / (1 + ((left / (2 * scatter)) ** 2).sum(axis=1)) ** 2
    side = np.linspace(-1, 1, 2 * degree + 1) if degree else np.zeros(1)
    x, y = (np.ravel(np.array(m)) for m in np.meshgrid(side, side))
    frame = geometry.frame
    lattice = design(frame[0] + x * frame[2], frame[1] + y * frame[3], degree, geometry)
    grids = np.array([moffat(geometry.axis, shape, images.beta) for shape in lattice @ fitted])
    grids /= total(grids, geometry)[:, None, None]
    flat = np.linalg.lstsq(lattice, grids.reshape(len(grids), -1), rcond=None)[0]
    return normalised(flat.reshape(-1, geometry.size, geometry.size), geometry)


def total(grids: Array, geometry: Geometry) -> Array:
    """The sum over pixels within the reference radius, of each grid."""
    mask = disc(
        np.arange(geometry.size) - geometry.size // 2, geometry.reference_pix * geometry.step
    )
    result: Array = (grids * mask).sum(axis=(-2, -1)) / geometry.step**2
    return result


def normalised(grids: Array, geometry: Geometry) -> Array:
    """So that the sum is 1 everywhere on the chip: the first term's is 1, all others' 0."""
    sums = total(grids, geometry)
    first = grids[0] / sums[0]
    return np.concatenate([first[None], grids[1:] - sums[1:, None, None] * first])


def spline(grids: Array) -> Array:
    """B-spline coefficients of the grids: float32."""
    return np.array([spline_filter(g, order=3, mode="mirror") for g in grids], np.float32)


def learn(images: Images, degree: int, geometry: Geometry, rounds: int) -> Array:
    """Grids (n_terms, g, g) that fit the images best; `images.stars` are refined in place.

    What the Moffat function leaves is collected at the nodes of the grid and fitted there by the
    polynomial, again and again (Anderson & King 2000). A node's terms are drawn to zero as their
    noise demands: with t^2 the variance of what is truly there, measured on rings of nodes, and A
    the normal matrix, the solution is (A + 1/t^2)^-1 b.
    """
    base = varying_moffat(images, degree, geometry)
    extra = np.zeros_like(base)
    grids = base
    for _ in range(rounds):
        left = residuals(images, spline(grids), geometry)
        sums = np.zeros((geometry.size, geometry.size, len(base)))
        matrices = np.zeros((*sums.shape, len(base)))
        gather(
            left.data,
            left.weight,
            left.stars,
            left.errors,
            geometry.step,
            np.array(geometry.frame),
            sums,
            matrices,
        )
        extra = shrunk(sums, matrices, extra, geometry)
        grids = normalised(base + extra, geometry)
    residuals(images, spline(grids), geometry)
    return grids


@dataclass(frozen=True, eq=False)
class Residuals:
    """What a PSF leaves of stars, the weights of good pixels, the variance of the model."""

    data: Array
    weight: Array
    errors: Array
    stars: Array


def residuals(images: Images, cube: Array, geometry: Geometry) -> Residuals:
    """Fit each star's flux and position (in place) and take the star away."""
    left, good = np.empty_like(images.data), np.empty_like(images.weight)
    errors = np.zeros(images.data.shape)
    refit(
        images.data,
        images.weight,
        cube,
        geometry.step,
        np.array(geometry.frame),
        images.stars,
        1.5 * geometry.fwhm_pix,
        np.array([MODEL_ERROR, CLIP]),
        left,
        errors,
        good,
    )
    return Residuals(left, good, errors, images.stars)


def shrunk(sums: Array, matrices: Array, before: Array, geometry: Geometry) -> Array:
    """The nodes' polynomials, as far as they stand out of the noise; round in the wings."""
    n = sums.shape[2]
    lower = matrices.reshape(-1, n, n)
    full = lower + np.swapaxes(np.tril(lower, -1), 1, 2)
    known = full[:, 0, 0] > 0
    was = before.reshape(n, -1).T
    right = sums.reshape(-1, n) + np.einsum("kij,kj->ki", full, was)
    radius = np.hypot(geometry.axis[:, None], geometry.axis[None, :]).ravel()
    ring = np.minimum((radius / (0.5 * geometry.fwhm_pix)).astype(int), 4 * geometry.half)
    result = np.zeros_like(was)
    for k in np.unique(ring[known]):
        here = known & (ring == k)
        a, b = full[here], right[here]
        noise = np.eye(n) * (1e-9 * np.trace(a, axis1=1, axis2=2)[:, None, None] + 1e-30)
        free = np.linalg.solve(a + noise, b[..., None])[..., 0]
        if radius[here].min() > WINGS_FROM * geometry.fwhm_pix:
            share = a[:, 0, 0] / a[:, 0, 0].sum()
            result[here] = np.sum(share[:, None] * free, axis=0)
            continue
        variance = np.diagonal(np.linalg.inv(a + noise), axis1=1, axis2=2)
        # Terms of one order in common: what is truly there, beyond the noise.
        excess = np.maximum(np.mean(free**2 - variance, axis=0), 1e-3 * np.mean(variance, axis=0))
        result[here] = np.linalg.solve(a + np.diag(1 / (excess + 1e-30)), b[..., None])[..., 0]
    return result.T.reshape(before.shape)
