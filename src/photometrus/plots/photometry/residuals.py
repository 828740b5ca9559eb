"""Magnitudes of the stack against the catalogue's: star by star, with magnitude and colour."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from photometrus.photometry_evidence import Calibration, Line
from photometrus.plots.photometry.numbers import Array, column, finite, number, signed, within
from photometrus.plots.photometry.stars import draw_stars
from photometrus.plots.style import BLUE, FAINT, INK, VERMILLION, head, say_nothing_known

LEAST_HALF_HEIGHT = 0.05
"""Of a panel of residuals, mag."""
HALF_HEIGHT = 6.0
"""The same in units of the scatter: what is outside lies on the edge."""
STARS_PER_MEDIAN = 8
MOST_MEDIANS = 12
MOST_BARS = 400
"""Stars whose own errors are drawn."""
HEADROOM = 1.3
"""Height of the histogram in units of what it needs: the legend is above."""
SLOPE_SIGMAS = 3.0
"""From here on a slope is called one."""


def draw_comparison(axes: Axes, calibration: Calibration, band: str) -> None:
    """Calibrated magnitudes against the catalogue's, with the line on which they are equal."""
    stars = calibration.stars
    mag = column(stars, "mag")
    calibrated = mag - column(stars, "residual")
    ends = _ends(mag)
    draw_stars(axes, stars, mag, calibrated, ends)
    axes.plot(ends, ends, color=INK, linewidth=0.7, zorder=1)
    axes.set_xlim(ends)
    axes.set_xlabel(f"{band}, {calibration.survey} (mag)")
    axes.set_ylabel(f"{band}, stack (mag)")
    used = np.asarray(stars["used"], bool)
    words = f"{calibration.n_stars} stars used"
    if np.isfinite(mag[used]).any():
        bright, faint = np.nanmin(mag[used]), np.nanmax(mag[used])
        words += f", {band} {bright:.1f} to {faint:.1f}"
    title = f"Stack against {calibration.survey}"
    if np.isfinite(calibration.scatter):
        title += f": scatter {number(calibration.scatter, 3)} mag"
    head(axes, title, f"{words}; line: equal magnitudes")


def draw_trend(axes: Axes, calibration: Calibration, band: str) -> None:
    """Residuals with magnitude: stars, medians in bins, the straight line."""
    stars = calibration.stars
    mag, residual = column(stars, "expected"), column(stars, "residual")
    used = np.asarray(stars["used"], bool)
    _errors(axes, mag[used], residual[used], column(stars, "mag_err")[used])
    draw_stars(axes, stars, mag, residual, _limits(calibration, residual[used]))
    _medians(axes, mag[used], residual[used])
    axes.set_xlim(_ends(mag))
    _zero(axes)
    axes.set_xlabel(f"{band}, mean of stack and catalogue by their errors (mag)")
    axes.set_ylabel("catalogue − stack (mag)")
    line = calibration.trend
    if line is None:
        head(axes, "Residuals with magnitude", "too few stars for a slope")
        return
    _line(axes, line, mag[used])
    sigmas = abs(line.slope) / line.slope_err if line.slope_err > 0 else np.nan
    if sigmas > SLOPE_SIGMAS:
        mmag = signed(1e3 * line.slope, 1)
        title = f"Slope with magnitude: {mmag} mmag per mag ({sigmas:.1f}σ)"
    else:
        title = "No slope with magnitude" + (f" ({sigmas:.1f}σ)" if np.isfinite(sigmas) else "")
    slope = within(line.slope, line.slope_err, digits=4, sign=True)
    intercept = within(line.intercept, line.intercept_err, digits=4, sign=True)
    head(axes, title, f"slope {slope} per mag; {intercept} at {band} = {line.pivot:.1f}")


def draw_color(axes: Axes, calibration: Calibration) -> None:
    """What the zero point leaves without the colour term, with colour; the term as a line."""
    stars = calibration.stars
    color = column(stars, "color")
    line = calibration.color_term
    if not np.isfinite(color).any():
        say_nothing_known(axes, "No colour term", "the stars' colours are not known")
        return
    needed = column(stars, "residual")
    if line is not None:
        needed = needed + line.slope * (color - line.pivot)
    used = np.asarray(stars["used"], bool)
    draw_stars(axes, stars, color, needed, _limits(calibration, needed[used]))
    _medians(axes, color[used], needed[used])
    axes.set_xlim(_ends(color))
    _zero(axes)
    axes.set_xlabel(f"{calibration.color} (mag)")
    axes.set_ylabel("catalogue − stack (mag)")
    if line is None:
        head(axes, "No colour term", "the stars do not support one")
        return
    _line(axes, line, color[used])
    slope = within(line.slope, line.slope_err, digits=3, sign=True)
    title = f"Colour term {slope}"
    head(
        axes,
        title,
        f"per mag of {calibration.color}; 0 at {number(line.pivot, 2)}; all else applied",
    )


