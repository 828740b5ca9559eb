"""Where the stars are: a mask from a shallow stack of all frames, seen from each frame."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy import ndimage

from photometrus.frame import Flags, Image
from photometrus.kernels.artifacts import Expectation
from photometrus.kernels.mesh import add_mesh_rows, cell_modes
from photometrus.kernels.resample import project_rows, shrink_rows
from photometrus.kernels.weighted import clipped_mean, middles
from photometrus.stages.background import smooth_mesh
from photometrus.stages.coadd import CoaddConfig, Grid, Layer, common_grid, pixel_maps
from photometrus.wcs import pixel_to_sky, sky_to_pixel
from photometrus.workers import Each

BIN = 2
"""The mask is made on pixels of twice the size: a star still covers several."""
NODE_PIX = 32
"""Distance of the nodes at which a frame's place on the mask is calculated."""


@dataclass(frozen=True)
class MaskConfig:
    """What may be tuned in the star mask."""

    scales_pix: tuple[float, ...] = (1.0, 2.5, 6.0)
    """Widths (sigma, in pixels of the mask) at which the stack is smoothed and searched: faint
    stars, faint galaxies, halos."""
    threshold_sigma: tuple[float, ...] = (2.5, 3.0, 4.0)
    grow_pix: tuple[int, ...] = (2, 2, 3)
    mesh_pix: int = 96
    max_fraction: float = 0.6  # more hidden than this: the thresholds are raised (crowded fields)


@dataclass(frozen=True, eq=False)
class StarMask:
    """Pixels with stars on a sky grid: uint8 (ny, nx), 1 = star."""

    mask: Flags
    grid: Grid
    fraction: float

    def seen_by(self, wcs: WCS, shape: tuple[int, int]) -> Callable:
        """The mask as a frame sees it: a function of rows y0, y1."""
        map_x, map_y = _nodes(self.grid, wcs, shape)

        def rows(y0: int, y1: int) -> Flags:
            out = np.empty((y1 - y0, shape[1]), np.uint8)
            project_rows(self.mask, map_x, map_y, NODE_PIX, y0, out)
            return out

        return rows


@dataclass(frozen=True, eq=False)
class Shallow:
    """All frames together on pixels of double size: clipped mean, inverse variance, grid."""

    mean: Image
    weight: Image
    grid: Grid

    @cached_property
    def ranges(self) -> Image:
        """The range of each pixel's 3 x 3 neighbours."""
        high = ndimage.maximum_filter(self.mean, 3, mode="nearest")
        return high - ndimage.minimum_filter(self.mean, 3, mode="nearest")

    def seen_by(self, wcs: WCS, shape: tuple[int, int], flux_factor: float) -> Expectation:
        """What a frame should show, and how sure that is.

        flux_factor : what brings the frame to the stack's flux scale
        """
        map_x, map_y = _nodes(self.grid, wcs, shape)
        factor = np.float32(1 / flux_factor)
        return Expectation(self.mean, self.ranges, map_x, map_y, NODE_PIX, factor)


