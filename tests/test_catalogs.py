"""Reference catalogues from files and from a real VO service on loopback, sound and broken."""

import socket
import socketserver
import threading
import time

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import MaskedColumn, Table

import dachs
from conftest import skip_unless_ci
from photometrus.errors import MissingInput, ServiceError, UsageError
from photometrus.io import catalogs
from photometrus.io.catalogs import services

COLUMNS = {
    "ra_deg": "deg",
    "dec_deg": "deg",
    "pos_err_arcsec": "arcsec",
    "pm_ra_mas_yr": "mas / yr",
    "pm_dec_mas_yr": "mas / yr",
    "epoch_yr": "yr",
    "mag": "mag",
    "mag_err": "mag",
    "extended": "None",
}
CENTRES = [(150.0, -30.0), (0.05, 10.0), (359.95, -0.5), (123.0, 89.9), (77.0, -90.0)]


def two_mass(n, centre, radius_deg, seed):
    """A catalogue with 2MASS's columns: stars on a cap of the sphere, whatever its place."""
    random = np.random.RandomState(seed)
    # Evenly on the cap: the cosine of the distance is uniform.
    apart = np.degrees(np.arccos(1 - random.uniform(size=n) * (1 - np.cos(np.radians(radius_deg)))))
    stars = SkyCoord(*centre, unit="deg").directional_offset_by(
        random.uniform(0, 360, n) * SkyCoord(0, 0, unit="deg").ra.unit,
        apart * SkyCoord(0, 0, unit="deg").ra.unit,
    )
    rows = Table({"RAJ2000": stars.ra.deg, "DEJ2000": stars.dec.deg})
    for band in "JHK":
        rows[f"{band}mag"] = np.round(random.uniform(8, 16, n), 3)
        rows[f"e_{band}mag"] = np.round(random.uniform(0.02, 0.1, n), 3)
    rows["errMaj"] = np.round(random.uniform(0.06, 0.2, n), 2)
    rows["errMin"] = 0.06
    rows["Qflg"] = "AAA"
    rows["XflgGAL"] = (random.uniform(size=n) < 0.1).astype(np.int16)
    return rows


@pytest.fixture
def rows():
    return two_mass(500, (150.0, -30.0), 1.0, seed=1)


def within(rows, centre, radius_deg):
    """The rows in a cone, by astropy."""
    stars = SkyCoord(rows["RAJ2000"], rows["DEJ2000"], unit="deg")
    return rows[stars.separation(SkyCoord(*centre, unit="deg")).deg <= radius_deg]


def test_a_file_gives_the_standard_columns(tmp_path, rows):
    rows.write(tmp_path / "ref.fits")
    stars = catalogs.reference(tmp_path / "ref.fits", (150.0, -30.0), 0.5, "J")
    assert {name: str(stars[name].unit) for name in stars.colnames} == COLUMNS
    assert stars["ra_deg"].dtype == np.float64
    assert stars["extended"].dtype == bool
    expected = within(rows, (150.0, -30.0), 0.5)
    expected.sort("Jmag")
    assert 100 < len(expected) < 200  # a quarter of 500
    assert stars.meta["n"] == len(stars) == len(expected)
    np.testing.assert_array_equal(stars["mag"], expected["Jmag"])
    assert set(stars["dec_deg"]) == set(expected["DEJ2000"])
    assert stars["extended"].sum() == expected["XflgGAL"].sum() > 0
    assert (stars["epoch_yr"] == 2000.0).all()
    first = expected[0]
    # the mean square of the two axes of the error ellipse
    one_axis = np.sqrt((first["errMaj"] ** 2 + first["errMin"] ** 2) / 2)
    assert stars["pos_err_arcsec"][0] == pytest.approx(one_axis, rel=1e-12)
    assert stars.meta["mag_system"] == "Vega"
    assert stars.meta["mag_band"] == "J"


