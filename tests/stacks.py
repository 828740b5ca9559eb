"""Stacks of known truth: Moffat stars, noise that interpolation has correlated, a weight map."""

import math
from dataclasses import replace

import numpy as np
from scipy import ndimage

from photometrus.frame import Stack, StackInfo
from photometrus.wcs import pointing_wcs

GAIN = 65.0
SIGMA = 2.7
FWHM = 3.8
BETA = 3.0


def info(**changes) -> StackInfo:
    nan = math.nan
    plain = StackInfo(
        "coadd", "", "J", 1, nan, nan, nan, 60.0, 9, GAIN, nan, nan,
    )  # fmt: skip
    return replace(plain, **changes)


def moffat(x: float, y: float, half: int, fwhm: float = FWHM) -> np.ndarray:
    """A Moffat star of total flux 1 about the pixel nearest to x, y; pixels integrated 3 x 3."""
    alpha = fwhm / 2 / math.sqrt(2 ** (1 / BETA) - 1)
    at = (np.arange(3 * (2 * half + 1)) + 0.5) / 3 - half - 0.5
    r2 = (at[None, :] - (x - round(x))) ** 2 + (at[:, None] - (y - round(y))) ** 2
    image = (BETA - 1) / math.pi / alpha**2 * (1 + r2 / alpha**2) ** -BETA
    side = 2 * half + 1
    return image.reshape(side, 3, side, 3).mean(axis=(1, 3))


def sky_noise(shape, rs: np.random.RandomState, frames: int = 4) -> np.ndarray:
    """Noise of a stack of frames, each moved by a part of a pixel with Lanczos-3: sums scatter
    like SIGMA per pixel, single pixels by less."""

    def taps(part: float) -> np.ndarray:
        at = np.arange(-2, 4) - part
        values = np.sinc(at) * np.sinc(at / 3)
        return values / values.sum()

    total = np.zeros(shape)
    for _ in range(frames):
        one = rs.normal(0, SIGMA * math.sqrt(frames), shape)
        for axis in (0, 1):
            one = ndimage.correlate1d(one, taps(rs.uniform()), axis=axis, mode="wrap")
        total += one / frames
    return total


def star_stack(shape, x, y, flux, rs: np.random.RandomState, fwhm=FWHM) -> Stack:
    """A stack of stars with photon noise and correlated sky noise; fwhm: a number or one each."""
    image = np.zeros(shape)
    for px, py, f, w in zip(x, y, flux, np.broadcast_to(fwhm, np.shape(x)), strict=True):
        half = 40 if f > 3000 else 20
        j, i = round(py), round(px)
        y0, y1, x0, x1 = max(0, j - half), j + half + 1, max(0, i - half), i + half + 1
        stamp = f * moffat(px, py, half, w)[y0 - j + half :, x0 - i + half :]
        part = image[y0:y1, x0:x1]
        part += stamp[: part.shape[0], : part.shape[1]]
    image += rs.normal(0, 1, shape) * np.sqrt(image / GAIN) + sky_noise(shape, rs)
    weight = np.full(shape, 1 / SIGMA**2, np.float32)
    wcs = pointing_wcs(1, (150.0, -20.0), 48.0)
    return Stack(image.astype(np.float32), weight, np.zeros(shape, np.uint8), wcs, info())


def lattice(shape, spacing: float, rs: np.random.RandomState):
    """Places about `spacing` apart, some way from the border."""
    ny, nx = shape
    gx, gy = np.meshgrid(
        np.arange(0.6 * spacing, nx - 0.5 * spacing, spacing),
        np.arange(0.6 * spacing, ny - 0.5 * spacing, spacing),
    )
    jitter = rs.uniform(-0.2, 0.2, (2, gx.size)) * spacing
    return gx.ravel() + jitter[0], gy.ravel() + jitter[1]