def draw_zero_point(axes: Axes, calibration: Calibration) -> None:
    """The zero point of each used star, and a Gaussian as wide as their scatter is said to be."""
    used = np.asarray(calibration.stars["used"], bool)
    values = calibration.zero_point + finite(column(calibration.stars, "residual")[used])
    middle, width = calibration.zero_point, calibration.scatter
    errors = finite(np.array([calibration.err_stat, calibration.err_sys]))
    total = float(np.sqrt(np.sum(errors**2)))
    half = max(finite(np.array([4.5 * width, 1.5 * total, LEAST_HALF_HEIGHT])))
    edges = np.linspace(middle - half, middle + half, int(np.clip(2 * values.size**0.5, 9, 41)) + 1)
    axes.hist(values, list(edges), color=BLUE, alpha=0.3, linewidth=0)
    axes.hist(values, list(edges), histtype="step", color=BLUE)
    top = float(max(1, np.histogram(values, edges)[0].max()))
    if width > 0:
        x = np.linspace(edges[0], edges[-1], 201)
        bell = np.exp(-0.5 * ((x - middle) / width) ** 2) / (width * np.sqrt(2 * np.pi))
        bell *= values.size * (edges[1] - edges[0])
        axes.plot(x, bell, color=INK, label=f"Gaussian, σ {number(width, 3)}")
        top = max(top, float(bell.max()))
    high = 1 / HEADROOM
    axes.axvspan(middle - total, middle + total, 0, high, color=VERMILLION, alpha=0.15,
                 linewidth=0, label="zero point ± error")  # fmt: skip
    axes.axvline(middle, 0, high, color=VERMILLION)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, HEADROOM * top)
    axes.legend(loc="upper left", ncols=2, columnspacing=1.0, handlelength=1.3, borderpad=0.1)
    axes.set_xlabel("zero point of a star (mag)")
    axes.set_ylabel("stars")
    axes.ticklabel_format(useOffset=False)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    value = within(middle, calibration.err_stat, calibration.err_sys, digits=3)
    words = f"± statistical ± systematic; bars: {values.size} stars, one by one"
    head(axes, f"Zero point {value}", words)


def _ends(values: Array) -> tuple[float, float]:
    """The range of an axis that holds all values."""
    known = finite(values)
    if not known.size:
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    margin = max(0.04 * (high - low), 0.1)
    return low - margin, high + margin


def _limits(calibration: Calibration, used: Array) -> tuple[float, float]:
    """Of an axis of residuals that holds those of the used stars."""
    half = float(np.max(1.1 * np.abs(finite(used)), initial=LEAST_HALF_HEIGHT))
    if np.isfinite(calibration.scatter):
        half = max(half, HALF_HEIGHT * calibration.scatter)
    return -half, half


def _zero(axes: Axes) -> None:
    axes.axhline(0, color=FAINT, linewidth=0.5, zorder=0)


def _errors(axes: Axes, x: Array, y: Array, errors: Array) -> None:
    """Pale bars of the catalogue's errors where there are few stars."""
    if x.size <= MOST_BARS:
        axes.errorbar(x, y, np.nan_to_num(errors), fmt="none", ecolor=BLUE, elinewidth=0.4,
                      alpha=0.35, zorder=1)  # fmt: skip


def _line(axes: Axes, line: Line, x: Array) -> None:
    """A fitted line with its 1 sigma band over the values."""
    known = finite(x)
    if not known.size:
        return
    at = np.linspace(known.min(), known.max(), 60)
    y = line.intercept + line.slope * (at - line.pivot)
    error = np.hypot(line.intercept_err, line.slope_err * (at - line.pivot))
    axes.fill_between(at, y - error, y + error, color=VERMILLION, alpha=0.25, linewidth=0, zorder=4)
    axes.plot(at, y, color=VERMILLION, zorder=5)


def _medians(axes: Axes, x: Array, y: Array) -> None:
    """Medians of bins with equally many stars, with their errors."""
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    bins = min(x.size // STARS_PER_MEDIAN, MOST_MEDIANS)
    if bins < 2:
        return
    parts = np.array_split(np.argsort(x, kind="stable"), bins)
    at = [np.median(x[part]) for part in parts]
    middle = np.array([np.median(y[part]) for part in parts])
    # A median's error is sqrt(pi / 2) of a mean's; the scatter from the MAD.
    mad = [np.median(np.abs(y[part] - np.median(y[part]))) for part in parts]
    errors = np.sqrt(np.pi / 2) * 1.4826 * np.array(mad) / np.sqrt([part.size for part in parts])
    axes.errorbar(at, middle, errors, fmt="s", color=INK, markersize=3, elinewidth=0.9, zorder=6,
                  markerfacecolor="white", markeredgewidth=0.9)  # fmt: skip