@pytest.mark.parametrize("ending", [".ecsv", ".csv", ".vot", ".fits.gz"])
def test_every_format_gives_the_same(tmp_path, rows, ending):
    path = tmp_path / f"ref{ending}"
    rows.write(tmp_path / "ref.fits")
    rows.write(path, format={".vot": "votable", ".fits.gz": "fits"}.get(ending))
    expected = catalogs.reference(tmp_path / "ref.fits", (150.0, -30.0), 0.5, "H")
    stars = catalogs.reference(str(path), (150.0, -30.0), 0.5, "H")
    assert len(expected) > 100
    for name in COLUMNS:
        np.testing.assert_array_equal(stars[name], expected[name])


@pytest.mark.parametrize("centre", CENTRES)
def test_a_cone_is_round_everywhere(tmp_path, centre):
    rows = two_mass(2000, centre, 1.0, seed=2)
    rows.write(tmp_path / "ref.fits")
    stars = catalogs.reference(tmp_path / "ref.fits", centre, 0.5, "J")
    assert len(stars) == len(within(rows, centre, 0.5))
    # 2000 stars, a quarter of the area: 500 +- 19; five of those
    assert abs(len(stars) - 500) < 5 * 19.4


@pytest.mark.parametrize(("band", "used"), [("Z", "J"), ("Y", "J"), ("J", "J"), ("H", "H")])
def test_a_band_that_is_not_there_is_the_nearest(tmp_path, rows, band, used):
    rows.write(tmp_path / "ref.fits")
    stars = catalogs.reference(tmp_path / "ref.fits", (150.0, -30.0), 2.0, band)
    assert stars.meta["mag_band"] == used
    np.testing.assert_array_equal(stars["mag"], np.sort(rows[f"{used}mag"]))


def test_gaia_has_motions_and_milliarcseconds():
    rows = Table(
        {
            "RA_ICRS": [10.0, 11.0],
            "DE_ICRS": [1.0, 2.0],
            "RAJ2000": [10.1, 11.1],
            "DEJ2000": [1.1, 2.1],
            "e_RA_ICRS": [0.3, 0.4],
            "e_DE_ICRS": [0.3, 0.4],
            "pmRA": MaskedColumn([5.0, 0.0], mask=[False, True]),
            "pmDE": MaskedColumn([-7.0, 0.0], mask=[False, True]),
            "Gmag": [15.0, 16.0],
            "RPmag": [14.5, 15.5],
        }
    )
    stars = catalogs.standard_columns(rows, "J", "gaia")
    np.testing.assert_array_equal(stars["ra_deg"], [10.0, 11.0])
    np.testing.assert_allclose(stars["pos_err_arcsec"], [3e-4, 4e-4], rtol=1e-12)
    np.testing.assert_array_equal(stars["pm_ra_mas_yr"], [5.0, 0.0])
    np.testing.assert_array_equal(stars["epoch_yr"], [2016.0, 2016.0])
    np.testing.assert_array_equal(stars["mag"], [14.5, 15.5])
    assert stars.meta["mag_band"] == "RP"
    assert stars.meta["proper_motions"]
    assert np.isnan(stars["mag_err"]).all()


def test_what_stands_for_nothing_is_nothing():
    rows = Table({"ra": [1.0, 2.0, 3.0, np.nan], "dec": [1.0, 2.0, 3.0, 4.0]})
    rows["j_m"] = [12.0, -99.99, 13.0, 14.0]
    rows["j_msigcom"] = [9.999, 0.02, 0.03, 0.04]
    rows["Epoch"] = [51544.5 + 365.25, 2451545.0, 2010.5, 2000.0]
    rows["_RAJ2000"], rows["_DEJ2000"] = 5.0, 5.0
    stars = catalogs.standard_columns(rows, "J", "irsa")
    np.testing.assert_array_equal(stars["ra_deg"], [1.0, 3.0])
    assert np.isnan(stars["mag_err"][0])
    assert stars["mag_err"][1] == 0.03
    # 51544.5 is the MJD of 2000.0
    np.testing.assert_allclose(stars["epoch_yr"], [2001.0, 2010.5], rtol=1e-12)
    assert stars.meta["pos_err_assumed"]
    np.testing.assert_array_equal(stars["pos_err_arcsec"], [0.1, 0.1])


