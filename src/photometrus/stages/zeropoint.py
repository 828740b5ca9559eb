"""The zero point of a stack from catalogue stars."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from astropy.table import Table
from astropy.wcs import WCS
from numpy.typing import NDArray

from photometrus.calibration import ZeroPoint
from photometrus.reference import at_epoch
from photometrus.stages.calibrators import Pairs, blend, error_curve, pair, unfit
from photometrus.stages.zeromodel import Model, Range, fit_in_rounds, flat_field
from photometrus.wcs import pixel_scale_arcsec
from photometrus.zerofit import extra_variance, solve

Array = NDArray[Any]  # float64 (n,) unless said otherwise
UNKNOWN_TRANSFORM_MAG = 0.05
"""Error of a transform into the band that nobody gives: what neglected colours are worth."""
CELLS = 4
"""Cells per side in which residuals are averaged to see what is left of a pattern."""


@dataclass(frozen=True)
class ZeroPointConfig:
    """Settings of the zero point."""

    mag_low: float = 12.5
    """Brightest calibrator, magnitude in the catalogue's system."""
    mag_high: float = math.inf
    """Faintest; infinite: where the catalogue's errors reach `max_mag_err` or its end is near."""
    max_mag_err: float = 0.1
    """Of the catalogue, as a function of magnitude."""
    min_snr: float = 20.0
    clip_sigma: float = 3.0
    """Of a star's own error: beyond it, it is left out, once."""
    match_radius_arcsec: float = 1.0
    blend_radius_arcsec: float = 5.0
    """A catalogue with the beam of 2MASS sees what is within it as one."""
    max_blend: float = 0.03
    """Light of neighbours within it, as a part of the star's own."""
    min_stellarity: float = 0.5
    min_weight_ratio: float = 0.3
    """Of the median weight: below it a few frames at the edge decide."""
    max_degree: int = 3
    """Of the position term; 0: none."""
    min_stars: int = 5
    enough_stars: int = 1000
    """Of more the brightest are taken: their light is least disturbed by sky and neighbours."""
    max_off_mag: float = 1.0
    """From the zero point that the instrument should have."""
    max_color_term: float = 0.4
    """Magnitudes per magnitude; with stars of another band it is about 1."""
    max_extra_scatter_mag: float = 0.1
    """Beyond the errors; colours of stars scatter by 0.2 and more: another band, other stars."""
    max_slope: float = 0.05
    """Of residuals against magnitude, magnitudes per magnitude, if it is beyond 3 sigma."""


def calibrate(
    sources: Table,
    stars: Table,
    wcs: WCS,
    band: str,
    config: ZeroPointConfig = ZeroPointConfig(),
    *,
    flux: str = "psf",
    epoch_yr: float | None = None,
    expected_vega: float = float("nan"),
) -> ZeroPoint:
    """The zero point of one kind of flux: psf, aper or auto; `refused` when it cannot be trusted.

    sources : all of the stack, with x, y, flux_psf, flux_psf_err, flags, stellarity, weight_ratio
    stars : calibrators with ra_deg, dec_deg, mag, mag_err, color, color_err, extended, good and
        the meta of `io.catalogs.calibrators`
    epoch_yr : of the observation, to which proper motions bring the stars; None: they are there
    expected_vega : what the instrument should have; NaN: unknown, nothing is compared
    """
    if epoch_yr is not None:
        stars = at_epoch(stars, epoch_yr)
    curve = error_curve(stars)
    high = config.mag_high
    if math.isinf(high):
        high = curve.faint_end(config.max_mag_err)
    pairs = pair(sources, stars, wcs, config.match_radius_arcsec, flux)
    scale = pixel_scale_arcsec(wcs)
    reason = unfit(
        pairs,
        blend(pairs, sources, config.blend_radius_arcsec / scale),
        config.max_blend,
        config.min_stellarity,
        config.min_weight_ratio,
    )
    flat = flat_field(sources)
    within = Range(
        config.mag_low,
        high,
        config.min_snr,
        config.min_stars,
        config.enough_stars,
        config.clip_sigma,
    )
    model, reason = fit_in_rounds(pairs, reason, curve, flat, band, within, config.max_degree)
    meta = stars.meta
    zero_point = ZeroPoint(
        band=band,
        flux=flux,
        stars=_table(pairs, model, reason),
        n_matched=len(pairs),
        n_chance=pairs.n_chance,
        excluded={str(why): int((reason == why).sum()) for why in np.unique(reason) if why},
        mag_low=config.mag_low,
        mag_high=high,
        survey=str(meta.get("survey", "")),
        source=str(meta.get("source", "")),
        mag_system=str(meta.get("mag_system", "")),
        to_ab=float(meta.get("to_ab", np.nan)),
        to_vega=float(meta.get("to_vega", np.nan)),
        color_name=str(meta.get("color_name", "")),
        field=flat,
        n_stars=int((reason == "").sum()),
        notes=tuple(str(note) for note in meta.get("notes", ())),
    )
    if model is not None:
        zero_point = _measured(zero_point, model, meta)
    return replace(zero_point, refused=_verdict(zero_point, config, expected_vega))


def _table(pairs: Pairs, model: Model | None, reason: NDArray[Any]) -> Table:
    """The matched stars, for plots and for whoever doubts; NaN where nothing was fitted."""
    nothing = np.full(len(pairs), np.nan)
    return Table(
        {
            "ra_deg": np.asarray(pairs.stars["ra_deg"], float),
            "dec_deg": np.asarray(pairs.stars["dec_deg"], float),
            "x": np.asarray(pairs.sources["x"], float),
            "y": np.asarray(pairs.sources["y"], float),
            "mag": pairs.mag,
            "mag_err": pairs.mag_err,
            "instrumental": -2.5 * np.log10(pairs.flux),
            "expected": nothing if model is None else model.measured.expected,
            "color": nothing if model is None else model.colors.plain,
            "residual": nothing if model is None else model.residual,
            "sigma": nothing if model is None else model.sigma,
            "used": reason == "",
            "reason": reason,
        }
    )


