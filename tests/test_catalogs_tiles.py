"""The cache by tiles of the sky: what is asked for, kept, given back; and several at once."""

import subprocess
import sys
import threading

import numpy as np
import pytest
from astropy import units as u
from astropy.table import Table

from catalogcase import on_cap, two_mass, within
from faulttable import tell
from photometrus.errors import ServiceError
from photometrus.io.catalogs import tiles
from servers import HOST, free_port, web_server

CONES = [
    *((150.0, -30.0, 0.35), (0.02, 3.0, 0.91), (359.9, -0.5, 0.35), (45.0, -89.95, 0.91)),
    *((45.0, 89.5, 0.35), (10.0, 41.8, 0.05), (200.0, -41.8, 1.5), (90.0, 66.4, 0.9)),
]


class Sky:
    """Stars around a place, and how often it was looked at; it gives `most` stars at once."""

    def __init__(self, cone, density=400, most=10**6):
        ra, dec, radius = cone
        n = int(density * np.pi * (radius + 2.0) ** 2)
        self.rows = on_cap(np.random.RandomState(5), n, (ra, dec), radius + 2.0)
        self.rows["Jmag"] = np.linspace(10, 18, n)
        self.most = most
        self.asked = []

    def __call__(self, cone):
        self.asked.append(cone)
        rows = within(self.rows, cone[:2], cone[2])
        if len(rows) > self.most:
            raise tiles.TooManyRows("too many")
        return rows


def positions(rows):
    return {(row["RAJ2000"], row["DEJ2000"]) for row in rows}


@pytest.mark.parametrize("cone", CONES)
def test_a_cone_is_whole_wherever_it_is(tmp_path, cone):
    sky = Sky(cone)
    expected = positions(within(sky.rows, cone[:2], cone[2]))
    assert positions(tiles.cached("X", cone, tmp_path, sky)) >= expected
    assert len(sky.asked) == 1
    again = tiles.cached("X", cone, tmp_path, sky)
    assert len(sky.asked) == 1
    assert positions(again) >= expected
    assert len(positions(again)) == len(again)  # none twice


@pytest.mark.parametrize("cone", CONES)
def test_tiles_touch_a_cone_or_lie_in_it(cone):
    ra, dec, radius = cone
    inner, near = set(tiles.tiles_in(cone)), set(tiles.tiles_of(cone))
    assert inner <= near
    points = on_cap(np.random.RandomState(6), 20000, (ra, dec), radius * 1.001)
    at = tiles.TILES.lonlat_to_healpix(points["RAJ2000"] * u.deg, points["DEJ2000"] * u.deg)
    assert set(at.tolist()) <= near
    beyond = on_cap(np.random.RandomState(7), 20000, (ra, dec), radius + 1.0)
    apart = tiles.separation_deg(beyond["RAJ2000"], beyond["DEJ2000"], ra, dec)
    at = tiles.TILES.lonlat_to_healpix(beyond["RAJ2000"] * u.deg, beyond["DEJ2000"] * u.deg)
    assert not set(at[apart > radius].tolist()) & inner
    around = tiles.around(sorted(near))
    assert near <= set(tiles.tiles_in(around))
    # a circle and the tiles that it touches: not wider than their diagonal, 0.46 deg squared
    assert around[2] < radius + 1.0


def test_too_much_is_asked_for_in_parts(tmp_path):
    cone = (150.0, -30.0, 0.9)
    sky = Sky(cone, most=700)  # of about 2700 in one circle around all tiles
    rows = tiles.cached("X", cone, tmp_path, sky)
    assert positions(rows) >= positions(within(sky.rows, cone[:2], cone[2]))
    assert 3 < len(sky.asked) < 30
    whole = Sky(cone, most=3)
    with pytest.raises(ServiceError, match="too many"):
        tiles.cached("Y", cone, tmp_path, whole)


def test_a_neighbour_asks_only_for_what_is_missing(tmp_path):
    sky = Sky((150.0, -30.0, 0.9))
    tiles.cached("X", (150.0, -30.0, 0.35), tmp_path, sky)
    first = sky.asked[0]
    tiles.cached("X", (150.0, -30.8, 0.35), tmp_path, sky)
    assert len(sky.asked) == 2
    assert sky.asked[1][2] < first[2]
    tiles.cached("Y", (150.0, -30.0, 0.35), tmp_path, sky)  # another survey
    assert len(sky.asked) == 3


def test_tiles_without_stars_are_known_but_not_a_sky_without(tmp_path, caplog):
    cone = (150.0, -30.0, 0.5)
    one = Table({"RAJ2000": [150.0], "DEJ2000": [-30.0], "Jmag": [12.0], "Qflg": ["AAA"]})
    asked = []
    for _ in range(2):
        rows = tiles.cached("X", cone, tmp_path, lambda c: asked.append(c) or one)
    assert len(asked) == 1
    assert len(rows) == 1
    assert rows["Qflg"][0] == "AAA"
    for _ in range(2):
        assert len(tiles.cached("Y", cone, tmp_path, lambda c: asked.append(c) or one[:0])) == 0
    assert len(asked) == 3
    assert "not kept" in caplog.text


def test_a_folder_that_refuses_costs_a_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    sky = Sky((150.0, -30.0, 0.35))
    assert len(tiles.cached("X", (150.0, -30.0, 0.35), tmp_path / "file", sky)) > 100
    tell("a catalogue cache that may not be written", caplog.text)


ASK = """
import hashlib, sys
from pathlib import Path
from photometrus.io.catalogs import reference
stars = reference("2MASS", (150.0, -30.0), 0.5, "J", cache=Path(sys.argv[1]), services=sys.argv[2:])
print(len(stars), hashlib.sha256(stars.as_array().tobytes()).hexdigest())
"""


def test_processes_that_fill_the_same_tiles_at_the_same_moment(tmp_path):
    """A web server answers when all have asked: then they write, and one reads on and on."""
    n, cache, served = 3, tmp_path / "cache", tmp_path / "served"
    served.mkdir()
    stars = two_mass(5000, (150.0, -30.0), 2.0, 1)
    stars["RAJ2000"].unit = stars["DEJ2000"].unit = u.deg
    stars.write(served / "stars.xml", format="votable")  # all, whatever cone is asked for
    together = threading.Barrier(n)
    command = [sys.executable, "-c", ASK, str(cache)]
    with web_server(served) as server:
        server.before = lambda path: together.wait(60)
        service = f"scs+{server.url}/stars.xml?"
        running = [
            subprocess.Popen([*command, service], stdout=subprocess.PIPE, text=True)
            for _ in range(n)
        ]
        seen = set()
        while any(process.poll() is None for process in running):
            seen |= {tiles._kept(path) is not None for path in cache.rglob("*.fits")}
        assert [process.returncode for process in running] == [0] * n
        assert len(server.requests) == n
    assert seen == {True}
    answers = {process.stdout.read() for process in running}
    nowhere = f"scs+http://{HOST}:{free_port()}/?"
    later = subprocess.run([*command, nowhere], capture_output=True, text=True, check=True)
    assert answers == {later.stdout}
    assert int(later.stdout.split()[0]) == len(within(stars, (150.0, -30.0), 0.5))
    assert {path.suffix for path in cache.rglob("*") if path.is_file()} == {".fits"}
