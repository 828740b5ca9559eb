"""The empty parts of a stack: what is masked as sources, what level and noise the rest has."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from photometrus.frame import Image
from photometrus.kernels.apertures import halve
from photometrus.kernels.detect import measure_peaks, peaks, smooth
from photometrus.kernels.mesh import add_mesh_rows, cell_modes
from photometrus.stages.background import BackgroundConfig, smooth_mesh

FWHM_OF_SIGMA = 2.3548
FIRST_FWHM_PIX = 3.0
"""The filter before the seeing is known."""
BRIGHT_SIGMA = 20.0
"""Peaks of the first filter above this tell the seeing."""
MAX_PEAKS = 60_000
LARGE_PIX = 2000


@dataclass(frozen=True)
class EmptyConfig:
    """What may be tuned in telling sky from sources."""

    mesh_pix: int = 128  # cell of the background; even
    mesh_filter: int = 3  # median filter over that many cells
    mask_sigma: float = 3.0  # of the filtered image: what counts as a source here
    grow_fwhm: float = 1.0  # the mask is grown by that many FWHM


@dataclass(frozen=True, eq=False)
class Empty:
    """Where a stack is empty, and what is there, on blocks of 2 x 2 pixels.

    hide : uint8 (ny // 2, nx // 2), not 0: a source, or no value
    level : float32 (gy, gx), ADU, the background in cells of `cell` pixels
    scatter : float32 (gy, gx), of one pixel of full size times the root of its weight
    """

    hide: Image
    level: Image
    scatter: Image
    cell: int


def kernel(fwhm_pix: float) -> Image:
    """A Gaussian's taps, float32 (2 k + 1,), integrated over the pixels' width, of sum 1."""
    sigma = np.hypot(fwhm_pix / FWHM_OF_SIGMA, 12**-0.5)
    reach = max(1, int(np.ceil(3.5 * sigma)))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return (taps / taps.sum()).astype(np.float32)


def filtered(data: Image, weight: Image, fwhm_pix: float) -> Image:
    """Signal to noise of a star at each pixel, if neighbours' noise were independent.

    data, weight : float32 (ny, nx); returns float32 (ny, nx); 0 where there is no weight around

    sum k w d / sqrt(sum k^2 w), k a Gaussian of the stars' width: the best linear estimate of a
    star's flux over its error (Stetson 1987, PASP 99, 191; Zackay & Ofek 2017, ApJ 836, 187).
    """
    taps = kernel(fwhm_pix)
    signal, noise = np.empty_like(data), np.empty_like(data)
    smooth(data * weight, taps, signal)
    smooth(weight, taps * taps, noise)
    some = noise[::16, ::16]
    least = 0.05 * float(np.median(some[some > 0])) if (some > 0).any() else np.inf
    with np.errstate(divide="ignore", invalid="ignore"):
        signal /= np.sqrt(noise)
    signal[noise <= least] = 0.0
    return signal


def find_empty(data: Image, weight: Image, config: EmptyConfig = EmptyConfig()) -> Empty:
    """What of a stack is empty sky, and its level and scatter there.

    In three rounds, on blocks of 2 x 2 pixels: level and scatter of the cells, what stands out of
    them in the image filtered with stars, and with ones four times as wide (aureoles, galaxies).
    """
    shape = (data.shape[0] // 2, data.shape[1] // 2)
    mean, total = np.empty(shape, np.float32), np.empty(shape, np.float32)
    halve(data, weight, mean, total)
    root = np.sqrt(total)
    none = (total <= 0).astype(np.uint8)
    hide, cell = none, config.mesh_pix // 2
    fwhm = FIRST_FWHM_PIX / 2
    for turn in range(3):
        level, _ = mesh(mean, hide, cell, config)
        above = mean.copy()
        add_mesh_rows(above, level, cell, 0, -1.0)
        if turn == 2:
            break
        seen = np.zeros(shape, bool)
        for width in (fwhm, 4 * fwhm):
            snr = filtered(above, total, width)
            _, scatter = mesh(snr, hide, cell, config)
            add_mesh_rows(snr, scatter, cell, 0, -config.mask_sigma)
            seen |= snr > 0
        grow = max(1, round(config.grow_fwhm * FIRST_FWHM_PIX / 2))
        hide = ndimage.binary_dilation(seen, iterations=grow).astype(np.uint8) | none
    _, scatter = mesh(above * root, hide, cell, config)
    return Empty(hide, level, scatter, config.mesh_pix)


def mesh(data: Image, hide: Image, cell: int, config: EmptyConfig) -> tuple[Image, Image]:
    """Level and scatter, float32 (gy, gx), of what is not hidden in an image's cells."""
    shape = (-(-data.shape[0] // cell), -(-data.shape[1] // cell))
    values, scatter = np.empty(shape, np.float32), np.empty(shape, np.float32)
    count = np.empty(shape, np.int32)
    cell_modes(data, hide, cell, 0, values, scatter, count)
    smoothing = BackgroundConfig(mesh_filter=config.mesh_filter)
    # A median filter flattens slopes at the edges: it sees what is left of a smooth surface.
    surface = _surface(values, count)
    smooth = surface + smooth_mesh(values - surface, count, smoothing)
    return smooth, smooth_mesh(scatter, count, smoothing)


def _surface(values: Image, count: Image) -> Image:
    """A robust parabola (with few cells a plane, a level) through the cells: float32 (gy, gx)."""
    v, u = (grid.ravel() / max(values.shape) for grid in np.indices(values.shape))
    good = np.isfinite(values.ravel()) & (count.ravel() > 0.15 * count.max())
    terms = 6 if good.sum() >= 24 else 3 if good.sum() >= 9 else 1
    design = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=1)[:, :terms]
    target, keep = values.ravel().astype(float), good
    if not good.any():
        return np.zeros(values.shape, np.float32)
    for _ in range(4):
        left = target - design @ np.linalg.lstsq(design[keep], target[keep], rcond=None)[0]
        keep = good & (np.abs(left) <= 4 * 1.4826 * np.median(np.abs(left[keep])) + 1e-6)
    fit = design @ np.linalg.lstsq(design[keep], target[keep], rcond=None)[0]
    return fit.reshape(values.shape).astype(np.float32)


def full_size(hide: Image, shape: tuple[int, int]) -> Image:
    """A mask of blocks of 2 x 2 pixels at the size of the image; uint8 (ny, nx)."""
    out = np.repeat(np.repeat(hide, 2, axis=0), 2, axis=1)
    return np.pad(out, [(0, n - m) for n, m in zip(shape, out.shape, strict=True)], mode="edge")


def seeing(data: Image, weight: Image, flags: Image) -> float:
    """FWHM of a stack's stars, pixels: the median of round, clean, bright ones; NaN without any.

    data : float32 (ny, nx), background subtracted; flags : uint8, not 0 = not used
    """
    ny, nx = data.shape
    if min(ny, nx) > LARGE_PIX:  # its middle says it in a quarter of the time
        middle = np.s_[ny // 4 : -(ny // 4), nx // 4 : -(nx // 4)]
        parts = (np.ascontiguousarray(image[middle]) for image in (data, weight, flags))
        width = seeing(*parts)
        if np.isfinite(width):
            return width
    snr = filtered(data, weight, FIRST_FWHM_PIX)
    sample = snr[::7, ::7]
    sample = sample[sample != 0]
    if not sample.size:
        return float("nan")
    scatter = 1.4826 * float(np.median(np.abs(sample - np.median(sample))))
    ys, xs = np.empty(MAX_PEAKS, np.int32), np.empty(MAX_PEAKS, np.int32)
    limit = BRIGHT_SIGMA * scatter
    while (n := peaks(snr, np.float32(limit), 12, ys, xs)) == MAX_PEAKS:
        limit *= 2.0
    ys, xs = ys[:n], xs[:n]
    clean = (flags[ys, xs] == 0) & (weight[ys, xs] > 0)
    ys, xs = ys[clean], xs[clean]
    # Neither the brightest (saturated, if nobody flagged it) nor the faintest: a thousand stars.
    order = np.argsort(-snr[ys, xs])[ys.size // 50 :][:1000]
    ys, xs = ys[order], xs[order]
    width = FIRST_FWHM_PIX
    for _ in range(3):
        out = np.empty((ys.size, 10))
        sigma = width / FWHM_OF_SIGMA
        measure_peaks(data, flags, ys, xs, sigma, 4.0 * sigma, 1.0, np.inf, out)
        major, minor, lost = out[:, 5], out[:, 6], out[:, 9]
        with np.errstate(invalid="ignore"):
            good = (lost < 0.02) & (minor > 0.6 * major) & (minor > 0.4)
        if not good.any():
            return float("nan")
        sizes = FWHM_OF_SIGMA * np.sqrt(0.5 * (major[good] ** 2 + minor[good] ** 2))
        width = _stars_width(sizes)
    return width


def _stars_width(sizes: Image) -> float:
    """Where sizes crowd: the middle of the narrowest interval with half of them (half-sample mode).

    Stars are all of one size; blends and galaxies are larger by anything, noise peaks smaller.
    """
    sizes = np.sort(sizes)
    while sizes.size > 30:
        half = sizes.size // 2
        start = int(np.argmin(sizes[half:] - sizes[:-half]))
        if sizes[start + half] - sizes[start] < 0.05 * sizes[start]:
            return float(np.median(sizes[start : start + half + 1]))
        sizes = sizes[start : start + half + 1]
    return float(np.median(sizes))
