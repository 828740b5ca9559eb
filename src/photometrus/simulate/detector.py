"""A detector: what light becomes in it, and what it adds of its own.

Convention: ``signal = response * (stars + sky surface brightness * pixel area) + own``. The
response (quantum efficiency, channel gains, vignetting, dust) acts on stars and sky alike; a
star's flux is conserved as a total of electrons however large its pixels are; the sky, and
the lamp of a flat, light each pixel by its solid angle. A real flat therefore holds response times
pixel area, and a frame divided by it keeps surface brightness, not the flux of a star.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from photometrus.instrument import (
    BORDER_PIXELS,
    CHANNEL_PIXELS,
    DETECTOR_PIXELS,
    GAIN_E_PER_ADU,
    READ_NOISE_E,
    SATURATION_ADU,
    UNSOLVED_ADU,
)
from photometrus.simulate.config import SimulateConfig, stream
from photometrus.simulate.geometry import Optics
from photometrus.simulate.kernels import expose, fill_response

Image = NDArray[np.float32]
Index = NDArray[np.int64]

DEAD, HOT, UNSOLVED = 1, 2, 4
"""Bits of the bad-pixel map."""
NODE_PIX = 64
CHANNELS = DETECTOR_PIXELS // CHANNEL_PIXELS
DEAD_PART, HOT_PART, UNSOLVED_PART = 2.5e-3, 4.5e-3, 2e-4
WORST_CHIP, WORSE = 4, 2.0
PIXEL_RMS, CHANNEL_RMS = 0.010, 0.020
CLUSTERS, DUST_GRAINS, BAD_COLUMNS = 60, 25, 3
VOID_RADIUS_PIX = 300.0
COSMIC_PER_S = 6.0  # on a whole detector
PERSISTENCE_ADU = 40.0  # per frame, just after a saturated ramp
PERSISTENCE_S = 80.0
FILLED = 0.7  # of full well, from which charge is trapped


@dataclass(frozen=True, eq=False)
class Detector:
    """One chip: response float32 (size, size), bad-pixel bits uint8, and its own signal.

    hot, hot_adu : flat indices of warm and hot pixels and their signal, ADU per frame
    unsolved, nan : flat indices of pixels whose ramp is never solved, as 65535 and as NaN
    """

    chip: int
    response: Image
    bad: NDArray[np.uint8]
    hot: Index
    hot_adu: Image
    unsolved: Index
    nan: Index
    offsets: NDArray[np.float64]


def node_grid(size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pixel coordinates x, y of the nodes that cover a window."""
    nodes = np.arange(0.0, size + 2 * NODE_PIX, NODE_PIX)
    x, y = np.meshgrid(nodes, nodes)
    return x, y


def make_detector(chip: int, optics: Optics, config: SimulateConfig) -> Detector:
    """The chip's detector; a window's pixels are those of the whole one."""
    draw = stream(config.detector_seed, "response", chip)
    channel = 1.0 + CHANNEL_RMS * draw.normal(size=CHANNELS)
    tilt, curve = 0.02 * draw.normal(size=2), 0.02 * draw.normal(size=3)
    x, y = node_grid(config.size)
    xi, eta = optics.to_field(x, y)
    u, v = x / DETECTOR_PIXELS - 0.5, y / DETECTOR_PIXELS - 0.5
    smooth = 1 + tilt[0] * u + tilt[1] * v + curve[0] * u * u + curve[1] * u * v + curve[2] * v * v
    smooth *= 1.0 - 0.10 * (xi**2 + eta**2) / 0.84**2  # vignetting
    response = np.empty((config.size, config.size), dtype=np.float32)
    key = config.detector_seed * 8 + chip
    fill_response(response, smooth, NODE_PIX, channel, CHANNEL_PIXELS, PIXEL_RMS, key)
    add_dust(response, draw, chip)
    return with_bad_pixels(chip, response, config)


def add_dust(response: Image, draw: np.random.RandomState, chip: int) -> None:
    """Rings of dust out of focus, spots, and the worst chip's void in a corner; in place."""
    size = response.shape[0]
    for _ in range(DUST_GRAINS):
        x, y = draw.uniform(0, DETECTOR_PIXELS, 2)
        radius, depth, spot = draw.uniform(15, 60), draw.uniform(0.02, 0.12), draw.uniform() < 0.3
        radius = radius / 5 if spot else radius
        rows = slice(max(0, int(y - radius) - 1), max(0, min(size, int(y + radius) + 2)))
        cols = slice(max(0, int(x - radius) - 1), max(0, min(size, int(x + radius) + 2)))
        j, i = np.ogrid[rows, cols]
        r = np.hypot(i - x, j - y)
        inside = (r < radius) & (spot | (r > 0.6 * radius))
        response[rows, cols][inside] *= 1 - (3 * depth if spot else depth)
    if chip == WORST_CHIP:
        edge = DETECTOR_PIXELS - int(VOID_RADIUS_PIX)
        j, i = np.ogrid[edge:size, edge:size]
        void = np.hypot(i - DETECTOR_PIXELS, j - DETECTOR_PIXELS) < VOID_RADIUS_PIX
        response[edge:, edge:][void] *= 0.3


