"""The finding chart of a target."""

import numpy as np
import pytest
from astropy.table import Table
from astropy.wcs import WCS
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from photometrus.errors import UsageError
from photometrus.plots.finding_chart import DPI, HEAD, MARGIN, SIDE, draw_finding_chart
from photometrus.plots.style import BLUE, GREEN, VERMILLION
from photometrus.sighting import NOT_COVERED, Sighting, Target
from photometrus.wcs import pixel_to_sky
from synth import add_star

NY, NX = 900, 1000
AT = (480.0, 410.0)  # x, y of the target


@pytest.fixture(scope="module")
def field():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval, wcs.wcs.crpix = (200.9, -0.9), (NX / 2, NY / 2)
    wcs.wcs.cd = np.array([[-0.5, 0.0], [0.0, 0.5]]) / 3600  # north up, east left
    data = np.random.RandomState(1).normal(0, 3, (NY, NX)).astype(np.float32)
    add_star(data, *AT, 3000.0, 4.0)
    data[:, 700:] = 0.0
    return data, wcs


def row(wcs, x: float, y: float) -> Table:
    ra, dec = pixel_to_sky(wcs, np.array([x]), np.array([y]))
    return Table({"ra_deg": ra, "dec_deg": dec, "mag_psf": [17.5], "mag_psf_err": [0.02]})


def sighting(wcs, radius: float, verdict: str = "new", at=AT) -> Sighting:
    best = row(wcs, *at)
    target = Target("GRB $x_{1}$", float(best["ra_deg"][0]), float(best["dec_deg"][0]), radius)
    return Sighting(target, NOT_COVERED, best, verdict, "")


def axes_of(picture):
    """The picture proper, north up: rows from below, values 0 to 1."""
    top, left, side = (round(DPI * inches) for inches in (HEAD, MARGIN, SIDE))
    return picture[top : top + side, left : left + side, :3][::-1]


def has(picture, color: str, x: float, y: float, reach: float = 0.02) -> bool:
    """Whether a colour is near a place, both in fractions of the side."""
    n = picture.shape[0]
    part = picture[
        max(0, round((y - reach) * n)) : round((y + reach) * n),
        max(0, round((x - reach) * n)) : round((x + reach) * n),
    ]
    return bool((np.abs(part - np.array(to_rgb(color))).max(axis=2) < 0.08).any())


def test_chart_shows_circle_sources_and_catalogue(tmp_path, field):
    data, wcs = field
    path = tmp_path / "new" / "chart.png"
    # A side of 2 x 60" is 240 pixels of 0.5"; 60 pixels are a quarter of it.
    sources, stars = row(wcs, AT[0] + 60, AT[1]), row(wcs, AT[0], AT[1] - 60)
    found = sighting(wcs, 20.0)
    before = data.copy()
    draw_finding_chart(path, data, wcs, found, sources=sources, stars=stars, title="J = 17.5")
    assert np.array_equal(data, before)
    assert [file.name for file in path.parent.iterdir()] == ["chart.png"]
    picture = axes_of(imread(path))
    assert picture[480, 480].max() < 0.1  # the star, dark, in the middle
    # 20" of 120: a sixth of the side
    for x, y in ((0.5 + 1 / 6, 0.5), (0.5, 0.5 + 1 / 6), (0.5 - 1 / 6, 0.5), (0.5, 0.5 - 1 / 6)):
        assert has(picture, VERMILLION, x, y)
    assert has(picture, BLUE, 0.75, 0.5)
    assert has(picture, GREEN, 0.5, 0.25)
    assert not has(picture, BLUE, 0.5, 0.25)
    assert has(picture, VERMILLION, 0.555, 0.5)  # ticks beside the likely counterpart
    assert has(picture, VERMILLION, 0.5, 0.555)


def test_chart_of_a_limit_at_the_edge(tmp_path, field):
    data, wcs = field
    path = tmp_path / "chart.png"
    found = sighting(wcs, 5.0, "limit", (2.0, 3.0))
    none = row(wcs, 0, 0)[:0]
    draw_finding_chart(path, data, wcs, found, sources=none, stars=none, title="J > 20.6")
    picture = axes_of(imread(path))
    assert picture[200, 200].min() == 1.0  # beyond the stack
    assert picture[700, 700].max() < 1.0
    assert not has(picture, VERMILLION, 0.555, 0.5, 0.01)


def test_chart_of_a_large_circle(tmp_path, field):
    data, wcs = field
    path = tmp_path / "chart.png"
    found = sighting(wcs, 600.0)
    draw_finding_chart(path, data, wcs, found, sources=found.sources, stars=found.sources, title="")
    picture = axes_of(imread(path))
    # 600" of 2 x 660: the stack, 500" x 450", is a patch in the middle
    assert has(picture, VERMILLION, 0.5 + 600 / 1320, 0.5)
    assert has(picture, BLUE, 0.5, 0.5)
    assert picture[30, 480].min() == 1.0


def test_no_chart_of_what_is_not_on_the_stack(tmp_path, field):
    data, wcs = field
    found = sighting(wcs, 5.0, "not covered", (-50.0, 10.0))
    none = row(wcs, 0, 0)[:0]
    with pytest.raises(UsageError, match="not on the stack"):
        draw_finding_chart(tmp_path / "a.png", data, wcs, found, sources=none, stars=none, title="")
    assert not list(tmp_path.iterdir())
