"""World coordinates: the first WCS, polynomials as TAN-SIP and as TPV, tangent planes.

Pixels are 0-based here; FITS's 1 enters only in CRPIX. References: Calabretta & Greisen 2002
(A&A 395, 1077) for TAN, Shupe et al. 2005 (ASP Conf. 347, 491) for SIP, the registered TPV
convention for PV (as SCAMP writes and SWarp reads it).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io.fits import Header
from astropy.wcs import WCS, Sip
from astropy.wcs.utils import proj_plane_pixel_scales, wcs_to_celestial_frame

from photometrus.instrument import BORDER_PIXELS, CHIP_CRPIX, CHIP_SIP_ORDER, CHIPS
from photometrus.kernels.sip import add_sip, undo_sip

Array = Any  # float64 array
SIP_ORDER = 5


def unit_vectors(ra_deg: Array, dec_deg: Array) -> Array:
    """Cartesian unit vectors, float64 (..., 3), of positions in degrees."""
    ra, dec = np.radians(np.asarray(ra_deg)), np.radians(np.asarray(dec_deg))
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def to_plane(ra_deg: Array, dec_deg: Array, centre: tuple[float, float]) -> tuple[Array, Array]:
    """Gnomonic coordinates (east, north), arcsec, of positions about a tangent point in degrees.

    Positions 90 degrees away or more come out as NaN.
    """
    vector = unit_vectors(ra_deg, dec_deg)
    ra0, dec0 = np.radians(centre)
    east = np.array([-np.sin(ra0), np.cos(ra0), 0.0])
    north = np.array([-np.sin(dec0) * np.cos(ra0), -np.sin(dec0) * np.sin(ra0), np.cos(dec0)])
    depth = vector @ unit_vectors(centre[0], centre[1])
    depth = np.where(depth > 1e-9, depth, np.nan)
    arcsec = np.degrees(1.0) * 3600.0
    return vector @ east / depth * arcsec, vector @ north / depth * arcsec


def from_plane(xi: Array, eta: Array, centre: tuple[float, float]) -> tuple[Array, Array]:
    """Right ascension (0..360) and declination, degrees, of gnomonic coordinates in arcsec."""
    x, y = np.radians(np.asarray(xi) / 3600.0), np.radians(np.asarray(eta) / 3600.0)
    ra0, dec0 = np.radians(centre)
    east = np.array([-np.sin(ra0), np.cos(ra0), 0.0])
    north = np.array([-np.sin(dec0) * np.cos(ra0), -np.sin(dec0) * np.sin(ra0), np.cos(dec0)])
    vector = unit_vectors(centre[0], centre[1]) + x[..., None] * east + y[..., None] * north
    ra = np.degrees(np.arctan2(vector[..., 1], vector[..., 0])) % 360.0
    dec = np.degrees(np.arctan2(vector[..., 2], np.hypot(vector[..., 0], vector[..., 1])))
    return ra, dec


def offset_position(
    centre: tuple[float, float], separation_deg: float, angle_deg: float
) -> tuple[float, float]:
    """The position at a distance and a position angle (E of N) from another, on the sphere."""
    ra0, dec0 = np.radians(centre)
    r, t = np.radians(separation_deg), np.radians(angle_deg)
    sin_dec = np.sin(dec0) * np.cos(r) + np.cos(dec0) * np.sin(r) * np.cos(t)
    dec = np.arcsin(np.clip(sin_dec, -1, 1))
    y = np.sin(t) * np.sin(r) * np.cos(dec0)
    x = np.cos(r) - np.sin(dec0) * sin_dec
    return float(np.degrees(ra0 + np.arctan2(y, x)) % 360.0), float(np.degrees(dec))


def _bearing(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Position angle in degrees of `b` seen from `a`."""
    (ra_a, dec_a), (ra_b, dec_b) = np.radians(a), np.radians(b)
    y = np.sin(ra_b - ra_a) * np.cos(dec_b)
    x = np.cos(dec_a) * np.sin(dec_b) - np.sin(dec_a) * np.cos(dec_b) * np.cos(ra_b - ra_a)
    return float(np.degrees(np.arctan2(y, x)))


