"""Each kernel beside the usual tool, on the same full-size frames in the same run.

Every comparison gives one `Pair`: seconds of the tool and ours, two threads on both sides where the
tool has threads. What is read and written is told with each.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.stats import sigma_clip

from helpers import Array, robust_sigma, time_best
from photometrus.allocator import kept_memory
from photometrus.frame import ArrayPixels, Bad
from photometrus.io import external
from photometrus.io.fitsfile import header_wcs, write_image
from photometrus.io.rampfile import open_ramp
from photometrus.kernels.combine import clipped_median
from photometrus.kernels.resample import fill_bad
from photometrus.stages.background import fit_background
from photometrus.stages.coadd import CoaddConfig, Layer, coadd, common_grid
from photometrus.stages.sky import no_mask
from photometrus.stages.sources import find_sources
from photometrus.workers import threads

THREADS = 2
ROWS = 64


@dataclass(frozen=True)
class Pair:
    """One comparison: seconds of the tool and ours; what was asked for, the least ratio."""

    what: str
    tool: str
    tool_s: float
    ours_s: float
    wanted: float = 0.0

    @property
    def ratio(self) -> float:
        """How many times faster we are."""
        return self.tool_s / self.ours_s


def timed(function: Callable[[], object]) -> float:
    """Seconds of one call: the tools are slow enough."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def read(path: Path) -> tuple[Array, fits.Header]:
    """A frame as native float32; what is bad is NaN."""
    with fits.open(path, memmap=False) as hdus:
        return np.ascontiguousarray(hdus[0].data, np.float32), hdus[0].header.copy()


def sky_stack(frames: Sequence[Path]) -> list[Pair]:
    """The clipped median of all frames, each over its level, in memory."""
    stack = np.stack([read(path)[0] for path in frames])
    stack /= np.nanmedian(stack[:, ::7, ::5], axis=(1, 2))[:, None, None]
    ny, nx = stack.shape[1:]
    out, count = np.empty((ny, nx), np.float32), np.empty((ny, nx), np.uint16)

    def ours() -> None:
        def block(y0: int) -> None:
            rows = np.s_[y0 : y0 + ROWS]
            part = np.ascontiguousarray(stack[:, rows])
            clipped_median(part, 3.0, 5, out[rows], count[rows])

        with threads(THREADS) as each:
            list(each(block, range(0, ny, ROWS)))

    ours()  # compiled, or read from the cache
    mine = time_best(ours)

    def along() -> None:
        kept = sigma_clip(stack, sigma=3, maxiters=5, axis=0, masked=False, copy=True)
        np.nanmedian(kept, axis=0)

    def one_by_one() -> None:
        masked = [sigma_clip(one, sigma=4, maxiters=5, copy=True) for one in stack]
        clipped = [one.filled(np.nan) for one in masked]
        np.nanmedian(np.stack(clipped), axis=0)

    n = len(frames)
    return [
        Pair(f"sky of {n} frames", "sigma_clip(axis=0) + nanmedian", timed(along), mine, 15),
        Pair(f"sky of {n} frames", "sigma_clip per image + nanmedian", timed(one_by_one), mine, 50),
        Pair(f"sky of {n} frames", "ccdproc Combiner", timed(lambda: ccdproc_sky(stack)), mine),
    ]


def ccdproc_sky(stack: Array) -> None:
    """The same with ccdproc."""
    from ccdproc import CCDData, Combiner

    combiner = Combiner([CCDData(np.nan_to_num(one), unit="adu") for one in stack])
    combiner.sigma_clipping(low_thresh=3, high_thresh=3)
    combiner.median_combine()


def stacking(frames: Sequence[Path], work: Path) -> list[Pair]:
    """The coadd: Lanczos-3, clipped, a weight file per frame, two files written."""
    weights = []
    for path in frames:
        data, _ = read(path)
        good = np.isfinite(data)
        noise = robust_sigma(data[::5, ::7][good[::5, ::7]])
        weights.append(work / f"{path.name}.weight.fits")
        image = np.where(good, 1 / noise**2, 0).astype(np.float32)
        write_image(weights[-1], image, fits.Header())
    clean = []
    for path in frames:
        data, header = read(path)
        clean.append(work / path.name)
        write_image(clean[-1], np.nan_to_num(data), header)

    def tool() -> None:
        external.swarp(
            clean,
            work / "swarp.fits",
            work / "swarp.weight.fits",
            weights=weights,
            options={"COMBINE_TYPE": "CLIPPED", "SUBTRACT_BACK": "N", "NTHREADS": THREADS},
        )

    def ours() -> None:
        with threads(THREADS) as each, kept_memory():
            layers = [layer(one, weight) for one, weight in zip(clean, weights, strict=True)]
            grid = common_grid([one.wcs for one in layers], [one.shape for one in layers])
            result = coadd(layers, grid, CoaddConfig(pixel_area="jacobian"), each=each)
        write_image(work / "ours.fits", result.data, grid.wcs.to_header())
        write_image(work / "ours.weight.fits", result.weight, grid.wcs.to_header())

    ours()
    tool_cpu, ours_cpu = children(tool), own(ours)
    return [
        Pair(f"coadd of {len(frames)} frames", "SWarp, CLIPPED", tool_cpu[0], ours_cpu[0], 12),
        Pair("the same, processor time", "SWarp, CLIPPED", tool_cpu[1], ours_cpu[1], 10),
    ]


