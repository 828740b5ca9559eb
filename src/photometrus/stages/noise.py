"""The noise of a stack: weights that are true, the noise of sums, what can be seen where.

The scatter of sums over empty places says what an error is. It holds what the weights cannot know:
pixels that interpolation correlates, stars too faint to be found, backgrounds that are not flat.
"""

from dataclasses import dataclass, replace

import numpy as np

from photometrus.errors import UsageError
from photometrus.frame import Image, Stack
from photometrus.kernels.apertures import circle_sums
from photometrus.kernels.mesh import add_mesh_rows
from photometrus.stages.detection import Detections
from photometrus.stages.empty import Empty, EmptyConfig, find_empty

MIN_PLACES = 100
"""The scatter of so many is known to 9 %."""


@dataclass(frozen=True)
class NoiseConfig:
    """What may be tuned in measuring the noise."""

    radii_fwhm: tuple[float, ...] = (0.3, 0.45, 0.65, 1.0, 1.5, 2.2, 3.3)  # of empty circles
    places: int = 4_000  # empty circles of each radius
    tries: int = 40_000  # random places among which they are sought
    weight_radius_pix: float = 3.0  # of the circles that judge the weights
    weight_tolerance: float = 1.5  # a weight map whose noise is wrong by more is only relative
    seed: int = 1
    empty: EmptyConfig = EmptyConfig()


@dataclass(frozen=True, eq=False)
class Noise:
    """What noise the sums over a stack's pixels truly have.

    radii : pixels, increasing; factors : true scatter of sums over circles of these radii, over
        the root of the sum of 1 / weight; places : how many empty circles said so
    level : mean of empty pixels, ADU, over the widest circles
    local : float32 (gy, gx), in cells of `cell` pixels: scatter of the filtered image (a star's
        best linear estimate) over what the weights alone say
    weight : float32 (ny, nx), of the stack
    """

    radii: Image
    factors: Image
    places: Image
    level: float
    local: Image
    cell: int
    weight: Image

    def factor(self, radius: Image | float, x: Image, y: Image) -> Image:
        """True error of the sum over a circle at x, y over that of independent pixels."""
        usual = np.interp(np.log(radius), np.log(self.radii), self.factors)
        return usual * self.matched_factor(x, y) / float(np.median(self.local))

    def matched_factor(self, x: Image, y: Image) -> Image:
        """The same for a sum weighted with a star's image: a PSF flux."""
        ny, nx = self.local.shape
        j = np.clip(np.asarray(y) / self.cell - 0.5, 0, ny - 1)
        i = np.clip(np.asarray(x) / self.cell - 0.5, 0, nx - 1)
        j0, i0 = (
            np.minimum(j.astype(int), max(ny - 2, 0)),
            np.minimum(i.astype(int), max(nx - 2, 0)),
        )
        j1, i1 = np.minimum(j0 + 1, ny - 1), np.minimum(i0 + 1, nx - 1)
        u, v = i - i0, j - j0
        low = (1 - u) * self.local[j0, i0] + u * self.local[j0, i1]
        high = (1 - u) * self.local[j1, i0] + u * self.local[j1, i1]
        return (1 - v) * low + v * high

    def variance(self, x: Image, y: Image, radius: float) -> Image:
        """Mean of 1 / weight, ADU^2, over a circle about each position; inf where half is lost."""
        x, y = np.atleast_1d(np.asarray(x, float)), np.atleast_1d(np.asarray(y, float))
        _, variances, lost = _sums(self.weight, self.weight, x, y, np.array([radius]))
        area = np.pi * radius**2
        return np.where(lost[:, 0] < 0.5 * area, variances[:, 0] / area, np.inf)

    def psf_limit(self, x: Image, y: Image, n_sigma: float, psf_area_pix: float) -> Image:
        """Total flux, ADU, of a star that is n sigma bright at x, y in PSF photometry.

        psf_area_pix : 1 / sum p^2 of the PSF p, normalised to the same total light as the fluxes
        """
        variance = self.variance(x, y, np.sqrt(psf_area_pix / np.pi))
        return n_sigma * self.matched_factor(x, y) * np.sqrt(psf_area_pix * variance)

    def aperture_limit(
        self, x: Image, y: Image, n_sigma: float, radius: float, fraction: Image | float
    ) -> Image:
        """The same for a circular aperture (pixels) that holds a fraction of a star's light."""
        noise = self.factor(radius, x, y) * np.sqrt(np.pi * radius**2 * self.variance(x, y, radius))
        return n_sigma * noise / fraction

    def lattice(self, step: int = 64) -> tuple[Image, Image]:
        """Positions all over the stack where there is a weight, for what holds over the image."""
        y, x = np.mgrid[
            step // 2 : self.weight.shape[0] : step, step // 2 : self.weight.shape[1] : step
        ]
        seen = self.weight[y, x] > 0
        return x[seen].astype(float), y[seen].astype(float)


