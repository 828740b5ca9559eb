"""Sources with a catalogue counterpart, and which of them can calibrate."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.table import Table
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from photometrus.calibration import MAG
from photometrus.reference import match_catalog
from photometrus.sourcetable import SourceFlag
from photometrus.wcs import pixel_scale_arcsec

Array = NDArray[Any]  # float64 (n,) unless said otherwise
ASSUMED_MAG_ERR = 0.03
"""Where a catalogue gives no errors: the extra variance of the fit puts it right."""
CHANCE_SHIFT_ARCSEC = 15.0
"""So far beside their places, catalogue stars meet sources by chance only."""
BIN_MAG = 0.25
LIMIT_QUANTILE = 0.98


@dataclass(frozen=True, eq=False)
class Pairs:
    """Sources and their counterparts, row by row.

    sources, stars : rows of the two tables; n_chance : how many a wrong field would give
    name : of the flux: psf, aper or auto
    """

    sources: Table
    stars: Table
    name: str
    n_chance: float

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def flux(self) -> Array:
        """ADU; NaN where it is not positive."""
        flux = column(self.sources, f"flux_{self.name}", np.nan)
        return np.where(flux > 0, flux, np.nan)

    @property
    def flux_err(self) -> Array:
        """ADU; NaN where it is not positive."""
        error = column(self.sources, f"flux_{self.name}_err", np.nan)
        return np.where(error > 0, error, np.nan)

    @property
    def mag(self) -> Array:
        """Of the catalogue."""
        return column(self.stars, "mag", np.nan)

    @property
    def mag_err(self) -> Array:
        """Quoted by the catalogue."""
        error = column(self.stars, "mag_err", np.nan)
        return np.where(error > 0, error, ASSUMED_MAG_ERR)


def column(table: Table, name: str, default: float) -> Array:
    """A column as float64, masked values and an absent column as the default."""
    if name not in table.colnames:
        return np.full(len(table), default)
    values = np.ma.asarray(table[name].data)  # a Column would keep its attributes at every step
    return np.ma.filled(values.astype(float), default)


def pair(sources: Table, stars: Table, wcs: WCS, radius_arcsec: float, name: str) -> Pairs:
    """Mutual nearest neighbours within a radius, and how many chance gives."""
    i, j = match_catalog(sources, stars, wcs, radius_arcsec)
    x, y = column(sources, "x", np.nan), column(sources, "y", np.nan)
    d = CHANCE_SHIFT_ARCSEC / pixel_scale_arcsec(wcs)
    beside = [
        match_catalog(Table({"x": x + dx, "y": y + dy}), stars, wcs, radius_arcsec)[0].size
        for dx, dy in ((d, 0.0), (-d, 0.0), (0.0, d), (0.0, -d))
    ]
    return Pairs(sources[i], stars[j], name, float(np.mean(beside)))


def unfit(
    pairs: Pairs, blending: Array, max_blend: float, min_stellarity: float, min_weight: float
) -> NDArray[Any]:
    """Why each pair cannot calibrate, whatever its magnitude; str (n,), empty when it can.

    blending : of `blend`; min_weight : in units of the image's median weight
    """
    flags = column(pairs.sources, "flags", 0).astype(int)
    bias = SourceFlag.NEIGHBOURS.value if pairs.name != "psf" else 0
    extended = column(pairs.sources, "stellarity", 1.0) < min_stellarity
    rules = {
        "no flux": np.isnan(pairs.flux) | np.isnan(pairs.flux_err),
        "saturated": (flags & SourceFlag.SATURATED.value) > 0,
        "edge": ((flags & SourceFlag.EDGE.value) > 0)
        | (column(pairs.sources, "weight_ratio", 1.0) < min_weight),
        "bad pixels": (flags & SourceFlag.BAD_PIXELS.value) > 0,
        "extended": extended | (column(pairs.stars, "extended", 0.0) > 0),
        "catalogue": (column(pairs.stars, "good", 1.0) == 0) | np.isnan(pairs.mag),
        "blended": ((flags & bias) > 0) | (blending > max_blend),
    }
    return first_of(rules, len(pairs))


def first_of(rules: dict[str, NDArray[Any]], n: int) -> NDArray[Any]:
    """The first rule that holds for each of n; str (n,), empty when none does."""
    reason = np.full(n, "", dtype="U16")
    for name, holds in rules.items():
        reason[holds & (reason == "")] = name
    return reason


def blend(pairs: Pairs, sources: Table, radius_pix: float) -> Array:
    """Light of other sources within a radius, as a part of the source's own."""
    light = np.nan_to_num(np.maximum(column(sources, f"flux_{pairs.name}", 0.0), 0.0))
    here = np.stack([pairs.sources["x"], pairs.sources["y"]], axis=1)
    there = cKDTree(np.stack([sources["x"], sources["y"]], axis=1))
    near = there.query_ball_point(here, radius_pix)
    total = np.array([light[rows].sum() for rows in near]) if len(near) else np.zeros(0)
    own = np.nan_to_num(pairs.flux)
    return np.where(own > 0, total / np.maximum(own, 1e-30) - 1.0, np.inf)