def pointing_wcs(
    chip: int, axis: tuple[float, float], rotator_deg: float, *, trimmed: bool = True
) -> WCS:
    """The WCS of a chip for a telescope axis (RA, Dec in degrees) and a rotator offset.

    The template of the chip (telescope at RA = Dec = 0, rotator 0) is carried to the pointing by
    the rotation of the sphere that it is, so that it holds at any declination.
    trimmed : for the 4088-pixel image; else for the ramp with its border of 4 pixels.
    """
    row = CHIPS[chip]
    origin = (0.0, 0.0)
    separation = _separation_deg(origin, row.crval_deg)
    crval = offset_position(axis, separation, _bearing(origin, row.crval_deg) + rotator_deg)
    # Directions turn by what the bearing back to the axis turns by, from template to sky.
    turn = _bearing(crval, axis) - _bearing(row.crval_deg, origin)
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    cd = np.array([[c, s], [-s, c]]) @ np.array(row.cd)
    a = np.zeros((CHIP_SIP_ORDER + 1, CHIP_SIP_ORDER + 1))
    b = np.zeros_like(a)
    for i in range(CHIP_SIP_ORDER + 1):
        a[i, CHIP_SIP_ORDER - i] = row.sip_a[i]
        b[i, CHIP_SIP_ORDER - i] = row.sip_b[i]
    crpix = CHIP_CRPIX + (0 if trimmed else BORDER_PIXELS)
    return tan_sip(crval, (crpix, crpix), cd, a, b)


def axis_pixel(chip: int) -> tuple[float, float]:
    """The 0-based pixel (of the trimmed image, outside of it) where the telescope axis falls."""
    row = CHIPS[chip]
    xi, eta = to_plane(np.float64(0.0), np.float64(0.0), row.crval_deg)
    u, v = np.linalg.inv(np.array(row.cd)) @ np.array([float(xi), float(eta)]) / 3600.0
    return CHIP_CRPIX - 1 + float(u), CHIP_CRPIX - 1 + float(v)


def template_distortion(chip: int, x: Array, y: Array) -> tuple[Array, Array]:
    """The SIP terms of a chip's template, pixels, at 0-based pixels of the trimmed image."""
    row = CHIPS[chip]
    u, v = np.asarray(x) + 1 - CHIP_CRPIX, np.asarray(y) + 1 - CHIP_CRPIX
    n = CHIP_SIP_ORDER
    # All terms are of one order: Horner's scheme in u, with a power of v more at each step.
    power: Array = np.ones_like(v)
    a, b = row.sip_a[n] * power, row.sip_b[n] * power
    for i in range(n - 1, -1, -1):
        power = power * v
        a, b = a * u + row.sip_a[i] * power, b * u + row.sip_b[i] * power
    return a, b


def _separation_deg(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Angle between two positions in degrees."""
    u, v = unit_vectors(*a), unit_vectors(*b)
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(u, v)), u @ v)))


def tan_sip(
    crval: tuple[float, float], crpix: tuple[float, float], cd: Array, a: Array, b: Array
) -> WCS:
    """A TAN-SIP WCS from its parts; `a[i, j]` multiplies u**i v**j."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN-SIP", "DEC--TAN-SIP"]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.crval = crval
    wcs.wcs.crpix = crpix
    wcs.wcs.cd = cd
    wcs.wcs.radesys = "ICRS"
    # The way back is worked out where it is written down: `sky_to_pixel` iterates.
    wcs.sip = Sip(np.asarray(a, float), np.asarray(b, float), None, None, crpix)
    wcs.wcs.set()
    return wcs


def _powers(order: int) -> list[tuple[int, int]]:
    """Exponents (i, j) of all terms u**i v**j up to a total order."""
    return [(i, n - i) for n in range(order + 1) for i in range(n + 1)]


