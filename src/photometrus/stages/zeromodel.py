"""The fit of a zero point: its stars by brightness, its terms by cross-validation."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from photometrus.calibration import Field
from photometrus.stages.calibrators import (
    Colors,
    ErrorCurve,
    Measures,
    Pairs,
    colors,
    first_of,
    measures,
)
from photometrus.zerofit import SURE_SIGMA, Fit, fit, gain

Array = NDArray[Any]  # float64 (n,) unless said otherwise
STARS_PER_TERM = 10


@dataclass(frozen=True)
class Range:
    """Which stars may enter by brightness: magnitudes of the catalogue, S/N of the source."""

    mag_low: float
    mag_high: float
    min_snr: float
    min_stars: int
    enough: int
    """Of more than so many the brightest: errors of the sky and light of neighbours grow with
    1 / flux."""
    clip_sigma: float


@dataclass(frozen=True)
class Terms:
    """What the zero point depends on; gains : term: part of the variance, used or not."""

    color: bool = False
    degree: int = 0
    gains: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Model:
    """The fit as it stands, with all that it was made with; arrays (n,) of the pairs.

    reason : str, why a pair was not used, empty when it was
    zero_point : of each, with its colour and place
    """

    fit: Fit
    terms: Terms
    reason: NDArray[Any]
    measured: Measures
    colors: Colors
    field: Field
    zero_point: Array

    @property
    def residual(self) -> Array:
        """Catalogue - calibrated magnitude."""
        return self.measured.difference - self.zero_point

    @property
    def sigma(self) -> Array:
        """Of the residuals, with what the errors do not explain."""
        return np.hypot(self.measured.sigma, self.fit.extra)

    @property
    def used(self) -> NDArray[Any]:
        """Bool (n,)."""
        return self.reason == ""


def flat_field(sources: Table) -> Field:
    """No position term yet; u and v reach -1 and 1 at the edges of the measured area."""
    x, y = np.asarray(sources["x"], float), np.asarray(sources["y"], float)
    if x.size == 0:
        return Field(0, (), (0.0, 0.0), 1.0)
    centre = (float(x.min() + x.max()) / 2, float(y.min() + y.max()) / 2)
    return Field(0, (), centre, max(float(np.ptp(x)), float(np.ptp(y)), 2.0) / 2)


def by_brightness(static: NDArray[Any], expected: Array, snr: Array, within: Range) -> NDArray[Any]:
    """Why a pair does not enter: what was known (`static`), or its magnitude; str (n,)."""
    rules = {str(name): static == name for name in np.unique(static) if name}
    rules["bright"] = ~(expected >= within.mag_low)
    rules["faint"] = ~((expected <= within.mag_high) & (snr >= within.min_snr))
    reason = first_of(rules, static.size)
    fit = np.sort(expected[reason == ""])
    if fit.size > within.enough:
        reason[(reason == "") & (expected > fit[within.enough - 1])] = "not needed"
    return reason


def fit_in_rounds(
    pairs: Pairs,
    static: NDArray[Any],
    curve: ErrorCurve,
    flat: Field,
    band: str,
    within: Range,
    max_degree: int,
) -> tuple[Model | None, NDArray[Any]]:
    """The fit, and why each pair was not used; no fit when there are fewer stars than needed.

    First with the catalogue's magnitudes, to know the zero point; then with the better magnitudes
    that follow from it the terms are chosen; then all once more.
    """
    reason = by_brightness(static, pairs.mag, pairs.flux / pairs.flux_err, within)
    if np.count_nonzero(reason == "") < within.min_stars:
        return None, reason
    raw = pairs.mag + 2.5 * np.log10(pairs.flux)
    zero_point, extra = np.full(len(pairs), np.median(raw[reason == ""])), 0.0
    terms, model = Terms(), None
    for number in range(3):
        measured = measures(pairs, curve, zero_point, extra)
        reason = by_brightness(static, measured.expected, measured.snr, within)
        if np.count_nonzero(reason == "") < within.min_stars:
            return None, reason
        tints = colors(pairs, measured, reason == "", band)
        design = Design(pairs, tints, flat)
        if number == 1:
            terms = choose_terms(design, measured, reason == "", max_degree)
        model = _fit(design, reason, measured, terms, within.clip_sigma)
        zero_point, extra, reason = model.zero_point, model.fit.extra, model.reason
    return model, reason


@dataclass(frozen=True, eq=False)
class Design:
    """Makes design matrices."""

    pairs: Pairs
    colors: Colors
    flat: Field

    def __call__(self, color: bool, degree: int) -> Array:
        """Float64 (n, k): constant, colour about the pivot, monomials of the place."""
        x, y = np.asarray(self.pairs.sources["x"]), np.asarray(self.pairs.sources["y"])
        tint = [self.colors.values[:, None]] if color else []
        return np.hstack([np.ones((x.size, 1)), *tint, self.flat.terms(x, y, degree)])


def choose_terms(
    design: Design, measured: Measures, chosen: NDArray[Any], max_degree: int
) -> Terms:
    """Colour, then place, each where cross-validation is sure of a gain."""
    values, sigma = measured.difference[chosen], measured.sigma[chosen]

    def tried(terms: Terms, name: str, color: bool, degree: int) -> Terms:
        better = design(color, degree)[chosen]
        if values.size < STARS_PER_TERM * better.shape[1]:
            return terms
        plain = design(terms.color, terms.degree)[chosen]
        part, sure = gain(plain, better, values, sigma)
        gains = terms.gains | {name: part}
        return Terms(color, degree, gains) if sure > SURE_SIGMA else replace(terms, gains=gains)

    terms = Terms()
    if design.colors.n >= 2 * STARS_PER_TERM:
        terms = tried(terms, "colour", True, 0)
    for degree in range(1, max_degree + 1):
        terms = tried(terms, f"position, degree {degree}", terms.color, degree)
    if design.colors.n >= 2 * STARS_PER_TERM and terms.degree and not terms.color:
        terms = tried(terms, "colour", True, terms.degree)
    return terms


def _fit(
    design: Design, reason: NDArray[Any], measured: Measures, terms: Terms, clip_sigma: float
) -> Model:
    chosen = reason == ""
    matrix = design(terms.color, terms.degree)
    result = fit(matrix[chosen], measured.difference[chosen], measured.sigma[chosen], clip_sigma)
    reason = reason.copy()
    reason[np.flatnonzero(chosen)[~result.kept]] = "outlier"
    place = tuple(float(c) for c in result.coefficients[1 + terms.color :])
    where = replace(design.flat, degree=terms.degree, coefficients=place)
    zero_point = matrix @ result.coefficients
    return Model(result, terms, reason, measured, design.colors, where, zero_point)
