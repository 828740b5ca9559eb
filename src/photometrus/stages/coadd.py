"""The stack: a common grid, frames resampled onto it, a clipped weighted mean."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray

from photometrus.errors import TooFewFrames
from photometrus.frame import Bad, Coadd, Flags, Image
from photometrus.instrument import PIXEL_SCALE_ARCSEC
from photometrus.kernels.blocks import block_losses
from photometrus.kernels.resample import fill_bad, lanczos_rows, lanczos_table, pixel_scatter
from photometrus.kernels.weighted import clipped_mean, given_weight, middles, weighted_median
from photometrus.wcs import from_plane, pixel_to_sky, sky_to_pixel, to_plane, unit_vectors
from photometrus.workers import Each

Rows = Callable[[int, int], tuple[Image, Flags, Image]]
"""Rows y0 to y1 of a frame: sky-subtracted data, flags, weights."""


@dataclass(frozen=True)
class CoaddConfig:
    """What may be tuned in the stack."""

    combine: str = "clipped"  # or "mean", "median"
    clip_sigma: float = 4.0  # rejection limit in units of a value's own error
    clip_tolerance: float = 0.3  # plus this fraction of the pixel and its relief: seeing varies
    max_bad: float = 0.25  # a resampled value with more of its weight on bad pixels is dropped
    map_step_pix: int = 16  # nodes of the coordinate map; bilinear in between
    block_mb: float = 96.0  # memory for one block of rows of all frames
    pixel_scale_arcsec: float = PIXEL_SCALE_ARCSEC
    pixel_area: str = "auto"
    """``flat``: the flat holds the variation of the pixels' area over the chip, as a uniformly
    lit screen or sky puts it there, so that flat-fielded frames are surface brightness and stay so.
    ``jacobian``: it does not; resampling conserves flux. ``auto``: the former, unless the stars
    contradict it."""
    quantize_level: float = 16.0  # compression: steps per standard deviation of the noise
    min_transparency: float = 0.5  # of the median frame: cloudier frames are dropped
    max_seeing_ratio: float = 1.6  # of the median frame: blurred frames are dropped
    max_ellipticity: float = 0.2  # above the median frame's: trailed frames are dropped


@dataclass(frozen=True, eq=False)
class Layer:
    """One frame of the stack: its rows on demand, its WCS, the factor to the common flux scale.

    The inverse variance of a pixel is its weight times that of a weight of 1.
    """

    rows: Rows
    shape: tuple[int, int]
    wcs: WCS
    flux_factor: float = 1.0
    inverse_variance: float = 1.0


@dataclass(frozen=True, eq=False)
class Grid:
    """The output grid: a TAN WCS, north up and east left, and its shape (ny, nx)."""

    wcs: WCS
    shape: tuple[int, int]


def common_grid(
    wcs: Sequence[WCS], shapes: Sequence[tuple[int, int]], config: CoaddConfig = CoaddConfig()
) -> Grid:
    """The smallest north-up grid that holds all frames."""
    edges = []
    for frame, (ny, nx) in zip(wcs, shapes, strict=True):
        t = np.linspace(0, 1, 9)
        x = np.concatenate([t * (nx - 1), t * (nx - 1), 0 * t, 0 * t + nx - 1])
        y = np.concatenate([0 * t, 0 * t + ny - 1, t * (ny - 1), t * (ny - 1)])
        edges.append(np.stack(pixel_to_sky(frame, x, y)))
    ra, dec = np.concatenate(edges, axis=1)
    mean = unit_vectors(ra, dec).mean(axis=0)
    centre = (
        float(np.degrees(np.arctan2(mean[1], mean[0])) % 360),
        float(np.degrees(np.arctan2(mean[2], np.hypot(mean[0], mean[1])))),
    )
    xi, eta = to_plane(ra, dec, centre)
    middle = from_plane(
        np.float64((xi.min() + xi.max()) / 2), np.float64((eta.min() + eta.max()) / 2), centre
    )
    centre = (float(middle[0]), float(middle[1]))
    xi, eta = to_plane(ra, dec, centre)
    scale = config.pixel_scale_arcsec
    half_x = int(np.ceil(np.abs(xi).max() / scale)) + 2
    half_y = int(np.ceil(np.abs(eta).max() / scale)) + 2
    out = WCS(naxis=2)
    out.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    out.wcs.cunit = ["deg", "deg"]
    out.wcs.crval = centre
    out.wcs.crpix = (half_x + 0.5, half_y + 0.5)
    out.wcs.cd = np.array([[-scale, 0.0], [0.0, scale]]) / 3600.0
    out.wcs.radesys = "ICRS"
    out.wcs.set()
    return Grid(out, (2 * half_y, 2 * half_x))


def pixel_maps(
    grid: Grid, wcs: Sequence[WCS], step: int, each: Each = map
) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Of each WCS, the pixel (x, y) of every `step`-th pixel of the grid: float64 (gy, gx) each."""
    ny, nx = grid.shape
    xs = np.arange(0, nx + step, step, dtype=float)
    ys = np.arange(0, ny + step, step, dtype=float)
    x, y = np.meshgrid(xs, ys)
    # Once for all: and no WCS is asked by two threads at a time.
    sky = pixel_to_sky(grid.wcs, x.ravel(), y.ravel())

    def pixels(own: WCS) -> tuple[NDArray[Any], NDArray[Any]]:
        px, py = sky_to_pixel(own, *sky)
        far = -1e6
        px, py = np.nan_to_num(px, nan=far), np.nan_to_num(py, nan=far)
        return px.reshape(x.shape), py.reshape(x.shape)

    return list(each(pixels, wcs))


