"""Which survey suits a field, told from maps and outlines without a network."""

import socket

import numpy as np
import pytest
from astropy import units as u
from mocpy import MOC

from photometrus.errors import UsageError
from photometrus.instrument import BANDS
from photometrus.io import catalogs
from photometrus.io.catalogs import choice, footprints, naming, quality
from photometrus.io.catalogs.columns import DEC, RA
from photometrus.io.catalogs.footprints import FOOTPRINTS, coverage, points_in

CHIP_DEG = 0.42
"""Half the diagonal of a chip, with some room."""


def names(band, ra, dec, radius=CHIP_DEG):
    return [one.survey for one in catalogs.choose_surveys(band, ra, dec, radius)]


def on_sky(n, seed):
    rs = np.random.RandomState(seed)
    return rs.uniform(0, 360, n), np.degrees(np.arcsin(rs.uniform(-1, 1, n)))


@pytest.mark.parametrize("name", ["vhs-dr6.fits", "viking-dr5.fits"])
def test_maps_are_read_as_the_reference_library_reads_them(name):
    path = footprints.resources.files("photometrus.io.catalogs") / "mocs" / name
    assert path.stat().st_size < 100_000
    moc = MOC.from_fits(str(path))
    ra, dec = on_sky(100_000, 1)
    inside = footprints.Map(name).holds(ra, dec)
    np.testing.assert_array_equal(inside, moc.contains_lonlat(ra * u.deg, dec * u.deg))
    # a fraction p of n points: sqrt(p (1 - p) / n), five of these
    p = moc.sky_fraction
    assert abs(inside.mean() - p) < 5 * np.sqrt(p * (1 - p) / 1e5)
    text = (path.parent / "ATTRIBUTION").read_text()
    assert name in text


@pytest.mark.parametrize(
    ("survey", "area", "tolerance"),
    [
        ("DES", 5000, 300),  # published: "about 5000", the outline 5100
        ("PS1", 30940, 1),  # 3 pi steradians are 30 940
        ("VVV", 562, 40),  # published for bulge and disc
        ("GCS", 420, 60),  # half of what the eight areas add up to
    ],
)
def test_outlines_have_the_published_areas(survey, area, tolerance):
    ra, dec = on_sky(200_000, 2)
    inside = np.zeros(ra.shape, bool)
    for shape in FOOTPRINTS[survey]:
        inside |= shape.holds(ra, dec)
    fraction = inside.mean()
    error = 41253 * np.sqrt(fraction * (1 - fraction) / ra.size)
    assert abs(41253 * fraction - area) < tolerance + 4 * error


@pytest.mark.parametrize("centre", [(150.0, -30.0), (0.05, 10.0), (123.0, 89.9), (77.0, -90.0)])
def test_points_are_spread_evenly_over_a_circle(centre):
    ra, dec = points_in(*centre, 1.0)
    apart = catalogs.separation_deg(ra, dec, *centre)
    assert apart.max() < 1.0
    # Even in area: a fraction r^2 lies within r; counted to one point in 800 and the curvature.
    for r in (0.25, 0.5, 0.75):
        assert np.mean(apart < r) == pytest.approx(r**2, abs=2.5e-3)


def test_a_circle_on_an_edge_is_half_covered():
    # the edge is a small circle, its bend over 0.4 deg 2e-4 of it; 800 points: 1/28 of a row each
    assert coverage("PS1", 77.0, -30.0, 0.4) == pytest.approx(0.5, abs=0.02)
    assert coverage("PS1", 77.0, -29.5, 0.4) == 1.0
    assert coverage("PS1", 77.0, -30.5, 0.4) == 0.0
    assert coverage("LAS", 328.0, 0.0, 0.4) == pytest.approx(0.5, abs=0.02)  # through RA 0
    assert coverage("LAS", 0.0, 0.0, 0.4) == 1.0
    assert coverage("DES", 0.0, -50.0, 0.4) == coverage("DES", 359.9, -50.0, 0.4) == 1.0
    assert coverage("DES", 120.0, -40.0, 0.4) == 0.0
    assert coverage("VVV", 266.4, -29.0, 0.4) == 1.0  # the Galactic centre


