"""Astrometry over a chip: residuals, their distribution, the distortion.

Arrows are drawn as they lie on the chip, in its pixels, and not as on a map.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.wcs import WCS
from matplotlib.axes import Axes

from photometrus.evidence import ChipEvidence
from photometrus.plots.maps import color_bar
from photometrus.plots.style import BLUE, FAINT, INK, VERMILLION, head, say_nothing_known
from photometrus.wcs import pixel_to_sky, to_plane

CELLS = 8
"""Cells of the residuals along an axis, at most."""
STARS_PER_CELL = 4
HISTOGRAM_RMS = 4.0
"""Half width of the histogram, in units of the rms."""
ROOM = 1.35
"""Its height, in units of what it needs: the legend is above."""
ARROWS = 9
"""Of the distortion, along an axis."""
STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000)
"""Lengths of a key to arrows, mas."""
LONGEST_KEY = 0.25
"""Of the axes' width."""
NO_CATALOG = "no reference catalogue:\nframes are aligned to each other"

Array = Any  # float64 array


@dataclass(frozen=True)
class LocalPlane:
    """The plane that touches the sky at the chip's centre, on which pixels are squares."""

    wcs: WCS
    middle: Array
    centre: tuple[float, float]
    matrix: Array
    """East and north, arcsec, per pixel: float64 (2, 2), at the centre."""

    def distortion(self, x: Array, y: Array) -> Array:
        """How far pixels are from where the plane has them: arcsec along x and y, (2, ...)."""
        sky = np.stack(to_plane(*pixel_to_sky(self.wcs, x, y), self.centre))
        linear = np.tensordot(self.matrix, np.stack([x, y]) - _like(self.middle, x), 1)
        return self.on_chip(sky - linear)

    def on_chip(self, offset: Array) -> Array:
        """Offsets east and north, (2, ...), as they lie on the chip, along x and y."""
        scale = np.sqrt(abs(np.linalg.det(self.matrix)))
        return np.tensordot(np.linalg.inv(self.matrix) * scale, offset, 1)


def local_plane(evidence: ChipEvidence) -> LocalPlane:
    """The plane at the centre of the first used frame."""
    ny, nx = evidence.chip_shape
    middle = np.array([(nx - 1) / 2, (ny - 1) / 2])
    centre = tuple(float(v) for v in pixel_to_sky(evidence.wcs, *middle))
    # Central differences: the even terms of the distortion cancel.
    around = _like(middle, np.empty(4)) + 8 * np.array([[1, -1, 0, 0], [0, 0, 1, -1]])
    sky = np.stack(to_plane(*pixel_to_sky(evidence.wcs, *around), (centre[0], centre[1])))
    matrix = (sky[:, ::2] - sky[:, 1::2]) / 16
    return LocalPlane(evidence.wcs, middle, (centre[0], centre[1]), matrix)


def _like(pair: Array, values: Array) -> Array:
    """Two numbers, to be added to an array (2, ...)."""
    return pair.reshape(2, *[1] * np.ndim(values))


@dataclass(frozen=True)
class CellMeans:
    """Mean residuals in cells of a chip: pixels, and mas east and north, float64 (n,) each."""

    x: Array
    y: Array
    east: Array
    north: Array
    cells: int
    """Along an axis."""
    error: float
    """Of such a mean, mas, from the scatter of single stars."""


def cell_means(evidence: ChipEvidence) -> CellMeans:
    """Means of the residuals in as many cells as the stars are enough for."""
    residuals = evidence.residuals
    ny, nx = evidence.chip_shape
    # The same star in another frame has the same error of the catalogue: it counts once.
    stars = len(residuals) / int(np.sum(evidence.frames["used"]))
    cells = int(np.clip(np.sqrt(stars / STARS_PER_CELL), 1, CELLS))
    x, y = np.asarray(residuals["x"]), np.asarray(residuals["y"])
    east, north = (1e3 * np.asarray(residuals[name]) for name in ("d_east", "d_north"))
    i = np.clip(x * cells / nx, 0, cells - 1).astype(int)
    j = np.clip(y * cells / ny, 0, cells - 1).astype(int)
    count = np.bincount(j * cells + i, minlength=cells**2)
    held = count > 0
    x, y, mean_east, mean_north = (
        np.bincount(j * cells + i, values, cells**2)[held] / count[held]
        for values in (x, y, east, north)
    )
    rms = float(np.sqrt(np.mean(np.square([east, north]))))
    error = rms / np.sqrt(max(1.0, stars / x.size))
    return CellMeans(x, y, mean_east, mean_north, cells, error)


