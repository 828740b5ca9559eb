"""Figures from arrays and tables; nothing imports it but the command line and the demo."""

from pathlib import Path

import numpy as np
from astropy.visualization import ZScaleInterval
from astropy.wcs import WCS
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from photometrus.frame import Image
from photometrus.wcs import pixel_to_sky, sky_to_pixel

MAX_PIXELS = 900
"""Of the picture, on its longer side; the image is binned down to it."""
BARS_ARCSEC = (5, 10, 30, 60, 120, 300, 600)
INK = "#0b3d91"


def preview(out: Path, data: Image, wcs: WCS, title: str) -> None:
    """A PNG of a stack: zscale, a bar of known length, where north and east are.

    data : float32 (ny, nx), exactly 0 or NaN where no frame saw the sky
    wcs : of the image; title : one line above it
    """
    binned, factor = _binned(data)
    good = binned[np.isfinite(binned)]
    low, high = ZScaleInterval(contrast=0.15).get_limits(good) if good.size else (0.0, 1.0)
    ny, nx = binned.shape
    figure = Figure(figsize=(7.0, 7.0 * ny / nx + 0.5), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(binned, origin="lower", cmap="gray_r", vmin=low, vmax=high, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(title, fontsize=10, loc="left")
    _bar(axes, wcs, (ny, nx), factor)
    _compass(axes, wcs, (ny, nx), factor)
    part = out.with_name(out.name + ".part")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(part, format="png")
    part.replace(out)


def _binned(data: Image) -> tuple[Image, int]:
    """The image in blocks of `factor` pixels on a side; NaN where it is empty."""
    factor = max(1, -(-max(data.shape) // MAX_PIXELS))
    ny, nx = (n // factor * factor for n in data.shape)
    blocks = data[:ny, :nx].reshape(ny // factor, factor, nx // factor, factor)
    seen = np.isfinite(blocks) & (blocks != 0)
    count = seen.sum(axis=(1, 3))
    total = np.where(seen, blocks, 0).sum(axis=(1, 3))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan), factor


def _bar(axes: Axes, wcs: WCS, shape: tuple[int, int], factor: int) -> None:
    """A bar about a fifth as long as the picture is wide."""
    arcsec_per_pixel = 3600 * float(np.sqrt(abs(np.linalg.det(wcs.pixel_scale_matrix)))) * factor
    ny, nx = shape
    fits = [length for length in BARS_ARCSEC if length / arcsec_per_pixel < 0.25 * nx]
    length = fits[-1] if fits else BARS_ARCSEC[0]
    x, y = 0.05 * nx, 0.05 * ny
    axes.plot([x, x + length / arcsec_per_pixel], [y, y], color=INK, linewidth=2.5)
    words = f"{length}″" if length < 60 else f"{length // 60}′"
    _label(axes, x, y + 0.015 * ny, words, ha="left", va="bottom")


def _compass(axes: Axes, wcs: WCS, shape: tuple[int, int], factor: int) -> None:
    """Arrows to north and east at the lower right."""
    ny, nx = shape
    x, y, length = 0.9 * nx, 0.08 * ny, 0.07 * min(nx, ny)
    ra, dec = (float(v) for v in pixel_to_sky(wcs, np.float64(x * factor), np.float64(y * factor)))
    step = 10.0 / 3600.0
    east = ra + step / max(np.cos(np.radians(dec)), 1e-3)
    for name, to in (("N", (ra, dec + step)), ("E", (east, dec))):
        px, py = (float(v) for v in sky_to_pixel(wcs, np.float64(to[0]), np.float64(to[1])))
        dx, dy = px / factor - x, py / factor - y
        norm = float(np.hypot(dx, dy)) or 1.0
        dx, dy = dx / norm * length, dy / norm * length
        axes.annotate(
            "",
            (x + dx, y + dy),
            (x, y),
            arrowprops={"arrowstyle": "->", "color": INK, "linewidth": 1.5},
        )
        _label(axes, x + 1.3 * dx, y + 1.3 * dy, name, ha="center", va="center")


def _label(axes: Axes, x: float, y: float, words: str, *, ha: str, va: str) -> None:
    axes.text(
        x, y, words, color=INK, fontsize=9, ha=ha, va=va,
        bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1.0},
    )  # fmt: skip
