"""Surveys asked at a real VO service and a real database on loopback, sound and broken."""

import logging
import socket
import socketserver
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import psycopg
import pytest

import dachs
from catalogcase import SKY, everywhere, two_mass, vhs, within
from conftest import skip_unless_ci
from photometrus.errors import ServiceError, UsageError
from photometrus.io import catalogs
from photometrus.io.catalogs import services

SERVED = {"2MASS": "twomass", "VHS": "vhs"}
REFERENCE = ["ra_deg", "dec_deg", "pos_err_arcsec", "epoch_yr", "mag", "mag_err", "extended"]
CALIBRATORS = [*REFERENCE, "color", "color_err", "good"]


@pytest.fixture(scope="module")
def sky():
    """What the service has: two surveys around three places."""
    return {"2MASS": everywhere(two_mass), "VHS": everywhere(vhs)}


@pytest.fixture(scope="module")
def vo(sky):
    """A real DaCHS serving that sky, and its database with a mirror of VHS."""
    if not dachs.installed():
        skip_unless_ci("GAVO DaCHS or PostgreSQL is not installed")
    tables = {SERVED[name]: rows for name, rows in sky.items()}
    tables["twomass"] = tables["twomass"].copy()
    tables["twomass"].rename_column("XflgGAL", "Xflg")
    other = tables["vhs"].copy()  # the same, as another archive calls it
    for band in ("Y", "J", "H", "Ks"):
        small = band.lower()
        for name, archive in (("{}ap3", "{}apermag3"), ("e_{}ap3", "{}apermag3err")):
            other.rename_column(name.format(band), archive.format(small))
        other.rename_column(f"{band}perrbits", f"{small}pperrbits")
    other.rename_column("Mclass", "mergedclass")
    tables["vhsother"] = other
    with dachs.serve(tables) as running:
        with psycopg.connect(running.database) as connection:
            connection.execute(
                "CREATE TABLE prime_vhs_local AS SELECT raj2000 AS ra, dej2000 AS dec, * FROM"
                " surveys.vhs"
            )
            connection.execute("CREATE INDEX ON prime_vhs_local (q3c_ang2ipix(ra, dec))")
        yield running


@pytest.fixture
def nowhere(monkeypatch):
    """A service that refuses at once, and no pause before it is asked again."""
    monkeypatch.setattr(services, "PAUSE_S", 0.0)
    return f"tap+http://127.0.0.1:{dachs.free_port()}/tap"


def same(stars, expected, columns):
    assert len(stars) == len(expected) > 100
    for name in columns:
        # magnitudes and errors are float32 in the database, and colours are their differences:
        # 16 mag times 6e-8
        np.testing.assert_allclose(stars[name], expected[name], rtol=1e-6, atol=3e-6, err_msg=name)


@pytest.mark.parametrize("place", SKY)
@pytest.mark.parametrize("protocol", ["tap", "scs"])
@pytest.mark.parametrize("survey", SERVED)
def test_a_service_gives_what_a_file_gives(vo, sky, tmp_path, survey, protocol, place):
    sky[survey].write(tmp_path / "sky.fits")
    cone = (SKY[place], 0.6, "J")
    given = {"cache": tmp_path, "services": [getattr(vo, protocol)(SERVED[survey])]}
    stars = catalogs.reference(survey, *cone, **given)
    same(stars, catalogs.reference(tmp_path / "sky.fits", *cone), REFERENCE[:3] + REFERENCE[4:])
    assert stars.meta["source"] == survey
    assert set(stars["epoch_yr"]) == {catalogs.SURVEYS[survey].epoch_yr}
    stars = catalogs.calibrators(survey, *cone, **given)
    expected = catalogs.calibrators(tmp_path / "sky.fits", *cone)
    bright = stars.meta["bright"]
    expected["good"] &= expected["mag"] > bright
    same(stars, expected, CALIBRATORS[:3] + CALIBRATORS[4:])
    assert 0 < stars["good"].sum() < len(stars)
    assert stars.meta["survey"] == survey
    assert stars.meta["photometric_system"] == {"2MASS": "2MASS", "VHS": "VISTA"}[survey]


