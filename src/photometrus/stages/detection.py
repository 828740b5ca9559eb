"""Sources of a stack: found with a matched filter, deblended, measured with windows.

The filtered image is calibrated with its own scatter in empty sky, so that k sigma mean what they
mean for a Gaussian, whatever correlates the pixels. Finding connected pixels and deblending them is
`sep`'s, which is SExtractor's (Bertin & Arnouts 1996, A&AS 117, 393; Barbary 2016, JOSS 1, 58).
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sep
from astropy.table import Table, vstack
from astropy.wcs.utils import pixel_to_skycoord

from photometrus.errors import UsageError
from photometrus.frame import Bad, Image, Stack
from photometrus.kernels.apertures import inspect, windowed
from photometrus.kernels.mesh import add_mesh_rows
from photometrus.sourcetable import SourceFlag
from photometrus.stages.empty import (
    FWHM_OF_SIGMA,
    Empty,
    EmptyConfig,
    filtered,
    find_empty,
    full_size,
    mesh,
    seeing,
)
from photometrus.workers import Each

WIDE = 1.5
"""A source whose isophotes are that much wider than a star's gets a window of its own width."""
WIDEST = 4.0
"""No window is wider than that, in units of a star's."""
LEAST_RMS_PIX = 0.3
"""No image is narrower than its pixels: 12**-0.5."""
MAX_FOREIGN = 0.1
"""Share of the window on other sources' pixels from which a source counts as blended."""
PART = 500
"""Sources measured in one go of a thread."""
PLACES = ("xcpeak", "ycpeak", "xmin", "xmax", "ymin", "ymax", "npix")
HIDDEN = np.dtype([*((name, "i8") for name in PLACES), ("flag", "i2"), ("a", "f8"), ("b", "f8")])
"""What `sep` says of an object, as far as it is needed of a hidden star."""
MAX_OBJECTS = 4096
"""Parts into which one group of pixels may fall: a whole crowded chip may hang together."""


