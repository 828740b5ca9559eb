"""The light that falls on a chip during an exposure: sources, sky, satellites, the flat's lamp."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photometrus.instrument import FRAME_TIME_S, PIXEL_SCALE_ARCSEC
from photometrus.simulate.config import ZEROPOINT_ADU, SimulateConfig, stream
from photometrus.simulate.detector import node_grid
from photometrus.simulate.geometry import Optics, Pointing, sky_to_field
from photometrus.simulate.kernels import add_line, add_profiles
from photometrus.simulate.sequence import Air, Exposure, glow_shape
from photometrus.simulate.sky import Scene, gaussian_mixture

Array = NDArray[np.float64]
Image = NDArray[np.float32]

CUT_ADU = 0.004
"""Per frame and pixel; the noise of a stack of a hundred ramps is a hundred times more."""
AUREOLE_PART, AUREOLE_PIX, AUREOLE_BETA = 0.012, 12.0, 1.5
"""The wide wings of every star: dust and scatter on the mirror, falling as r**-3."""
FWHM_PER_R2 = 0.10
"""Growth of the image with field radius squared (degrees)."""
ASTIGMATISM = 0.05  # ellipticity at 0.84 degrees
FLAT_TILT = 0.004
"""A flat's lamp is not the sky: relative slope of its light per degree."""
TRAIL_STEPS = 6
GAUSSIAN_FWHM = 2.3548


@dataclass(frozen=True, eq=False)
class Psf:
    """Of each source: the shape matrix (n, 2, 2), unit determinant, and FWHM in pixels (n,)."""

    shape: Array
    fwhm_pix: Array
    beta: float

    @property
    def alpha_pix(self) -> NDArray[Any]:
        """The Moffat's scale radius."""
        return self.fwhm_pix / moffat_fwhm(self.beta)


def moffat_fwhm(beta: float) -> float:
    """FWHM of a Moffat of unit scale radius."""
    return 2.0 * float(np.sqrt(2.0 ** (1.0 / beta) - 1.0))


def psf_at(air: Air, xi: Array, eta: Array, to_pixels: Array) -> Psf:
    """The point-spread function at field positions (degrees)."""
    r2 = xi**2 + eta**2
    fwhm = air.fwhm_pix * (1 + FWHM_PER_R2 * r2 + air.tilt[0] * xi + air.tilt[1] * eta)
    # Astigmatism stretches along the radius; its direction is turned into the pixels'.
    u, v = to_pixels @ np.stack([xi, eta])
    radius2 = np.maximum(u * u + v * v, 1e-12)
    strength = ASTIGMATISM * r2 / 0.84**2
    e1 = air.ellipticity[0] + strength * (u * u - v * v) / radius2
    e2 = air.ellipticity[1] + strength * 2 * u * v / radius2
    norm = 1.0 / np.sqrt(1 - e1**2 - e2**2)
    shape = np.stack([np.stack([1 + e1, e2]), np.stack([e2, 1 - e1])]) * norm
    return Psf(np.moveaxis(shape, -1, 0), fwhm, air.beta)


def field_to_pixel_matrix(optics: Optics) -> Array:
    """2 x 2: pixels per arcsecond of the field, without distortion."""
    return np.asarray(np.linalg.inv(np.array(optics.chip.cd) * 3600.0), dtype=np.float64)


def draw_sources(
    image: Image, scene: Scene, optics: Optics, exposure: Exposure, config: SimulateConfig
) -> int:
    """Add the sources to the image (ADU per frame); gives the number of stars on the chip."""
    xi, eta = sky_to_field(scene.ra_deg, scene.dec_deg, exposure.true)
    x, y = optics.to_pixels(xi, eta)
    air = exposure.air
    zero = ZEROPOINT_ADU[config.band] - air.extinction_mag
    flux = 10 ** (0.4 * (zero - scene.mags[config.band]))
    matrix = field_to_pixel_matrix(optics)
    psf = psf_at(air, xi, eta, matrix)
    for dx, dy in trail(air):
        part = flux / len(trail(air))
        draw_stars(image, scene.kind != "G", x + dx, y + dy, part, psf)
        draw_galaxies(image, scene, x + dx, y + dy, part, psf, turned(matrix, exposure.true))
    size = config.size
    inside = (scene.kind != "G") & (x >= 0) & (y >= 0) & (x < size) & (y < size)
    return int(np.count_nonzero(inside))


def turned(matrix: Array, pointing: Pointing) -> Array:
    """The matrix from arcseconds East and North to pixels."""
    angle = np.radians(pointing.rotator_deg)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return matrix @ turn


def trail(air: Air) -> list[tuple[float, float]]:
    """Where the image stood during the exposure, relative to its mean, in pixels."""
    if air.trail_pix == 0:
        return [(0.0, 0.0)]
    along = np.linspace(-0.5, 0.5, TRAIL_STEPS) * air.trail_pix
    angle = np.radians(air.trail_deg)
    return [(float(a * np.cos(angle)), float(a * np.sin(angle))) for a in along]