@pytest.mark.parametrize(
    ("band", "place", "expected"),
    [
        # the simulated fields and places of known surveys
        ("J", (201.2, -0.52), ["VIKING", "2MASS"]),
        ("J", (266.4, -29.0), ["VIRAC2", "VVV", "GPS", "2MASS"]),
        ("J", (30.0, -40.0), ["VHS", "2MASS"]),
        ("H", (100.0, -80.0), ["VHS", "2MASS"]),
        ("Y", (30.0, -40.0), ["VHS", "DES", "2MASS"]),
        ("Y", (180.0, 25.0), ["PS1", "2MASS"]),
        ("Z", (344.572, 1.02675), ["SkyMapper", "PS1", "SDSS", "DES", "2MASS"]),
        ("Z", (100.0, -80.0), ["SkyMapper", "2MASS"]),
        ("J", (340.0, 30.0), ["UHS", "2MASS"]),
        ("J", (84.1, -20.0), ["VHS", "2MASS"]),
    ],
)
def test_known_fields_get_the_survey_an_observer_takes(band, place, expected):
    assert names(band, *place) == expected


def test_the_whole_sky_can_be_calibrated_in_every_band():
    for band in BANDS:
        for ra, dec in zip(*on_sky(15, 3), strict=True):
            first = catalogs.choose_surveys(band, ra, dec, CHIP_DEG)[0]
            assert first.coverage >= choice.COVERED


def test_what_covers_goes_before_what_is_deeper():
    # at the edge of VHS's map: less than 95 % of the field
    (first, second) = catalogs.choose_surveys("J", 84.1, -33.0, CHIP_DEG)
    assert (first.survey, second.survey) == ("2MASS", "VHS")
    assert first.coverage == 1.0
    assert 0.1 < second.coverage < 0.6


def test_the_band_itself_goes_before_a_neighbour_before_a_transform():
    for band, place in (("Z", (201.2, -0.52)), ("Y", (344.572, 1.02675))):
        whole = [
            one
            for one in catalogs.choose_surveys(band, *place, CHIP_DEG)
            if one.coverage >= choice.COVERED
        ]
        directness = [one.directness for one in whole]
        assert directness == sorted(directness)
        assert set(directness) == {0, 1, 2}
        for level in (0, 1, 2):
            useful = [round(one.useful, 1) for one in whole if one.directness == level]
            assert useful == sorted(useful, reverse=True)
        assert whole[0].words.startswith(f"{whole[0].survey}: 100 % of the field")
        assert "transformed" in whole[-1].words


def test_no_network_is_touched(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a socket was asked for")

    monkeypatch.setattr(socket, "socket", refuse)
    assert names("J", 201.2, -0.52)


def test_a_band_of_others_is_refused():
    with pytest.raises(UsageError, match="band 'K': known are Z, Y, J, H"):
        catalogs.choose_surveys("K", 10.0, 10.0, 0.4)


@pytest.mark.parametrize("name", catalogs.SURVEYS)
def test_every_survey_is_a_whole_row(name):
    survey = catalogs.SURVEYS[name]
    assert survey.name == name
    assert name in FOOTPRINTS
    assert survey.family in quality.FAMILIES
    assert survey.columns[:2] in [(a.name, d.name) for a, d in zip(RA, DEC, strict=True)]
    # every column that is asked for is kept, and can be understood
    assert {column.lower() for column in survey.columns} <= naming.known_names()
    asked = catalogs.services_of(survey)
    assert asked[0].protocol == "tap"
    assert len({(service.url, service.table) for service in asked}) >= 2
    for band, reach in survey.reach.items():
        assert band in BANDS
        assert reach.bright + 2.0 < reach.depth