@dataclass(frozen=True)
class DetectionConfig:
    """What may be tuned in finding the sources of a stack."""

    threshold_sigma: float = 3.0  # of the filtered image
    min_area_pix: int = 3  # connected pixels above it
    deblend_levels: int = 32
    deblend_contrast: float = 0.002  # share of a group's light that makes a source of its own
    fwhm_pix: float = 0.0  # of the filter; 0: as measured
    noise_mesh_pix: int = 256  # cell in which the filtered image's scatter is measured; even
    empty: EmptyConfig = EmptyConfig()


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found in a stack.

    stack : the same less its residual background
    table : one row per source: number, x, y, x_err, y_err, ra_deg, dec_deg, a, b, theta_deg, fwhm,
        elongation, area, peak, flags, weight_ratio, snr_win
    segments : int32 (ny, nx), the number of the source of each pixel, 0 = sky
    empty : where there is sky
    fwhm_pix : of the stars
    correlation : float32 (gy, gx), scatter of the filtered image over what the weights alone say,
        in cells of `cell` pixels
    corner : x, y of the first pixel in the image that growth curve and noise are of: a tile's
    """

    stack: Stack
    table: Table
    segments: Image
    empty: Empty
    fwhm_pix: float
    correlation: Image
    cell: int
    corner: tuple[int, int] = (0, 0)


def detect(
    stack: Stack, config: DetectionConfig = DetectionConfig(), each: Each = map
) -> Detections:
    """All sources above the threshold, brightest first.

    stack : with true weights (`noise.true_weights`); each : ``map``, or that of a pool of threads
    Raises UsageError when the stack has no pixel with a weight.
    """
    if not (stack.weight > 0).any():
        raise UsageError(
            f"{stack.info.name}: no pixel has a weight; is its weight map the right one?"
        )
    empty = find_empty(stack.data, stack.weight, config.empty)
    flat = _less_background(stack, empty)
    fwhm = config.fwhm_pix or seeing(flat.data, flat.weight, flat.flags)
    if not np.isfinite(fwhm):
        fwhm = 3.0
    snr = filtered(flat.data, flat.weight, fwhm)
    hide = full_size(empty.hide, snr.shape)
    level, correlation = mesh(snr, hide, config.noise_mesh_pix, config.empty)
    scale = np.zeros_like(snr)
    add_mesh_rows(scale, correlation, config.noise_mesh_pix, 0, 1.0)
    snr /= np.maximum(scale, 1e-6)
    objects, segments = _connected(snr, config)
    order = np.argsort(-objects["cflux"], kind="stable")
    rank = np.zeros(order.size + 1, np.int32)
    rank[order + 1] = np.arange(1, order.size + 1)
    segments = rank[segments]
    objects = objects[order]
    table = _measured(flat, objects, segments, fwhm, _at(scale, objects), each)
    return Detections(flat, table, segments, empty, fwhm, correlation, config.noise_mesh_pix)


def add_sources(found: Detections, x: Image, y: Image, each: Each = map) -> Detections:
    """The detections and, after them, sources at further places, flagged as deblended.

    x, y : float64 (n,), pixels: what only shows when the others are taken away. Such a source owns
    the pixels within half a star's width; its place is the one given.
    """
    stack, half = found.stack, 0.5 * found.fwhm_pix
    objects = np.zeros(x.size, HIDDEN)
    objects["xcpeak"], objects["ycpeak"] = np.rint(x), np.rint(y)
    objects["flag"] = sep.OBJ_MERGED
    segments, (ny, nx), reach = found.segments.copy(), stack.data.shape, int(half)
    for number, one in enumerate(objects, start=len(found.table) + 1):
        one["xmin"], one["xmax"] = (np.clip(one["xcpeak"] + k, 0, nx - 1) for k in (-reach, reach))
        one["ymin"], one["ymax"] = (np.clip(one["ycpeak"] + k, 0, ny - 1) for k in (-reach, reach))
        rows, columns = np.ogrid[one["ymin"] : one["ymax"] + 1, one["xmin"] : one["xmax"] + 1]
        own = (rows - one["ycpeak"]) ** 2 + (columns - one["xcpeak"]) ** 2 <= half**2
        segments[rows, columns] = np.where(own, number, segments[rows, columns])
        one["npix"] = np.count_nonzero(own)
    scale = np.zeros_like(stack.data)
    add_mesh_rows(scale, found.correlation, found.cell, 0, 1.0)
    more = _measured(
        stack, objects, segments, found.fwhm_pix, _at(scale, objects), each, len(found.table)
    )
    sky = pixel_to_skycoord(x, y, stack.wcs).icrs
    more["x"], more["y"], more["ra_deg"], more["dec_deg"] = x, y, sky.ra.deg, sky.dec.deg
    table = vstack([found.table, more], metadata_conflicts="silent")
    return replace(found, table=table, segments=segments)


def _less_background(stack: Stack, empty: Empty) -> Stack:
    data = stack.data.copy()
    add_mesh_rows(data, empty.level, empty.cell, 0, -1.0)
    data[stack.weight <= 0] = 0.0
    return Stack(data, stack.weight, stack.flags, stack.wcs, stack.info)


def _connected(snr: Image, config: DetectionConfig) -> tuple[Any, Image]:
    """Groups of pixels above the threshold, taken apart: sep's objects, and the numbered map."""
    sep.set_extract_pixstack(max(1_000_000, snr.size // 4))
    sep.set_sub_object_limit(MAX_OBJECTS)
    return sep.extract(
        snr,
        config.threshold_sigma,
        minarea=config.min_area_pix,
        filter_kernel=None,
        deblend_nthresh=config.deblend_levels,
        deblend_cont=config.deblend_contrast,
        clean=True,
        segmentation_map=True,
    )


def _at(image: Image, objects: Any) -> Image:
    return image[objects["ycpeak"], objects["xcpeak"]].astype(float)


def _measured(
    stack: Stack,
    objects: Any,
    segments: Image,
    fwhm: float,
    correlation: Image,
    each: Each,
    before: int = 0,
) -> Table:
    """The table of sources; correlation : (n,), true error of sky over that of the weights.

    before : sources that are known already; the numbers go on from there
    """
    sigma = fwhm / FWHM_OF_SIGMA
    # Isophotes are those of the filtered image: a star's are wider by root 2.
    own = np.sqrt(np.maximum(objects["a"] * objects["b"] - sigma**2, sigma**2))
    windows = np.where(own > WIDE * sigma, np.minimum(own, WIDEST * sigma), sigma)
    number = np.arange(before + 1, before + len(objects) + 1, dtype=np.int32)
    out = _windows(stack, segments, (objects, number), windows, correlation**2, each)
    x, y, x_err, y_err, signal, error, a, b, theta, foreign, lost = out.T
    a = np.where(np.isfinite(a), np.maximum(a, LEAST_RMS_PIX), windows)
    b = np.where(np.isfinite(b), np.clip(b, LEAST_RMS_PIX, a), a)
    peak, flags = _flags(stack, (objects, number), segments, x, y, 2.0 * windows)
    flags |= np.where(foreign - lost > MAX_FOREIGN, SourceFlag.NEIGHBOURS.value, 0).astype(np.int32)
    flags |= np.where(lost > 0, SourceFlag.BAD_PIXELS.value, 0).astype(np.int32)
    sky = pixel_to_skycoord(x, y, stack.wcs).icrs
    iy = np.clip(np.rint(y), 0, stack.data.shape[0] - 1).astype(int)
    ix = np.clip(np.rint(x), 0, stack.data.shape[1] - 1).astype(int)
    return Table(
        {
            "number": number,
            "x": x,
            "y": y,
            "x_err": np.where(np.isfinite(x_err), x_err, windows),
            "y_err": np.where(np.isfinite(y_err), y_err, windows),
            "ra_deg": sky.ra.deg,
            "dec_deg": sky.dec.deg,
            "a": a,
            "b": b,
            "theta_deg": np.degrees(theta),
            "fwhm": FWHM_OF_SIGMA * np.sqrt(0.5 * (a**2 + b**2)),
            "elongation": a / b,
            "area": objects["npix"].astype(np.int32),
            "peak": peak,
            "flags": flags,
            "weight_ratio": stack.weight[iy, ix] / np.median(stack.weight[stack.weight > 0]),
            "snr_win": signal / np.maximum(error, 1e-30),
        }
    )


def _windows(
    stack: Stack,
    segments: Image,
    sources: tuple[Any, Image],
    windows: Image,
    excess: Image,
    each: Each,
) -> Image:
    """What `kernels.apertures.windowed` says of every source, in parts that threads can share."""
    gain = stack.info.gain_e_per_adu
    objects, number = sources
    x, y = objects["xcpeak"].astype(float), objects["ycpeak"].astype(float)
    out = np.empty((len(objects), 11))

    def part(these: slice) -> None:
        windowed(
            stack.data,
            stack.weight,
            segments,
            x[these],
            y[these],
            number[these],
            windows[these],
            excess[these],
            gain if gain > 0 else np.inf,
            out[these],
        )

    list(each(part, [slice(k, k + PART) for k in range(0, len(objects), PART)]))
    return out


def _flags(
    stack: Stack, sources: tuple[Any, Image], segments: Image, x: Image, y: Image, radius: Image
) -> tuple[Image, Image]:
    """The brightest pixel of every source, ADU, and its flags, int32."""
    objects, number = sources
    boxes = np.stack([objects[k] for k in ("xmin", "xmax", "ymin", "ymax")], axis=1)
    peak = np.empty(len(objects))
    own, near = np.empty((2, len(objects)), np.uint8)
    args = (number, boxes.astype(np.int64), x, y, radius, np.uint8(Bad.EDGE), peak, own, near)
    inspect(stack.data, stack.flags, segments, *args)
    limit = stack.info.saturation_adu
    saturated = (own & Bad.SATURATED > 0) | (peak > (limit if limit > 0 else np.inf))
    flags = np.where(objects["flag"] & sep.OBJ_MERGED, SourceFlag.DEBLENDED.value, 0)
    flags |= np.where(saturated, SourceFlag.SATURATED.value, 0)
    flags |= np.where(near & Bad.EDGE, SourceFlag.EDGE.value, 0)
    return peak, flags.astype(np.int32)
