"""Why a source of a stack may not be on the sky, or not be a star."""

import math
from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from scipy.spatial import cKDTree

from photometrus.sourcetable import (
    Doubt,
    SourceFlag,
    Values,
    column,
    flagged,
    points,
    signal_to_noise,
)

MIN_SHAPED = 5
"""Stars from which the usual shape is taken."""


@dataclass(frozen=True)
class DoubtConfig:
    """What may be tuned in telling the spurious from the real."""

    min_weight_ratio: float = 0.5  # of the image's median weight
    min_frames: int = 3  # as many cosmic rays never fall on one place
    shape_tolerance: float = 0.25  # of a size or an elongation, besides three of its errors
    min_shape_snr: float = 10.0  # fainter, a shape is noise
    min_stellarity: float = 0.05
    halo: float = 0.025  # see `in_halo`
    halo_max_arcsec: float = 120.0
    half_sigma: float = 2.5  # a source is seen in each half of the frames
    half_scatter: float = 0.1  # by which real fluxes of the halves differ, besides their errors


def find_doubts(
    sources: Table,
    stars: Table,
    *,
    scale_arcsec: float,
    n_frames: int,
    halves: Table | None = None,
    config: DoubtConfig = DoubtConfig(),
) -> Values:
    """What speaks against each source: int32 (n,), bits of `Doubt`.

    sources : ra_deg, dec_deg, flags, weight_ratio, fwhm, elongation, stellarity, flux_psf,
        flux_psf_err, mag_psf; moved_arcsec (of `counterparts`), if known
    stars : the catalogue's, ra_deg, dec_deg, mag; n_frames : of the stack
    halves : same rows as `sources`: flux1, flux1_err, flux2, flux2_err, forced at the sources'
        places in the two stacks of every other frame, ADU; None when there are none
    """
    weight = column(sources, "weight_ratio", 1.0)
    frames = min(config.min_frames, n_frames)
    tests = {
        Doubt.SATURATED: flagged(sources, SourceFlag.SATURATED),
        Doubt.EDGE: flagged(sources, SourceFlag.EDGE),
        Doubt.BAD_PIXELS: flagged(sources, SourceFlag.BAD_PIXELS),
        Doubt.LOW_WEIGHT: weight < config.min_weight_ratio,
        # A ratio counts frames only about: they differ in weight.
        Doubt.FEW_FRAMES: weight * n_frames < frames - 0.5,
        Doubt.HALO: in_halo(sources, stars, scale_arcsec, config),
        Doubt.MOVED: np.isfinite(column(sources, "moved_arcsec")),
    }
    tests |= _shapes(sources, config)
    if halves is not None:
        tests |= _halves(halves, config)
    doubts = np.zeros(len(sources), np.int32)
    for doubt, holds in tests.items():
        doubts[np.asarray(holds, bool)] |= doubt.value
    return doubts


def in_halo(sources: Table, stars: Table, scale_arcsec: float, config: DoubtConfig) -> Values:
    """Which sources may be pieces of a much brighter star's wings or spikes: bool (n,).

    At r times the FWHM from a star, light of the star that falls on the area of one FWHM is
    taken to be `halo` / r^2 of its flux, as its aureole falls off (King 1971, PASP 83, 199); a
    fainter source is in doubt. Bright stars are the catalogue's and the stack's own.
    """
    mag = np.where(signal_to_noise(sources) > 3, column(sources, "mag_psf"), np.nan)
    fwhm_arcsec = scale_arcsec * _usual(sources)[0]
    out = np.zeros(len(sources), bool)
    if not (np.isfinite(mag).any() and np.isfinite(fwhm_arcsec)):
        return out
    own = points(sources)
    bright_mag = np.concatenate([column(stars, "mag"), mag])
    places = np.concatenate([points(stars), own])
    contrast = config.halo * 10 ** (0.4 * (np.nanmax(mag) - bright_mag))
    bright = np.flatnonzero(contrast > 1)
    reach = np.minimum(fwhm_arcsec * np.sqrt(contrast[bright]), config.halo_max_arcsec)
    lists = cKDTree(own).query_ball_point(places[bright], reach)
    star = np.repeat(bright, [len(found) for found in lists])
    near = np.array([row for found in lists for row in found], np.int64)
    r = np.linalg.norm(own[near] - places[star], axis=1) / fwhm_arcsec
    ratio = 10 ** (-0.4 * (mag[near] - bright_mag[star]))
    out[near[ratio * np.maximum(r, 1.0) ** 2 < config.halo]] = True
    return out


def _usual(sources: Table) -> tuple[float, float]:
    """FWHM (pix) and elongation of the stack's good stars; NaN when there are too few."""
    stars = (np.asarray(sources["flags"]) == 0) & (signal_to_noise(sources) > 20)
    stars &= column(sources, "stellarity", 1.0) > 0.5
    if np.count_nonzero(stars) < MIN_SHAPED:
        return math.nan, math.nan
    return (
        float(np.nanmedian(column(sources, "fwhm")[stars])),
        float(np.nanmedian(column(sources, "elongation")[stars])),
    )


def _shapes(sources: Table, config: DoubtConfig) -> dict[Doubt, Values]:
    """What its shape says; the relative error of a width is about 1 / (S/N)."""
    fwhm, elongation = _usual(sources)
    snr = np.nan_to_num(signal_to_noise(sources))
    shaped = snr > config.min_shape_snr
    tolerance = config.shape_tolerance + 3 / np.maximum(snr, 1.0)
    size = column(sources, "fwhm") / fwhm
    longer = column(sources, "elongation") / elongation > 1 + tolerance
    sharp = size < 1 - tolerance
    galaxy = (column(sources, "stellarity", 1.0) < config.min_stellarity) & ~sharp
    return {
        Doubt.SHARP: shaped & sharp,
        Doubt.EXTENDED: shaped & ((size > 1 + tolerance) | galaxy),
        Doubt.ELONGATED: shaped & longer,
    }


def _halves(halves: Table, config: DoubtConfig) -> dict[Doubt, Values]:
    """What the two stacks of every other frame say; NaN, where one has no value, says nothing."""
    first, first_err = column(halves, "flux1"), column(halves, "flux1_err")
    second, second_err = column(halves, "flux2"), column(halves, "flux2_err")
    absent = (first < config.half_sigma * first_err) | (second < config.half_sigma * second_err)
    real = config.half_scatter * 0.5 * np.abs(first + second)
    sigma = np.sqrt(first_err**2 + second_err**2 + real**2)
    return {Doubt.ONE_HALF: absent, Doubt.UNSTEADY: np.abs(first - second) > 4 * sigma}
