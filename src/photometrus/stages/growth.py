"""The growth curve: which fraction of a star's light a circle holds, anywhere on the chip.

In the wings from radius to radius, each step from all stars that are bright enough: DAOGROW's
way (Stetson 1990, PASP 102, 932) without its analytic profile; up to `middle_fwhm` straight to that
radius, and as a function of how wide stars are at the place. The reference is the light within
`reference_fwhm` seeing disks: what lies beyond is the same fraction for all stars, and belongs to
the zero point.
"""

from dataclasses import dataclass

import numpy as np
from astropy.table import Table

from photometrus.errors import UsageError
from photometrus.frame import Image
from photometrus.kernels.apertures import circle_sums
from photometrus.sourcetable import SourceFlag, flagged
from photometrus.stages.detection import Detections
from photometrus.stages.widths import Widths, measure_widths, polynomial

AROUND = 1.5
"""The sky around a star is measured from the reference radius to so many of it."""
BIWEIGHT = 6.0
"""Tukey's biweight gives no weight beyond so many sigma."""
OUTLIER = 4.0
"""In sigma: farther ones cost a model no more."""
MIN_STARS = 5
UNFIT = SourceFlag.SATURATED | SourceFlag.EDGE | SourceFlag.BAD_PIXELS | SourceFlag.NEIGHBOURS
"""Flags of stars that tell nothing of the growth curve."""
TERMS = (1, 2, 3, 5, 8)
"""Coefficients of models, each with all of the one before: constant; with width; with its square;
with x and y; with their squares."""


@dataclass(frozen=True)
class GrowthConfig:
    """What may be tuned in the growth curve."""

    reference_fwhm: float = 5.0  # radius of the total light, in FWHM
    radii_fwhm: tuple[float, ...] = (0.3, 0.42, 0.56, 0.75, 1.0, 1.35, 1.8, 2.5, 3.5)
    middle_fwhm: float = 1.8  # of `radii_fwhm`: up to there the curve differs over the chip most
    least_snr: float = 40.0  # of the stars
    max_stars: int = 1500  # the brightest
    width_tolerance: float = 0.35  # stars are that near to the usual FWHM
    max_elongation: float = 1.3
    max_replaced: float = 0.3  # share of a ring on neighbours' pixels
    stars_per_term: int = 12
    floor: float = 0.002  # of a star's own step: what noise does not explain


@dataclass(frozen=True, eq=False)
class GrowthCurve:
    """Fractions of the total light in circles.

    radii : float64 (m,), pixels; the last one holds all by definition
    fractions : float64 (m,), of a star of the usual width in the image's middle
    errors : float64 (m,), 1 sigma of them
    missing : float64 (m, 8), -log of the fraction: coefficients of 1, s, s^2, u, v, u^2, u v, v^2,
        with s the log of a star's width over the usual one and u, v = -1 ... 1 over the image
    widths : what s is where; stars : int (m,), how many said so
    """

    radii: Image
    fractions: Image
    errors: Image
    missing: Image
    widths: Widths
    stars: Image

    def fraction(self, x: Image, y: Image, radius: Image | float) -> tuple[Image, Image]:
        """Fraction of a star's total light at x, y within a circle, and its error.

        x, y : pixels, (n,); radius : pixels, a number, (n,) or (n, m); returns float64 like radius
        """
        # Not at the top: every command would wait for it.
        from scipy.interpolate import PchipInterpolator

        x, y = np.atleast_1d(np.asarray(x, float)), np.atleast_1d(np.asarray(y, float))
        radius = np.asarray(radius, float)
        radius = np.broadcast_to(radius, x.shape) if radius.ndim < 2 else radius
        # In the middle of a star light grows as the area does.
        curve = PchipInterpolator(np.append(0.0, self.radii**2), np.append(0.0, self.fractions))
        inside = np.clip(radius, 1e-3 * self.radii[0], self.radii[-1])
        usual = curve(inside**2)
        node = np.clip(np.searchsorted(self.radii, inside) - 1, 0, self.radii.size - 2)
        share = np.clip((inside - self.radii[node]) / np.diff(self.radii)[node], 0.0, 1.0)
        star = np.arange(x.size).reshape(-1, *[1] * (radius.ndim - 1))

        def between(table: Image) -> Image:
            """Of values (n, m) at the nodes of each star, those at its radii."""
            return (1 - share) * table[star, node] + share * table[star, node + 1]

        # How much less a circle holds here than usual.
        width, width_err = self.widths.at(x, y)
        terms = _terms(x, y, width, self.widths.weight.shape)
        less = between(terms[:, 1:] @ self.missing[:, 1:].T)
        slope = between(self.missing[:, 1] + 2 * width[:, None] * self.missing[:, 2])
        fraction = np.minimum(usual * np.exp(-less), 1.0)
        own = np.interp(inside, self.radii, self.errors) / usual
        return fraction, fraction * np.hypot(own, slope * width_err[star])