def draw_residuals(axes: Axes, evidence: ChipEvidence) -> None:
    """Mean residuals of the stars in cells of the chip."""
    title = "Residual vectors"
    if not len(evidence.residuals):
        say_nothing_known(axes, title, NO_CATALOG)
        return
    means = cell_means(evidence)
    offset = local_plane(evidence).on_chip(np.stack([means.east, means.north]))
    longest = 0.75 * evidence.chip_shape[1] / means.cells
    _chip_axes(axes, evidence)
    axes.plot(means.x, means.y, ".", color=BLUE, markersize=2)
    _arrows(axes, (means.x, means.y), offset, longest, INK)
    n = means.cells
    head(axes, title, f"means of {n} × {n} cells, each ± {means.error:.0f} mas")


def draw_histogram(axes: Axes, evidence: ChipEvidence) -> None:
    """How the residuals are distributed, east and north."""
    title = "Distribution of the residuals"
    residuals = evidence.residuals
    if not len(residuals):
        say_nothing_known(axes, title, NO_CATALOG)
        return
    mas = {name: 1e3 * np.asarray(residuals[f"d_{name}"]) for name in ("east", "north")}
    rms = {name: float(np.sqrt(np.mean(values**2))) for name, values in mas.items()}
    limit = HISTOGRAM_RMS * max(rms.values())
    edges = list(np.linspace(-limit, limit, int(np.clip(len(residuals) / 20, 9, 41))))
    for (name, values), color in zip(mas.items(), (BLUE, VERMILLION), strict=True):
        axes.hist(values, edges, histtype="stepfilled", color=color, alpha=0.15)
        words = f"{name}: rms {rms[name]:.0f} mas"
        axes.hist(values, edges, histtype="step", color=color, label=words)
    axes.set_xlim(-limit, limit)
    axes.axvline(0, 0, 1 / ROOM, color=FAINT, linewidth=0.5)
    axes.set_ylim(0, ROOM * axes.get_ylim()[1])
    axes.legend(loc="upper left", borderpad=0.2, handlelength=1.2)
    axes.set_xlabel("star − catalogue (mas)")
    head(axes, title, f"{len(residuals)} detections of catalogue stars")


def draw_distortion(axes: Axes, evidence: ChipEvidence) -> None:
    """How far the solved WCS is from a plane that touches the sky at the chip's centre."""
    ny, nx = evidence.chip_shape
    plane = local_plane(evidence)
    x, y = np.meshgrid(np.linspace(0, nx - 1, 65), np.linspace(0, ny - 1, 65))
    length = np.hypot(*plane.distortion(x, y))
    image = axes.imshow(
        length, extent=(-0.5, nx - 0.5, -0.5, ny - 0.5), cmap="cividis", vmin=0,
        interpolation="bilinear",
    )  # fmt: skip
    color_bar(axes, image)
    _chip_axes(axes, evidence)
    t = (np.arange(ARROWS) + 0.5) / ARROWS
    at = np.stack(np.meshgrid(t * nx, t * ny)).reshape(2, -1)
    _arrows(axes, (at[0], at[1]), 1e3 * plane.distortion(*at), 1.5 * nx / ARROWS, "white")
    head(axes, "Distortion", f"WCS less a plane, arcsec; at most {length.max():.2f}")


def _arrows(axes: Axes, at: tuple[Array, Array], mas: Array, longest: float, color: str) -> None:
    """Arrows of so many mas, nearly all shorter than `longest` pixels, and a key beside them."""
    typical = max(float(np.percentile(np.hypot(*mas), 95)), 4.0 * STEPS[0])
    width = float(np.ptp(axes.get_xlim()))
    unit = max(step for step in STEPS if step <= typical * min(1.0, LONGEST_KEY * width / longest))
    arrows = axes.quiver(
        *at, *mas, angles="xy", scale_units="xy", scale=typical / longest, color=color,
        width=0.006, headwidth=3.5, headlength=4, headaxislength=3.5,
    )  # fmt: skip
    words = f"{unit} mas" if unit < 1000 else f"{unit // 1000}″"
    start = 1 - unit / typical * longest / width
    axes.quiverkey(
        arrows, start, 1.105, unit, words, labelpos="W", labelsep=0.04, color=INK,
        fontproperties={"size": 6},
    )  # fmt: skip


def _chip_axes(axes: Axes, evidence: ChipEvidence) -> None:
    """Pixels of the chip."""
    ny, nx = evidence.chip_shape
    axes.set_xlim(-0.5, nx - 0.5)
    axes.set_ylim(-0.5, ny - 0.5)
    axes.set_aspect("equal", anchor="NW")
    axes.set_xlabel("x, y of the chip (pixel)")
    axes.locator_params(nbins=5)
