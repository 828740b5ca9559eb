"""How good a frame is, and which frames a stack is better without."""

from collections.abc import Sequence

import numpy as np
from astropy.table import Table

from photometrus.frame import Quality
from photometrus.stages.coadd import CoaddConfig

MIN_GAIN_MAG = 0.002
"""Depth that must be won by leaving a frame out: less is chance."""
MIN_STARS = 3
"""Stars in common with the other frames from which a transparency is believed."""


def relative_fluxes(catalogs: Sequence[Table], stars: Sequence[np.ndarray]) -> np.ndarray:
    """The flux of each frame's stars relative to the median frame: float64 (n,), NaN if unknown.

    catalogs : flux, flux_err, snr, flags per frame; stars : the star number of each row used, -1
        for none (from the astrometric solution)
    Two-way medians: each star has a mean log flux, each frame an offset.
    """
    n = len(catalogs)
    if n == 0:
        return np.empty(0)
    rows = []
    for k, (table, star) in enumerate(zip(catalogs, stars, strict=True)):
        flux = np.asarray(table["flux"])
        good = (star >= 0) & (flux > 0) & (np.asarray(table["snr"]) > 8)
        good &= np.asarray(table["flags"]) == 0
        rows.append(np.stack([np.full(good.sum(), k), star[good], np.log(flux[good])], axis=1))
    frame, star, value = np.concatenate(rows).T
    frame, star = frame.astype(int), star.astype(int)
    if star.size == 0:
        return np.full(n, np.nan)
    n_stars = star.max() + 1
    matrix = np.full((n, n_stars), np.nan)
    matrix[frame, star] = value
    matrix = matrix[:, np.isfinite(matrix).sum(axis=0) >= 2]
    offset = np.zeros(n)
    if matrix.shape[1] == 0:
        return np.full(n, np.nan)
    for _ in range(10):
        mean = np.nanmedian(matrix - offset[:, None], axis=0)
        for k in range(n):
            difference = (matrix[k] - mean)[np.isfinite(matrix[k])]
            offset[k] = np.median(difference) if difference.size >= MIN_STARS else np.nan
        known = np.isfinite(offset)
        if not known.any():
            return np.full(n, np.nan)
        offset -= np.median(offset[known])
        offset = np.where(known, offset, 0.0)
    return np.where(known, np.exp(offset), np.nan)


def area_slope(
    star: np.ndarray, frame: np.ndarray, mag: np.ndarray, flux: np.ndarray, area: np.ndarray
) -> tuple[float, float]:
    """How the stars' fluxes follow the area of the pixels they fall on: (slope, its error).

    star, frame : int (n,), which catalogue star and which frame a measurement is of
    mag : of the catalogue; flux : measured, ADU; area : of the pixels there, any unit
    -1: the flat holds the pixels' area, and the frames are surface brightness; 0: it does not, and
    the frames are flux per pixel. NaN for fewer than 20 stars. Errors of the catalogue and colours
    are the same in all frames: a star counts once.
    """
    zero = mag + 2.5 * np.log10(flux)
    for k in np.unique(frame):
        zero[frame == k] -= np.median(zero[frame == k])
    names, which = np.unique(star, return_inverse=True)
    if names.size < 20:
        return float("nan"), float("nan")
    count = np.bincount(which)
    y = np.bincount(which, zero) / count
    x = np.bincount(which, 2.5 * np.log10(area)) / count
    design = np.stack([np.ones_like(x), x - x.mean()], axis=1)
    weight = np.ones_like(y)
    for _ in range(10):
        normal = design.T @ (design * weight[:, None])
        terms = np.linalg.solve(normal, design.T @ (weight * y))
        left = y - design @ terms
        scatter = 1.4826 * float(np.median(np.abs(left))) + 1e-9
        # Variable stars, galaxies and blends are no outliers of the pixels (Tukey's biweight).
        weight = np.clip(1 - (left / (4.7 * scatter)) ** 2, 0, None) ** 2
    error = scatter * np.sqrt(np.linalg.inv(design.T @ (design * weight[:, None]))[1, 1])
    return float(terms[1]), float(error)


def reject(qualities: Sequence[Quality], config: CoaddConfig = CoaddConfig()) -> list[str]:
    """For each frame why the stack is better without it; an empty string for those it needs.

    First what no weight can mend: hardly any light, a trail. Then, as long as it deepens the stack,
    the frame that blurs it more than its light is worth. Limits are relative to the median frame,
    so that a bad night still gives its best stack.
    """
    seeing = np.array([quality.seeing_arcsec for quality in qualities])
    ellipticity = np.array([quality.ellipticity for quality in qualities])
    transparency = np.array([quality.transparency for quality in qualities])
    typical = [_median(values) for values in (seeing, ellipticity, transparency)]
    reasons = []
    for s, e, t in zip(seeing, ellipticity, transparency, strict=True):
        why = []
        if not np.isfinite(t) and np.isfinite(transparency).sum() >= MIN_STARS:
            why.append(f"cloud: fewer than {MIN_STARS} stars in common with the other frames")
        if t < config.min_transparency * typical[2]:
            why.append(f"cloud: transparency {t:.2f}, at least {config.min_transparency:.2f}")
        if s > config.max_seeing_ratio * typical[0]:
            why.append(f'blurred: {s:.2f}", at most {config.max_seeing_ratio * typical[0]:.2f}"')
        if e > typical[1] + config.max_ellipticity:
            why.append(
                f"trailed: ellipticity {e:.2f}, at most {typical[1] + config.max_ellipticity:.2f}"
            )
        reasons.append("; ".join(why))
    return _shallower(qualities, reasons)


def _shallower(qualities: Sequence[Quality], reasons: list[str]) -> list[str]:
    """The reasons, with those frames added without which the stack is deeper.

    Its squared signal-to-noise ratio for a faint star goes as the sum of the weights over the area
    of its image, which is the weighted mean of the frames' areas.
    """
    out = list(reasons)
    weight = np.array([(q.transparency / q.noise_adu) ** 2 for q in qualities])
    area = np.array([q.seeing_arcsec**2 for q in qualities])
    kept = [
        k
        for k, reason in enumerate(reasons)
        if not reason and np.isfinite(weight[k]) and np.isfinite(area[k])
    ]

    def depth(frames: list[int]) -> float:
        """Squared signal to noise, up to a factor."""
        return float(weight[frames].sum() ** 2 / (weight[frames] * area[frames]).sum())

    while len(kept) > 2:
        without = [depth([k for k in kept if k != out_k]) for out_k in kept]
        best = int(np.argmax(without))
        gain = 1.25 * np.log10(without[best] / depth(kept))
        if gain < MIN_GAIN_MAG:
            break
        k = kept.pop(best)
        q = qualities[k]
        out[k] = (
            f"the stack is {gain:.3f} mag deeper without it: transparency {q.transparency:.2f}, "
            f'noise {q.noise_adu:.1f} ADU, seeing {q.seeing_arcsec:.2f}"'
        )
    return out


def _median(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else float("nan")
