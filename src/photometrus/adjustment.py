"""The joint adjustment: all frames of a chip in one robust least-squares problem with priors.

Unknown are the chip's optics (Legendre terms and shared factors, see `optics`), for each frame a
shift and linear terms, and every star's position. The stars are eliminated by the Schur
complement, so that the matrix has some 20 + 3 n columns per axis however many stars there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy import sparse

from photometrus.optics import SHARED, Prior, displacement, linear_columns, linear_parts, solve

Array = Any  # float64 array
ROUNDS = 6
FRAME_TERMS = 3
"""Of a frame's own, per axis: shift, and two slopes."""
LEAST_ARCSEC = 3e-4
"""Frames do not agree better than this: no measured scatter is believed below it."""
START_COUNT = 0.1
"""The start value of a scatter counts as much as so many measured ones."""


@dataclass(frozen=True, eq=False)
class Observations:
    """Detections of stars in several frames, one frame after the other.

    position : float64 (n, 2), arcsec east and north by the templates; error : (n,), per axis
    frame, star : int (n,); basis : (n, terms); shared : (n, 2 SHARED), see `optics.Optics`
    known : float64 (stars, 2), the catalogue's positions; known_error : (stars,), inf without one
    """

    position: Array
    error: Array
    frame: NDArray[Any]
    star: NDArray[Any]
    basis: Array
    shared: Array
    known: Array
    known_error: Array

    @property
    def n_stars(self) -> int:
        """How many stars there are."""
        return len(self.known)

    @cached_property
    def frames(self) -> list[slice]:
        """The detections of each frame; empty frames have empty slices."""
        edges = np.searchsorted(self.frame, np.arange(self.frame.max(initial=-1) + 2))
        return [slice(int(a), int(b)) for a, b in zip(edges[:-1], edges[1:], strict=True)]

    @cached_property
    def seen(self) -> NDArray[Any]:
        """In how many frames each detection's star is: int (n,)."""
        return np.bincount(self.star, minlength=self.n_stars)[self.star]


@dataclass(frozen=True)
class FrameScatter:
    """How far frames are turned, stretched, sheared against each other: arcsec at a chip's edge."""

    turn: float
    stretch: float
    shear: float


@dataclass(frozen=True, eq=False)
class Adjusted:
    """The solution of an adjustment.

    terms : float64 (terms, 2), arcsec; own : (frames, 3, 2), of each frame; factors : (SHARED,)
    moved : (n, 2), where the detections are by the solution; residual : (n, 2), from their stars
    weight : (n,) of the last round, relative to 1 / error^2; trust : (stars,), of the catalogue
    information, pull : normal matrix (2 terms + SHARED)^2 and right-hand side of the detections
        alone, all that frames have of their own eliminated: information @ estimate = pull
    curvature : information with the prior
    """

    terms: Array
    own: Array
    factors: Array
    moved: Array
    residual: Array
    weight: Array
    trust: Array
    information: Array
    pull: Array
    curvature: Array
    scatter: FrameScatter


def adjust(
    observations: Observations,
    wcs: WCS,
    n_frames: int,
    prior: Prior,
    shift_arcsec: float,
    scatter: FrameScatter,
) -> Adjusted:
    """Solve for optics, frames and stars with Tukey's biweight.

    wcs : a template, for the orientation; prior : of the optics
    shift_arcsec, scatter : priors of what frames have of their own
    """
    obs = observations
    n_terms = obs.basis.shape[1]
    whole_prior = _with_frames(prior, wcs, n_terms, n_frames, shift_arcsec, scatter)
    weight = 1 / obs.error**2
    known_weight = 1 / obs.known_error**2
    trust = np.ones(obs.n_stars)
    for _ in range(ROUNDS):
        per_star = np.bincount(obs.star, weight, obs.n_stars) + known_weight
        per_star[per_star == 0] = 1.0
        sky = _star_sums(obs, weight[:, None] * obs.position) + known_weight[:, None] * obs.known
        normal, right = _normal(obs, n_frames, weight, per_star, sky)
        terms, factors, curvature = solve(normal, right, whole_prior)
        own = terms[n_terms:].reshape(n_frames, FRAME_TERMS, 2)
        moved = obs.position + obs.basis @ terms[:n_terms] + displacement(obs.shared, factors)
        moved += (obs.basis[:, :FRAME_TERMS, None] * own[obs.frame]).sum(axis=1)
        places = _star_sums(obs, weight[:, None] * moved) + known_weight[:, None] * obs.known
        places /= per_star[:, None]
        residual = moved - places[obs.star]
        weight = _detection_weights(obs, residual) / obs.error**2
        known_weight, trust = _catalogue_weights(obs, places)
    information, pull = _of_the_optics(curvature, whole_prior, right, n_terms)
    return Adjusted(
        terms=terms[:n_terms],
        own=own,
        factors=factors,
        moved=moved,
        residual=residual,
        weight=weight * obs.error**2,
        trust=trust,
        information=information,
        pull=pull,
        curvature=information + prior.precision,
        scatter=_measured_scatter(own, curvature, wcs, n_terms, scatter),
    )


