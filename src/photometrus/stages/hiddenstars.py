"""Stars that only show when the others are taken away: blends, and the wings of bright ones."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from photometrus.frame import Image
from photometrus.kernels.detect import peaks, smooth
from photometrus.pointspread import Psf
from photometrus.sourcetable import SourceFlag, flagged

Array = NDArray[Any]
GAUSSIAN_FWHM = 2.3548
"""Flag of a source."""
MOST = 200_000
"""No more peaks than this are looked at."""


@dataclass(frozen=True)
class HiddenConfig:
    """What may be tuned in the search for hidden stars."""

    snr: float = 5.0
    apart_fwhm: float = 0.75  # a residual nearer to a known source belongs to it
    part: float = 0.1  # of a model's light: so much of it the PSF's errors may leave
    least_chi2: float = 3.0  # of a star in a sparse field, beside which others are believed
    beside_fwhm: float = 4.0  # from it


def find_hidden(
    data: Image,
    left: Image,
    weight: Image,
    sources: Table,
    psf: Psf,
    config: HiddenConfig = HiddenConfig(),
) -> Table:
    """Sources that show when all others are taken away: x, y, snr, fwhm (pix) and flags (0).

    data, left : float32 (ny, nx), an image with and without its stars (`subtract_stars`)
    weight : float32, inverse variance, 0 = bad; sources : x, y of what is known
    A peak of the filtered residual image counts when it stands out of the noise, which is
    measured, and of what the PSF's error leaves of bright stars; not close to a known source. Put
    below the known ones, all are to be measured again.
    """
    root = np.sqrt(weight)
    model = (data - left) * root
    taps = np.exp(-0.5 * (np.arange(-4, 5) * GAUSSIAN_FWHM / psf.fwhm_pix) ** 2)
    taps = (taps / np.sqrt(np.sum(taps**2))).astype(np.float32)
    filtered = np.empty_like(left)
    smooth(left * root, taps, filtered)
    known = filtered[::5, ::5][weight[::5, ::5] > 0]
    middle = np.median(known) if known.size else 0.0
    noise = 1.4826 * np.median(np.abs(known - middle)) if known.size else 1.0
    bright = np.empty_like(left)
    smooth(model, taps, bright)
    filtered -= np.float32(middle)
    filtered -= np.float32(config.part) * np.maximum(bright, 0)
    filtered[weight <= 0] = 0
    ys, xs = np.zeros(MOST, np.int32), np.zeros(MOST, np.int32)
    n = peaks(filtered, config.snr * max(noise, 1e-6), 3, ys, xs)
    x, y = (
        a[:n].astype(float) + offset(filtered, ys[:n], xs[:n], b) for a, b in ((xs, 1), (ys, 0))
    )
    if len(sources) and n:
        tree = cKDTree(np.stack([sources["x"], sources["y"]], axis=1))
        far = tree.query(np.stack([x, y], axis=1))[0] > config.apart_fwhm * psf.fwhm_pix
        x, y = x[far], y[far]
    height = filtered[np.floor(y + 0.5).astype(int), np.floor(x + 0.5).astype(int)] / noise
    flags = np.zeros(len(x), np.int32)
    return Table({"x": x, "y": y, "snr": height, "fwhm": flags + psf.fwhm_pix, "flags": flags})


def beside_stars(
    hidden: Table, sources: Table, psf: Psf, config: HiddenConfig = HiddenConfig()
) -> Table:
    """Those hidden sources that explain why the star next to them is no good fit.

    sources : x, y, flags, psf_chi2, stellarity of what is known
    In a sparse field most of what is left when the stars are taken away is of galaxies, of which
    it would make stars.
    """
    if not len(hidden):
        return hidden
    tree = cKDTree(np.stack([sources["x"], sources["y"]], axis=1))
    distance, row = tree.query(np.stack([hidden["x"], hidden["y"]], axis=1))
    star = np.asarray(sources["stellarity"], float)[row] > 0.5
    star &= ~flagged(sources, SourceFlag.SATURATED)[row]
    bad = np.asarray(sources["psf_chi2"], float)[row] > config.least_chi2
    return hidden[star & bad & (distance < config.beside_fwhm * psf.fwhm_pix)]


def offset(image: Image, ys: Array, xs: Array, axis: int) -> Array:
    """Where between the pixels a peak is: the top of the parabola through three, +-0.5."""
    b, a = (0, 1) if axis == 1 else (1, 0)
    before, here, after = (image[ys + k * b, xs + k * a] for k in (-1, 0, 1))
    curve = np.minimum(before - 2 * here + after, -1e-12)
    result: Array = np.clip(0.5 * (before - after) / curve, -0.499, 0.499)
    return result