def _measured(zero_point: ZeroPoint, model: Model, meta: Mapping[str, Any]) -> ZeroPoint:
    """With the numbers of the fit."""
    used = model.used
    residual, sigma = zero_point.stars["residual"][used], zero_point.stars["sigma"][used]
    color, color_err = _color_slope(model, residual, sigma)
    weights = 1 / sigma**2
    mag = np.asarray(zero_point.stars["expected"][used])
    pivot = float(np.average(mag, weights=weights))
    line, inverse = solve(np.stack([mag - pivot, np.ones(mag.size)], axis=1), residual, weights)
    transform = meta.get("transform_err", 0.0)
    systematics = {
        "transform": float(np.nan_to_num(transform, nan=UNKNOWN_TRANSFORM_MAG)),
        "color": float(np.hypot(color if model.terms.color else 0.0, color_err))
        * model.colors.spread,
        "position": _pattern(zero_point, used),
    }
    return replace(
        zero_point,
        value=float(model.fit.coefficients[0]),
        err_stat=float(np.sqrt(model.fit.covariance[0, 0])),
        systematics=systematics,
        scatter=float(np.std(residual)),
        extra_scatter=model.fit.extra,
        color_term=color if model.terms.color else 0.0,
        color_term_err=color_err,
        color_pivot=model.colors.pivot,
        field=model.field,
        gains=model.terms.gains,
        slope=float(line[0]),
        slope_err=float(np.sqrt(inverse[0, 0])),
        intercept=float(line[1]),
        intercept_err=float(np.sqrt(inverse[1, 1])),
        pivot_mag=pivot,
    )


def _color_slope(model: Model, residual: Array, sigma: Array) -> tuple[float, float]:
    """Of the fit; where it has none, what the residuals allow: its error says how much."""
    if model.terms.color:
        return float(model.fit.coefficients[1]), float(np.sqrt(model.fit.covariance[1, 1]))
    tint = model.colors.values[model.used]
    if model.colors.n < 3 or not np.any(tint):
        return 0.0, 0.0
    line, inverse = solve(np.stack([tint, np.ones(tint.size)], axis=1), residual, 1 / sigma**2)
    return float(line[0]), float(np.sqrt(inverse[0, 0]))


def _pattern(zero_point: ZeroPoint, used: NDArray[Any]) -> float:
    """What is left of a pattern over the chip: scatter of cells' means beyond their errors, mag."""
    stars, field = zero_point.stars[used], zero_point.field
    cell = np.zeros(len(stars), int)
    for axis, middle in zip("xy", field.centre, strict=True):
        u = (np.asarray(stars[axis]) - middle) / field.half_pix
        cell = cell * CELLS + np.clip((u + 1) / 2 * CELLS, 0, CELLS - 1).astype(int)
    weights = np.bincount(cell, 1 / stars["sigma"] ** 2, CELLS**2)
    sums = np.bincount(cell, stars["residual"] / stars["sigma"] ** 2, CELLS**2)
    enough = np.bincount(cell, minlength=CELLS**2) >= 3
    if np.count_nonzero(enough) < CELLS:
        return 0.0
    means, variance = sums[enough] / weights[enough], 1 / weights[enough]
    return float(np.sqrt(extra_variance((means - means.mean()) ** 2, variance, means.size - 1)))


def _verdict(zero_point: ZeroPoint, config: ZeroPointConfig, expected_vega: float) -> str:
    """Why it cannot be trusted; empty when it can."""
    zp = zero_point
    off = zp.value + zp.to_vega - expected_vega
    if zp.n_chance > 0 and zp.n_matched <= zp.n_chance + 5 * np.sqrt(zp.n_chance):
        return (
            f"{zp.n_matched} sources have a counterpart in {zp.survey or zp.source}, and chance"
            f" gives {zp.n_chance:.0f}; another field, or the astrometry is wrong"
        )
    if zp.n_stars < config.min_stars:
        out = ", ".join(f"{n} {why}" for why, n in zp.excluded.items())
        return (
            f"{zp.n_stars} stars of {zp.survey or zp.source} calibrate, at least"
            f" {config.min_stars} needed ({zp.n_matched} sources matched; {out or 'none'}"
            " excluded); another catalogue, or a wider range of magnitudes"
        )
    if zp.extra_scatter > config.max_extra_scatter_mag:
        return (
            f"the stars scatter by {zp.extra_scatter:.2f} mag beyond their errors, at most"
            f" {config.max_extra_scatter_mag:g} allowed; another band or another field"
        )
    if abs(zp.color_term) - 2 * zp.color_term_err > config.max_color_term:
        return (
            f"colour term {zp.color_term:+.2f} in {zp.color_name}, at most"
            f" {config.max_color_term:g} allowed; the band is not {zp.band}"
        )
    if abs(off) > config.max_off_mag:
        return (
            f"zero point {zp.value + zp.to_vega:.2f} (Vega), the instrument has"
            f" {expected_vega:.2f} in {zp.band}; {off:+.2f} mag, at most {config.max_off_mag:g}"
            " allowed; wrong band, wrong catalogue or heavy cloud"
        )
    if abs(zp.slope) > max(config.max_slope, 3 * zp.slope_err):
        return (
            f"residuals change by {zp.slope:+.3f} mag per mag, at most {config.max_slope:g}"
            " allowed; saturation, a wrong background or a wrong catalogue"
        )
    return ""