def _nodes(grid: Grid, wcs: WCS, shape: tuple[int, int]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Pixel of a grid at every NODE_PIX-th pixel of a frame: float64 (gy, gx) each."""
    ny, nx = shape
    x, y = np.meshgrid(
        np.arange(0, nx + NODE_PIX, NODE_PIX, dtype=float),
        np.arange(0, ny + NODE_PIX, NODE_PIX, dtype=float),
    )
    px, py = sky_to_pixel(grid.wcs, *pixel_to_sky(wcs, x.ravel(), y.ravel()))
    return px.reshape(x.shape), py.reshape(x.shape)


def shallow_stack(layers: Sequence[Layer], config: CoaddConfig, *, each: Each = map) -> Shallow:
    """Clipped mean of all layers on double pixels: what moves or flickers is not in it."""
    coarse = replace(config, pixel_scale_arcsec=BIN * config.pixel_scale_arcsec)
    grid = common_grid([layer.wcs for layer in layers], [layer.shape for layer in layers], coarse)
    ny, nx = grid.shape
    step = config.map_step_pix
    maps = pixel_maps(grid, [layer.wcs for layer in layers], step, each)
    mean = np.zeros((ny, nx), np.float32)
    weight = np.zeros((ny, nx), np.float32)
    rows = int(config.block_mb * 1e6 // (8 * len(layers) * nx))
    rows = max(16, min(rows, 8 * step)) // step * step or step

    def block(y0: int) -> None:
        y1 = min(ny, y0 + rows)
        nodes = slice(y0 // step, -(-y1 // step) + 1)
        stack = np.zeros((len(layers), y1 - y0, nx), np.float32)
        weights = np.zeros_like(stack)
        for k, (layer, (map_x, map_y)) in enumerate(zip(layers, maps, strict=True)):
            inside = (map_x[nodes] > -99) & (map_x[nodes] < layer.shape[1] + 99)
            if not inside.any():
                continue
            needed = map_y[nodes][inside]
            first = max(0, int(needed.min()) - 4)
            last = min(layer.shape[0], int(needed.max()) + 5)
            if last - first < 2 * BIN:
                continue
            image, bad, weight_of = layer.rows(first, last)
            shrink_rows(image, bad, first, map_x, map_y, step, y0, BIN, stack[k], weights[k])
            np.divide(stack[k], weights[k], out=stack[k], where=weights[k] > 0)
            stack[k] *= np.float32(layer.flux_factor)
            good = weight_of[:: max(1, len(weight_of) // 4)]
            good = good[good > 0]
            typical = float(np.median(good)) * layer.inverse_variance if good.size else 0.0
            weights[k] *= np.float32(typical / layer.flux_factor**2)
        middle = np.empty((y1 - y0, nx), np.float32)
        middles(stack, weights, middle)
        clipped_mean(
            stack, weights, middle, 0, config.clip_sigma, config.clip_tolerance,
            mean[y0:y1], weight[y0:y1], np.zeros(len(layers), np.int64),
        )  # fmt: skip

    for _ in each(block, range(0, ny, rows)):
        pass
    return Shallow(mean, weight, grid)


def find_stars(
    shallow: Shallow, config: MaskConfig = MaskConfig(), *, each: Each = map
) -> StarMask:
    """The star mask of a shallow stack."""
    mean, weight, grid = shallow.mean, shallow.weight, shallow.grid
    seen = weight > 0
    data = mean * np.sqrt(weight)
    shape = (-(-data.shape[0] // config.mesh_pix), -(-data.shape[1] // config.mesh_pix))
    values, scatter = np.empty(shape, np.float32), np.empty(shape, np.float32)
    count = np.empty(shape, np.int32)
    cell_modes(data, (~seen).astype(np.uint8), config.mesh_pix, 0, values, scatter, count)
    mesh = smooth_mesh(values, count)
    add_mesh_rows(data, mesh, config.mesh_pix, 0, -1.0)
    data[~seen] = 0

    def significance(sigma: float) -> Image:
        image = ndimage.gaussian_filter(data, sigma, truncate=3, mode="constant")
        sample = image[seen][::17]
        low = np.percentile(sample, [15.87, 50])
        # The noise from the negative side only: stars make the positive side longer.
        return (image - low[1]) / max(float(low[1] - low[0]), 1e-12)

    # The widest takes longest, and begins.
    smoothed = list(each(significance, config.scales_pix[::-1]))[::-1]
    factor = 1.0
    while True:
        mask = np.zeros(data.shape, bool)
        for image, limit, grow in zip(
            smoothed, config.threshold_sigma, config.grow_pix, strict=True
        ):
            found = (image > factor * limit).astype(np.uint8)
            mask |= ndimage.maximum_filter(found, size=2 * grow + 1).astype(bool)
        fraction = float(mask[seen].mean()) if seen.any() else 0.0
        if fraction <= config.max_fraction or factor > 1e3:
            return StarMask(mask.astype(np.uint8), grid, fraction)
        factor *= 1.3
