"""How faint a stack sees: recovered stars, errors and numbers with magnitude."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.ticker import LogLocator, NullFormatter

from photometrus.photometry_evidence import Depth, PhotometryEvidence
from photometrus.plots.photometry.numbers import Array, column, number, within
from photometrus.plots.style import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    VERMILLION,
    head,
    say_nothing_known,
)

MANY = 4000
"""Sources from which on they are counted in hexagons and not drawn one by one."""
STAR = 0.5
"""The stellarity from which on a source is called a star."""
BAD_FLAGS = 4 | 8 | 16
"""Saturated, cut by the edge, on bad pixels."""
BIN_MAG = 0.25
FEW = 30
"""Sources of a bin, at most, that need no logarithm."""
SIGMA_TO_MAG = 2.5 / np.log(10)


def draw_completeness(axes: Axes, depth: Depth) -> None:
    """The share of injected stars that are found again, and the limit that is quoted."""
    title = "Completeness"
    table = depth.completeness
    if table is None or not (column(table, "injected") > 0).any():
        say_nothing_known(axes, title, "no stars were injected")
        return
    table = table[column(table, "injected") > 0]
    table.sort("mag")
    mag = column(table, "mag")
    share, low, high = _shares(column(table, "recovered"), column(table, "injected"))
    axes.axhline(0.5, color=FAINT, linewidth=0.5)
    _limit_line(axes, depth, label=f"5σ limit {number(depth.limit_5sigma, 2)}")
    axes.plot(mag, share, color=BLUE, linewidth=0.6, alpha=0.6)
    axes.errorbar(mag, share, (share - low, high - share), fmt="o", color=BLUE, markersize=3,
                  elinewidth=0.8, label="recovered / injected")  # fmt: skip
    if np.isfinite(depth.limit50):
        error = depth.limit50_err if np.isfinite(depth.limit50_err) else 0.0
        axes.errorbar([depth.limit50], [0.5], xerr=[error], fmt="D", color=GREEN, markersize=4,
                      zorder=5, label=f"50 % at {number(depth.limit50, 2)}")  # fmt: skip
        title = f"Half are found at {within(depth.limit50, error, digits=2)} mag"
    axes.set_ylim(-0.04, 1.06)
    axes.legend(loc="lower left", borderpad=0.2, handlelength=1.3)
    axes.set_xlabel("magnitude of injected stars")
    axes.set_ylabel("share that is recovered")
    total = int(column(table, "injected").sum())
    at = np.interp(depth.limit_5sigma, mag, share) if np.isfinite(depth.limit_5sigma) else np.nan
    head(axes, title, f"{total} stars injected; {number(100 * at, 0)} % found at the 5σ limit")


def _shares(hits: Array, trials: Array) -> tuple[Array, Array, Array]:
    """Shares and their 68 % intervals (Wilson 1927, J. Am. Stat. Assoc. 22, 209)."""
    share = hits / trials
    middle = (hits + 0.5) / (trials + 1)
    half = np.sqrt(hits * (trials - hits) / trials + 0.25) / (trials + 1)
    return share, np.minimum(middle - half, share), np.maximum(middle + half, share)


def draw_errors(axes: Axes, evidence: PhotometryEvidence) -> None:
    """Errors of PSF magnitudes."""
    sources = evidence.sources
    mag, error = column(sources, "mag_psf"), column(sources, "mag_psf_err")
    known = np.isfinite(mag) & np.isfinite(error) & (error > 0)
    if not known.any():
        say_nothing_known(axes, "Errors with magnitude", "no source has a magnitude")
        return
    bad = (np.asarray(sources["flags"], int) & BAD_FLAGS) != 0
    clean = known & ~bad
    axes.set_yscale("log")
    if clean.sum() > MANY:
        axes.hexbin(mag[clean], error[clean], yscale="log", norm=LogNorm(vmin=0.2),
                    gridsize=(90, 30), cmap="Blues", mincnt=1, linewidths=0.1)  # fmt: skip
    else:
        axes.plot(mag[clean], error[clean], "o", color=BLUE, markersize=1.4, alpha=0.5,
                  markeredgewidth=0)  # fmt: skip
    flagged = known & bad
    axes.plot(mag[flagged], error[flagged], "x", color=ORANGE, markersize=2, alpha=0.6,
              markeredgewidth=0.5, zorder=0.5)  # fmt: skip
    axes.axhline(SIGMA_TO_MAG / 5, color=FAINT, linewidth=0.6)
    axes.annotate("5σ", (0.01, SIGMA_TO_MAG / 5), (0, 2), xycoords=("axes fraction", "data"),
                  textcoords="offset points", fontsize=5.5, color=FAINT)  # fmt: skip
    _limit_line(axes, evidence.depth)
    low, high = np.percentile(error[known], [0.2, 99.8])
    axes.set_ylim(min(0.6 * low, 0.02), max(1.8 * high, 0.4))
    _plain_decades(axes)
    axes.set_ylabel("error (mag)")
    words = (
        f"{int(clean.sum())} sources; crosses: {int(flagged.sum())} saturated, cut or on bad pixels"
    )
    head(axes, "Errors and numbers with magnitude", words)


def draw_counts(axes: Axes, evidence: PhotometryEvidence) -> None:
    """Numbers of sources, and of stars among them, in bins of magnitude."""
    mag = column(evidence.sources, "mag_psf")
    known = np.isfinite(mag)
    _limit_line(axes, evidence.depth)
    if known.any():
        star = known & (column(evidence.sources, "stellarity") >= STAR)
        low, high = (np.floor(f(mag[known]) / BIN_MAG) * BIN_MAG for f in (np.min, np.max))
        edges = list(np.arange(low, high + 1.5 * BIN_MAG, BIN_MAG))
        axes.hist(mag[star], edges, color=BLUE, alpha=0.35, linewidth=0, label="stars")
        axes.hist(mag[known], edges, histtype="step", color=INK, label="all sources")
        if axes.get_ylim()[1] > FEW:
            axes.set_yscale("log")
            axes.set_ylim(bottom=0.7)
            _plain_decades(axes)
        axes.legend(loc="upper left", borderpad=0.2, handlelength=1.3)
    name = f"{evidence.system} mag" if evidence.system else "instrumental mag"
    axes.set_xlabel(f"{evidence.band} ({name})")
    axes.set_ylabel(f"per {BIN_MAG} mag")


def _plain_decades(axes: Axes) -> None:
    """Numbers at the decades of a logarithmic axis, not powers."""
    axes.yaxis.set_major_locator(LogLocator(10, numticks=6))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _limit_line(axes: Axes, depth: Depth, label: str | None = None) -> None:
    if np.isfinite(depth.limit_5sigma):
        axes.axvline(depth.limit_5sigma, color=VERMILLION, linestyle=(0, (4, 2)), linewidth=0.9,
                     label=label)  # fmt: skip
