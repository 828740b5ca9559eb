"""Positions and radii as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from photometrus.cli.angles import Place, declination, places, radius, right_ascension
from photometrus.cli.times import moment
from photometrus.report import sexagesimal


@pytest.mark.parametrize(
    "text",
    [
        "344.572", "+344.572", "22:58:17.28", "22h58m17.28s", "22h 58m 17.28s", "22 58 17.28",
        " 22:58:17.28 ", "344d34m19.2s", "344°34'19.2\"",
    ],
)  # fmt: skip
def test_right_ascension(text):
    assert right_ascension(text) == pytest.approx(344.572, abs=1e-9)


@pytest.mark.parametrize(
    ("text", "degrees"),
    [
        ("1.02675", 1.02675), ("+01:01:36.3", 1.02675), ("-00:30:00", -0.5), ("-00 30 00", -0.5),
        ("-00d30m00s", -0.5), ("-0.5", -0.5), ("−00:30:00", -0.5), ("-00:30", -0.5),
        ("90", 90.0), ("-90:00:00", -90.0), ("5e-1", 0.5),
    ],
)  # fmt: skip
def test_declination_keeps_its_sign(text, degrees):
    assert declination(text) == pytest.approx(degrees, abs=1e-9)


@pytest.mark.parametrize(
    ("read", "text", "why"),
    [
        (right_ascension, "", "expected degrees or sexagesimal"),
        (right_ascension, "nan", "expected degrees or sexagesimal"),
        (right_ascension, "1e999", "finite"),
        (right_ascension, "__import__('os')", "expected degrees or sexagesimal"),
        (right_ascension, "-1", "0 to 360"),
        (right_ascension, "360.1", "0 to 360"),
        (right_ascension, "24:00:01", "0 to 24 hours"),
        (right_ascension, "22:60:00", "below 60"),
        (right_ascension, "22:58:60", "below 60"),
        (declination, "90.1", "-90 to 90"),
        (declination, "-90:00:01", "-90 to 90"),
        (declination, "01h00m00s", "not in hours"),
        (radius, "0", "above 0"),
        (radius, "-5", "expected a radius"),
        (radius, "5 parsec", "expected a radius"),
        (radius, "11deg", "at most 10 degrees"),
        (places, "no-such-file.txt", "no such file"),
        (places, "[]", "RA and Dec"),
        (places, "[(1,2), os.system('x')]", "list of pairs"),
        (places, "[(344.572,91)]", "-90 to 90"),
    ],
)
def test_what_is_refused(read, text, why):
    with pytest.raises(ValueError, match=why):
        read(text)


@pytest.mark.parametrize(
    ("text", "arcsec"),
    [
        ("5", 5), ("4.0", 4), ("5arcsec", 5), ("5_arcsec", 5), ("5 arcsec", 5), ('5"', 5),
        ("2arcmin", 120), ("2_arcmin", 120), ("2'", 120), (".5'", 30), ("0.1deg", 360),
        ("0.1_deg", 360), ("0.1degrees", 360), ("2ARCMIN", 120),
    ],
)  # fmt: skip
def test_radius(text, arcsec):
    assert radius(text) == pytest.approx(arcsec)


A, B = Place(344.572, 1.02675), Place(10.5, -0.5)


@pytest.mark.parametrize(
    "text",
    [
        "[(344.572,1.02675),(10.5,-0.5)]",
        "[[344.572, 1.02675], [10.5, -0.5]]",
        "(344.572,1.02675) (10.5,-0.5)",
        "[(344.572, 1.02675), (10.5, -0.5),]",
    ],
)
def test_a_list_as_older_users_gave_it(text):
    assert places(text) == (A, B)


ECSV = """# %ECSV 1.0
# ---
# datatype:
# - {name: dec_deg, unit: deg, datatype: float64}
# - {name: RA_DEG, unit: deg, datatype: float64}
dec_deg RA_DEG
1.02675 344.572
-0.5 10.5
"""


@pytest.mark.parametrize(
    "content",
    [
        "344.572 1.02675\n10.5 -0.5\n",
        "# ra dec\n\n344.572,1.02675\n10.5,-0.5 # the second\n",
        "344.572\t1.02675\n10.5\t-0.5\n",
        "22:58:17.28 +01:01:36.3\n00:42:00 -00:30:00\n",
        "22 58 17.28 +01 01 36.3\n00 42 00 -00 30 00\n",
        "ra,dec\n344.572,1.02675\n10.5,-0.5\n",
        ECSV,
    ],
)
def test_a_file_of_positions(tmp_path, content):
    path = tmp_path / "list.txt"
    path.write_text(content, encoding="utf-8")
    found = places(str(path))
    assert [(p.name, p.radius_arcsec) for p in found] == [("", None)] * 2
    for place, wanted in zip(found, (A, B), strict=True):
        assert place.ra_deg == pytest.approx(wanted.ra_deg, abs=1e-9)
        assert place.dec_deg == pytest.approx(wanted.dec_deg, abs=1e-9)


def test_names_and_radii_of_a_file(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("name,ra,dec,radius\nA 1,344.572,1.02675,2arcmin\nB,10.5,-0.5,\n")
    assert places(str(path)) == (Place(344.572, 1.02675, "A 1", 120.0), Place(10.5, -0.5, "B"))
    path.write_text("344.572 1.02675 A 5arcsec\n10.5 -0.5 3 B\n")
    assert places(str(path)) == (Place(344.572, 1.02675, "A", 5.0), Place(10.5, -0.5, "B", 3.0))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("344.572 1.0\n10.5\n", "line 2: a position is RA and Dec"),
        ("# nothing\n", "no position in it"),
        ("ra dec\n10 95\n", "line 2: a declination"),
        ("ra,dec,name\n10\n", "line 2: 1 columns, expected 2 or more"),
    ],
)
def test_a_file_that_is_no_list(tmp_path, content, why):
    path = tmp_path / "list.txt"
    path.write_text(content)
    with pytest.raises(ValueError, match=why):
        places(str(path))


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / "list.fits"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="cannot be read as text"):
        places(str(path))


@given(st.floats(0, 359.9999), st.floats(-90, 90))
def test_what_the_report_writes_is_read_back(ra_deg, dec_deg):
    ra, dec = sexagesimal(ra_deg, dec_deg).split()
    # A hundredth of a second is 0.15", half of it is rounded away; a tenth of an arcsecond likewise
    assert abs(right_ascension(ra) - ra_deg + 180) % 360 == pytest.approx(180, abs=0.076 / 3600)
    assert declination(dec) == pytest.approx(dec_deg, abs=0.051 / 3600)


@given(st.text(max_size=30))
def test_any_text_is_a_value_or_an_error(text):
    for read in (right_ascension, declination, radius):
        try:
            assert abs(read(text)) <= 36000
        except ValueError as error:
            assert str(error)  # noqa: PT017


@pytest.mark.parametrize(
    "text",
    [
        "2024-06-06T18:00:00", "2024-06-06 18:00:00", "2024-06-06T18:00:00Z", "60467.75",
        "2460468.25", "2024-06-06T20:00:00+02:00", "2024-06-06T18:00:00.000",
    ],
)  # fmt: skip
def test_moments(text):
    assert moment(text) == pytest.approx(60467.75, abs=1e-9)


@pytest.mark.parametrize("text", ["", "now", "nan", "12345", "2024-13-06", "2024-06-06T25:00:00"])
def test_moments_that_are_none(text):
    with pytest.raises(ValueError, match="expected"):
        moment(text)