def with_bad_pixels(chip: int, response: Image, config: SimulateConfig) -> Detector:
    """The detector of `response` with dead, hot and unsolved pixels, single and in clusters."""
    size = config.size
    draw = stream(config.detector_seed, "pixels", chip)
    worse = WORSE if chip == WORST_CHIP else 1.0
    bad = np.zeros((size, size), dtype=np.uint8)
    dead = on_window(spread(draw, DEAD_PART * worse), size)
    hot = on_window(spread(draw, HOT_PART * worse), size)
    unsolved = on_window(spread(draw, 0.5 * UNSOLVED_PART * worse), size)
    nan = on_window(spread(draw, 0.5 * UNSOLVED_PART * worse), size)
    clump_dead, clump_hot = clusters(draw, int(CLUSTERS * worse))
    columns = bad_columns(draw)
    dead = np.unique(np.concatenate([dead, on_window(clump_dead, size), on_window(columns, size)]))
    hot = np.unique(np.concatenate([hot, on_window(clump_hot, size)]))
    own = stream(config.detector_seed, "pixel values", chip)
    # One number for each pixel of a fixed table, so that windows agree with the whole detector.
    table = own.uniform(0, 1, 4093)
    flat = response.reshape(-1)
    flat[dead] *= (0.4 * table[position(dead, size) % 4093] ** 2).astype(np.float32)
    hot_adu = 8.0 * 10 ** (2.7 * table[position(hot, size) % 4093] ** 2.5)
    bits = bad.reshape(-1)
    bits[dead] |= DEAD
    bits[hot] |= HOT
    bits[unsolved] |= UNSOLVED
    bits[nan] |= UNSOLVED
    offsets = own.normal(0.0, 1.0, CHANNELS)
    return Detector(chip, response, bad, hot, hot_adu.astype(np.float32), unsolved, nan, offsets)


def spread(draw: np.random.RandomState, part: float) -> tuple[Index, Index]:
    """Rows and columns of single pixels anywhere on the whole detector."""
    n = int(draw.poisson(part * DETECTOR_PIXELS**2))
    rows, cols = draw.randint(0, DETECTOR_PIXELS, (2, n))
    return rows, cols


def clusters(
    draw: np.random.RandomState, n: int
) -> tuple[tuple[Index, Index], tuple[Index, Index]]:
    """Rows and columns of clumped dead pixels, and of clumped hot ones."""
    found: tuple[list[Index], list[Index]] = ([], [])
    for k in range(n):
        x, y = draw.randint(0, DETECTOR_PIXELS, 2)
        sigma = draw.uniform(1.0, 5.0)
        members = int(draw.uniform(1, 5) * sigma**2) + 4
        found[k % 2].append(
            np.round(draw.normal(0, sigma, (2, members)) + [[y], [x]]).astype(np.int64)
        )
    dead, hot = (np.concatenate(part, axis=1) for part in found)
    return (dead[0], dead[1]), (hot[0], hot[1])


