"""The PSF at places of the chip, and what it leaves of stars."""

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize

from photometrus.photometry_evidence import PsfEvidence, Stamp
from photometrus.plots.maps import color_bar
from photometrus.plots.photometry.numbers import Array
from photometrus.plots.style import NOTHING, head, say_nothing_known

GAP = 1
"""Between stamps, pixels."""
FAINTEST = 0.1
"""Per cent of the peak that is still seen."""
LEAST_RESIDUAL = 0.5
"""Per cent of the peak at the end of the scale of residuals."""


def draw_stamps(axes: Axes, psf: PsfEvidence) -> None:
    """The PSF where it is on the chip: rows and columns as on the sky's picture."""
    title = "PSF over the chip"
    if not psf.stamps:
        say_nothing_known(axes, title, "not known")
        return
    picture = _side_by_side(psf)
    axes.set_facecolor(NOTHING)
    image = axes.imshow(np.maximum(picture, FAINTEST), cmap="cividis", norm=LogNorm(FAINTEST, 100))
    color_bar(axes, image, extend="min", format="{x:g}")
    for x, y, fwhm in _widths(psf):
        axes.text(x, y, f"{fwhm:.2f}″", color="white", fontsize=5.5)
    axes.set_anchor("NW")
    axes.set_xticks([])
    axes.set_yticks([])
    head(axes, title, f"% of each peak; fitted to {psf.n_stars} stars")


def _places(psf: PsfEvidence) -> Iterator[tuple[int, int, Stamp]]:
    """(x, y) of the lower left corner of each stamp in a picture of all, and the stamp."""
    n = _stamps_per_row(psf)
    step = _side(psf) + GAP
    upwards = sorted(psf.stamps, key=lambda one: one.y)
    for row in range(n):
        for col, one in enumerate(sorted(upwards[row * n : (row + 1) * n], key=lambda s: s.x)):
            yield col * step, row * step, one


def _stamps_per_row(psf: PsfEvidence) -> int:
    return int(np.ceil(np.sqrt(len(psf.stamps))))


def _side(psf: PsfEvidence) -> int:
    return max(max(one.values.shape) for one in psf.stamps)


def _side_by_side(psf: PsfEvidence) -> Array:
    """Stamps in one picture, in per cent of their peaks, NaN between them."""
    picture = np.full((_stamps_per_row(psf) * (_side(psf) + GAP) - GAP,) * 2, np.nan)
    for x, y, one in _places(psf):
        ny, nx = one.values.shape
        picture[y : y + ny, x : x + nx] = 100 * one.values / np.nanmax(one.values)
    return picture


def _widths(psf: PsfEvidence) -> Iterator[tuple[float, float, float]]:
    """(x, y) in the picture and FWHM, arcsec, of each stamp, where it is known."""
    values, side = psf.fwhm_arcsec.values, psf.fwhm_arcsec.side_pix
    for x, y, one in _places(psf):
        j, i = (int(np.clip(at / side, 0, n - 1)) for at, n in
                zip((one.y, one.x), values.shape, strict=True))  # fmt: skip
        if np.isfinite(values[j, i]):
            yield x + 0.5, y + 0.5, float(values[j, i])


def draw_residual(axes: Axes, psf: PsfEvidence) -> None:
    """What is left of a typical star."""
    if psf.residual is None or not psf.stamps:
        say_nothing_known(axes, "PSF residual", "no star was subtracted")
        return
    peak = float(np.mean([np.nanmax(one.values) for one in psf.stamps]))
    percent = 100 * psf.residual / peak
    most = float(np.nanmax(np.abs(percent)))
    limit = max(LEAST_RESIDUAL, most)
    ny, nx = percent.shape
    extent = (-nx / 2, nx / 2, -ny / 2, ny / 2)
    image = axes.imshow(percent, cmap="PuOr_r", norm=Normalize(-limit, limit), extent=extent)
    color_bar(axes, image)
    axes.set_anchor("NW")
    axes.locator_params(nbins=5)
    axes.set_xlabel("x, y from the star (pixel)")
    title = f"PSF residual: at most {most:.1f} %"
    head(axes, title, "of the peak; median of star − model, %")