def tukey(ratio: Array) -> Array:
    """Tukey's biweight at 5 sigma of a two-dimensional distance."""
    return np.where(ratio < 5.0, (1 - (ratio / 5.0) ** 2) ** 2, 0.0)


def centroid_floor(observations: Observations, residual: Array, errors: Array) -> float:
    """What the centroids' own errors leave unexplained of the bright stars' scatter, arcsec.

    errors : float64 (n,), the centroids' own, arcsec. NaN when few stars are seen several times.
    """
    several = observations.seen > 1
    if several.sum() < 50:
        return float("nan")
    bright = several & (errors <= np.quantile(errors[several], 0.25))
    n = observations.seen[bright]
    # Of n detections of a star the mean has taken 1/n of the variance.
    scatter = 1.4826 * np.median(np.abs(residual[bright] * np.sqrt(n / (n - 1))[:, None]))
    return float(np.sqrt(max(scatter**2 - np.median(errors[bright]) ** 2, 0.0)))


def _star_sums(obs: Observations, values: Array) -> Array:
    """Sums over the detections of each star: float64 (stars, k) of values (n, k)."""
    return np.stack([np.bincount(obs.star, column, obs.n_stars) for column in values.T], axis=1)


def _normal(
    obs: Observations, n_frames: int, weight: Array, per_star: Array, sky: Array
) -> tuple[Array, Array]:
    """Normal matrix and right-hand side of sum w |o + D p - s|^2 + sum c |s - known|^2, less s.

    The columns are those of `optics.solve`: terms, frames' terms, shared.
    """
    n_terms, n_shared = obs.basis.shape[1], obs.shared.shape[1]
    common = np.concatenate([obs.basis, obs.shared], axis=1)
    weighted = weight[:, None] * common
    first = obs.basis[:, :FRAME_TERMS]
    n_own = FRAME_TERMS * n_frames
    rows = np.repeat(obs.star, FRAME_TERMS)
    places = (FRAME_TERMS * obs.frame[:, None] + np.arange(FRAME_TERMS)).ravel()
    sums = _star_sums(obs, weighted)
    own_sums = sparse.csr_matrix(
        ((weight[:, None] * first).ravel(), (rows, places)), (obs.n_stars, n_own)
    )
    scaled = sums / per_star[:, None]
    both = common.T @ weighted - sums.T @ scaled
    mixed = -(own_sums.T @ scaled)
    own = -(own_sums.T @ sparse.diags(1 / per_star) @ own_sums).toarray()
    right_own = own_sums.T @ (sky / per_star[:, None])
    for k, part in enumerate(obs.frames):
        here = slice(FRAME_TERMS * k, FRAME_TERMS * (k + 1))
        mixed[here] += first[part].T @ weighted[part]
        own[here, here] += first[part].T @ (weight[part, None] * first[part])
        right_own[here] -= first[part].T @ (weight[part, None] * obs.position[part])
    right = scaled.T @ sky - weighted.T @ obs.position
    terms, last = slice(0, n_terms), slice(n_terms, n_terms + n_shared)
    normal = np.block(
        [
            [both[terms, terms], mixed[:, terms].T, both[terms, last]],
            [mixed[:, terms], own, mixed[:, last]],
            [both[last, terms], mixed[:, last].T, both[last, last]],
        ]
    )
    return normal, np.concatenate([right[terms], right_own, right[last]])


def _with_frames(
    prior: Prior, wcs: WCS, n_terms: int, n_frames: int, shift_arcsec: float, scatter: FrameScatter
) -> Prior:
    """The prior of the optics, and that of what frames have of their own, in `solve`'s order."""
    columns = n_terms + FRAME_TERMS * n_frames
    place = np.r_[0:n_terms, columns : columns + n_terms, 2 * columns : 2 * columns + SHARED]
    precision = np.zeros((2 * columns + SHARED,) * 2)
    pull = np.zeros(2 * columns + SHARED)
    precision[np.ix_(place, place)] = prior.precision
    pull[place] = prior.pull
    limits = (scatter.stretch, scatter.turn, scatter.shear, scatter.shear)
    parts = zip(linear_parts(wcs), limits, strict=True)
    linear = sum(np.outer(part, part) / limit**2 for part, limit in parts)
    for k in range(n_terms, columns, FRAME_TERMS):
        precision[k, k] = precision[columns + k, columns + k] = 1 / shift_arcsec**2
        here = linear_columns(columns, k)
        precision[np.ix_(here, here)] = linear
    return Prior(precision, pull)