def bad_columns(draw: np.random.RandomState) -> tuple[Index, Index]:
    """Rows and columns of pieces of dead columns."""
    rows, cols = [], []
    for _ in range(BAD_COLUMNS):
        col, first, length = draw.randint(0, DETECTOR_PIXELS, 3)
        piece = np.arange(first, min(first + length // 4, DETECTOR_PIXELS))
        rows.append(piece)
        cols.append(np.full(len(piece), col))
    return np.concatenate(rows), np.concatenate(cols)


def on_window(pixels: tuple[Index, Index], size: int) -> Index:
    """Flat indices, each once, of those pixels that lie inside the window's border."""
    rows, cols = pixels
    low, high = BORDER_PIXELS, size - BORDER_PIXELS
    lit = (rows >= low) & (rows < high) & (cols >= low) & (cols < high)
    return np.unique(rows[lit] * size + cols[lit])


def position(flat: Index, size: int) -> Index:
    """The place on the whole detector of a window's flat indices."""
    return flat // size * DETECTOR_PIXELS + flat % size


class Afterglow:
    """Charge that saturated pixels trapped, and release later: flat indices and ADU per frame."""

    def __init__(self) -> None:
        self.index: Index = np.zeros(0, dtype=np.int64)
        self.adu: NDArray[np.float64] = np.zeros(0)

    def wait(self, seconds: float) -> None:
        """Let it decay; what cannot be seen is forgotten."""
        self.adu = self.adu * np.exp(-seconds / PERSISTENCE_S)
        seen = self.adu > 0.3
        self.index, self.adu = self.index[seen], self.adu[seen]

    def dose(self, slopes: Image, reads: int) -> None:
        """Remember the pixels of a ramp (before the bad pixels were marked) that filled up."""
        level = np.float32(FILLED * SATURATION_ADU / reads)
        index = np.nonzero(slopes.reshape(-1) > level)[0]
        charge = np.minimum(slopes.reshape(-1)[index].astype(float) * reads / SATURATION_ADU, 1.0)
        fresh = PERSISTENCE_ADU * (charge - FILLED) / (1 - FILLED)
        every = np.concatenate([self.index, index])
        self.index, back = np.unique(every, return_inverse=True)
        summed = np.bincount(back, np.concatenate([self.adu, fresh]), len(self.index))
        self.adu = np.minimum(summed, 2 * PERSISTENCE_ADU).astype(np.float64)


def read_ramp(
    light: Image,
    sky_nodes: NDArray[np.float64],
    detector: Detector,
    afterglow: Afterglow,
    config: SimulateConfig,
    serial: int,
) -> Image:
    """The ramp that the detector makes of the light; `light` becomes it.

    light : float32 (size, size), ADU per frame at response 1, overwritten
    sky_nodes : float64, the sky in ADU per frame and pixel at every NODE_PIX-th pixel
    """
    draw = stream(config.seed, "ramp", detector.chip, serial)
    flicker = 1 + 0.05 * stream(config.seed, "flicker", serial).normal(size=997)
    hot_adu = detector.hot_adu * flicker[position(detector.hot, config.size) % 997]
    add_own(light, detector.response, detector.hot, hot_adu)
    add_own(light, detector.response, afterglow.index, afterglow.adu)
    offsets = np.repeat(detector.offsets + draw.normal(0.0, 0.4, CHANNELS), CHANNEL_PIXELS)
    limits = np.array([GAIN_E_PER_ADU, READ_NOISE_E, SATURATION_ADU, UNSOLVED_ADU])
    key = int(draw.randint(0, 2**31 - 1)) * 2**20 + serial % 2**20
    expose(
        light,
        detector.response,
        sky_nodes,
        NODE_PIX,
        offsets,
        config.nframes,
        limits,
        key,
    )
    afterglow.dose(light, config.nframes)
    add_cosmics(light, draw, config)
    grow_unsolved(light)
    flat = light.reshape(-1)
    flat[detector.unsolved] = UNSOLVED_ADU
    flat[detector.nan] = np.nan
    edge = BORDER_PIXELS
    for part in (light[:edge], light[-edge:], light[:, :edge], light[:, -edge:]):
        part[:] = 0.0
    return light


def add_own(light: Image, response: Image, index: Index, adu: NDArray[np.floating]) -> None:
    """Add signal that does not come through the optics, as the light that would make it."""
    flat, answer = light.reshape(-1), response.reshape(-1)
    flat[index] += (adu / np.maximum(answer[index], 1e-3)).astype(np.float32)


def add_cosmics(slopes: Image, draw: np.random.RandomState, config: SimulateConfig) -> None:
    """Add tracks of cosmic rays: each jumps between two reads and bends the fitted slope."""
    n = config.nframes
    size = config.size
    # Drawn on the whole detector, so that a window is a window of it.
    for _ in range(int(draw.poisson(COSMIC_PER_S * config.exposure_s))):
        x, y = draw.uniform(0, DETECTOR_PIXELS, 2)
        angle, length = draw.uniform(0, 2 * np.pi), 1 + draw.exponential(4.0)
        charge_e, jump = draw.lognormal(np.log(1500.0), 0.8), draw.randint(1, n)
        slope = charge_e / GAIN_E_PER_ADU * 6.0 * jump * (n - jump) / (n * (n * n - 1.0))
        steps = np.arange(0.0, length, 0.5)
        cols = np.round(x + steps * np.cos(angle)).astype(np.int64)
        rows = np.round(y + steps * np.sin(angle)).astype(np.int64)
        lit = (rows >= 0) & (rows < size) & (cols >= 0) & (cols < size)
        np.add.at(slopes, (rows[lit], cols[lit]), np.float32(0.5 * slope))


def grow_unsolved(slopes: Image) -> None:
    """Mark the four neighbours of saturated pixels too, as the ramp code does; in place.

    What a cosmic ray added to a saturated pixel is undone.
    """
    rows, cols = np.nonzero(slopes >= np.float32(UNSOLVED_ADU))
    last = slopes.shape[0] - 1
    for dy, dx in ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)):
        slopes[np.clip(rows + dy, 0, last), np.clip(cols + dx, 0, last)] = UNSOLVED_ADU
