"""A chip's distortion as something to keep: what some frames say of it, and with what certainty.

Kept is what the optics do and the nights do not: the terms of degree 2 and more, and the shared
factors. Shift, turn, stretch and shear change with pointing, rotator, focus and refraction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.wcs import WCS
from scipy.special import chdtri

from photometrus.instrument import PIXEL_SCALE_ARCSEC
from photometrus.optics import SHARED, Optics, Prior, degrees, plane_matrix
from photometrus.wcs import crval

Array = Any  # float64 array
STABLE_ARCSEC = (np.inf, np.inf, 0.010, 0.005, 0.005, 0.003)
"""By how much a term of degree 0, 1, ... may differ between two nights."""
STABLE_SHARED = (0.010, 0.005)
"""The same for the shared factors: radial distortion, arcsec; departure."""
DOUBLES_DAYS = 100.0
"""After so many days the variance of those differences is twice as large."""
CHANCE = 0.003
"""Disagreement that has a smaller probability is none of chance."""


@dataclass(frozen=True, eq=False)
class Distortion:
    """What frames say of a chip's distortion: information @ estimate = pull.

    The unknowns are the terms of degree 2 and more along x, those along y (arcsec), and the shared
    factors: k = 2 terms + SHARED. information : float64 (k, k); pull : float64 (k,)
    """

    information: Array
    pull: Array

    def relative_to(self, applied: Sequence[float]) -> "Distortion":
        """The same, for a template to which shared factors have been applied already."""
        return Distortion(
            self.information, self.pull - self.information[:, -SHARED:] @ np.asarray(applied)
        )


def kept_terms(degree: int) -> Array:
    """Places of what is kept among [terms east, terms north, shared] up to a degree."""
    high = np.flatnonzero(degrees(degree) >= 2)
    n = len(degrees(degree))
    return np.concatenate([high, n + high, 2 * n + np.arange(SHARED)])


def measured(information: Array, pull: Array, wcs: WCS, degree: int) -> Distortion:
    """The distortion by a solution's own stars; see `adjustment.Adjusted`.

    wcs : the template that the terms correct
    """
    kept = kept_terms(degree)
    rest = np.setdiff1d(np.arange(len(pull)), kept)
    # Without stars there is nothing to eliminate: a hair of a prior keeps the matrix regular.
    free = information[np.ix_(rest, rest)] + 1e-9 * np.eye(rest.size)
    gain = np.linalg.solve(free, information[np.ix_(rest, kept)])
    own = information[np.ix_(kept, kept)] - information[np.ix_(kept, rest)] @ gain
    turned = _turned(np.linalg.inv(_to_pixel_axes(wcs)), degree)
    return Distortion(turned.T @ own @ turned, turned.T @ (pull[kept] - gain.T @ pull[rest]))


def as_prior(distortion: Distortion, wcs: WCS, degree: int) -> Prior:
    """A distortion as a prior of [terms east, terms north, shared factors] about a template."""
    turned = _turned(_to_pixel_axes(wcs), degree)
    kept = kept_terms(degree)
    n = 2 * len(degrees(degree)) + SHARED
    precision, pull = np.zeros((n, n)), np.zeros(n)
    precision[np.ix_(kept, kept)] = turned.T @ distortion.information @ turned
    pull[kept] = turned.T @ distortion.pull
    return Prior(precision, pull)


def aged(distortion: Distortion, days: float, degree: int) -> Distortion:
    """What a distortion of another night says of this one: (C + Q)^-1 = H - H (H + Q^-1)^-1 H."""
    growth = 1 + abs(days) / DOUBLES_DAYS
    sigma = np.asarray(STABLE_ARCSEC)[degrees(degree)]
    high = sigma[np.isfinite(sigma)]
    drift = np.diag(1 / (np.concatenate([high, high, STABLE_SHARED]) ** 2 * growth))
    h = distortion.information
    left = np.eye(len(h)) - np.linalg.solve(h + drift, h).T
    information = left @ h
    return Distortion(0.5 * (information + information.T), left @ distortion.pull)


def together(distortions: Sequence[Distortion]) -> Distortion:
    """What several say, each in its own right."""
    return Distortion(
        np.sum([one.information for one in distortions], axis=0),
        np.sum([one.pull for one in distortions], axis=0),
    )


def disagreement(ours: Distortion, theirs: Distortion, template: Prior, optics: Optics) -> str:
    """Where two distortions contradict each other, in words; empty when they do not.

    Chi-square of the differences of the quadratic and of the higher terms, what the shared factors
    add to them included: neither is known well alone, their sum is.
    template : the prior that makes estimates of few stars finite
    """
    degree = optics.degree
    kept = kept_terms(degree)
    weak = np.diag(np.diag(template.precision[np.ix_(kept, kept)]))
    total = _total_terms(optics)
    order = np.tile(degrees(degree)[degrees(degree) >= 2], 2)
    estimates, covariances = [], []
    for one in (ours, theirs):
        covariance = np.linalg.inv(one.information + weak)
        estimates.append(total @ covariance @ one.pull)
        covariances.append(total @ covariance @ total.T)
    off, spread = estimates[0] - estimates[1], covariances[0] + covariances[1]
    for name, here in (("quadratic", order == 2), ("higher", order > 2)):
        value = float(off[here] @ np.linalg.solve(spread[np.ix_(here, here)], off[here]))
        limit = float(chdtri(np.count_nonzero(here), CHANCE))
        if value > limit:
            return f"{name} terms differ, chi-square {value:.0f}, at most {limit:.0f} by chance"
    return ""


def _total_terms(optics: Optics) -> Array:
    """From what is kept to the sum of all terms of degree 2 and more, along x and y."""
    high = degrees(optics.degree) >= 2
    n = int(np.count_nonzero(high))
    along_x, along_y = optics.shared_terms()
    return np.block(
        [
            [np.eye(n), np.zeros((n, n)), along_x[high]],
            [np.zeros((n, n)), np.eye(n), along_y[high]],
        ]
    )


def _to_pixel_axes(wcs: WCS) -> Array:
    """From arcsec east and north to arcsec along x and y: float64 (2, 2)."""
    return np.asarray(PIXEL_SCALE_ARCSEC * np.linalg.inv(plane_matrix(wcs, crval(wcs))))


def _turned(matrix: Array, degree: int) -> Array:
    """A change of axes for all kept terms: float64 (k, k), leaves the shared factors alone."""
    n = int(np.count_nonzero(degrees(degree) >= 2))
    out = np.eye(2 * n + SHARED)
    out[: 2 * n, : 2 * n] = np.kron(matrix, np.eye(n))
    return out
