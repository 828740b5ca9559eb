"""Maps over the stack, in its pixels: residuals, position term, limits, the shape of the PSF."""

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.image import AxesImage

from photometrus.evidence import Map
from photometrus.photometry_evidence import Calibration, Place, PsfEvidence
from photometrus.plots.maps import color_bar
from photometrus.plots.photometry.numbers import Array, column, finite, number
from photometrus.plots.style import (
    INK,
    NOTHING,
    VERMILLION,
    head,
    say_nothing_known,
)

CELLS = 8
"""Of the residuals along an axis, at most."""
LEAST_CELLS = 3
"""Likewise; with fewer, stars are drawn one by one."""
STARS_PER_CELL = 8
LEAST_MMAG = 5.0
"""At the end of the scale of residuals."""
MOST_LOST = 0.4
"""Magnitudes below the median limit that still have a colour of their own: edges reach deeper."""
DIFFERENCES, LEVELS = "PuOr_r", "cividis"
STICKS = 10
"""Of the ellipticity along an axis, about."""

Shape = tuple[int, int]


def draw_residual_map(axes: Axes, calibration: Calibration, shape: Shape) -> None:
    """Mean residuals of the used stars in cells of the stack; of few stars one by one."""
    title = "Residuals over the chip"
    stars = calibration.stars[np.asarray(calibration.stars["used"], bool)]
    x, y, residual = (column(stars, name) for name in ("x", "y", "residual"))
    known = np.isfinite(x + y + residual)
    if not known.any():
        say_nothing_known(axes, title, "no star is used")
        return
    x, y, mmag = x[known], y[known], 1e3 * residual[known]
    n = min(CELLS, int(np.sqrt(mmag.size / STARS_PER_CELL)))
    image: ScalarMappable
    if n < LEAST_CELLS:
        norm = _about_zero(mmag)
        image = axes.scatter(x, y, 30, mmag, cmap=DIFFERENCES, norm=norm, edgecolor=INK,
                             linewidth=0.4)  # fmt: skip
        rms, words = np.sqrt(np.mean(mmag**2)), "catalogue − stack, mmag, star by star"
        axes.set_aspect("equal")
    else:
        means, error = _cell_means(x, y, mmag, shape, n)
        ny, nx = shape
        image = axes.imshow(means, cmap=DIFFERENCES, norm=_about_zero(means, 3 * error),
                            extent=(-0.5, nx - 0.5, -0.5, ny - 0.5))  # fmt: skip
        axes.plot(x, y, ".", color=INK, markersize=1.2, alpha=0.5, markeredgewidth=0)
        rms = np.sqrt(np.nanmean(means**2))
        words = f"catalogue − stack, {n} × {n} means, each ± {error:.0f} mmag"
    color_bar(axes, image, extend="both")
    _pixels(axes, shape)
    head(axes, f"{title}: rms {rms:.0f} mmag", words)


def _about_zero(mmag: Array, least: float = LEAST_MMAG) -> Normalize:
    """A scale with zero in the middle for nearly all values."""
    limit = max(LEAST_MMAG, least, float(np.percentile(np.abs(finite(mmag)), 98)))
    return Normalize(-limit, limit)


def _cell_means(x: Array, y: Array, values: Array, shape: Shape, n: int) -> tuple[Array, float]:
    """Means in n x n cells, (n, n), NaN where no star is; the error of a typical one."""
    i, j = (
        np.clip((at + 0.5) * n / side, 0, n - 1).astype(int)
        for at, side in zip((x, y), shape[::-1], strict=True)
    )
    count = np.bincount(j * n + i, minlength=n * n).astype(float)
    count[count == 0] = np.nan
    means = np.bincount(j * n + i, values, n * n) / count
    error = float(np.std(values) / np.sqrt(np.nanmedian(count)))
    return means.reshape(n, n), error


def draw_position(axes: Axes, calibration: Calibration, shape: Shape) -> None:
    """What the position term adds to magnitudes."""
    if calibration.position is None or not finite(calibration.position.values).size:
        say_nothing_known(axes, "No position term", "one zero point holds over the chip:\n"
                          "the stars do not support more")  # fmt: skip
        return
    mmag = Map(1e3 * calibration.position.values, calibration.position.side_pix)
    limit = float(np.max(np.abs(finite(mmag.values)), initial=LEAST_MMAG))
    color_bar(axes, _draw(axes, mmag, shape, DIFFERENCES, Normalize(-limit, limit)))
    span = float(np.ptp(finite(mmag.values)))
    head(axes, f"Position term: {span:.0f} mmag", "end to end; added to magnitudes, mmag")


