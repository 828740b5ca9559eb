"""A robust straight fit with terms that earn their place, for zero points."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]  # float64
CLIP_SIGMA = 3.0
MEDIAN_PULL = 0.67449
"""Median of |N(0, 1)|."""
TUKEY = 4.685
"""Tukey's biweight: 95 % of least squares' efficiency for a Gaussian."""
FOLDS = 10
ENOUGH = 2000
"""So many stars decide on a term, drawn at random."""
SURE_SIGMA = 2.0
"""A term enters when what it gains is so many standard errors above nothing."""


@dataclass(frozen=True, eq=False)
class Fit:
    """Coefficients (k,), their covariance, and what was used.

    extra : scatter beyond the errors; sigma : error of each value with it, (n,)
    kept : bool (n,), not clipped; residual : (n,)
    """

    coefficients: Array
    covariance: Array
    extra: float
    sigma: Array
    kept: Array
    residual: Array


def solve(design: Array, values: Array, weights: Array) -> tuple[Array, Array]:
    """Weighted least squares: coefficients and the inverse of the normal matrix."""
    weighted = design * weights[:, None]
    inverse = np.linalg.pinv(design.T @ weighted, hermitian=True)
    return inverse @ (weighted.T @ values), inverse


def extra_variance(squares: Array, variance: Array, wanted: float) -> float:
    """The t >= 0 with which squares / (variance + t) sum up to `wanted` (Paule & Mandel 1982)."""

    def excess(t: float) -> float:
        return float((squares / (variance + t)).sum()) - wanted

    return _root(excess, float(squares.max(initial=0.0)) * max(1.0, squares.size / wanted))


def robust_extra_variance(residual: Array, variance: Array) -> float:
    """The same for values with outliers: so that the median pull is a Gaussian's."""

    def excess(t: float) -> float:
        return float(np.median(np.abs(residual) / np.sqrt(variance + t))) - MEDIAN_PULL

    return _root(excess, float(np.square(residual).max(initial=0.0)) * 10.0)


def _root(excess: Any, high: float) -> float:
    """Where a falling function crosses 0, by bisection; 0 when it is below 0 from the start."""
    low = 0.0
    if high <= 0 or excess(0.0) <= 0:
        return 0.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return 0.5 * (low + high)


def tukey(design: Array, values: Array, sigma: Array, start: Array) -> Array:
    """Coefficients (k,) that outliers do not move: Tukey's biweight, reweighted from `start`."""
    coefficients = start
    for _ in range(15):
        pull = (values - design @ coefficients) / sigma
        weights = np.clip(1 - (pull / TUKEY) ** 2, 0, None) ** 2 / sigma**2
        if np.count_nonzero(weights) <= design.shape[1]:
            break
        before, (coefficients, _) = coefficients, solve(design, values, weights)
        if np.abs(coefficients - before).max() < 1e-5:
            break
    return coefficients


def start(design: Array, values: Array, sigma: Array) -> tuple[Array, float]:
    """Robust coefficients, and the variance beyond the errors, found in turn."""
    coefficients = np.zeros(design.shape[1])
    coefficients[0] = np.median(values)
    extra = 0.0
    for _ in range(3):
        extra = robust_extra_variance(values - design @ coefficients, sigma**2)
        coefficients = tukey(design, values, np.sqrt(sigma**2 + extra), coefficients)
    return coefficients, extra


def kept_variance(clip_sigma: float) -> float:
    """Variance of a Gaussian without what lies beyond a clip."""
    # Written out: scipy.stats takes a third of a second to import.
    tails = clip_sigma * math.sqrt(2 / math.pi) * math.exp(-0.5 * clip_sigma**2)
    return 1 - tails / math.erf(clip_sigma / math.sqrt(2))


def fit(design: Array, values: Array, sigma: Array, clip_sigma: float = CLIP_SIGMA) -> Fit:
    """A robust start, ONE clip, then least squares with the extra variance fitted.

    design : float64 (n, k), the constant first; values, sigma : float64 (n,)

    The variance of what a clip leaves is smaller than that of all: it is put right by the known
    factor. Errors have the factor sqrt(nu / (nu - 2)) of Student's t for nu degrees of freedom,
    because the scatter is measured on the same stars.
    """
    k = design.shape[1]
    coefficients, extra = start(design, values, sigma)
    residual = values - design @ coefficients
    kept = np.abs(residual) <= clip_sigma * np.sqrt(sigma**2 + extra)
    nu = int(kept.sum()) - k
    if nu > 2:
        part, variance = design[kept], sigma[kept] ** 2
        for _ in range(10):
            coefficients, _ = solve(part, values[kept], 1 / (variance + extra))
            squares = (values[kept] - part @ coefficients) ** 2
            extra = extra_variance(squares, variance, kept_variance(clip_sigma) * nu)
    total = np.sqrt(sigma**2 + extra)
    _, inverse = solve(design[kept], values[kept], 1 / total[kept] ** 2)
    student = nu / (nu - 2) if nu > 2 else np.nan
    residual = values - design @ coefficients
    return Fit(coefficients, inverse * student, float(np.sqrt(extra)), total, kept, residual)


def gain(design: Array, better: Array, values: Array, sigma: Array) -> tuple[float, float]:
    """What `better` foretells better than `design`: part of the variance, and how sure it is.

    Ten-fold cross-validation by robust fits. Squares of pulls beyond 3 sigma count as 9: an
    outlier must not decide. The second number is the mean gain over its standard error; below
    `SURE_SIGMA` it may be chance.
    """
    some = np.random.RandomState(0).permutation(values.size)[:ENOUGH]
    design, better, values, sigma = design[some], better[some], values[some], sigma[some]
    n = values.size
    part = np.arange(n) % FOLDS
    coefficients, extra = start(design, values, sigma)
    total = np.sqrt(sigma**2 + extra)
    before, after = (
        np.minimum(_foretold(terms, values, total, part) ** 2, CLIP_SIGMA**2)
        for terms in (design, better)
    )
    gained = before - after
    error = float(gained.std(ddof=1)) / np.sqrt(n)
    mean = float(gained.mean())
    return mean / float(before.mean()), mean / error if error > 0 else 0.0


def _foretold(design: Array, values: Array, sigma: Array, part: Array) -> Array:
    """Pulls of values that a robust fit to the other parts foretells; part : int (n,)."""
    pull = np.empty_like(values)
    begin = np.zeros(design.shape[1])
    begin[0] = np.median(values)
    for number in range(FOLDS):
        out = part == number
        coefficients = tukey(design[~out], values[~out], sigma[~out], begin)
        pull[out] = (values[out] - design[out] @ coefficients) / sigma[out]
    return pull