def _inverse_sip(a: Array, b: Array) -> tuple[Array, Array]:
    """AP and BP by least squares over a chip (readers that need exactness iterate on A and B)."""
    half = 2048.0
    grid = np.linspace(-1.05, 1.05, 25)
    u, v = (g.ravel() * half for g in np.meshgrid(grid, grid))
    big_u, big_v = _by_sip(add_sip, a, b, u, v)
    powers = _powers(SIP_ORDER)
    design = np.stack([(big_u / half) ** i * (big_v / half) ** j for i, j in powers], axis=1)
    out = []
    for target in (u - big_u, v - big_v):
        solution = np.linalg.lstsq(design, target, rcond=None)[0]
        matrix = np.zeros((SIP_ORDER + 1, SIP_ORDER + 1))
        for (i, j), value in zip(powers, solution, strict=True):
            matrix[i, j] = value / half ** (i + j)
        out.append(matrix)
    return out[0], out[1]


def _by_sip(kernel: Callable, a: Array, b: Array, u: Array, v: Array) -> tuple[Array, Array]:
    """Pixel offsets through a kernel of `kernels.sip`, whatever their shape."""
    shape = np.shape(u)
    given = [np.ascontiguousarray(one, dtype=float).reshape(-1) for one in (u, v)]
    out_u, out_v = np.empty(given[0].size), np.empty(given[0].size)
    kernel(np.asarray(a, float), np.asarray(b, float), *given, out_u, out_v)
    return out_u.reshape(shape), out_v.reshape(shape)


def fit_tan_sip(
    x: Array, y: Array, ra_deg: Array, dec_deg: Array, crval: tuple[float, float]
) -> WCS:
    """The TAN-SIP WCS (order 5, CRPIX at the chip's reference pixel) through given points.

    x, y : 0-based pixels; ra_deg, dec_deg : what they should become. Meant for points that lie on
    a smooth mapping (a grid), not for measured stars. The tangent point is moved from `crval` so
    that the reference pixel falls on it.
    """
    crpix = CHIP_CRPIX
    half = 2048.0
    u, v = (np.asarray(x) + 1 - crpix) / half, (np.asarray(y) + 1 - crpix) / half
    powers = _powers(SIP_ORDER)
    of_u, of_v = (np.vander(one, SIP_ORDER + 1, increasing=True) for one in (u, v))
    design = np.stack([of_u[:, i] * of_v[:, j] for i, j in powers], axis=1)
    for _ in range(3):
        xi, eta = to_plane(ra_deg, dec_deg, crval)
        p = np.linalg.lstsq(design, np.stack([xi, eta], axis=1) / 3600.0, rcond=None)[0]
        new_ra, new_dec = from_plane(p[0, 0] * 3600.0, p[0, 1] * 3600.0, crval)
        crval = (float(new_ra), float(new_dec))
    index = {power: k for k, power in enumerate(powers)}
    cd = np.array([[p[index[1, 0], k], p[index[0, 1], k]] for k in (0, 1)]) / half
    inverse = np.linalg.inv(cd)
    a = np.zeros((SIP_ORDER + 1, SIP_ORDER + 1))
    b = np.zeros_like(a)
    for (i, j), k in index.items():
        if i + j >= 2:
            a[i, j], b[i, j] = inverse @ p[k] / half ** (i + j)
    return tan_sip(crval, (crpix, crpix), cd, a, b)


def pixel_to_sky(wcs: WCS, x: Array, y: Array) -> tuple[Array, Array]:
    """Right ascension and declination (ICRS, degrees) of 0-based pixels."""
    world = wcs.all_pix2world(np.asarray(x, float), np.asarray(y, float), 0)
    if _is_equatorial_tan(wcs):
        return np.asarray(world[0]), np.asarray(world[1])
    lon, lat = (world[axis] for axis in (wcs.wcs.lng, wcs.wcs.lat))
    sky = SkyCoord(lon, lat, unit="deg", frame=wcs_to_celestial_frame(wcs)).icrs
    return np.asarray(sky.ra.deg), np.asarray(sky.dec.deg)


def pixel_scale_arcsec(wcs: WCS) -> float:
    """Side of a pixel at the reference point: the geometric mean of both axes."""
    return 3600.0 * float(np.sqrt(np.prod(proj_plane_pixel_scales(wcs.celestial))))