def measure_noise(found: Detections, config: NoiseConfig = NoiseConfig()) -> Noise:
    """The noise of sums in a stack's empty places, against what its weights say.

    Where a crowded field has no empty circle of some size, the last one that it has is believed.
    Raises UsageError when there is no empty place at all.
    """
    radii = found.fwhm_pix * np.asarray(config.radii_fwhm)
    data, weight = found.stack.data, found.stack.weight
    noise = Noise(radii, radii, radii, 0.0, found.correlation, found.cell, weight)
    local = float(np.median(found.correlation))
    factors, places, level = np.full(radii.size, np.nan), np.zeros(radii.size, int), 0.0
    for k, radius in enumerate(radii):
        x, y = empty_places(found.empty, radius, config, data.shape)
        places[k] = x.size
        if x.size < MIN_PLACES:
            break
        sums, variances, _ = _sums(data, weight, x, y, np.array([radius]))
        ratio = sums[:, 0] / np.sqrt(variances[:, 0]) * local / noise.matched_factor(x, y)
        factors[k] = _scatter(ratio)
        level = float(np.median(sums[:, 0])) / (np.pi * radius**2)
    if np.isnan(factors[0]):
        raise UsageError(
            f"{found.stack.info.name}: {places[0]} empty places to measure the noise, need"
            f" {MIN_PLACES}; mask less: raise detection.empty.mask_sigma"
        )
    last = factors[np.isfinite(factors)][-1]
    return replace(
        noise, factors=np.where(np.isnan(factors), last, factors), places=places, level=level
    )


def true_weights(stack: Stack, config: NoiseConfig = NoiseConfig()) -> Stack:
    """The stack with weights that are inverse variances of sums over independent pixels.

    Without a weight map (all the same) they are made from the local scatter of empty sky; a map
    whose noise is wrong by more than `weight_tolerance` is a relative one, and scaled; any other is
    kept: what is left to correct is in `Noise.factors`.
    """
    weight = stack.weight
    seen = weight > 0
    if not seen.any():
        raise UsageError(
            f"{stack.info.name}: no pixel has a weight; is its weight map the right one?"
        )
    empty = find_empty(stack.data, weight, config.empty)
    some = weight[seen]
    if some.min() == some.max():
        scatter = np.zeros_like(weight)
        add_mesh_rows(scatter, empty.scatter, empty.cell, 0, 1.0)
        # A spline may swing below the values that it goes through.
        scatter = np.maximum(scatter, 0.5 * empty.scatter.min())
        with np.errstate(divide="ignore"):
            weight = np.where(seen, weight / scatter**2, 0).astype(np.float32)
    data = stack.data.copy()
    add_mesh_rows(data, empty.level, empty.cell, 0, -1.0)
    x, y = empty_places(empty, config.weight_radius_pix, config, data.shape)
    if x.size < MIN_PLACES:
        return replace(stack, weight=weight)
    sums, variances, _ = _sums(data, weight, x, y, np.array([config.weight_radius_pix]))
    if not (variances > 0).all():
        raise UsageError(
            f"{stack.info.name}: its noise is zero, and nothing can be measured against that; is it"
            " an image of the sky?"
        )
    ratio = _scatter(sums[:, 0] / np.sqrt(variances[:, 0]))
    relative = weight is not stack.weight or abs(np.log(ratio)) > np.log(config.weight_tolerance)
    return replace(stack, weight=weight / np.float32(ratio**2) if relative else weight)


def empty_places(
    empty: Empty, radius: float, config: NoiseConfig, shape: tuple[int, int]
) -> tuple[Image, Image]:
    """Random positions, float64, about which a circle of that radius (pixels) is empty."""
    reach = int(np.ceil((radius + 1.0) / 2))
    ny, nx = empty.hide.shape
    hidden = np.zeros((ny + 1, nx + 1), np.int32)
    hidden[1:, 1:] = (empty.hide != 0).cumsum(axis=0, dtype=np.int32).cumsum(axis=1, dtype=np.int32)
    rs = np.random.RandomState(config.seed)
    x, y = rs.uniform(0, 1, (2, config.tries)) * np.array([[shape[1]], [shape[0]]]) - 0.5
    j, i = ((y + 0.5) // 2).astype(int), ((x + 0.5) // 2).astype(int)
    inside = (j >= reach) & (j < ny - reach) & (i >= reach) & (i < nx - reach)
    x, y, j, i = x[inside], y[inside], j[inside], i[inside]
    top, bottom, left, right = j - reach, j + reach + 1, i - reach, i + reach + 1
    count = hidden[bottom, right] - hidden[top, right] - hidden[bottom, left] + hidden[top, left]
    free = np.flatnonzero(count == 0)[: config.places]
    return x[free], y[free]


def _sums(data: Image, weight: Image, x: Image, y: Image, radii: Image) -> tuple[Image, ...]:
    """Sums over circles, of 1 / weight, and areas without weight: float64 (n, m) each."""
    sums, variances, lost = np.empty((3, x.size, radii.size))
    nobody = np.zeros((1, 1), np.int32)
    numbers = np.zeros(x.size, np.int32)
    circle_sums(
        data,
        weight,
        np.broadcast_to(nobody, data.shape),
        x,
        y,
        numbers,
        radii,
        sums,
        variances,
        lost,
    )
    return sums, variances, lost


def _scatter(values: Image) -> float:
    """1.4826 MAD: what a few faint sources and defects among the places do not change."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))
