"""World coordinates against the published focal plane, astropy, and themselves backwards."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io.fits import Header
from astropy.wcs import WCS

from photometrus.instrument import CHIPS
from photometrus.wcs import (
    fit_tan_sip,
    from_plane,
    offset_position,
    pixel_to_sky,
    pointing_wcs,
    shifted,
    sip_cards,
    sky_to_pixel,
    tan_sip,
    to_plane,
    tpv_cards,
    unit_vectors,
)
from synth import untouched

POLE_TO_POLE = [(150.0, -20.0), (0.0, -0.3), (359.9, 0.2), (0.05, 45.0), (270.0, 89.0),
                (30.0, -89.0), (123.0, 89.9)]  # fmt: skip
MAS = 1e-3  # arcsec


def separation_arcsec(a, b):
    """On the sphere, exact for small angles."""
    u_, v = unit_vectors(*a), unit_vectors(*b)
    cross = np.linalg.norm(np.cross(u_, v), axis=-1)
    return np.degrees(np.arctan2(cross, (u_ * v).sum(axis=-1))) * 3600


def chip_grid(n=9, shape=4088):
    """Pixels all over a chip."""
    x, y = np.meshgrid(np.linspace(0, shape - 1, n), np.linspace(0, shape - 1, n))
    return x.ravel(), y.ravel()


# Arcmin east and north of the telescope axis, rotator 48 deg: computed from the observatory's
# template when it was published (centre, and the corners as they stand there).
FOCAL_PLANE = {
    1: [(-18.80, 18.99), (-1.56, 35.75), (-2.03, 1.83), (-35.34, 36.05), (-35.96, 2.28)],
    2: [(19.08, 18.59), (36.19, 35.11), (35.74, 1.33), (2.42, 35.89), (1.82, 1.96)],
    3: [(-19.12, -18.67), (-36.02, -35.25), (-35.90, -1.48), (-2.25, -35.71), (-1.96, -1.78)],
    4: [(18.81, -19.33), (1.72, -36.10), (1.99, -2.17), (35.48, -36.18), (35.91, -2.42)],
}


@pytest.mark.parametrize("axis", POLE_TO_POLE)
@pytest.mark.parametrize("chip", [1, 2, 3, 4])
def test_chips_are_where_the_focal_plane_has_them(chip, axis):
    wcs = pointing_wcs(chip, axis, 48.0)
    x, y = np.array([2044.0, 0, 0, 4088, 4088]), np.array([2044.0, 0, 4088, 0, 4088])
    east, north = to_plane(*pixel_to_sky(wcs, x, y), axis)
    table = np.array(FOCAL_PLANE[chip])
    centre = np.hypot(east[0] / 60 - table[0, 0], north[0] / 60 - table[0, 1])
    corner = np.hypot(east[1:] / 60 - table[1:, 0], north[1:] / 60 - table[1:, 1])
    # The table's numbers are rounded to 0.01'; its corners come from the older offset table, which
    # agrees with the template to 0.06' at centres and 0.1' at corners.
    assert centre < 0.01
    assert corner.max() < 0.11


@pytest.mark.parametrize("chip", [1, 2, 3, 4])
def test_the_template_itself_comes_out_at_the_origin(chip):
    wcs = pointing_wcs(chip, (0.0, 0.0), 0.0)
    row = CHIPS[chip]
    np.testing.assert_allclose(wcs.wcs.crval, row.crval_deg, atol=1e-11)
    np.testing.assert_allclose(wcs.pixel_scale_matrix, row.cd, rtol=1e-10)
    assert np.linalg.det(wcs.pixel_scale_matrix) > 0


@pytest.mark.parametrize("rotator", [0.0, 48.0, 137.0, -90.0])
@pytest.mark.parametrize("axis", POLE_TO_POLE)
def test_a_pointing_is_a_rotation_of_the_sphere(axis, rotator):
    # Distances between any two pixels of any two chips do not depend on where one points.
    x, y = chip_grid(4)

    def stars(axis, rotator):
        both = [np.stack(pixel_to_sky(pointing_wcs(c, axis, rotator), x, y)) for c in (1, 4)]
        return np.concatenate(both, axis=1)

    here, there = stars(axis, rotator), stars((0.0, 0.0), 0.0)
    k = np.random.RandomState(0).permutation(here.shape[1])
    # Double precision of a degree: 1e-13 deg = 4e-10"; a few hundred of them.
    np.testing.assert_allclose(
        separation_arcsec(here, here[:, k]), separation_arcsec(there, there[:, k]), atol=1e-6
    )


def test_the_rotator_turns_the_chip_from_north_to_east():
    axis = (150.0, -20.0)
    a = to_plane(*pixel_to_sky(pointing_wcs(2, axis, 10.0), 100.0, 200.0), axis)
    b = to_plane(*pixel_to_sky(pointing_wcs(2, axis, 40.0), 100.0, 200.0), axis)
    turn = np.degrees(np.arctan2(b[0], b[1]) - np.arctan2(a[0], a[1]))
    assert turn % 360 == pytest.approx(30.0, abs=1e-9)
    assert np.hypot(*b) == pytest.approx(np.hypot(*a), abs=1e-6)


def test_trimming_moves_pixels_by_four():
    axis = (150.0, -20.0)
    whole, trimmed = (pointing_wcs(1, axis, 48.0, trimmed=t) for t in (False, True))
    x, y = chip_grid()
    np.testing.assert_allclose(
        pixel_to_sky(whole, x + 4, y + 4), pixel_to_sky(trimmed, x, y), atol=1e-13
    )


@pytest.mark.parametrize("centre", POLE_TO_POLE)
def test_tangent_planes_equal_astropy_and_come_back(centre):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = centre, (1, 1)
    wcs.wcs.cd = np.eye(2) / 3600
    xi, eta = np.random.RandomState(1).uniform(-3000, 3000, (2, 200))
    ra, dec = from_plane(xi, eta, centre)
    want = wcs.all_pix2world(xi, eta, 0)
    assert separation_arcsec((ra, dec), want).max() < 1e-7
    assert ((ra >= 0) & (ra < 360)).all()
    np.testing.assert_allclose(to_plane(ra, dec, centre), (xi, eta), atol=1e-7)


def test_the_far_side_of_the_sky_is_nan():
    xi, eta = to_plane(np.array([10.0, 190.0, 100.1]), np.array([0.0, 0.0, 0.0]), (10.0, 0.0))
    np.testing.assert_array_equal(np.isnan(xi), [False, True, True])
    np.testing.assert_array_equal(np.isnan(eta), [False, True, True])


@pytest.mark.parametrize("centre", POLE_TO_POLE)
def test_offsets_equal_astropy(centre):
    start = SkyCoord(*centre, unit="deg")
    for angle in (0.0, 77.0, 180.0, 301.0):
        ra, dec = offset_position(centre, 0.45, angle)
        want = start.directional_offset_by(angle * u.deg, 0.45 * u.deg)
        assert separation_arcsec((ra, dec), (want.ra.deg, want.dec.deg)) < 1e-6


@pytest.mark.parametrize("axis", POLE_TO_POLE)
@pytest.mark.parametrize("chip", [1, 4])
def test_pixels_come_back_through_the_distortion(chip, axis):
    wcs = pointing_wcs(chip, axis, 48.0)
    x, y = chip_grid(15)
    back = sky_to_pixel(wcs, *pixel_to_sky(wcs, x, y))
    np.testing.assert_allclose(back, (x, y), atol=1e-6)


def test_the_inverse_equals_that_of_astropy():
    wcs = pointing_wcs(3, (359.95, -0.2), 48.0)
    ra, dec = pixel_to_sky(wcs, *chip_grid(7))
    want = wcs.all_world2pix(ra, dec, 0, tolerance=1e-9)
    np.testing.assert_allclose(sky_to_pixel(wcs, ra, dec), want, atol=1e-6)


@pytest.mark.parametrize("chip", [1, 2, 3, 4])
def test_no_place_outside_falls_onto_the_chip(chip):
    # A polynomial of the fourth order bends back far out: stars there must not appear inside.
    wcs = pointing_wcs(chip, (150.0, -20.0), 48.0)
    step = np.linspace(-40000, 40000, 161)
    u_, v = (g.ravel() for g in np.meshgrid(step, step))
    outside = np.maximum(np.abs(u_), np.abs(v)) > 2300
    xi, eta = wcs.pixel_scale_matrix @ np.stack([u_, v])[:, outside] * 3600
    x, y = sky_to_pixel(wcs, *from_plane(xi, eta, tuple(wcs.wcs.crval)))
    assert not ((x > -100) & (x < 4188) & (y > -100) & (y < 4188)).any()
    x, y = sky_to_pixel(wcs, np.array([330.0]), np.array([20.0]))
    assert np.isnan(x).all()
    assert np.isnan(y).all()


def read_back(header):
    """A WCS from the header as it would be after a trip through a file."""
    return WCS(Header.fromstring(header.tostring()))


@pytest.mark.parametrize("axis", POLE_TO_POLE)
@pytest.mark.parametrize("chip", [1, 2, 3, 4])
def test_sip_and_tpv_are_the_same_mapping(chip, axis):
    wcs = pointing_wcs(chip, axis, 48.0)
    x, y = chip_grid(11)
    truth = wcs.all_pix2world(x, y, 0)
    for header in (sip_cards(wcs, (4088, 4088)), tpv_cards(wcs)):
        there = read_back(header).all_pix2world(x, y, 0)
        # 1e-6 pixels of 0.497".
        assert separation_arcsec(there, truth).max() < 0.497e-6


@pytest.mark.parametrize("axis", [(150.0, -20.0), (0.01, -0.5), (270.0, 89.0)])
def test_a_fitted_fifth_order_survives_its_header(axis):
    rs = np.random.RandomState(2)
    base = pointing_wcs(1, axis, 48.0)
    a, b = np.zeros((2, 6, 6))
    for i in range(6):
        for j in range(6 - i):
            if i + j >= 2:
                a[i, j], b[i, j] = rs.normal(0, 3, 2) / 2048.0 ** (i + j)
    wcs = tan_sip(tuple(base.wcs.crval), (2045.0, 2045.0), base.pixel_scale_matrix, a, b)
    x, y = chip_grid(11)
    truth = wcs.all_pix2world(x, y, 0)
    for header in (sip_cards(wcs), tpv_cards(wcs)):
        there = read_back(header).all_pix2world(x, y, 0)
        assert separation_arcsec(there, truth).max() < 0.497e-6
    assert "A_0_0" not in sip_cards(wcs)
    assert not any(key.startswith(("A_", "B_", "AP_", "BP_")) for key in tpv_cards(wcs))
    back = sky_to_pixel(wcs, *truth)
    np.testing.assert_allclose(back, (x, y), atol=1e-6)
    assert read_back(sip_cards(wcs)).wcs.radesys == "ICRS"


def test_the_inverse_polynomials_of_the_header_are_good_to_a_tenth_of_a_pixel():
    # Readers that do not iterate use AP and BP: the template's inverse is of higher order, an
    # order 5 leaves a part of the 20 pixels' square over 2048.
    wcs = WCS(sip_cards(pointing_wcs(1, (150.0, -20.0), 48.0)))
    x, y = chip_grid(11)
    plain = wcs.sip_pix2foc(x, y, 0)
    np.testing.assert_allclose(wcs.sip_foc2pix(*plain, 0), (x, y), atol=0.1)


def test_a_plain_tan_has_no_sip_cards():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = (10.0, -5.0), (300.5, 200.5)
    wcs.wcs.cd = np.array([[-0.497, 0], [0, 0.497]]) / 3600
    header = sip_cards(wcs, (400, 600))
    assert header["CTYPE1"] == "RA---TAN"
    assert (header["IMAGEW"], header["IMAGEH"]) == (600, 400)
    assert "A_ORDER" not in header
    x, y = chip_grid(5, 400)
    truth = wcs.all_pix2world(x, y, 0)
    for cards in (header, tpv_cards(wcs)):
        assert separation_arcsec(read_back(cards).all_pix2world(x, y, 0), truth).max() < 1e-7


@pytest.mark.parametrize("axis", [(150.0, -20.0), (0.0, 0.0), (200.0, 88.9)])
def test_a_fit_finds_the_mapping_it_was_given(axis):
    truth = pointing_wcs(2, axis, 48.0)
    x, y = chip_grid(21, 4089)
    ra, dec = pixel_to_sky(truth, x, y)
    wrong = offset_position(tuple(truth.wcs.crval), 0.02, 30.0)
    with untouched(x, y, ra, dec):
        fit = fit_tan_sip(x, y, ra, dec, wrong)
    np.testing.assert_allclose(fit.wcs.crpix, 2045)
    probe = chip_grid(16, 4088)
    off = separation_arcsec(pixel_to_sky(fit, *probe), pixel_to_sky(truth, *probe))
    # An order-4 polynomial about the same tangent point: exact but for double precision, which
    # the fit of 21 terms makes a thousand times worse.
    assert off.max() < 1e-6
    # The reference pixel falls on the tangent point.
    assert separation_arcsec(pixel_to_sky(fit, 2044.0, 2044.0), fit.wcs.crval) < 1e-6


def test_a_shift_moves_the_tangent_point_and_carries_directions_along():
    wcs = pointing_wcs(1, (0.001, 60.0), 48.0)
    before = wcs.wcs.crval.copy()
    moved = shifted(wcs, -40.0, 25.0)
    np.testing.assert_array_equal(wcs.wcs.crval, before)
    np.testing.assert_allclose(to_plane(*moved.wcs.crval, tuple(before)), (-40.0, 25.0), atol=1e-7)
    # By the convergence of the meridians: 40" / cos 60 deg * sin 60 deg of right ascension.
    change = moved.pixel_scale_matrix @ np.linalg.inv(wcs.pixel_scale_matrix)
    turn = np.radians(40.0 / 3600 * np.tan(np.radians(wcs.wcs.crval[1])))
    np.testing.assert_allclose(change @ change.T, np.eye(2), atol=1e-12)
    # Half of it would be taken at the middle of the shift: 25" of 60 degrees, 2e-4 of the turn.
    np.testing.assert_allclose(abs(change[0, 1]), turn, rtol=1e-3)
    np.testing.assert_array_equal(moved.sip.a, wcs.sip.a)
    assert 0 <= moved.wcs.crval[0] < 360


def galactic_car():
    """As of a mosaic of the Galactic plane; the latitude comes first."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["GLAT-CAR", "GLON-CAR"]
    wcs.wcs.crval = [0.0, 18.2]
    wcs.wcs.crpix = [-388.5, 1161.5]
    wcs.wcs.cd = np.array([[0.0, 1.0], [-1.0, 0.0]]) / 3000
    wcs.wcs.set()
    return wcs


def old_equinox():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = [150.0, -20.0], [500.0, 500.0], [-1e-4, 1e-4]
    wcs.wcs.radesys, wcs.wcs.equinox = "FK4", 1950.0
    wcs.wcs.set()
    return wcs


@pytest.mark.parametrize(
    "wcs", [galactic_car(), old_equinox(), WCS(tpv_cards(pointing_wcs(2, (150.0, -20.0), 48.0)))],
    ids=["galactic", "B1950", "TPV"],
)  # fmt: skip
def test_the_world_of_other_programs_is_icrs_too(wcs):
    x, y = chip_grid(shape=1000)
    ra, dec = pixel_to_sky(wcs, x, y)
    expected = wcs.pixel_to_world(x, y).icrs
    assert separation_arcsec((ra, dec), (expected.ra.deg, expected.dec.deg)).max() < MAS
    back = sky_to_pixel(wcs, ra, dec)
    # Far below a hundredth of a pixel, which a TPV's missing polynomial misses by whole pixels.
    np.testing.assert_allclose(back, (x, y), atol=1e-4)