def children(function: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds of what runs in processes of its own."""
    before = os.times()
    wall = timed(function)
    after = os.times()
    return wall, (after.children_user - before.children_user) + (
        after.children_system - before.children_system
    )


def own(function: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds of this process."""
    begin = time.process_time()
    wall = timed(function)
    return wall, time.process_time() - begin


def layer(path: Path, weight: Path) -> Layer:
    """A frame and its weight on disk, read by rows, as the pipeline reads its ramps."""
    header, data = open_ramp(path)
    _, inverse = open_ramp(weight)

    def rows(y0: int, y1: int) -> tuple[Array, Array, Array]:
        value = inverse.rows(y0, y1)
        return data.rows(y0, y1), (value == 0).view(np.uint8) * np.uint8(Bad.DEAD), value

    return Layer(rows, data.shape, header_wcs(header))


def finding(frame: Path, work: Path) -> list[Pair]:
    """The stars of a frame with its background: SExtractor, our mesh and finder."""
    data, header = read(frame)
    bad = np.where(np.isfinite(data), 0, 1).astype(np.uint8)
    clean = np.nan_to_num(data)
    image = work / "frame.fits"
    write_image(image, clean, header)
    flat = np.ones_like(clean)

    def ours() -> None:
        pixels = ArrayPixels(clean, bad)
        background, noise = fit_background(pixels, flat, no_mask(clean.shape), 0.0)
        rows, flags = pixels.rows(0, clean.shape[0])
        background.subtract(rows, flat, 0)
        fill_bad(rows, flags, 8)
        find_sources(rows, flags, noise, 7)

    ours()
    tool = timed(lambda: external.sextractor(image, work / "frame.cat"))
    return [Pair("stars of one frame", "SExtractor", tool, time_best(ours), 5)]


def resampling(frame: Path) -> list[Pair]:
    """One frame onto the grid of a stack: reproject, bilinear, against Lanczos-3."""
    from reproject import reproject_interp

    data, header = read(frame)
    wcs = header_wcs(header)
    grid = common_grid([wcs], [data.shape])
    bad = np.where(np.isfinite(data), 0, 1).astype(np.uint8)
    clean = np.nan_to_num(data)

    def rows(y0: int, y1: int) -> tuple[Array, Array, Array]:
        one = np.ones((y1 - y0, data.shape[1]), np.float32)
        return clean[y0:y1].copy(), bad[y0:y1], one

    def ours() -> None:
        with threads(THREADS) as each:
            coadd([Layer(rows, data.shape, wcs)], grid, CoaddConfig(combine="mean"), each=each)

    ours()
    tool = timed(lambda: reproject_interp((clean, wcs), grid.wcs, shape_out=grid.shape))
    return [Pair("one frame resampled", "reproject_interp (bilinear)", tool, time_best(ours))]


def photometry(stack: Path, catalog: Path) -> list[Pair]:
    """A stack's sources: photutils' finder, apertures, PSF fits of the brightest 1000 stars.

    Against the whole command: imports, zero point, tables and pages included.
    """
    from photutils.aperture import CircularAperture, aperture_photometry
    from photutils.detection import DAOStarFinder
    from photutils.psf import CircularGaussianPRF, PSFPhotometry

    from photometrus.io.stackfile import read_stack

    data = read_stack(stack).data.astype(float)
    noise = robust_sigma(data[::7, ::5][data[::7, ::5] != 0])

    def tool() -> None:
        found = DAOStarFinder(5 * noise, 3.6)(data)
        places = np.transpose([found["x_centroid"], found["y_centroid"]])
        aperture_photometry(data, CircularAperture(places, 2.5))
        found.sort("flux", reverse=True)
        first = found[:1000]
        first = first["x_centroid", "y_centroid"]
        first.rename_columns(["x_centroid", "y_centroid"], ["x", "y"])
        PSFPhotometry(CircularGaussianPRF(fwhm=3.6), (9, 9), aperture_radius=4)(
            data, init_params=first
        )

    def ours() -> None:
        run_command("photometry", "-filepath", stack, "-catalog", catalog)

    ours()
    return [Pair("photometry of a stack", "photutils, 1000 stars by PSF", timed(tool), timed(ours))]


def run_command(*words: object) -> None:
    """A command of photometrus as a process of its own."""
    command = [sys.executable, "-m", "photometrus", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 3):
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")


def whole_chip(parent: Path, catalog: Path, flats: Path) -> list[Pair]:
    """The reduction of a chip with the programs and without, each from ramps to stack."""

    def reduce(engine: str) -> float:
        return timed(
            lambda: run_command(
                *("stack", "-parent", parent, "-band", "J", "-chip", 1, "-catalog", catalog),
                *("-flat_dir", flats, "-engine", engine, "-no_plots", "-restart"),
            )
        )

    reduce("native")
    mine = reduce("native")
    return [Pair("a chip, ramps to stack", "-engine astromatic", reduce("astromatic"), mine, 10)]


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder for what the tools read and write."""
    return tempfile.TemporaryDirectory(prefix="photometrus-bench-")
