"""How near each kernel is to what the memory allows: bytes that must move, over the time it takes.

    python benchmarks/roofline.py [--size 4088] [--frames 9]

One thread. The roof is the triad (``a = b + s * c`` over arrays far larger than the caches) of the
same run; a kernel moves what it reads and writes once, however often it looks at it in the cache.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from numba import njit

from helpers import Array, machine, time_best
from photometrus.kernels.combine import clipped_average, clipped_median
from photometrus.kernels.detect import smooth
from photometrus.kernels.detrend import calibrate, swap_bytes
from photometrus.kernels.mesh import add_mesh_rows, cell_modes
from photometrus.kernels.resample import lanczos_rows, lanczos_table
from photometrus.kernels.weighted import clipped_mean, middles

REACHED_NS = {
    "median of the sky, clipped": 1.8,
    "frame resampled, Lanczos-3": 3.8,
}
"""Nanoseconds per pixel and frame that prototypes reached."""
STEP = 16
CELL = 128


@dataclass(frozen=True)
class Kernel:
    """A kernel's time, and what it moves.

    n_values : pixels times frames; n_bytes : read and written, each once
    """

    name: str
    seconds: float
    n_values: int
    n_bytes: int

    @property
    def ns(self) -> float:
        """Nanoseconds per pixel and frame."""
        return 1e9 * self.seconds / self.n_values

    @property
    def gb_per_s(self) -> float:
        """Bytes per second."""
        return self.n_bytes / self.seconds / 1e9


@njit(nogil=True)
def _triad(a: Array, b: Array, c: Array, s: float) -> None:
    for k in range(a.size):
        a[k] = b[k] + s * c[k]


def triad() -> float:
    """What the memory gives one thread, GB/s."""
    a, b, c = (np.ones(1 << 26, np.float32) for _ in range(3))
    _triad(a, b, c, np.float32(2))
    return 3 * a.nbytes / time_best(lambda: _triad(a, b, c, np.float32(2)), 5) / 1e9


def kernels(size: int, n: int) -> Iterator[Kernel]:
    """Every kernel that sees all pixels of all frames, on blocks as the pipeline gives them."""
    draw = np.random.RandomState(1)
    frame = draw.normal(500, 5, (size, size)).astype(np.float32)
    rows = 64
    stack = np.stack([np.roll(frame, 31 * k, axis=1)[:rows] for k in range(n)])
    flat, known = np.ones_like(frame), np.zeros(frame.shape, np.uint8)
    out, bad = np.empty_like(frame), np.empty(frame.shape, np.uint8)
    raw = frame.view(np.uint32).byteswap()
    pixels = np.empty_like(raw)
    area = frame.size

    def decode() -> None:
        pixels[:] = raw
        swap_bytes(pixels.ravel())
        limit = np.float32(60000)
        calibrate(
            pixels.view(np.float32), 0, flat, known, limit, np.uint8(4), np.uint8(1), out, bad
        )

    yield timed("a ramp decoded and calibrated", decode, area, area * (4 + 4 + 1 + 4 + 1))
    median, count = np.empty((rows, size), np.float32), np.empty((rows, size), np.uint16)
    block, moved = stack.size, stack.nbytes + median.nbytes + count.nbytes

    def sky() -> None:
        clipped_median(stack, 3.0, 5, median, count)

    yield timed("median of the sky, clipped", sky, block, moved)

    def average() -> None:
        clipped_average(stack, 4.0, 5, median, count, np.zeros(2))

    yield timed("mean of the sky, clipped", average, block, moved)
    cells = (-(-size // CELL),) * 2
    values, scatter = np.empty(cells, np.float32), np.empty(cells, np.float32)
    number = np.empty(cells, np.int32)

    def modes() -> None:
        cell_modes(frame, known, CELL, 0, values, scatter, number)

    yield timed("levels of the background's cells", modes, area, area * 5)

    def mesh() -> None:
        add_mesh_rows(out, values, CELL, 0, 1.0)

    yield timed("background added", mesh, area, area * 8)
    taps = np.full(9, 1 / 9, np.float32)
    yield timed("filter of the finder", lambda: smooth(frame, taps, out), area, area * 8)
    yield from stacking(frame, stack, known)


def stacking(frame: Array, stack: Array, flags: Array) -> Iterator[Kernel]:
    """Resampling and the clipped mean."""
    n, rows, size = stack.shape
    weight = np.full_like(stack, 0.04)
    y, x = np.mgrid[0 : size + STEP : STEP, 0 : size + STEP : STEP].astype(float)
    map_x, map_y = x + 0.3 + 2e-4 * y, y + 0.6 - 2e-4 * x
    variance, table = np.full_like(frame, 25), lanczos_table()
    value, given = np.empty((rows, size), np.float32), np.empty((rows, size), np.float32)
    marks = np.zeros((rows, size), np.uint8)
    first = size // 2 // STEP * STEP
    near = slice(first - 8, first + rows + 8)

    def resample() -> None:
        lanczos_rows(
            frame[near], flags[near], variance[near], first - 8, map_x, map_y, STEP, first, table,
            np.float32(0.25), np.float32(1), np.float32(1), value, given, marks,
        )  # fmt: skip

    yield timed("frame resampled, Lanczos-3", resample, rows * size, rows * size * (9 + 9))
    middle = np.empty((rows, size), np.float32)
    rejected = np.zeros(n, np.int64)

    def mean() -> None:
        middles(stack, weight, middle)
        clipped_mean(stack, weight, middle, 0, 4.0, 0.3, value, given, rejected)

    yield timed("mean of the stack, clipped", mean, stack.size, 2 * stack.nbytes + 3 * value.nbytes)


def timed(name: str, function: Callable[[], None], n_values: int, n_bytes: int) -> Kernel:
    """The fastest of five calls, the first one (which may compile) not counted."""
    function()
    return Kernel(name, time_best(function, 5), n_values, n_bytes)


def table_rows(found: list[Kernel], roof: float) -> list[list[str]]:
    """The cells of a table."""
    return [
        [
            one.name,
            f"{one.ns:.2f}",
            f"{REACHED_NS[one.name]:g}" if one.name in REACHED_NS else "",
            f"{one.n_bytes / one.n_values / roof:.2f}",  # bytes over GB/s are nanoseconds
            f"{one.gb_per_s:.1f}",
            f"{100 * one.gb_per_s / roof:.0f} %",
        ]
        for one in found
    ]


COLUMNS = ["kernel, one thread", "ns per pixel and frame", "prototype", "the memory allows", "GB/s",
           "of the triad"]  # fmt: skip


def plot(found: list[Kernel], roof: float, path: str) -> None:
    """Each kernel's bytes per second under the roof."""
    figure, axes = plt.subplots(figsize=(7.5, 3.6), constrained_layout=True)
    names = [one.name for one in found]
    axes.barh(names, [one.gb_per_s for one in found], color="C0")
    axes.axvline(roof, color="C3", label=f"triad {roof:.0f} GB/s")
    for k, one in enumerate(found):
        axes.text(one.gb_per_s, k, f" {one.ns:.2f} ns", va="center", fontsize=8)
    axes.set_xscale("log")
    axes.set_xlim(right=2 * max(roof, *(one.gb_per_s for one in found)))
    axes.set_xlabel("GB/s, one thread; beside the bar: per pixel and frame")
    axes.invert_yaxis()
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=4088)
    parser.add_argument("--frames", type=int, default=9)
    given = parser.parse_args()
    print(machine())
    roof = triad()
    print(f"triad {roof:.1f} GB/s")
    for row in table_rows(list(kernels(given.size, given.frames)), roof):
        print(f"{row[0]:36s}" + "".join(f"{cell:>10s}" for cell in row[1:]))


if __name__ == "__main__":
    main()
