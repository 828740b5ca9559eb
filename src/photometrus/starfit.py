"""Stars of an image are fitted, all at once: what PSF photometry and the PSF itself need."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from photometrus.groups import Batch, batches, friends
from photometrus.kernels.groupfit import (
    CHANGED,
    DRAWN,
    FLUX,
    HOLD,
    RADIUS,
    X0,
    Y0,
    X,
    Y,
    fit_groups,
    measure_groups,
)
from photometrus.kernels.mesh import add_mesh_rows
from photometrus.pointspread import Psf
from photometrus.workers import Each

Array = NDArray[Any]
COLUMNS, MEASURES = 9, 6
"""Of the tables of `kernels.groupfit`."""
DRAWN_TO = 0.1
"""A star's model ends where it is fainter than this, in sigma of a pixel."""
LARGEST_STEP_PIX = 0.3
SPREAD_SCALE = 1 / 16
"""The exponential disc to which `spread` refers has this scale length, in FWHM."""
PSF_ERROR = (0.002, 0.3)
"""The PSF is believed to be wrong by at least and at most this fraction."""
FIXED = 1e12
"""How firmly a position is held that must not move, 1/pix^2."""


@dataclass(frozen=True)
class FitConfig:
    """What may be tuned when stars are fitted."""

    radius_fwhm: tuple[float, float] = (1.5, 2.75)  # of the pixels fitted: faint, bright stars
    bright_snr: float = 100.0  # from here on a star's radius is the larger one
    link_fwhm: float = 1.5  # stars closer than this are fitted together
    max_group: int = 12  # stars
    sweeps: int = 6  # over all groups
    hold_fwhm: float = 0.15  # 1 sigma, how firmly faint stars are held where they were detected
    max_shift_fwhm: float = 0.5


class StarFit:
    """The state of a fit: images less the stars as they are known so far.

    data, left : float32 (ny, nx), sky subtracted; without the stars
    weight : float32, inverse variance, 0 = bad
    stars : float64 (n, 9), see `kernels.groupfit`; group : int64 (n,)
    """

    def __init__(
        self,
        data: Array,
        weight: Array,
        x: Array,
        y: Array,
        psf: Psf,
        gain_e_per_adu: float,
        config: FitConfig = FitConfig(),
    ) -> None:
        self.data, self.left = np.array(data, np.float32), np.array(data, np.float32)
        self.weight, self.psf, self.config = weight, psf, config
        self.stars = np.zeros((len(x), COLUMNS))
        self.stars[:, X] = self.stars[:, X0] = x
        self.stars[:, Y] = self.stars[:, Y0] = y
        self.stars[:, HOLD] = 1 / (config.hold_fwhm * psf.fwhm_pix) ** 2
        self.blind = blind_radius(weight, x, y, psf.half)
        self.set_radius(np.zeros(len(x)))
        self.stars[:, DRAWN] = np.floor(self.stars[:, RADIUS]) + 1
        self.stars[:, CHANGED] = np.inf
        self.group = friends(x, y, config.link_fwhm * psf.fwhm_pix, config.max_group)
        light = brightness(data, x, y)
        self.tiles = batches(x, y, light, self.group, psf.half + 2.0)
        known = weight[::7, ::7][weight[::7, ::7] > 0]
        self.noise = float(1 / np.sqrt(np.median(known))) if known.size else 1.0
        gain = gain_e_per_adu if np.isfinite(gain_e_per_adu) and gain_e_per_adu > 0 else np.inf
        self.error = np.array([gain, np.clip(psf.residual_rms, *PSF_ERROR)])
        self.limits = np.array(
            [DRAWN_TO * self.noise, LARGEST_STEP_PIX, config.max_shift_fwhm * psf.fwhm_pix]
        )
        self.profile = mean_profile(psf)

    def hold(self, which: Array) -> None:
        """These stars stay where they are."""
        self.stars[which, HOLD] = FIXED

    def set_radius(self, snr: Array) -> None:
        """Bright stars are fitted on more pixels, so that errors of the PSF's core matter less."""
        config = self.config
        radius = np.interp(snr, (0, config.bright_snr), config.radius_fwhm) * self.psf.fwhm_pix
        most = self.psf.half - 1
        self.stars[:, RADIUS] = np.minimum(np.maximum(radius, 2.0) + self.blind, most)

    def sweep(self, times: int, each: Each = map) -> None:
        """Improve every group, brighter ones first."""
        for _ in range(times):
            for colour in self.tiles:
                list(each(self._step, colour))

    def lower(self, level: Array, cell: int) -> None:
        """Take a background away that is given on cells: float32 (gy, gx)."""
        for image in (self.data, self.left):
            add_mesh_rows(image, level, cell, 0, np.float32(-1.0))
        self.stars[:, CHANGED] = np.inf

    def run(self, mesh_fwhm: float | None = None, each: Each = map) -> None:
        """All sweeps; mesh_fwhm : cell in which the background between the stars is measured."""
        self.sweep(1, each)
        middle = self.psf.frame
        area = self.psf.noise_area(middle[0], middle[1])
        self.set_radius(self.stars[:, FLUX] / (self.noise * np.sqrt(area)))
        self.sweep(1, each)
        if mesh_fwhm is not None:
            cell = max(int(mesh_fwhm * self.psf.fwhm_pix), 16)
            self.lower(between_stars(self.left, self.weight, cell), cell)
        self.sweep(self.config.sweeps - 2, each)

    def measures(self, each: Each = map) -> Array:
        """Errors, chi^2 and spreads: float64 (n, 6), see `kernels.groupfit`."""
        out = np.full((len(self.stars), MEASURES), np.nan)
        blur = 3 * (SPREAD_SCALE * self.psf.fwhm_pix) ** 2

        def measure(batch: Batch) -> None:
            measure_groups(
                self.data,
                self.left,
                self.weight,
                self.psf.cube,
                self.psf.step,
                self.psf.frame,
                self.stars,
                batch.starts,
                batch.members,
                self.error,
                blur,
                out,
            )

        for colour in self.tiles:
            list(each(measure, colour))
        return out

    def _step(self, batch: Batch) -> None:
        fit_groups(
            self.data,
            self.left,
            self.weight,
            self.psf.cube,
            self.psf.step,
            self.psf.frame,
            self.stars,
            batch.starts,
            batch.members,
            self.error,
            self.profile,
            self.limits,
        )


