"""How wide stars are, anywhere on a stack.

A stack's stars are not as wide at its edges as in the middle: fewer frames, of another seeing, see
them. So a width is predicted from stars that are near by *and* seen by similarly many frames, which
is what their weight tells: kriging in position and weight about a smooth surface (Matheron 1963;
Rasmussen & Williams 2006, ch. 2), scales chosen by what predicts a star best from all others.
"""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from astropy.table import Table
from scipy.spatial import cKDTree

from photometrus.frame import Image

NEIGHBOURS = 12
SCALES = (0.04, 0.12, 0.4)  # of the image's longer side
WEIGHT_SCALES = (0.05, 0.15, 0.5)  # of the usual weight
SPREADS = (0.7, 2.0)  # of the usual residual
FEWER = (0.0, 10.0, 100.0)  # by how much the variance grows where fewer frames see
JUDGES = 300  # stars that choose the scales
OUTLIER = 4.0
"""In sigma: farther ones are galaxies or blends."""
WIDTH_NOISE = 2**0.5
"""Error of log width times signal to noise, for a Gaussian (Condon 1997, PASP 109, 166)."""
WIDTH_FLOOR = 0.003
"""Of a log width: pixel phases, neighbours."""


@dataclass(frozen=True, eq=False)
class Widths:
    """Log of stars' widths over the usual one, as a function of position and weight.

    points : float64 (n, 3), x and y over the image's longer side, weight over the usual one;
    residuals, noise : float64 (n,), about the surface; surface : (6,) its coefficients
    scale, weight_scale, spread, fewer : of the covariance, see `krige`
    weight : float32 (ny, nx), of the stack
    """

    points: Image
    residuals: Image
    noise: Image
    surface: Image
    weight: Image
    usual_weight: float
    scale: float
    weight_scale: float
    spread: float
    fewer: float

    def at(self, x: Image, y: Image) -> tuple[Image, Image]:
        """Log of the width at positions (pixels) over the usual one, and its error."""
        points = place(x, y, self.weight, self.usual_weight)
        smooth = polynomial(x, y, self.weight.shape) @ self.surface
        if len(self.points) <= NEIGHBOURS:
            return smooth, self._amplitude(points)
        residual, variance = self.krige(points, alone=False)
        return smooth + residual, np.sqrt(variance)

    def krige(self, points: Image, *, alone: bool) -> tuple[Image, Image]:
        """Best linear estimate of the residual and its variance; alone: from others than itself."""
        units = np.array([self.scale, self.scale, self.weight_scale])
        tree = cKDTree(self.points / units)
        _, near = tree.query(points / units, k=NEIGHBOURS + alone)
        near = near[:, int(alone) :]
        among = self.points[near]
        own, others = self._amplitude(points), self._amplitude(among)
        covariance = np.exp(-_distance(among[:, :, None] - among[:, None], units))
        covariance *= others[:, :, None] * others[:, None]
        covariance += np.eye(NEIGHBOURS) * self.noise[near][:, None, :] ** 2
        to = own[:, None] * others * np.exp(-_distance(among - points[:, None], units))
        weights = np.linalg.solve(covariance, to[:, :, None])[:, :, 0]
        variance = own**2 - np.sum(weights * to, axis=1)
        return np.sum(weights * self.residuals[near], axis=1), np.maximum(variance, 0.0)

    def _amplitude(self, points: Image) -> Image:
        """By how much widths differ from the surface; fewer frames differ more from all."""
        share = np.clip(points[..., 2], 0.05, 1.0)
        return self.spread * np.sqrt(1 + self.fewer * (1 / share - 1))