def draw_stars(
    image: Image, select: NDArray[np.bool_], x: Array, y: Array, flux: Array, psf: Psf
) -> None:
    """Add point sources: the core, and the aureole that all of them have."""
    core = psf.shape[select] * (psf.alpha_pix[select] ** 2)[:, None, None]
    put(image, x[select], y[select], flux[select] * (1 - AUREOLE_PART), core, psf.beta)
    wide = np.tile(np.eye(2) * AUREOLE_PIX**2, (int(select.sum()), 1, 1))
    put(image, x[select], y[select], flux[select] * AUREOLE_PART, wide, AUREOLE_BETA)


def draw_galaxies(
    image: Image, scene: Scene, x: Array, y: Array, flux: Array, psf: Psf, to_pixels: Array
) -> None:
    """Add galaxies as sums of Gaussians, each blurred by the seeing.

    Where a Gaussian is not much wider than the seeing the sum of the squares of the FWHM keeps the
    seeing's Moffat; a wide one becomes a wider Gaussian.
    """
    for sersic in (1, 4):
        chosen = np.nonzero((scene.kind == "G") & (scene.sersic == sersic))[0]
        ratio, angle = scene.shape[chosen, 0], np.radians(scene.shape[chosen, 1])
        # Position angle is from North over East: the major axis is (sin, cos) in (East, North).
        major = np.stack([np.sin(angle), np.cos(angle)], axis=-1)
        minor = np.stack([np.cos(angle), -np.sin(angle)], axis=-1)
        disk = (
            major[:, :, None] * major[:, None, :] / ratio[:, None, None]
            + minor[:, :, None] * minor[:, None, :] * ratio[:, None, None]
        )
        disk = np.einsum("ij,njk,lk->nil", to_pixels, disk, to_pixels)
        sigma_psf = psf.fwhm_pix[chosen] / GAUSSIAN_FWHM
        for part, width in zip(*gaussian_mixture(sersic), strict=True):
            sigma = width * scene.radius_arcsec[chosen]
            own = disk * (sigma**2)[:, None, None]
            wide = sigma / PIXEL_SCALE_ARCSEC > 1.5 * sigma_psf
            gauss = own + psf.shape[chosen] * (sigma_psf**2)[:, None, None]
            moffat = gauss * (GAUSSIAN_FWHM / moffat_fwhm(psf.beta)) ** 2
            for group, matrix, beta in ((wide, gauss, 0.0), (~wide, moffat, psf.beta)):
                at = chosen[group]
                put(image, x[at], y[at], flux[at] * part, matrix[group], beta)


def put(image: Image, x: Array, y: Array, flux: Array, matrix: Array, beta: float) -> None:
    """Add profiles whose second-moment-like matrices are (n, 2, 2) to the image."""
    det = matrix[:, 0, 0] * matrix[:, 1, 1] - matrix[:, 0, 1] ** 2
    inverse = np.stack([matrix[:, 1, 1], -matrix[:, 0, 1], matrix[:, 0, 0]], axis=1) / det[:, None]
    good = np.isfinite(x) & np.isfinite(y)
    add_profiles(
        image,
        np.ascontiguousarray(x[good]),
        np.ascontiguousarray(y[good]),
        np.ascontiguousarray(flux[good]),
        np.ascontiguousarray(inverse[good]),
        np.full(int(good.sum()), beta),
        CUT_ADU,
    )


def draw_satellite(
    image: Image, chip: int, exposure: Exposure, config: SimulateConfig
) -> dict[str, float]:
    """Add the trail of a satellite through the middle half of the chip; gives its numbers."""
    draw = stream(config.seed, "satellite", chip, exposure.serial)
    x0, y0 = draw.uniform(0.3, 0.7, 2) * config.size
    angle = draw.uniform(0, np.pi)
    peak = 150.0 + draw.uniform(0, 250)
    sigma = exposure.air.fwhm_pix / GAUSSIAN_FWHM
    add_line(image, x0, y0, np.cos(angle), np.sin(angle), peak, sigma)
    return {
        "x0": float(x0),
        "y0": float(y0),
        "ang": float(np.degrees(angle)),
        "peak": float(peak),
        "sig": float(sigma),
    }


def sky_nodes(optics: Optics, exposure: Exposure, config: SimulateConfig) -> Array:
    """The sky on the node grid, ADU per frame and pixel: brightness times pixel area."""
    x, y = node_grid(config.size)
    xi, eta = optics.to_field(x, y)
    return exposure.level_adu * glow_shape(exposure.air, xi, eta) * optics.pixel_area(x, y)


def lamp_nodes(optics: Optics, exposure: Exposure, config: SimulateConfig) -> Array:
    """A flat's light on the node grid, ADU per frame: as the sky's, but of the lamp's own shape."""
    x, y = node_grid(config.size)
    xi, eta = optics.to_field(x, y)
    area = optics.pixel_area(x, y) / PIXEL_SCALE_ARCSEC**2
    return exposure.level_adu * area * (1 + FLAT_TILT * (xi - 0.5 * eta))


def seconds_between(first: Exposure, second: Exposure) -> float:
    """From the start of one ramp to that of the next; never less than a read."""
    return max((second.start - first.start).total_seconds(), FRAME_TIME_S)