def test_a_field_that_was_asked_once_needs_no_service(vo, tmp_path, nowhere):
    tap = vo.tap("twomass")
    big = catalogs.reference("2mass", SKY["wrapped"], 0.5, "J", cache=tmp_path, services=[tap])
    kept = sorted(tmp_path.rglob("*"))
    assert 10 < len(kept) < 60  # tiles of 0.21 square degrees, within at most 1.3 deg
    offline = {"cache": tmp_path, "services": [nowhere]}
    inside = (359.9, 3.1)
    small = catalogs.calibrators("2MASS", inside, 0.3, "H", **offline)
    assert 0 < len(small) < len(big)
    apart = catalogs.separation_deg(small["ra_deg"], small["dec_deg"], *inside)
    assert apart.max() <= 0.3
    assert (catalogs.reference("2MASS", SKY["wrapped"], 0.5, "J", **offline) == big).all()
    with pytest.raises(ServiceError):  # a part of it is not there
        catalogs.reference("2MASS", inside, 1.2, "J", **offline)
    assert sorted(tmp_path.rglob("*")) == kept
    more = catalogs.reference("2MASS", inside, 1.2, "J", cache=tmp_path, services=[nowhere, tap])
    assert len(more) > len(big)
    assert set(kept) < set(tmp_path.rglob("*"))


def test_more_than_a_service_gives_is_asked_for_in_parts(vo, sky, tmp_path, monkeypatch):
    asked = []
    query = services.Enquiry._query
    monkeypatch.setattr(
        services.Enquiry, "_query", lambda *a: asked.append(a[2]) or query(*a), raising=True
    )
    monkeypatch.setattr(services, "MAX_ROWS", 250)
    cone = (SKY["plain"], 0.8, "J")
    stars = catalogs.reference("2MASS", *cone, cache=tmp_path, services=[vo.tap("twomass")])
    # 800 stars on 8 square degrees; 0.8 deg and the tiles around it are most of that
    assert len(stars) == len(within(sky["2MASS"], SKY["plain"], 0.8)) > 150
    assert 3 <= len(asked) <= 20
    monkeypatch.setattr(services, "MAX_ROWS", 2)
    with pytest.raises(ServiceError, match="more rows than any service gives"):
        catalogs.reference(
            "2MASS", SKY["plain"], 0.1, "J", cache=tmp_path / "b", services=[vo.tap("twomass")]
        )


def test_tiles_of_two_archives_fit_together(vo, sky, tmp_path, nowhere):
    """The survey's first service and another with other names, each for a part of the field."""
    first = {"cache": tmp_path, "services": [vo.tap("vhs")]}
    other = {"cache": tmp_path, "services": [vo.tap("vhsother")]}
    part = catalogs.calibrators("VHS", SKY["plain"], 0.1, "J", **first)
    catalogs.calibrators("VHS", (SKY["plain"][0], SKY["plain"][1] + 0.9), 0.1, "J", **other)
    whole = catalogs.calibrators("VHS", SKY["plain"], 0.7, "J", **other)
    assert len(whole) == len(within(sky["VHS"], SKY["plain"], 0.7)) > len(part) > 0
    alone = catalogs.calibrators(
        "VHS", SKY["plain"], 0.7, "J", cache=tmp_path / "b", services=first["services"]
    )
    same(whole, alone, CALIBRATORS)


