"""A small sky of known truth: stars, frames, headers, catalogues.

It shares no code with the pipeline but the chip's WCS template, which test_wcs.py checks against
the published table. Every function that draws numbers takes a RandomState: the same seed gives the
same bits for ever.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from astropy.io import fits
from astropy.table import Table
from scipy.special import erf

from photometrus.frame import ArrayPixels
from photometrus.wcs import pixel_to_sky, pointing_wcs, shifted, sky_to_pixel

AXIS = (150.0, -20.0)
SIGMA_OF_FWHM = 1 / np.sqrt(8 * np.log(2))


@contextmanager
def untouched(*arrays) -> Iterator[None]:
    """Fails when the block changes one of the arrays, byte for byte (NaN included)."""
    before = [np.asarray(array).tobytes() for array in arrays]
    yield
    for k, (array, old) in enumerate(zip(arrays, before, strict=True)):
        assert np.asarray(array).tobytes() == old, f"input {k} was changed"


def read_only(array):
    """The same numbers in an array that refuses to be written."""
    out = np.array(array)
    out.flags.writeable = False
    return out


def add_star(image, x: float, y: float, flux: float, fwhm: float) -> None:
    """Add a round Gaussian star, integrated over each pixel, in place; x, y 0-based centres."""
    sigma = fwhm * SIGMA_OF_FWHM
    reach = int(np.ceil(6 * sigma)) + 1
    ny, nx = image.shape
    x0, x1 = max(0, round(x) - reach), min(nx, round(x) + reach + 1)
    y0, y1 = max(0, round(y) - reach), min(ny, round(y) + reach + 1)
    if x0 >= x1 or y0 >= y1:
        return
    root = np.sqrt(2) * sigma
    in_x = 0.5 * np.diff(erf((np.arange(x0, x1 + 1) - 0.5 - x) / root))
    in_y = 0.5 * np.diff(erf((np.arange(y0, y1 + 1) - 0.5 - y) / root))
    image[y0:y1, x0:x1] += flux * in_y[:, None] * in_x[None, :]


def star_image(shape, x, y, flux, fwhm: float):
    """float64 image of Gaussian stars on nothing."""
    image = np.zeros(shape)
    for one in zip(x, y, np.broadcast_to(flux, np.shape(x)), strict=True):
        add_star(image, *one, fwhm)
    return image


def lattice(shape, spacing: float, margin: float, rs: np.random.RandomState):
    """Places about `spacing` apart, never closer than 0.6 of it: x, y (0-based)."""
    ny, nx = shape
    x, y = np.meshgrid(
        np.arange(margin, nx - margin, spacing), np.arange(margin, ny - margin, spacing)
    )
    jitter = rs.uniform(-0.2, 0.2, (2, x.size)) * spacing
    return x.ravel() + jitter[0], y.ravel() + jitter[1]


def pixels(data, bad=None) -> ArrayPixels:
    """In-memory pixels of a frame."""
    data = np.ascontiguousarray(data, np.float32)
    return ArrayPixels(data, np.zeros(data.shape, np.uint8) if bad is None else bad)


def mask_of(hide):
    """A mask from an image of what is hidden: a function of rows y0, y1."""
    hide = hide.astype(np.uint8)
    return lambda y0, y1: hide[y0:y1]


def noisy(image, sigma: float, rs: np.random.RandomState):
    """float32 image with Gaussian noise."""
    return (image + rs.normal(0, sigma, image.shape)).astype(np.float32)


def sources(x, y, flux=1000.0, x_err: float = 0.02, flags=0) -> Table:
    """A catalogue of one frame as the pipeline's own detection writes it, brightest first."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    flux = np.broadcast_to(np.asarray(flux, float), x.shape).copy()
    table = Table(
        {
            "x": x,
            "y": y,
            "x_err": np.full(x.shape, x_err),
            "flux": flux,
            "flux_err": 0.01 * flux,
            "fwhm_pix": np.full(x.shape, 3.0),
            "ellipticity": np.zeros(x.shape),
            "angle_deg": np.zeros(x.shape),
            "snr": np.full(x.shape, 100.0),
            "flags": np.broadcast_to(np.asarray(flags, np.int16), x.shape).copy(),
        }
    )
    return table[np.argsort(-flux, kind="stable")]


def reference(ra, dec, mag, scatter_arcsec: float, rs, claimed_arcsec=None) -> Table:
    """A reference catalogue of stars, scattered by Gaussian errors per axis."""
    n = np.size(ra)
    east, north = rs.normal(0, 1, (2, n)) * scatter_arcsec / 3600
    claimed = scatter_arcsec if claimed_arcsec is None else claimed_arcsec
    return Table(
        {
            "ra_deg": (np.asarray(ra) + east / np.cos(np.radians(dec))) % 360,
            "dec_deg": np.asarray(dec) + north,
            "mag": np.asarray(mag, float),
            "pos_err_arcsec": np.full(n, claimed),
        }
    )


def field(n: int, rs, chip=1, axis=AXIS, rotator=48.0, spread_pix=400.0):
    """Stars over a chip and around it: ra, dec (degrees), mag (steep counts, 10..17)."""
    low, high = -spread_pix, 4088 + spread_pix
    x, y = rs.uniform(low, high, (2, n))
    ra, dec = pixel_to_sky(pointing_wcs(chip, axis, rotator), x, y)
    return ra, dec, 17 - rs.exponential(1.5, n).clip(0, 7)


def seen(wcs, ra, dec, mag, error_pix: float, rs, shape=(4088, 4088)) -> tuple[Table, np.ndarray]:
    """What a frame with that WCS detects: its catalogue, and which star each row is."""
    x, y = sky_to_pixel(wcs, ra, dec)
    ny, nx = shape
    inside = np.flatnonzero((x > 8) & (x < nx - 9) & (y > 8) & (y < ny - 9))
    order = inside[np.argsort(mag[inside], kind="stable")]
    dx, dy = rs.normal(0, 1, (2, order.size)) * error_pix
    flux = 10 ** (-0.4 * (mag[order] - 20))
    return sources(x[order] + dx, y[order] + dy, flux, max(error_pix, 1e-3)), order


def dithers(base, n: int, radius_arcsec: float, rs):
    """WCSs of a dither pattern around a WCS, the first one in the middle."""
    offsets = rs.uniform(-radius_arcsec, radius_arcsec, (n, 2))
    offsets[0] = 0
    return [shifted(base, *offset) for offset in offsets]


def ramp_header(**changes) -> fits.Header:
    """The header of a J-band ramp of chip 1 as the camera writes it; None deletes a keyword."""
    cards = {
        "CHIP": 1, "NFRAMES": 22, "FRTIME": 2.863, "EXPTIMEE": 60.123, "FILTER1": "Open",
        "FILTER2": "J", "RA": "10:00:00.00", "DEC": "-20:00:00.0", "RA-D": 150.0, "DEC-D": -20.0,
        "ROTOFF": 172800.0, "MJD-BEG": 60467.9, "MJD-END": 60467.9 + 22 * 2.863 / 86400,
        "DATE-BEG": "2024-06-06T21:36:00.000000", "DITHRAD": 20.0, "DITHTYP": "Random",
        "OBJNAME": "field1111", "OBSERVER": "somebody", "TELESCOP": "PRIME", "AIRMASS": 1.1,
        "LATITUDE": -32.3783, "BLOCKID": 7,
    }  # fmt: skip
    cards.update(changes)
    header = fits.Header()
    for key, value in cards.items():
        if value is not None:
            header[key] = value
    return header