def pixel_areas(wcs: WCS, x: Array, y: Array) -> Array:
    """Solid angle of the pixels at 0-based positions, square arcseconds: float64 (n,)."""
    centre = crval(wcs)
    step = 8.0
    right, left = (
        np.stack(to_plane(*pixel_to_sky(wcs, x + dx, y), centre)) for dx in (step, -step)
    )
    up, down = (np.stack(to_plane(*pixel_to_sky(wcs, x, y + dy), centre)) for dy in (step, -step))
    dx, dy = (right - left) / (2 * step), (up - down) / (2 * step)
    return np.abs(dx[0] * dy[1] - dx[1] * dy[0])


def sky_to_pixel(wcs: WCS, ra_deg: Array, dec_deg: Array) -> tuple[Array, Array]:
    """0-based pixels of positions, through any distortion; NaN where it does not converge.

    SIP is inverted by fixed-point iteration: u = U - A(u, v); for PRIME's 20 pixels over 2000 each
    round gains two digits. Other programs' projections and frames are left to astropy.
    """
    if not _is_equatorial_tan(wcs):
        return _foreign_pixels(wcs, ra_deg, dec_deg)
    xi, eta = to_plane(np.asarray(ra_deg, float), np.asarray(dec_deg, float), tuple(wcs.wcs.crval))
    inverse = np.linalg.inv(wcs.pixel_scale_matrix) / 3600.0
    big_u = inverse[0, 0] * xi + inverse[0, 1] * eta
    big_v = inverse[1, 0] * xi + inverse[1, 1] * eta
    u, v = big_u, big_v
    if wcs.sip is not None:
        u, v = _by_sip(undo_sip, wcs.sip.a, wcs.sip.b, big_u, big_v)
    return u + wcs.wcs.crpix[0] - 1, v + wcs.wcs.crpix[1] - 1


def _is_equatorial_tan(wcs: WCS) -> bool:
    """Whether it is TAN or TAN-SIP in ICRS, or in FK5 of J2000, which is the same within 0.02"."""
    keys = wcs.wcs
    j2000 = keys.radesys in ("", "ICRS") or (keys.radesys == "FK5" and keys.equinox == 2000.0)
    tables = (wcs.cpdis1, wcs.cpdis2, wcs.det2im1, wcs.det2im2)
    return (
        tuple(name.removesuffix("-SIP") for name in keys.ctype) == ("RA---TAN", "DEC--TAN")
        and j2000
        and keys.lonpole == 180.0
        and all(table is None for table in tables)
        and _is_linear(wcs)
    )


def _is_linear(wcs: WCS) -> bool:
    """Whether there is no polynomial of TPV, which wcslib hides behind the name of TAN."""
    u, v = 1000.0, 700.0
    plane = wcs.wcs.p2s([wcs.wcs.crpix + (u, v)], 1)["imgcrd"][0]
    return bool(np.abs(plane - wcs.pixel_scale_matrix @ (u, v)).max() < 1e-10)


def _foreign_pixels(wcs: WCS, ra_deg: Array, dec_deg: Array) -> tuple[Array, Array]:
    sky = SkyCoord(ra_deg, dec_deg, unit="deg").transform_to(wcs_to_celestial_frame(wcs))
    lon, lat = sky.spherical.lon.deg, sky.spherical.lat.deg
    world = (lon, lat) if wcs.wcs.lng < wcs.wcs.lat else (lat, lon)
    x, y = wcs.all_world2pix(*world, 0, quiet=True)
    return np.asarray(x), np.asarray(y)


def shifted(wcs: WCS, east_arcsec: float, north_arcsec: float) -> WCS:
    """The same WCS moved on the sky by a rotation of the sphere along the great circle.

    Directions are carried along: at the new place north may be another way, near a pole much so.
    """
    old = crval(wcs)
    ra, dec = from_plane(np.float64(east_arcsec), np.float64(north_arcsec), old)
    new = (float(ra), float(dec))
    turn = 0.0 if new == old else _bearing(new, old) + 180.0 - _bearing(old, new)
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    moved = wcs.deepcopy()
    moved.wcs.crval = new
    moved.wcs.cd = np.array([[c, s], [-s, c]]) @ wcs.pixel_scale_matrix
    moved.wcs.set()
    return moved