def test_units_that_are_written_count():
    rows = Table(
        {"RAJ2000": [0.1], "DEJ2000": [0.2], "Jmag": [12.0], "errMaj": [60.0], "errMin": [60.0]}
    )
    rows["RAJ2000"].unit = rows["DEJ2000"].unit = "rad"
    rows["errMaj"].unit = rows["errMin"].unit = "mas"
    stars = catalogs.standard_columns(rows, "J", "x")
    assert stars["ra_deg"][0] == pytest.approx(np.degrees(0.1), rel=1e-12)
    assert stars["pos_err_arcsec"][0] == pytest.approx(0.06, rel=1e-12)
    rows["RAJ2000"].unit = "kg"
    with pytest.raises(UsageError, match="RAJ2000: its unit is kg, expected deg"):
        catalogs.standard_columns(rows, "J", "x")


def test_an_ldac_reference_is_read(tmp_path, rows):
    from photometrus.io.ldac import write_reference

    stars = catalogs.standard_columns(rows, "J", "x")
    write_reference(tmp_path / "ref.cat", stars)
    again = catalogs.reference(tmp_path / "ref.cat", (150.0, -30.0), 2.0, "J")
    assert len(again) == len(stars) == 500
    np.testing.assert_array_equal(np.sort(again["ra_deg"]), np.sort(stars["ra_deg"]))


def test_real_files(shared_data):
    stars = catalogs.reference(
        shared_data / "dev_full" / "refcat_2mass.fits", (201.2, -0.52), 0.4, "J"
    )
    assert len(stars) > 300
    deep = catalogs.reference(
        shared_data / "dev_full" / "refcat_deep.fits", (201.2, -0.52), 0.4, "Y"
    )
    assert deep.meta["mag_band"] == "Y"
    assert len(deep) > 3 * len(stars)
    real = shared_data / "real" / "w5_2mass_jhk.csv"
    stars = catalogs.reference(real, (43.0, 60.5), 1.0, "H")
    assert len(stars) > 1000
    assert np.isnan(stars["mag_err"]).all()


def test_errors_name_the_way_out(tmp_path, rows):
    cone = ((150.0, -30.0), 0.5, "J")
    with pytest.raises(MissingInput, match=r"absent\.fits: no such catalogue file"):
        catalogs.reference(tmp_path / "absent.fits", *cone)
    with pytest.raises(UsageError, match="'2mas': no such file.*did you mean '2mass'"):
        catalogs.reference("2mas", *cone)
    with pytest.raises(UsageError, match="band 'L'"):
        catalogs.reference("2MASS", (150.0, -30.0), 0.5, "L")
    with pytest.raises(UsageError, match="service 'http://x'.*expected tap"):
        catalogs.reference("2MASS", *cone, cache=tmp_path, services=["http://x"])
    rows["Jmag", "Hmag"].write(tmp_path / "a.ecsv")
    with pytest.raises(UsageError, match="wanted RAJ2000 DEJ2000.*found Jmag Hmag"):
        catalogs.reference(tmp_path / "a.ecsv", *cone)
    rows["RAJ2000", "DEJ2000"].write(tmp_path / "b.ecsv")
    with pytest.raises(UsageError, match="wanted Jmag or its like, found RAJ2000 DEJ2000"):
        catalogs.reference(tmp_path / "b.ecsv", *cone)
    fits.writeto(tmp_path / "image.fits", np.zeros((4, 4)))
    (tmp_path / "text.fits").write_text("nothing")
    (tmp_path / "bad.vot").write_text("<html><body>sorry</body></html>")
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    for name in ("image.fits", "text.fits", "bad.vot", "x.parquet"):
        with pytest.raises(UsageError, match=name):
            catalogs.reference(tmp_path / name, *cone)
    sexagesimal = Table({"RAJ2000": ["10 00 00"], "DEJ2000": ["-30 00 00"], "Jmag": [12.0]})
    with pytest.raises(UsageError, match="RAJ2000: holds .*, expected numbers in deg"):
        catalogs.standard_columns(sexagesimal, "J", "x")


# A real service

SKY = {"plain": (201.2, -0.52), "wrapped": (0.02, 3.0), "pole": (45.0, -89.95)}


@pytest.fixture(scope="module")
def sky():
    """What the service has: stars around three places."""
    from astropy.table import vstack

    return vstack([two_mass(800, c, 0.8, seed=i) for i, c in enumerate(SKY.values())])


