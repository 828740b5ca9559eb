"""Maps beside a stack: how long each pixel was exposed, how faint a star it shows."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.ndimage import binary_dilation, convolve

from photometrus.frame import Flags, Image
from photometrus.stages.coadd import CoaddConfig, Grid, Layer, coadd
from photometrus.workers import Each

APERTURE_RADIUS_ARCSEC = 1.5
"""Of the aperture in which the light of a star is summed."""
LIMIT_SIGMA = 5.0
SUBPIXELS = 9
"""Per axis, for the part of an edge pixel that is in the aperture."""


def exposure_map(
    layers: Sequence[Layer],
    exposures_s: Sequence[float],
    grid: Grid,
    config: CoaddConfig = CoaddConfig(),
    *,
    each: Each = map,
) -> Image:
    """The exposure of each pixel of a stack: of the frames that have a good value there.

    layers : of the stack; exposures_s : s, of each
    returns float32 (ny, nx), s

    Weights add up; so these are the weights of a stack whose layers weigh as much as they were
    exposed. Values that the stack rejected as outliers are counted.
    """
    weighted = [
        _exposed(layer, seconds) for layer, seconds in zip(layers, exposures_s, strict=True)
    ]
    plain = replace(config, combine="clipped", pixel_area="flat")
    return coadd(weighted, grid, plain, each=each).weight


def _exposed(layer: Layer, exposure_s: float) -> Layer:
    """The layer with nothing on it, and its exposure as its weight."""

    def rows(y0: int, y1: int) -> tuple[Image, Flags, Image]:
        data, bad, _ = layer.rows(y0, y1)
        return np.zeros_like(data), bad, np.full(data.shape, exposure_s, np.float32)

    return replace(layer, rows=rows, flux_factor=1.0, inverse_variance=1.0)


def depth_map(data: Image, weight: Image, pixel_scale_arcsec: float) -> tuple[Image, float]:
    """The flux in an aperture of 1.5" radius, centred on each pixel, that is 5 times its error.

    data : float32 (ny, nx), ADU, the stack; weight : its inverse variance, 0 = no value; neither is
        changed
    returns float32 (ny, nx), ADU, NaN where the aperture holds a pixel without value; and the noise
        of empty apertures in units of what the weights say (NaN, and not applied, when all are NaN)

    The weights give the error from place to place, the stack itself how large it is: noise that
    pixels have in common (of the sky, of rows, of unseen stars) is not in the noise of one pixel.
    """
    aperture = _disc(APERTURE_RADIUS_ARCSEC / pixel_scale_arcsec)
    seen = weight > 0
    variance = np.divide(1.0, weight, out=np.zeros_like(weight), where=seen)
    error = np.sqrt(convolve(variance, aperture**2, mode="constant"))
    error[binary_dilation(~seen, aperture > 0, border_value=1)] = np.nan
    whole = np.isfinite(error)
    if not whole.any():
        return error, float("nan")
    pulls = convolve(data, aperture, mode="constant")[whole] / error[whole]
    # The lower half of their distribution: apertures with stars in them are in the upper one.
    low, middle = np.percentile(pulls, [15.87, 50])
    factor = float(middle - low)
    return np.float32(LIMIT_SIGMA * factor) * error, factor


def _disc(radius_pix: float) -> Image:
    """The part of each pixel that is in a circle about the middle one: float32 (n, n), n odd."""
    half = int(np.ceil(radius_pix - 0.5))
    n = 2 * half + 1
    x = (np.arange(n * SUBPIXELS) + 0.5) / SUBPIXELS - 0.5 * n
    inside = x[:, None] ** 2 + x**2 <= radius_pix**2
    cells = inside.reshape(n, SUBPIXELS, n, SUBPIXELS)
    return cells.mean(axis=(1, 3)).astype(np.float32)