def sip_cards(wcs: WCS, shape: tuple[int, int] | None = None) -> Header:
    """The WCS as FITS cards: CTYPE, CRVAL, CRPIX, CD, A_, B_, AP_, BP_ (or plain TAN)."""
    header = Header()
    sip = wcs.sip is not None
    header["WCSAXES"] = (2, "number of world axes")
    for k, name in ((1, "RA---TAN"), (2, "DEC--TAN")):
        header[f"CTYPE{k}"] = (name + ("-SIP" if sip else ""), "projection")
    for k in (1, 2):
        header[f"CUNIT{k}"] = ("deg", "unit of CRVAL and CD")
        header[f"CRVAL{k}"] = (float(wcs.wcs.crval[k - 1]), "[deg] reference point")
        header[f"CRPIX{k}"] = (float(wcs.wcs.crpix[k - 1]), "[pixel] reference point")
    matrix = wcs.pixel_scale_matrix
    for i in (1, 2):
        for j in (1, 2):
            header[f"CD{i}_{j}"] = (float(matrix[i - 1, j - 1]), "[deg/pixel]")
    header["RADESYS"] = ("ICRS", "reference frame")
    header["EQUINOX"] = (2000.0, "for readers that do not know RADESYS")
    if shape is not None:
        header["IMAGEW"] = (shape[1], "[pixel] width")
        header["IMAGEH"] = (shape[0], "[pixel] height")
    if sip:
        inverse = _inverse_sip(wcs.sip.a, wcs.sip.b)
        for name, matrix in zip(
            ("A", "B", "AP", "BP"), (wcs.sip.a, wcs.sip.b, *inverse), strict=True
        ):
            order = matrix.shape[0] - 1
            header[f"{name}_ORDER"] = (order, "SIP")
            least = 2 if name in "AB" else 0
            for i, j in _powers(order):
                if i + j >= least and matrix[i, j] != 0:
                    header[f"{name}_{i}_{j}"] = float(matrix[i, j])
    return header


# The TPV terms x**i y**j by number; r, r**3 and r**5 are 3, 11 and 23 and are not used.
_TPV: Sequence[tuple[int, int, int]] = [
    (0, 0, 0), (1, 1, 0), (2, 0, 1), (4, 2, 0), (5, 1, 1), (6, 0, 2), (7, 3, 0), (8, 2, 1),
    (9, 1, 2), (10, 0, 3), (12, 4, 0), (13, 3, 1), (14, 2, 2), (15, 1, 3), (16, 0, 4), (17, 5, 0),
    (18, 4, 1), (19, 3, 2), (20, 2, 3), (21, 1, 4), (22, 0, 5),
]  # fmt: skip


def tpv_cards(wcs: WCS) -> Header:
    """The same mapping as TPV cards, as SCAMP writes and SWarp reads them.

    SIP's polynomials in pixels are polynomials of the same order in TPV's intermediate
    coordinates, so the conversion is exact; it is done by least squares on a grid.
    """
    header = sip_cards(wcs)
    for name in list(header):
        if name.split("_")[0] in ("A", "B", "AP", "BP"):
            del header[name]
    for k, name in ((1, "RA---TPV"), (2, "DEC--TPV")):
        header[f"CTYPE{k}"] = name
    cd = wcs.pixel_scale_matrix
    half = 2048.0
    grid = np.linspace(-1.05, 1.05, 25)
    u, v = (g.ravel() * half for g in np.meshgrid(grid, grid))
    big_u, big_v = u, v
    if wcs.sip is not None:
        big_u, big_v = _by_sip(add_sip, wcs.sip.a, wcs.sip.b, u, v)
    scale = half * np.sqrt(abs(np.linalg.det(cd)))
    x, y = cd @ np.stack([u, v]) / scale
    xi, eta = cd @ np.stack([big_u, big_v]) / scale
    for axis, p, q, target in ((1, x, y, xi), (2, y, x, eta)):
        design = np.stack([p**i * q**j for _, i, j in _TPV], axis=1)
        solution = np.linalg.lstsq(design, target, rcond=None)[0]
        for (number, i, j), value in zip(_TPV, solution, strict=True):
            header[f"PV{axis}_{number}"] = float(value / scale ** (i + j - 1))
    return header


def crval(wcs: WCS) -> tuple[float, float]:
    """The reference point, degrees."""
    return float(wcs.wcs.crval[0]), float(wcs.wcs.crval[1])