@pytest.fixture(scope="module")
def vo(sky):
    """A real DaCHS serving that sky."""
    if not dachs.installed():
        skip_unless_ci("GAVO DaCHS or PostgreSQL is not installed")
    with dachs.serve(sky) as running:
        yield running


@pytest.mark.parametrize("place", SKY)
@pytest.mark.parametrize("protocol", ["tap", "scs"])
def test_a_service_gives_what_a_file_gives(vo, sky, tmp_path, protocol, place):
    sky.write(tmp_path / "sky.fits")
    cone = (SKY[place], 0.5, "J")
    expected = catalogs.reference(tmp_path / "sky.fits", *cone)
    stars = catalogs.reference("2MASS", *cone, cache=tmp_path, services=[getattr(vo, protocol)])
    assert len(expected) > 200
    assert len(stars) == len(expected)
    for name in COLUMNS:
        # magnitudes and errors are float32 in the database: 6e-8
        np.testing.assert_allclose(stars[name], expected[name], rtol=1e-6, err_msg=name)
    assert stars.meta["source"] == "2MASS"


def test_a_cone_within_a_cone_needs_no_service(vo, tmp_path):
    big = catalogs.reference("2mass", SKY["wrapped"], 0.5, "J", cache=tmp_path, services=[vo.tap])
    kept = list(tmp_path.iterdir())
    assert len(kept) == 1
    nowhere = [f"tap+http://127.0.0.1:{dachs.free_port()}/tap"]
    inside = (359.9, 3.1)
    small = catalogs.reference("2MASS", inside, 0.3, "H", cache=tmp_path, services=nowhere)
    assert 0 < len(small) < len(big)
    apart = catalogs.separation_deg(small["ra_deg"], small["dec_deg"], *inside)
    assert apart.max() <= 0.3
    again = catalogs.reference("2MASS", SKY["wrapped"], 0.5, "J", cache=tmp_path, services=nowhere)
    assert (again == big).all()
    with pytest.raises(ServiceError):  # 0.16 deg away: a part of it is not there
        catalogs.reference("2MASS", inside, 0.4, "J", cache=tmp_path, services=nowhere)
    assert list(tmp_path.iterdir()) == kept


@pytest.mark.parametrize("cut", [3000, -3000, 0])
def test_a_damaged_cache_is_asked_again(vo, tmp_path, caplog, cut):
    first = catalogs.reference("2MASS", SKY["plain"], 0.2, "J", cache=tmp_path, services=[vo.tap])
    (kept,) = tmp_path.iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[:cut])
    again = catalogs.reference("2MASS", SKY["plain"], 0.2, "J", cache=tmp_path, services=[vo.tap])
    assert "damaged" in caplog.text
    assert len(again) == len(first) > 0
    assert len(kept.read_bytes()) == len(whole)


def test_environment_tells_services_and_cache(vo, tmp_path, monkeypatch):
    nowhere = f"tap+http://127.0.0.1:{dachs.free_port()}/tap"
    monkeypatch.setenv("PHOTOMETRUS_VO_2MASS", f"{nowhere} {vo.scs}")
    monkeypatch.setenv("PHOTOMETRUS_CACHE", str(tmp_path / "new" / "folder"))
    assert len(catalogs.reference("2MASS", SKY["plain"], 0.2, "J")) > 10
    assert len(list((tmp_path / "new" / "folder").iterdir())) == 1


def test_no_stars_is_an_answer_that_is_not_kept(vo, tmp_path):
    stars = catalogs.reference("2MASS", (100.0, 50.0), 0.2, "J", cache=tmp_path, services=[vo.tap])
    assert len(stars) == 0
    assert set(stars.colnames) == set(COLUMNS)
    assert not list(tmp_path.iterdir())


def test_a_service_that_lacks_the_table_is_passed_over(vo, tmp_path, monkeypatch):
    monkeypatch.setattr(services, "PAUSE_S", 0.0)
    wrong = vo.tap.replace("twomass.data", "absent.stars")
    stars = catalogs.reference(
        "2MASS", SKY["plain"], 0.2, "J", cache=tmp_path, services=[wrong, vo.scs]
    )
    assert len(stars) > 10
    with pytest.raises(ServiceError, match="no service answered, of 1 asked 2 times.*absent"):
        catalogs.reference("2MASS", SKY["plain"], 0.3, "J", cache=tmp_path, services=[wrong])


