"""A stack as a picture: grey, a bar of known length, where north and east are."""

import numpy as np
from astropy.visualization import ZScaleInterval
from astropy.wcs import WCS
from matplotlib import colormaps
from matplotlib.axes import Axes

from photometrus.evidence import Map
from photometrus.plots.style import INK
from photometrus.wcs import pixel_to_sky, sky_to_pixel

GREYS = 24
"""Of the picture: more are not seen, and noise in 256 greys makes the file twice as large."""
BARS_ARCSEC = (5, 10, 30, 60, 120, 300, 600)


def draw_stack(axes: Axes, stack: Map, wcs: WCS) -> None:
    """The stack, dark on white, without ticks.

    wcs : of the stack's own pixels
    """
    values = stack.values
    good = values[np.isfinite(values)]
    low, high = ZScaleInterval(contrast=0.15).get_limits(good) if good.size else (0.0, 1.0)
    greys = colormaps["gray_r"].resampled(GREYS)
    axes.imshow(values, cmap=greys, vmin=low, vmax=high)
    axes.set_axis_off()
    _bar(axes, stack, wcs)
    _compass(axes, stack, wcs)


def _bar(axes: Axes, stack: Map, wcs: WCS) -> None:
    """A bar about a fifth as long as the picture is wide."""
    scale = 3600 * float(np.sqrt(abs(np.linalg.det(wcs.pixel_scale_matrix))))
    arcsec_per_block = scale * stack.side_pix
    ny, nx = stack.values.shape
    fits = [length for length in BARS_ARCSEC if length / arcsec_per_block < 0.25 * nx]
    length = fits[-1] if fits else BARS_ARCSEC[0]
    x, y = 0.05 * nx, 0.05 * ny
    axes.plot(
        [x, x + length / arcsec_per_block], [y, y], color=INK, linewidth=2.0, solid_capstyle="butt"
    )
    words = f"{length}″" if length < 60 else f"{length // 60}′"
    _label(axes, x, y + 0.015 * ny, words, ha="left", va="bottom")


def _compass(axes: Axes, stack: Map, wcs: WCS) -> None:
    """Arrows to north and east at the lower right."""
    ny, nx = stack.values.shape
    side = stack.side_pix
    x, y, length = 0.92 * nx, 0.06 * ny, 0.07 * min(nx, ny)
    ra, dec = (float(v) for v in pixel_to_sky(wcs, np.float64(x * side), np.float64(y * side)))
    step = 10.0 / 3600.0
    east = ra + step / max(np.cos(np.radians(dec)), 1e-3)
    for name, to in (("N", (ra, dec + step)), ("E", (east, dec))):
        px, py = (float(v) for v in sky_to_pixel(wcs, np.float64(to[0]), np.float64(to[1])))
        dx, dy = px / side - x, py / side - y
        norm = float(np.hypot(dx, dy)) or 1.0
        dx, dy = dx / norm * length, dy / norm * length
        axes.annotate(
            "",
            (x + dx, y + dy),
            (x, y),
            arrowprops={"arrowstyle": "->", "color": INK, "linewidth": 1.0, "shrinkA": 0},
        )
        _label(axes, x + 1.25 * dx, y + 1.25 * dy, name, ha="center", va="center")


def _label(axes: Axes, x: float, y: float, words: str, *, ha: str, va: str) -> None:
    axes.text(
        x, y, words, ha=ha, va=va,
        bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1.0},
    )  # fmt: skip