def brightness(data: Array, x: Array, y: Array) -> Array:
    """The sum of the nine pixels around each position."""
    ny, nx = data.shape
    column = np.clip(np.floor(x + 0.5).astype(int), 1, nx - 2)
    row = np.clip(np.floor(y + 0.5).astype(int), 1, ny - 2)
    block = [data[row + b, column + a] for b in (-1, 0, 1) for a in (-1, 0, 1)]
    result: Array = np.sum(block, axis=0, dtype=float)
    return result


def mean_profile(psf: Psf) -> Array:
    """The PSF's mean brightness at 0, 1, 2 ... `half` pixels from its middle."""
    image = psf.stamp(float(np.round(psf.frame[0])), float(np.round(psf.frame[1])))
    axis = np.arange(-psf.half, psf.half + 1)
    distance = np.floor(np.hypot(axis[:, None], axis[None, :]) + 0.5).astype(int).ravel()
    sums = np.bincount(distance, np.abs(image.ravel()).astype(float))
    result: Array = (sums / np.bincount(distance))[: psf.half + 1]
    return result


def blind_radius(weight: Array, x: Array, y: Array, most: int) -> Array:
    """Radius around each position within which most pixels are bad: 0 for usual stars."""
    ny, nx = weight.shape
    radius = np.zeros(len(x))
    column = np.clip(np.floor(x + 0.5).astype(int), 0, nx - 1)
    row = np.clip(np.floor(y + 0.5).astype(int), 0, ny - 1)
    axis = np.arange(-most, most + 1)
    distance = np.hypot(axis[:, None], axis[None, :])
    for k in np.flatnonzero(weight[row, column] <= 0):
        for r in range(1, most):
            b, a = np.nonzero((distance > r - 1) & (distance <= r))
            rows, columns = row[k] + b - most, column[k] + a - most
            inside = (rows >= 0) & (columns >= 0) & (rows < ny) & (columns < nx)
            bad = weight[rows[inside], columns[inside]] <= 0
            if np.count_nonzero(bad) < 0.5 * max(len(bad), 1):
                break
            radius[k] = r
    return radius


def between_stars(left: Array, weight: Array, cell: int) -> Array:
    """The level of an image without its stars: medians of cells, smooth: float32 (gy, gx)."""
    ny, nx = left.shape
    level = np.zeros((-(-ny // cell), -(-nx // cell)), np.float32)
    for j, i in np.ndindex(level.shape):
        # A part of the pixels is enough: a mesh's noise is far below a star's.
        part = np.s_[j * cell : (j + 1) * cell : 2, i * cell : (i + 1) * cell : 2]
        values = left[part][weight[part] > 0]
        level[j, i] = np.median(values) if values.size > 50 else 0.0
    smooth: Array = median_filter(level, 3, mode="nearest")
    return smooth


def single_pixel_variance(left: Array, weight: Array) -> float:
    """Of pixels without stars, in units of what their weights say."""
    part = np.s_[::5, ::5]
    good = weight[part] > 0
    if not good.any():
        return 1.0
    pulls = left[part][good] * np.sqrt(weight[part][good])
    return max(float((1.4826 * np.median(np.abs(pulls - np.median(pulls)))) ** 2), 1e-6)