# Services that are broken


VOTABLE_ERROR = b"""<?xml version="1.0"?>
<VOTABLE version="1.3" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE type="results">
<INFO name="QUERY_STATUS" value="ERROR">the disk is full</INFO></RESOURCE></VOTABLE>"""
VOTABLE_OTHER = b"""<?xml version="1.0"?>
<VOTABLE version="1.3" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE type="results">
<INFO name="QUERY_STATUS" value="OK"/><TABLE><FIELD name="ident" datatype="int"/><DATA><TABLEDATA>
<TR><TD>1</TD></TR></TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>"""
CASES = {
    "html": (b"200 OK", b"<html><body>We are down</body></html>", ""),
    "error": (b"200 OK", VOTABLE_ERROR, "the disk is full"),
    "other": (b"200 OK", VOTABLE_OTHER, "without"),
    "500": (b"500 Internal Server Error", b"oops", "500"),
    "empty": (b"200 OK", b"", ""),
    "cut": (b"200 OK", VOTABLE_OTHER[:150], ""),
}


class Broken(socketserver.ThreadingTCPServer):
    """A server that answers every request with the same bytes, or not at all."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, answer):
        self.answer = answer
        self.asked = 0
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def __exit__(self, *args):
        self.shutdown()
        super().__exit__(*args)


class _Handler(socketserver.StreamRequestHandler):
    def handle(self):
        self.server.asked += 1
        self.request.recv(65536)
        if self.server.answer is None:
            time.sleep(3.0)
            return
        status, body = self.server.answer
        self.wfile.write(
            b"HTTP/1.1 %s\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n"
            b"Connection: close\r\n\r\n%s" % (status, len(body), body)
        )


@pytest.mark.parametrize("protocol", ["tap", "scs"])
@pytest.mark.parametrize("case", CASES)
def test_garbage_is_one_line(tmp_path, monkeypatch, case, protocol):
    monkeypatch.setattr(services, "PAUSE_S", 0.0)
    status, body, told = CASES[case]
    with Broken((status, body)) as server:
        address = f"{protocol}+http://127.0.0.1:{server.server_address[1]}/x"
        with pytest.raises(ServiceError, match="2MASS: no service answered") as caught:
            catalogs.reference("2MASS", (10, 10), 0.1, "J", cache=tmp_path, services=[address])
        assert server.asked == 2
    assert "\n" not in str(caught.value)
    assert "<" not in str(caught.value)
    if case != "error" or protocol == "tap":  # a cone search has no such status
        assert told in str(caught.value)
    assert len(str(caught.value)) < 450
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("protocol", ["tap", "scs"])
def test_a_silent_or_absent_service_costs_its_time_out(tmp_path, monkeypatch, protocol):
    monkeypatch.setattr(services, "PAUSE_S", 0.0)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound but not listening: refuses
        absent = f"{protocol}+http://127.0.0.1:{closed.getsockname()[1]}/x"
        with Broken(None) as server:
            silent = f"{protocol}+http://127.0.0.1:{server.server_address[1]}/x"
            begin = time.monotonic()
            with pytest.raises(ServiceError, match="of 2 asked 2 times"):
                catalogs.reference(
                    *("2MASS", (10, 10), 0.1, "J"),
                    cache=tmp_path,
                    services=[silent, absent],
                    timeout_s=0.3,
                )
            # twice 0.3 s for the silent one; the absent one refuses at once
            assert 0.6 <= time.monotonic() - begin < 2.5


def test_the_surveys_are_rows():
    for name, survey in catalogs.SURVEYS.items():
        assert survey.name == name
        asked = catalogs.services_of(survey)
        assert asked[0].protocol == "tap"
        assert {service.protocol for service in asked} == {"tap", "scs"}
        assert len({service.url for service in asked}) >= 8
        assert all(service.url.startswith("https://") for service in asked)