def _detection_weights(obs: Observations, residual: Array) -> Array:
    """Robust weights; a frame whose stars scatter more than their errors say weighs less."""
    ratio = np.hypot(residual[:, 0], residual[:, 1]) / obs.error
    out = np.empty_like(ratio)
    usual = _broadening(ratio)
    for part in obs.frames:
        spread = _broadening(ratio[part]) if part.stop - part.start > 50 else usual
        out[part] = np.maximum(tukey(ratio[part] / spread), 1e-6) / spread**2
    return out


def _broadening(ratio: Array) -> float:
    """By how much distances in units of their error are larger than due, at least 1."""
    alone = ratio == 0
    # 1.18: the median length of a pair of unit Gaussians.
    return max(1.0, float(np.median(ratio[~alone])) / 1.18) if not alone.all() else 1.0


def _catalogue_weights(obs: Observations, places: Array) -> tuple[Array, Array]:
    """Weights (arcsec^-2) of the catalogue's positions, and the trust in each (0..1)."""
    known = np.isfinite(obs.known_error)
    weight, trust = np.zeros(obs.n_stars), np.ones(obs.n_stars)
    if known.any():
        off = np.hypot(*(obs.known - places)[known].T) / obs.known_error[known]
        spread = max(1.0, float(np.median(off)) / 1.18)
        trust[known] = tukey(off / spread)
        weight[known] = np.maximum(trust[known], 1e-6) / (obs.known_error[known] * spread) ** 2
    return weight, trust


def _of_the_optics(
    curvature: Array, prior: Prior, right: Array, n_terms: int
) -> tuple[Array, Array]:
    """What the detections alone say of the optics: information and pull, frames eliminated."""
    columns = (len(curvature) - SHARED) // 2
    optics = np.r_[0:n_terms, columns : columns + n_terms, 2 * columns : 2 * columns + SHARED]
    frames = np.setdiff1d(np.arange(len(curvature)), optics)
    data = curvature.copy()
    data[np.ix_(optics, optics)] -= prior.precision[np.ix_(optics, optics)]
    shared_right = right[columns::2, 0] + right[columns + 1 :: 2, 1]
    pull = np.concatenate([right[:columns, 0], right[:columns, 1], shared_right])
    gain = np.linalg.solve(data[np.ix_(frames, frames)], data[np.ix_(frames, optics)])
    information = data[np.ix_(optics, optics)] - data[np.ix_(optics, frames)] @ gain
    return 0.5 * (information + information.T), pull[optics] - gain.T @ pull[frames]


def _measured_scatter(
    own: Array, curvature: Array, wcs: WCS, n_terms: int, start: FrameScatter
) -> FrameScatter:
    """How far the frames' linear terms differ from each other, by their own word.

    MacKay's fixed point: sum m^2 / sum (1 - V / s^2), m the estimate of each term, V its variance,
    s the scatter assumed; a term that the stars do not tell counts for nothing. The start value
    counts a little, for the case that they tell none.
    """
    covariance = np.linalg.inv(curvature)
    columns = n_terms + FRAME_TERMS * len(own)
    stretch, turn, *shears = linear_parts(wcs)

    def measured(parts: Sequence[Array], assumed: float) -> float:
        square, count = START_COUNT * assumed**2, START_COUNT
        for k, frame in enumerate(own):
            here = linear_columns(columns, n_terms + FRAME_TERMS * k)
            # As linear_columns has them: east u, east v, north u, north v.
            values = np.array([frame[2, 0], frame[1, 0], frame[2, 1], frame[1, 1]])
            for part in parts:
                variance = part @ covariance[np.ix_(here, here)] @ part
                square += float(part @ values) ** 2
                count += max(0.0, 1.0 - variance / assumed**2)
        return max(LEAST_ARCSEC, float(np.sqrt(square / count)))

    return FrameScatter(
        turn=measured([turn], start.turn),
        stretch=measured([stretch], start.stretch),
        shear=measured(shears, start.shear),
    )