def growth_curve(
    found: Detections, radii_pix: tuple[float, ...] = (), config: GrowthConfig = GrowthConfig()
) -> GrowthCurve:
    """The growth curve of a stack's stars.

    radii_pix : radii that shall be nodes: those of the apertures
    Raises UsageError when fewer than five stars are fit for it.
    """
    last = config.reference_fwhm * found.fwhm_pix
    nodes = np.asarray([*(found.fwhm_pix * np.asarray(config.radii_fwhm)), *radii_pix])
    radii = np.append(np.unique(nodes[nodes < 0.95 * last]), last)
    stars = growth_stars(found, config)
    if len(stars) < MIN_STARS:
        raise UsageError(
            f"{len(stars)} stars for the growth curve, need {MIN_STARS}; lower growth.least_snr"
        )
    widths = measure_widths(stars, found.stack.weight, found.fwhm_pix)
    x, y = np.asarray(stars["x"], float), np.asarray(stars["y"], float)
    stack = found.stack
    sums, variances, replaced = _rings(found, stars, np.append(radii, AROUND * last))
    gain = stack.info.gain_e_per_adu if stack.info.gain_e_per_adu > 0 else np.inf
    design = _terms(x, y, widths.at(x, y)[0], stack.data.shape)

    def growth(k: int, to: int) -> tuple[Image, float, int]:
        """Coefficients of the log of the growth from one radius to another."""
        ring = np.pi * (radii[to] ** 2 - radii[k] ** 2)
        clean = replaced[:, to] - replaced[:, k] < config.max_replaced * ring
        clean &= np.minimum(sums[:, k], sums[:, to]) > 0
        inner, outer = sums[clean, k], sums[clean, to]
        photons = np.maximum(outer - inner, 0.0) / gain
        noise = np.sqrt(variances[clean, to] - variances[clean, k] + photons) / inner
        return _fit(np.log(outer / inner), np.hypot(noise, config.floor), design[clean], config)

    missing, errors = np.zeros((radii.size, TERMS[-1])), np.zeros(radii.size)
    used = np.zeros(radii.size, int)
    middle = int(np.searchsorted(radii, config.middle_fwhm * found.fwhm_pix))
    for k in range(radii.size - 2, -1, -1):
        to = max(middle, k + 1)
        step, error, used[k] = growth(k, to)
        missing[k], errors[k] = missing[to] + step, np.hypot(errors[to], error)
    used[-1] = used[-2]
    fractions = np.exp(-missing[:, 0])
    return GrowthCurve(radii, fractions, fractions * errors, missing, widths, used)


def _rings(found: Detections, stars: Table, radii: Image) -> tuple[Image, Image, Image]:
    """Sums over circles of stars, less the mean level between the last two; see `circle_sums`.

    What is too faint to be found lies around stars as everywhere, and is no part of their light.
    """
    x, y = np.asarray(stars["x"], float), np.asarray(stars["y"], float)
    sums, variances, replaced = np.empty((3, x.size, radii.size))
    stack, numbers = found.stack, np.asarray(stars["number"], np.int32)
    circle_sums(
        stack.data, stack.weight, found.segments, x, y, numbers, radii, sums, variances, replaced
    )
    area = np.pi * radii**2
    ring = area[-1] - area[-2]
    level = (sums[:, -1] - sums[:, -2]) / ring
    error = (variances[:, -1] - variances[:, -2]) / ring**2
    sums -= level[:, None] * area
    variances += error[:, None] * area**2
    return sums[:, :-1], variances[:, :-1], replaced[:, :-1]


def growth_stars(found: Detections, config: GrowthConfig = GrowthConfig()) -> Table:
    """Bright clean stars of a stack, brightest first."""
    table = found.table
    good = ~flagged(table, UNFIT) & (table["snr_win"] > config.least_snr)
    good &= np.abs(table["fwhm"] / found.fwhm_pix - 1) < config.width_tolerance
    good &= table["elongation"] < config.max_elongation
    stars = table[good]
    return stars[np.argsort(-np.asarray(stars["snr_win"]), kind="stable")][: config.max_stars]


def _terms(x: Image, y: Image, s: Image, shape: tuple[int, ...]) -> Image:
    """1, s, s^2, u, v, u^2, u v, v^2: float64 (n, 8)."""
    place = polynomial(x, y, shape)
    return np.concatenate([np.stack([np.ones_like(s), s, s * s], axis=1), place[:, 1:]], axis=1)


def _fit(
    step: Image, noise: Image, design: Image, config: GrowthConfig
) -> tuple[Image, float, int]:
    """One step over the chip: coefficients (6,), error of its mean, stars; by the least BIC."""
    fits = []
    for terms in TERMS:
        if step.size >= (config.stars_per_term * terms if terms > 1 else MIN_STARS):
            fits.append(_robust(step, noise, design[:, :terms]))
    if not fits:
        return np.zeros(TERMS[-1]), np.inf, 0
    # All are judged by the scatter about the richest one, and an outlier costs each the same.
    scale = fits[-1][1]
    costs = []
    for coefficients, _, _ in fits:
        left = (step - design[:, : coefficients.size] @ coefficients) / (scale * noise)
        loss = float(np.sum(np.minimum(left**2, OUTLIER**2)))
        costs.append(loss + coefficients.size * np.log(step.size))
    coefficients, scale, weight = fits[int(np.argmin(costs))]
    error = scale / np.sqrt(np.sum(weight / noise**2))
    padded = np.pad(coefficients, (0, TERMS[-1] - coefficients.size))
    return padded, float(error), int(np.count_nonzero(weight))


def _robust(step: Image, noise: Image, design: Image) -> tuple[Image, float, Image]:
    """Least squares with Tukey's biweight: coefficients, excess of the scatter, weights."""
    middle = np.median(step)
    weight = (
        np.abs(step - middle) < BIWEIGHT * 1.4826 * np.median(np.abs(step - middle)) + noise
    ) * 1.0
    for _ in range(8):
        root = np.sqrt(weight) / noise
        coefficients = np.linalg.lstsq(design * root[:, None], step * root, rcond=None)[0]
        left = (step - design @ coefficients) / noise
        scale = max(1.4826 * float(np.median(np.abs(left))), 1.0)
        weight = np.maximum(1 - (left / (BIWEIGHT * scale)) ** 2, 0.0) ** 2
    return coefficients, scale, weight
