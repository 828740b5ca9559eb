"""The focal plane: from a detector's pixels to the sky and back, exact at any declination.

Three planes follow each other. PIXELS: 0-based, of the whole 4096 x 4096 detector, y is the row.
FIELD: gnomonic coordinates (xi, eta) in degrees about the telescope axis as the observatory's WCS
template has them, i.e. East and North for a rotator at 0. SKY: right ascension and declination in
degrees; the field is turned by the rotator (position angles grow) and laid onto the pointing by
rotations of unit vectors, never by adding to coordinates.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from photometrus.instrument import (
    BORDER_PIXELS,
    CHIP_CRPIX,
    CHIP_SIP_ORDER,
    CHIPS,
    CHIPS_FIELD_RADIUS_DEG,
    PIXEL_SCALE_ARCSEC,
    Chip,
)
from photometrus.simulate.config import SimulateConfig, stream

Array = NDArray[np.float64]

REFERENCE_PIXEL = CHIP_CRPIX - 1 + BORDER_PIXELS
"""The template's reference pixel, 0-based in the whole detector."""
HALF_PIXELS = 2048.0
ROUNDS = 12  # each round of the inversions gains two digits or more


@dataclass(frozen=True)
class Pointing:
    """Where the telescope axis points, and how the field is turned."""

    ra_deg: float
    dec_deg: float
    rotator_deg: float

    def frame(self) -> tuple[Array, Array, Array]:
        """Unit vectors of the axis, and of the field's xi and eta, in the equatorial system."""
        ra, dec, turn = np.radians([self.ra_deg, self.dec_deg, self.rotator_deg])
        axis = np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
        east = np.array([-np.sin(ra), np.cos(ra), 0.0])
        north = np.cross(axis, east)
        return (
            axis,
            np.cos(turn) * east - np.sin(turn) * north,
            np.sin(turn) * east + np.cos(turn) * north,
        )


@dataclass(frozen=True)
class Optics:
    """One chip behind the telescope: the template plus what a real night adds to it.

    shift_pix : (x, y), how far the image lies from where the template says
    bend_pix : (2, 3), coefficients of u2, uv, v2 (u, v in half detectors), of x and of y
    """

    chip: Chip
    kind: str
    cubic: float  # relative displacement at 1 degree from the centre of distortion
    centre_deg: tuple[float, float]
    scale_error: float
    shift_pix: tuple[float, float]
    bend_pix: tuple[tuple[float, float, float], tuple[float, float, float]]

    def to_field(self, x: Array, y: Array) -> tuple[Array, Array]:
        """(xi, eta) in degrees of detector pixels."""
        x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
        u = x - REFERENCE_PIXEL + self.shift_pix[0]
        v = y - REFERENCE_PIXEL + self.shift_pix[1]
        if self.kind == "template":
            du, dv = sip(self.chip, u, v)
        else:
            du, dv = bend(self.bend_pix, u, v)
        u, v = u + du, v + dv
        (a, b), (c, d) = self.chip.cd
        xi, eta = gnomonic(*from_gnomonic(a * u + b * v, c * u + d * v, *self.chip.crval_deg))
        if self.kind == "template":
            return xi * (1 + self.scale_error), eta * (1 + self.scale_error)
        return self.distorted(xi, eta)

    def distorted(self, xi: Array, eta: Array) -> tuple[Array, Array]:
        """The radial cubic about the centre of distortion: the scale falls outwards."""
        p, q = xi - self.centre_deg[0], eta - self.centre_deg[1]
        factor = self.scale_error - self.cubic * (p * p + q * q)
        return xi + p * factor, eta + q * factor

    def to_pixels(self, xi: Array, eta: Array) -> tuple[Array, Array]:
        """Detector pixels of field coordinates; right to 1e-6 pixel within two detectors."""
        if self.kind == "template":
            p, q = xi / (1 + self.scale_error), eta / (1 + self.scale_error)
        else:
            p, q = np.array(xi, dtype=float), np.array(eta, dtype=float)
            for _ in range(ROUNDS):
                far_p, far_q = self.distorted(p, q)
                p, q = p + (xi - far_p), q + (eta - far_q)
        s, t = gnomonic(*from_gnomonic(p, q, 0.0, 0.0), *self.chip.crval_deg)
        (a, b), (c, d) = self.chip.cd
        det = a * d - b * c
        straight_u, straight_v = (d * s - b * t) / det, (a * t - c * s) / det
        # A fourth-order polynomial has no inverse far outside its detector: hold it to the edge.
        u, v = straight_u, straight_v
        for _ in range(ROUNDS):
            near_u, near_v = (np.clip(w, -1.5 * HALF_PIXELS, 1.5 * HALF_PIXELS) for w in (u, v))
            if self.kind == "template":
                du, dv = sip(self.chip, near_u, near_v)
            else:
                du, dv = bend(self.bend_pix, near_u, near_v)
            u, v = straight_u - du, straight_v - dv
        return (
            u + REFERENCE_PIXEL - self.shift_pix[0],
            v + REFERENCE_PIXEL - self.shift_pix[1],
        )

    def pixel_area(self, x: Array, y: Array) -> Array:
        """Solid angle of a pixel on the sky, in square arcseconds."""
        h = 2.0
        xi_e, eta_e = self.to_field(x + h, y)
        xi_w, eta_w = self.to_field(x - h, y)
        xi_n, eta_n = self.to_field(x, y + h)
        xi_s, eta_s = self.to_field(x, y - h)
        cross = (xi_e - xi_w) * (eta_n - eta_s) - (xi_n - xi_s) * (eta_e - eta_w)
        r2 = np.radians(0.5 * (xi_e + xi_w)) ** 2 + np.radians(0.5 * (eta_n + eta_s)) ** 2
        return np.abs(cross) * (3600.0 / (2 * h)) ** 2 / (1 + r2) ** 1.5