def coadd(
    layers: Sequence[Layer],
    grid: Grid,
    config: CoaddConfig = CoaddConfig(),
    *,
    each: Each = map,
) -> Coadd:
    """The clipped, inverse-variance weighted mean (or median) of all layers on the grid.

    Streams by blocks of output rows: memory does not grow with the size of the images, and with
    their number only down to blocks of 16 rows. Raises TooFewFrames without a layer.
    """
    if not layers:
        raise TooFewFrames("coadd: no frame is left; see the verdicts of the frames")
    ny, nx = grid.shape
    data = np.zeros((ny, nx), np.float32)
    weight = np.zeros((ny, nx), np.float32)
    flags = np.zeros((ny, nx), np.uint8)
    step = config.map_step_pix
    lost = np.zeros((-(-ny // step), -(-nx // step)), np.float32)
    maps = pixel_maps(grid, [layer.wcs for layer in layers], step, each)
    table = lanczos_table()
    rows = int(config.block_mb * 1e6 // (8 * len(layers) * nx))
    rows = max(16, min(rows, 256)) // step * step or step
    n_used = np.zeros(2, np.int64)

    def block(y0: int) -> tuple[int, int]:
        y1 = min(ny, y0 + rows)
        # A row more on either side: what is an outlier depends on the neighbours.
        top, end = max(0, y0 - 1), min(ny, y1 + 1)
        stack = np.empty((len(layers), end - top, nx), np.float32)
        weights = np.empty_like(stack)
        marks = np.zeros((end - top, nx), np.uint8)
        inner = slice(y0 - top, y1 - top)
        for k, (layer, (map_x, map_y)) in enumerate(zip(layers, maps, strict=True)):
            nodes = slice(top // step, min(-(-end // step) + 1, map_x.shape[0]))
            inside = (map_x[nodes] > -step * 4) & (map_x[nodes] < layer.shape[1] + step * 4)
            if not inside.any():
                weights[k] = 0
                continue
            needed = map_y[nodes][inside]
            first = max(0, int(np.floor(needed.min())) - 4)
            last = min(layer.shape[0], int(np.ceil(needed.max())) + 5)
            if last - first < 6:
                weights[k] = 0
                continue
            image, bad, weight_of = layer.rows(first, last)
            fill_bad(image, bad, 8)
            factor = layer.flux_factor
            lanczos_rows(
                image, bad, weight_of, first, map_x, map_y, step, top, table,
                np.float32(config.max_bad), np.float32(factor),
                np.float32(layer.inverse_variance / factor**2), stack[k], weights[k], marks,
            )  # fmt: skip
            if config.pixel_area == "jacobian":
                area = _area(map_x, map_y, nodes, step, top, (end - top, nx))
                stack[k] *= area
                weights[k] /= np.maximum(area, 1e-6) ** 2
        rejected = np.zeros(len(layers), np.int64)
        given = np.empty((y1 - y0, nx), np.float32)
        n_values = given_weight(weights, y0 - top, given)
        if config.combine == "median":
            weighted_median(stack[:, inner], weights[:, inner], data[y0:y1], weight[y0:y1])
        else:
            sigma = config.clip_sigma if config.combine == "clipped" else np.inf
            middle = np.empty((end - top, nx), np.float32)
            middles(stack, weights, middle)
            clipped_mean(
                stack, weights, middle, y0 - top, sigma, config.clip_tolerance,
                data[y0:y1], weight[y0:y1], rejected,
            )  # fmt: skip
            block_losses(given, weight[y0:y1], step, lost[y0 // step : -(-y1 // step)])
        flags[y0:y1] = marks[inner]
        flags[y0:y1][(weight[y0:y1] == 0) & (flags[y0:y1] == 0)] = Bad.EDGE
        return int(rejected.sum()), n_values

    for rejected, values in each(block, range(0, ny, rows)):
        n_used += (rejected, values)
    fraction = float(n_used[0] / n_used[1]) if n_used[1] else 0.0
    return Coadd(
        data,
        weight,
        grid.wcs,
        len(layers),
        fraction,
        rejected=lost,
        rejected_side=step,
        flags=flags,
        pixel_scatter=pixel_scatter(),
    )


def _area(map_x, map_y, nodes: slice, step: int, y0: int, shape: tuple[int, int]) -> Image:
    """Input pixels per output pixel over a block: |d(x, y)/d(X, Y)|, constant within a node."""
    dxx = np.diff(map_x[nodes], axis=1)[:-1] / step
    dyx = np.diff(map_y[nodes], axis=1)[:-1] / step
    dxy = np.diff(map_x[nodes], axis=0)[:, :-1] / step
    dyy = np.diff(map_y[nodes], axis=0)[:, :-1] / step
    area = np.abs(dxx * dyy - dxy * dyx).astype(np.float32)
    full = np.repeat(np.repeat(area, step, axis=0), step, axis=1)
    start = y0 - nodes.start * step
    return full[start : start + shape[0], : shape[1]]