def measure_widths(stars: Table, weight: Image, fwhm_pix: float) -> Widths:
    """Widths over a stack from its bright stars; without 30 of them a surface, or the mean.

    Without any, all are `fwhm_pix`.

    stars : x, y, fwhm (pixels), snr_win; fwhm_pix : the usual width
    """
    x, y = (np.asarray(stars[name], float) for name in ("x", "y"))
    value = np.log(np.asarray(stars["fwhm"], float) / fwhm_pix)
    noise = np.hypot(WIDTH_NOISE / np.asarray(stars["snr_win"], float), WIDTH_FLOOR)
    usual = float(np.median(weight[::8, ::8][weight[::8, ::8] > 0]))
    if not x.size:
        return Widths(np.empty((0, 3)), value, noise, np.zeros(6), weight, usual, 1, 1, 1e-4, 0)
    design = polynomial(x, y, weight.shape)
    terms = 6 if x.size >= 60 else 3 if x.size >= 30 else 1
    surface = np.pad(_robust_surface(design[:, :terms], value), (0, 6 - terms))
    residuals = value - design @ surface
    spread = max(1.4826 * float(np.median(np.abs(residuals))), 1e-4)
    points = place(x, y, weight, usual)
    widths = Widths(points, residuals, noise, surface, weight, usual, 1.0, 1.0, spread, 0.0)
    # Galaxies are wider than any star; at the edges stars are as odd as that, and stay.
    widths = _only(widths, np.abs(residuals) < 0.4)
    if len(widths.points) < 30:
        return _only(widths, np.zeros(len(widths.points), bool))
    choices = [
        replace(widths, scale=a, weight_scale=b, spread=c * spread, fewer=d)
        for a, b, c, d in product(SCALES, WEIGHT_SCALES, SPREADS, FEWER)
    ]
    costs = [_cost(choice) for choice in choices]
    widths = choices[int(np.argmin(costs))]
    estimate, variance = widths.krige(widths.points, alone=True)
    error = np.sqrt(variance + widths.noise**2)
    return _only(widths, np.abs(widths.residuals - estimate) < OUTLIER * error)


def place(x: Image, y: Image, weight: Image, usual: float) -> Image:
    """Position over the longer side, and mean weight of 25 pixels around over the usual one."""
    ny, nx = weight.shape
    total, count = np.zeros(x.size), np.zeros(x.size)
    for dy, dx in product(range(-4, 5, 2), repeat=2):
        j = np.clip(np.rint(y + dy), 0, ny - 1).astype(int)
        i = np.clip(np.rint(x + dx), 0, nx - 1).astype(int)
        total += weight[j, i]
        count += weight[j, i] > 0
    side = max(weight.shape)
    return np.stack([x / side, y / side, total / np.maximum(count, 1) / usual], axis=1)


def polynomial(x: Image, y: Image, shape: tuple[int, ...]) -> Image:
    """1, u, v, u^2, u v, v^2 with u, v = -1 ... 1 over the image: float64 (n, 6)."""
    u, v = 2 * x / (shape[1] - 1) - 1, 2 * y / (shape[0] - 1) - 1
    return np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=1)


def _distance(difference: Image, units: Image) -> Image:
    """Distance in position plus that in weight, each in its scale."""
    scaled = difference / units
    return np.hypot(scaled[..., 0], scaled[..., 1]) + np.abs(scaled[..., 2])


def _only(widths: Widths, keep: Image) -> Widths:
    return replace(
        widths,
        points=widths.points[keep],
        residuals=widths.residuals[keep],
        noise=widths.noise[keep],
    )


def _cost(widths: Widths) -> float:
    """How badly each star is predicted by the others: -2 log likelihood, outliers capped."""
    some = np.s_[:: max(1, len(widths.points) // JUDGES)]
    estimate, variance = widths.krige(widths.points[some], alone=True)
    total = variance + widths.noise[some] ** 2
    left = (widths.residuals[some] - estimate) ** 2 / total
    return float(np.sum(np.minimum(left, OUTLIER**2) + np.log(total)))


def _robust_surface(design: Image, value: Image) -> Image:
    """Coefficients of least squares without what is 3 sigma off."""
    keep = np.ones(value.size, bool)
    for _ in range(5):
        surface = np.linalg.lstsq(design[keep], value[keep], rcond=None)[0]
        left = np.abs(value - design @ surface)
        keep = left <= 3 * 1.4826 * np.median(left) + 1e-9
    return surface