@dataclass(frozen=True, eq=False)
class ErrorCurve:
    """A catalogue's errors as a smooth function of magnitude: medians of bins, log-linear between.

    A quoted error follows the noise of its own magnitude: a star that came out bright has a
    smaller one. Weights of that kind favour stars that came out bright (by 2 sigma**2 in
    relative flux); the error at the expected magnitude does not.
    """

    mags: Array
    log_errors: Array
    limit: float
    """Where the catalogue ends: its 98 % quantile."""

    def at(self, mag: Array) -> Array:
        """The usual error at magnitudes."""
        return np.exp(np.interp(mag, self.mags, self.log_errors))

    def faint_end(self, max_error: float) -> float:
        """Where the error has grown to a limit, or the catalogue's end is 3 errors away."""
        end = self.limit - 3.0 * float(self.at(np.asarray(self.limit)))
        after = int(np.argmin(self.log_errors))
        beyond = np.flatnonzero(self.log_errors[after:] > np.log(max_error)) + after
        if beyond.size == 0:
            return end
        k = int(beyond[0])
        if k == after:
            return min(end, float(self.mags[k]))
        rise = (self.log_errors[k - 1], self.log_errors[k])
        cross = float(np.interp(np.log(max_error), rise, self.mags[k - 1 : k + 1]))
        return min(end, cross)


def error_curve(stars: Table) -> ErrorCurve:
    """The curve of a catalogue; flat where it has too few stars to tell."""
    mag, error = column(stars, "mag", np.nan), column(stars, "mag_err", np.nan)
    error = np.where(error > 0, error, ASSUMED_MAG_ERR)
    known = np.isfinite(mag) & (column(stars, "good", 1.0) > 0)
    mag, error = mag[known], np.maximum(error[known], 1e-4)
    if mag.size == 0:
        return ErrorCurve(np.zeros(1), np.log([ASSUMED_MAG_ERR]), np.inf)
    number = np.floor(mag / BIN_MAG).astype(int)
    bins = [b for b in np.unique(number) if np.count_nonzero(number == b) >= 5]
    if not bins:
        return ErrorCurve(np.array([np.median(mag)]), np.log([np.median(error)]), float(mag.max()))
    return ErrorCurve(
        np.array([np.median(mag[number == b]) for b in bins]),
        np.array([np.log(np.median(error[number == b])) for b in bins]),
        float(np.quantile(mag, LIMIT_QUANTILE)),
    )


@dataclass(frozen=True, eq=False)
class Measures:
    """What the fit is made with.

    difference : catalogue - instrumental magnitude; sigma : its error
    expected : the weighted mean of both magnitudes; snr : that it foretells
    """

    instrumental: Array
    difference: Array
    sigma: Array
    expected: Array
    snr: Array
    variance: Array
    """Of `expected`."""


def measures(pairs: Pairs, curve: ErrorCurve, zero_point: Array, extra: float) -> Measures:
    """Differences and their errors, and the magnitude on which stars may be chosen.

    zero_point : (n,), as known so far; extra : scatter of the catalogue beyond its errors

    The noise of the weighted mean of two measurements is independent of their difference, so a
    choice by the mean leaves the difference unbiased, however steeply the counts of stars rise:
    neither Eddington's bias nor that of a threshold in S/N enters.
    """
    flux, flux_err, mag = pairs.flux, pairs.flux_err, pairs.mag
    expected = zero_point - 2.5 * np.log10(flux)
    for _ in range(3):
        model = 10 ** (0.4 * (zero_point - expected))
        own = MAG * flux_err / model
        # The mean of a logarithm is not the logarithm of the mean.
        instrumental = -2.5 * np.log10(flux) - 0.5 * own**2 / MAG
        change = np.clip(curve.at(expected) / curve.at(mag), 0.2, 5.0)
        other = pairs.mag_err * change
        w_own, w_other = 1 / own**2, 1 / (other**2 + extra**2)
        expected = (w_own * (zero_point + instrumental) + w_other * mag) / (w_own + w_other)
    return Measures(
        instrumental,
        mag - instrumental,
        np.hypot(own, other),
        expected,
        MAG / own,
        1 / (w_own + w_other),
    )


@dataclass(frozen=True, eq=False)
class Colors:
    """Colours of the stars: `values` about the pivot, shrunk, 0 where a star has none."""

    values: Array
    plain: Array
    """Not shrunk, not about the pivot; NaN where a star has none."""
    pivot: float
    spread: float
    n: int


def colors(pairs: Pairs, measured: Measures, among: NDArray[Any], band: str) -> Colors:
    """Colours without the noise of the magnitude that they calibrate, and shrunk by the rest.

    among : bool (n,), the stars that set pivot and spread

    A catalogue's J - H has the noise of its J, as has the difference that is to be explained:
    that would look like a colour term. So J is replaced by the weighted mean, whose noise is
    independent. What noise is left would flatten the slope; a colour is replaced by what it is
    on average for stars observed with it (regression calibration; Carroll et al. 2006).
    """
    name = str(pairs.stars.meta.get("color_name", ""))
    first, _, second = (word.strip().upper() for word in name.partition("-"))
    sign = (first == band.upper()) - (second == band.upper())
    raw, error = column(pairs.stars, "color", np.nan), column(pairs.stars, "color_err", np.nan)
    values = raw + sign * (measured.expected - pairs.mag)
    variance = np.nan_to_num(error, nan=ASSUMED_MAG_ERR) ** 2
    if sign:
        variance = np.maximum(variance - pairs.mag_err**2, 0.0) + measured.variance
    known = among & np.isfinite(values)
    n = int(known.sum())
    if n == 0:
        return Colors(np.zeros(len(pairs)), values, float("nan"), 0.0, 0)
    pivot = float(np.median(values[known]))
    scatter = (1.4826 * np.median(np.abs(values[known] - pivot))) ** 2
    true = max(float(scatter - np.median(variance[known])), 1e-6)
    shrunk = np.where(np.isfinite(values), (values - pivot) * true / (true + variance), 0.0)
    limit = 5.0 * np.sqrt(true)
    return Colors(np.clip(shrunk, -limit, limit), values, pivot, float(np.sqrt(true)), n)