def sip(chip: Chip, u: Array, v: Array) -> tuple[Array, Array]:
    """The template's fourth-order terms in pixels."""
    powers = [u**i * v ** (CHIP_SIP_ORDER - i) for i in range(CHIP_SIP_ORDER + 1)]
    return (
        np.sum([a * p for a, p in zip(chip.sip_a, powers, strict=True)], axis=0),
        np.sum([b * p for b, p in zip(chip.sip_b, powers, strict=True)], axis=0),
    )


def bend(terms: tuple[tuple[float, ...], ...], u: Array, v: Array) -> tuple[Array, Array]:
    """A detector that is neither flat nor level: quadratic terms in pixels."""
    p, q = u / HALF_PIXELS, v / HALF_PIXELS
    shapes = (p * p, p * q, q * q)
    dx, dy = (sum(t * s for t, s in zip(row, shapes, strict=True)) for row in terms)
    return np.asarray(dx), np.asarray(dy)


def from_gnomonic(
    xi: Array, eta: Array, ra0_deg: float, dec0_deg: float
) -> tuple[Array, Array, Array]:
    """Unit vectors of gnomonic coordinates (degrees) about a point of the sphere."""
    axis, east, north = Pointing(ra0_deg, dec0_deg, 0.0).frame()
    p, q = np.radians(xi), np.radians(eta)
    length = np.sqrt(1 + p * p + q * q)
    x, y, z = ((axis[i] + p * east[i] + q * north[i]) / length for i in range(3))
    return x, y, z


def gnomonic(
    x: Array, y: Array, z: Array, ra0_deg: float = 0.0, dec0_deg: float = 0.0
) -> tuple[Array, Array]:
    """Gnomonic coordinates (degrees) of unit vectors; NaN on the far half of the sphere."""
    return project(np.stack([x, y, z]), Pointing(ra0_deg, dec0_deg, 0.0))


def project(vectors: Array, pointing: Pointing) -> tuple[Array, Array]:
    """(xi, eta) in degrees of unit vectors (3, ...) as the pointing sees them."""
    axis, right, up = (np.tensordot(v, vectors, axes=1) for v in pointing.frame())
    depth = np.where(axis > 0, axis, np.nan)
    return np.degrees(right / depth), np.degrees(up / depth)


def field_to_sky(xi: Array, eta: Array, pointing: Pointing) -> tuple[Array, Array]:
    """RA in [0, 360) and Dec, degrees, of field coordinates."""
    axis, right, up = pointing.frame()
    p, q = np.radians(xi), np.radians(eta)
    x, y, z = (axis[i] + p * right[i] + q * up[i] for i in range(3))
    return np.degrees(np.arctan2(y, x)) % 360.0, np.degrees(np.arctan2(z, np.hypot(x, y)))


def sky_to_field(ra_deg: Array, dec_deg: Array, pointing: Pointing) -> tuple[Array, Array]:
    """Field coordinates of sky positions, degrees."""
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    vectors = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    return project(vectors, pointing)


def template_optics(chip: int, kind: str = "template") -> Optics:
    """A chip exactly where the template has it; kind "radial" leaves the distortion out."""
    flat = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    return Optics(CHIPS[chip], kind, 0.0, (0.0, 0.0), 0.0, (0.0, 0.0), flat)


def optics_of(chip: int, config: SimulateConfig) -> Optics:
    """A chip on the night of `config`: displaced, bent, distorted."""
    common = stream(config.seed, "optics")
    scale_error = 4e-4 * common.choice([-1.0, 1.0])
    centre = common.normal(0.0, 60 * PIXEL_SCALE_ARCSEC / 3600.0, 2)
    own = stream(config.seed, "optics", chip)
    angle = own.uniform(0, 2 * np.pi)
    length = config.chip_offset_arcsec / PIXEL_SCALE_ARCSEC
    terms = own.normal(0.0, 0.2, (2, 3))
    corner = CHIPS_FIELD_RADIUS_DEG - 0.02  # of the outermost pixel, all chips alike
    cubic = config.distortion_pix * PIXEL_SCALE_ARCSEC / 3600.0 / corner**3
    return Optics(
        CHIPS[chip],
        config.distortion,
        cubic,
        (float(centre[0]), float(centre[1])),
        scale_error,
        (length * float(np.cos(angle)), length * float(np.sin(angle))),
        (tuple(map(float, terms[0])), tuple(map(float, terms[1]))),  # type: ignore[arg-type]
    )