def draw_limits(axes: Axes, limits: Map, shape: Shape, median: float, target: Place | None) -> None:
    """The 5 sigma limit over the stack, and where the target is."""
    known = finite(limits.values)
    if not known.size:
        say_nothing_known(axes, "5σ limit", "not known")
        return
    low, high = _range(known, 0.05)
    low = max(low, float(np.median(known)) - MOST_LOST)
    image = _draw(axes, limits, shape, LEVELS, Normalize(low, high))
    color_bar(axes, image, extend="both")
    title, words = f"5σ limit {number(median, 2)} mag", "median over the chip"
    if target is not None:
        here = number(target.limit_5sigma, 2)
        words += f"; {here} at the target (ring)" if np.isfinite(target.limit_5sigma) else ""
        _mark(axes, target)
    head(axes, title, words)


def _mark(axes: Axes, target: Place) -> None:
    """A ring about the target, seen on light and dark."""
    axes.plot(
        target.x, target.y, "o", markersize=9, markerfacecolor="none", color=VERMILLION,
        markeredgewidth=1.3,
        path_effects=[patheffects.withStroke(linewidth=2.8, foreground="white")],
    )  # fmt: skip


def draw_fwhm(axes: Axes, psf: PsfEvidence, shape: Shape) -> None:
    """The width of the PSF."""
    known = finite(psf.fwhm_arcsec.values)
    if not known.size:
        say_nothing_known(axes, "FWHM", "not known")
        return
    image = _draw(axes, psf.fwhm_arcsec, shape, LEVELS, Normalize(*_range(known, 0.02)))
    color_bar(axes, image)
    words = f"of the PSF over the chip: {known.min():.2f} to {known.max():.2f}″"
    head(axes, f"FWHM {np.median(known):.2f}″", words)


def draw_ellipticity(axes: Axes, psf: PsfEvidence, shape: Shape) -> None:
    """The ellipticity of the PSF, and sticks along its long axis."""
    values = psf.ellipticity.values
    known = finite(values)
    if not known.size:
        say_nothing_known(axes, "Ellipticity", "not known")
        return
    highest = max(0.05, float(known.max()))
    image = _draw(axes, psf.ellipticity, shape, LEVELS, Normalize(0, highest))
    color_bar(axes, image)
    step = max(1, -(-max(values.shape) // STICKS))
    part = slice(step // 2, None, step)
    angle = np.radians(psf.angle_deg.values[part, part])
    length = values[part, part] / highest
    gy, gx = np.meshgrid(*(np.arange(n)[part] for n in values.shape), indexing="ij")
    side = psf.ellipticity.side_pix
    axes.quiver(
        (gx + 0.5) * side - 0.5, (gy + 0.5) * side - 0.5, length * np.cos(angle),
        length * np.sin(angle), angles="xy", scale_units="xy", scale=1 / (0.95 * step * side),
        pivot="middle", color="white", headwidth=0, headlength=0, headaxislength=0, width=0.008,
        path_effects=[patheffects.withStroke(linewidth=1.0, foreground=INK)],
    )  # fmt: skip
    words = f"at most {known.max():.3f}; sticks along the long axis"
    head(axes, f"Ellipticity {np.median(known):.3f}", words)


def _range(known: Array, least: float) -> tuple[float, float]:
    """Limits of a scale that hold 98 % of the values and are not nearer than `least`."""
    low, high = (float(v) for v in np.percentile(known, [1, 99]))
    short = max(0.0, least - (high - low)) / 2
    return low - short, high + short


def _draw(axes: Axes, mapped: Map, shape: Shape, cmap: str, norm: Normalize) -> AxesImage:
    """A map in the pixels of the stack."""
    gy, gx = mapped.values.shape
    side = mapped.side_pix
    image = axes.imshow(mapped.values, cmap=cmap, norm=norm,
                        extent=(-0.5, gx * side - 0.5, -0.5, gy * side - 0.5))  # fmt: skip
    _pixels(axes, shape)
    return image


def _pixels(axes: Axes, shape: Shape) -> None:
    """Axes in pixels of the stack."""
    ny, nx = shape
    axes.set_xlim(-0.5, nx - 0.5)
    axes.set_ylim(-0.5, ny - 0.5)
    axes.set_facecolor(NOTHING)
    axes.set_anchor("NW")
    axes.set_xlabel("x, y (pixel)")
    axes.locator_params(nbins=5)
