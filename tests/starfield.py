"""A small field of stars whose PSF varies: Moffat functions, integrated over pixels, noise."""

from dataclasses import dataclass

import numpy as np
from astropy.table import Table

from photometrus.simulate.kernels import add_profiles

BETA = 3.0
SKY = 2.5  # ADU per pixel, 1 sigma
GAIN = 60.0  # e/ADU


def fwhm_at(x, y, size):
    """From 3.3 to 3.9 pixels across the field."""
    return 3.3 + 0.6 * (0.6 * np.asarray(x) + 0.4 * np.asarray(y)) / size


def shape_at(x, y, size):
    """e1, e2: astigmatism that grows from the middle."""
    u, v = 2 * np.asarray(x) / size - 1, 2 * np.asarray(y) / size - 1
    return 0.05 * (u * u - v * v), 0.10 * u * v


def enclosed(radius, fwhm):
    """The fraction of a round Moffat function's light within a radius."""
    alpha = fwhm / (2 * np.sqrt(2 ** (1 / BETA) - 1))
    return 1 - (1 + (radius / alpha) ** 2) ** (1 - BETA)


def draw(image, x, y, flux, size, cut=0.005, wider=1.0):
    """Add stars to a float32 image, in place; `wider` : times the PSF's width."""
    x, y, flux = (
        np.array(a, float) for a in np.broadcast_arrays(*map(np.atleast_1d, (x, y, flux)))
    )
    alpha = wider * fwhm_at(x, y, size) / (2 * np.sqrt(2 ** (1 / BETA) - 1))
    e1, e2 = shape_at(x, y, size)
    forms = np.stack([1 - e1, -e2, 1 + e1], axis=1) / (alpha**2)[:, None]
    add_profiles(image, x, y, flux, forms, np.full(len(x), BETA), cut)


@dataclass(eq=False)
class Field:
    data: np.ndarray
    weight: np.ndarray
    flags: np.ndarray
    sources: Table
    flux: np.ndarray
    size: int


def field(seed, size=640, bright=120, faint=250, crowded=False):
    """Bright stars of S/N 100 and more on a lattice with jitter, faint ones anywhere."""
    rs = np.random.RandomState(seed)
    side = int(np.ceil(np.sqrt(bright)))
    step = size / side
    j, i = np.divmod(np.arange(bright), side)
    x = (i + 0.5) * step + rs.uniform(-0.3, 0.3, bright) * step
    y = (j + 0.5) * step + rs.uniform(-0.3, 0.3, bright) * step
    x = np.r_[x, rs.uniform(8, size - 9, faint)]
    y = np.r_[y, rs.uniform(8, size - 9, faint)]
    flux = np.r_[10 ** rs.uniform(3.5, 5.0, bright), 10 ** rs.uniform(2.0, 3.5, faint)]
    if not crowded:
        # Stars that touch another are for the test of crowding.
        apart = np.hypot(x[:, None] - x, y[:, None] - y) + 1e9 * np.eye(len(x))
        keep = (np.arange(len(x)) < bright) | (apart.min(axis=1) > 14)
        x, y, flux = x[keep], y[keep], flux[keep]
    image = np.zeros((size, size), np.float32)
    draw(image, x, y, flux, size)
    variance = SKY**2 + image / GAIN
    image += (np.sqrt(variance) * rs.standard_normal(image.shape)).astype(np.float32)
    # As well as a detection knows where they are: 0.4 FWHM / SNR.
    error = 0.4 * 3.6 * SKY * 6 / flux
    sources = Table(
        {
            "x": x + error * rs.standard_normal(len(x)),
            "y": y + error * rs.standard_normal(len(x)),
            "fwhm": fwhm_at(x, y, size) * 1.1,
            "flags": np.zeros(len(x), np.int32),
        }
    )
    weight = np.full(image.shape, 1 / SKY**2, np.float32)
    return Field(image, weight, np.zeros(image.shape, np.uint8), sources, flux, size)
