"""Where the stars are: a mask from a shallow stack of all frames, seen from each frame."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from astropy.wcs import WCS
from scipy import ndimage

from photometrus.frame import Flags, Image
from photometrus.kernels.mesh import add_mesh_rows, cell_modes
from photometrus.kernels.resample import project_rows, shrink_rows
from photometrus.stages.background import smooth_mesh
from photometrus.stages.coadd import CoaddConfig, Grid, Layer, common_grid, pixel_map
from photometrus.wcs import pixel_to_sky, sky_to_pixel
from photometrus.workers import Each

BIN = 2
"""The mask is made on pixels of twice the size: a star still covers several."""


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

    def seen_by(self, wcs: WCS, shape: tuple[int, int], step: int = 32) -> Callable:
        """The mask as a frame sees it: a function of rows y0, y1."""
        ny, nx = shape
        x, y = np.meshgrid(
            np.arange(0, nx + step, step, dtype=float), np.arange(0, ny + step, step, dtype=float)
        )
        px, py = sky_to_pixel(self.grid.wcs, *pixel_to_sky(wcs, x.ravel(), y.ravel()))
        map_x, map_y = px.reshape(x.shape), py.reshape(x.shape)

        def rows(y0: int, y1: int) -> Flags:
            out = np.empty((y1 - y0, nx), np.uint8)
            project_rows(self.mask, map_x, map_y, step, y0, out)
            return out

        return rows


def shallow_stack(
    layers: Sequence[Layer], config: CoaddConfig, *, each: Each = map
) -> tuple[Image, Image, Grid]:
    """Mean of all layers on a grid of double pixels: (mean, inverse variance, grid)."""
    coarse = replace(config, pixel_scale_arcsec=BIN * config.pixel_scale_arcsec)
    grid = common_grid([layer.wcs for layer in layers], [layer.shape for layer in layers], coarse)
    ny, nx = grid.shape
    step = config.map_step_pix
    maps = list(each(lambda layer: pixel_map(grid, layer.wcs, step), layers))
    mean = np.zeros((ny, nx), np.float32)
    weight = np.zeros((ny, nx), np.float32)
    rows = 8 * step

    def block(y0: int) -> None:
        y1 = min(ny, y0 + rows)
        nodes = slice(y0 // step, -(-y1 // step) + 1)
        for layer, (map_x, map_y) in zip(layers, maps, strict=True):
            inside = (map_x[nodes] > -99) & (map_x[nodes] < layer.shape[1] + 99)
            if not inside.any():
                continue
            needed = map_y[nodes][inside]
            first = max(0, int(needed.min()) - 4)
            last = min(layer.shape[0], int(needed.max()) + 5)
            if last - first < 2 * BIN:
                continue
            image, bad, variance = layer.rows(first, last)
            total = np.zeros((y1 - y0, nx), np.float32)
            norm = np.zeros_like(total)
            shrink_rows(image, bad, first, map_x, map_y, step, y0, BIN, total, norm)
            good = variance[variance > 0]
            per_pixel = np.float32(np.median(good) / layer.flux_factor**2 if good.size else 0)
            mean[y0:y1] += total * np.float32(layer.flux_factor) * per_pixel
            weight[y0:y1] += norm * per_pixel

    for _ in each(block, range(0, ny, rows)):
        pass
    np.divide(mean, weight, out=mean, where=weight > 0)
    return mean, weight, grid


def find_stars(mean: Image, weight: Image, grid: Grid, config: MaskConfig = MaskConfig()):
    """The star mask of a shallow stack."""
    seen = weight > 0
    data = mean * np.sqrt(weight)
    shape = (-(-data.shape[0] // config.mesh_pix), -(-data.shape[1] // config.mesh_pix))
    values, scatter = np.empty(shape, np.float32), np.empty(shape, np.float32)
    count = np.empty(shape, np.int32)
    cell_modes(data, (~seen).astype(np.uint8), config.mesh_pix, 0, values, scatter, count)
    mesh = smooth_mesh(values, count)
    add_mesh_rows(data, mesh, config.mesh_pix, 0, -1.0)
    data[~seen] = 0
    smoothed = []
    for sigma in config.scales_pix:
        image = ndimage.gaussian_filter(data, sigma, truncate=3, mode="constant")
        sample = image[seen][::17]
        low = np.percentile(sample, [15.87, 50])
        # The noise from the negative side only: stars make the positive side longer.
        smoothed.append((image - low[1]) / max(float(low[1] - low[0]), 1e-12))
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