def test_several_processes_fill_one_cache(vo, sky, tmp_path):
    code = (
        "import sys; from pathlib import Path; from photometrus.io import catalogs;"
        f"stars = catalogs.reference('VHS', {SKY['plain']}, 0.5, 'J', cache=Path(sys.argv[1]),"
        f" services=['{vo.tap('vhs')}']); print(len(stars))"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    counts = [int(one.communicate(timeout=120)[0]) for one in running]
    assert counts == [len(within(sky["VHS"], SKY["plain"], 0.5))] * 2
    assert not list(tmp_path.rglob("*.part"))
    stars = catalogs.reference(
        "VHS", SKY["plain"], 0.5, "J", cache=tmp_path, services=["tap+http://127.0.0.1:9/x"]
    )
    assert len(stars) == counts[0]


@pytest.mark.parametrize("cut", [3000, -3000, 0])
def test_a_damaged_cache_is_asked_again(vo, tmp_path, caplog, cut):
    given = {"cache": tmp_path, "services": [vo.tap("twomass")]}
    first = catalogs.reference("2MASS", SKY["plain"], 0.2, "J", **given)
    kept = max(tmp_path.rglob("*.fits"), key=lambda path: path.stat().st_size)
    for path in tmp_path.rglob("*.fits"):
        path.write_bytes(path.read_bytes()[:cut])
    again = catalogs.reference("2MASS", SKY["plain"], 0.2, "J", **given)
    assert "damaged" in caplog.text
    assert (again == first).all()
    assert len(first) > 5
    assert kept.stat().st_size > 5000


def test_environment_tells_services_and_cache(vo, tmp_path, monkeypatch, nowhere):
    monkeypatch.setenv("PHOTOMETRUS_VO_VHS", f"{nowhere} {vo.scs('vhs')}")
    monkeypatch.setenv("PHOTOMETRUS_CACHE", str(tmp_path / "new" / "folder"))
    assert len(catalogs.calibrators("VHS", SKY["plain"], 0.3, "J")) > 10
    assert list((tmp_path / "new" / "folder").rglob("*.fits"))


def test_no_stars_is_an_answer_that_is_not_kept(vo, tmp_path):
    given = {"cache": tmp_path, "services": [vo.tap("twomass")]}
    stars = catalogs.reference("2MASS", (100.0, 50.0), 0.2, "J", **given)
    assert len(stars) == 0
    assert set(REFERENCE) < set(stars.colnames)
    assert not list(tmp_path.rglob("*.fits"))
    assert len(catalogs.calibrators("2MASS", (100.0, 50.0), 0.2, "Y", **given)) == 0


def test_a_service_that_lacks_the_table_is_passed_over(vo, tmp_path, nowhere):
    wrong = vo.tap("twomass").replace("surveys.twomass", "absent.stars")
    cone = ("2MASS", SKY["plain"], 0.2, "J")
    stars = catalogs.reference(*cone, cache=tmp_path, services=[wrong, vo.scs("twomass")])
    assert len(stars) > 5
    with pytest.raises(ServiceError, match="2MASS: no service answered.*absent"):
        catalogs.reference(*cone, cache=tmp_path / "b", services=[wrong])


# A mirror in a database of one's own


def test_a_mirror_gives_what_the_survey_gives(vo, tmp_path, nowhere):
    cone = (SKY["wrapped"], 0.6, "J")
    expected = catalogs.calibrators("VHS", *cone, cache=tmp_path, services=[vo.tap("vhs")])
    whole = catalogs.calibrators(f"{vo.database}#prime_vhs_local", *cone)
    same(whole, expected, CALIBRATORS)
    assert whole.meta["survey"] == "VHS"
    found = catalogs.calibrators(vo.database, (201.2, -40.0), 0.6, "J")  # in VHS's field
    assert found.meta["survey"] == "VHS"
    as_service = catalogs.calibrators(
        "VHS", *cone, cache=tmp_path / "b", services=[nowhere, f"{vo.database}#prime_vhs_local"]
    )
    same(as_service, expected, CALIBRATORS)
    offline = catalogs.calibrators("VHS", *cone, cache=tmp_path / "b", services=[nowhere])
    same(offline, expected, CALIBRATORS)
    unknown = catalogs.calibrators(f"{vo.database}#surveys.vhs", *cone)
    assert unknown.meta["survey"] == "local"
    assert unknown.meta["photometric_system"] == "VISTA"  # told by its columns


def test_a_mirror_that_fails_says_so_without_the_password(vo, tmp_path, nowhere, caplog):
    caplog.set_level(logging.DEBUG)
    address = vo.database.replace("postgresql://", "postgresql://x:geheim@").replace(
        "@postgres@", "@"
    )
    cone = (SKY["plain"], 0.2, "J")
    with pytest.raises(ServiceError, match="absent") as no_table:
        catalogs.calibrators(f"{vo.database}#absent", *cone)
    with pytest.raises(ServiceError) as no_user:
        catalogs.calibrators(f"{address}#prime_vhs_local", *cone)
    down = f"postgresql://me:geheim@127.0.0.1:{dachs.free_port()}/gavo#prime_vhs_local"
    with pytest.raises(ServiceError, match="VHS: no service answered") as no_server:
        catalogs.calibrators("VHS", *cone, cache=tmp_path, services=[down])
    with pytest.raises(UsageError, match="no table prime_<survey>_local"):
        catalogs.calibrators(vo.database, (180.0, 50.0), 0.2, "J")  # VHS never looked there
    with pytest.raises(UsageError) as wrong:
        catalogs.calibrators("VHS", *cone, cache=tmp_path, services=["x://me:geheim@host/db"])
    for caught in (no_table, no_user, no_server, wrong):
        assert "geheim" not in str(caught.value)
        assert "\n" not in str(caught.value)
    assert "geheim" not in caplog.text


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
    """A server that answers every request with the same bytes, not at all, or without an end."""

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
        length = b"" if body is ENDLESS else b"Content-Length: %d\r\n" % len(body)
        self.wfile.write(
            b"HTTP/1.1 %s\r\nContent-Type: text/xml\r\n%sConnection: close\r\n\r\n"
            % (status, length)
        )
        if body is not ENDLESS:
            self.wfile.write(body)
            return
        self.wfile.write(VOTABLE_OTHER.split(b"<TR>")[0])
        end = time.monotonic() + 5.0
        try:
            while time.monotonic() < end:
                self.wfile.write(b"<TR><TD>1</TD></TR>\n" * 100)
                time.sleep(0.01)
        except OSError:
            pass  # the client has given up, as it should


ENDLESS = b"endless"


@pytest.mark.parametrize("protocol", ["tap", "scs"])
@pytest.mark.parametrize("case", CASES)
def test_garbage_is_one_line(tmp_path, nowhere, case, protocol):
    status, body, told = CASES[case]
    with Broken((status, body)) as server:
        address = f"{protocol}+http://127.0.0.1:{server.server_address[1]}/x"
        with pytest.raises(ServiceError, match="2MASS: no service answered") as caught:
            catalogs.reference("2MASS", (10, 10), 0.1, "J", cache=tmp_path, services=[address])
        # twice; a TAP service is asked for its columns as well
        assert 2 <= server.asked <= (4 if protocol == "tap" else 2)
    assert "\n" not in str(caught.value)
    assert "<" not in str(caught.value)
    if case != "error" or protocol == "tap":  # a cone search has no such status
        assert told in str(caught.value)
    assert len(str(caught.value)) < 450
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("protocol", ["tap", "scs"])
def test_a_silent_or_absent_service_costs_its_time_out(tmp_path, nowhere, protocol):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound but not listening: refuses
        absent = f"{protocol}+http://127.0.0.1:{closed.getsockname()[1]}/x"
        with Broken(None) as server:
            silent = f"{protocol}+http://127.0.0.1:{server.server_address[1]}/x"
            begin = time.monotonic()
            with pytest.raises(ServiceError) as caught:
                catalogs.reference(
                    *("2MASS", (10, 10), 0.1, "J"),
                    cache=tmp_path,
                    services=[silent, absent],
                    timeout_s=0.3,
                )
            # once 0.3 s for the silent one, which is not asked again
            assert 0.3 <= time.monotonic() - begin < 2.0
            assert server.asked == 1
    text = str(caught.value)
    assert text.startswith("2MASS: no service answered (127.0.0.1:")
    assert "silent too long" in text
    assert "not reachable" in text
    assert "-catalog FILE" in text
    assert str(tmp_path) in text


@pytest.mark.parametrize("limit", ["MAX_BYTES", "MAX_TIMES"])
def test_an_endless_answer_is_given_up(tmp_path, nowhere, monkeypatch, limit):
    monkeypatch.setattr(services, limit, {"MAX_BYTES": 50_000, "MAX_TIMES": 0.5}[limit])
    with Broken((b"200 OK", ENDLESS)) as server:
        address = f"scs+http://127.0.0.1:{server.server_address[1]}/x"
        begin = time.monotonic()
        with pytest.raises(ServiceError, match="does not end"):
            catalogs.reference(
                "2MASS", (10, 10), 0.1, "J", cache=tmp_path, services=[address], timeout_s=0.5
            )
        assert time.monotonic() - begin < 3.0


def test_a_truncated_cone_search_is_not_believed(tmp_path, nowhere):
    body = VOTABLE_OTHER.replace(
        b'value="OK"/>', b'value="OK"/><INFO name="warning" value="truncated result (max=50)"/>'
    )
    with Broken((b"200 OK", body)) as server:
        address = f"scs+http://127.0.0.1:{server.server_address[1]}/x"
        with pytest.raises(ServiceError, match="more rows than any service gives"):
            catalogs.reference("2MASS", (10, 10), 0.1, "J", cache=tmp_path, services=[address])


def test_services_are_known_by_host_not_by_password():
    survey = SimpleNamespace(name="VHS", table="x", services=())
    (mirror,) = catalogs.services_of(survey, ["postgresql://me:secret@host:5/db"])
    assert mirror.table == "prime_vhs_local"
    assert str(mirror) == "postgresql://host:5#prime_vhs_local"
    assert mirror.host == "host:5"
    (web,) = catalogs.services_of(survey, ["tap+https://me:secret@host/tap#a.b"])
    assert str(web) == "tap+https://host/tap"
    assert "secret" not in f"{mirror!r} {web!r} {web.host}"
