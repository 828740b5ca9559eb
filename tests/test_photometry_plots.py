"""The two pages of a stack's photometry: drawn, measured; nothing overlaps, nothing is too much."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from astropy.table import Table
from matplotlib.image import imread as read_png
from matplotlib.text import Text

import photometrycase
from photometrus.evidence import Map
from photometrus.photometry_evidence import Depth, PsfEvidence, Stamp, gather_psf
from photometrus.plots.photometry.chipmaps import draw_residual_map
from photometrus.plots.photometry.faint import MANY, draw_completeness
from photometrus.plots.photometry.numbers import number, signed, within
from photometrus.plots.photometry.pages import (
    A4,
    compose_calibration,
    compose_depth,
    draw_calibration,
    draw_depth,
)
from photometrus.plots.photometry.psf import draw_residual, draw_stamps
from photometrus.plots.photometry.residuals import draw_color, draw_zero_point
from photometrus.plots.photometry.stars import MARKS, draw_stars, groups
from photometrus.plots.style import drawn, place
from photometrycase import COLOR_PIVOT, COLOR_SLOPE, SHAPE, ZERO_POINT, calibration, evidence
from test_plots import shown

NOTE = "the stars near the upper left corner scatter more than their errors say: " * 3
PAGES = {"calibration": compose_calibration, "depth": compose_depth}


def long_names():
    """Names as nobody gives them, with signs that mean something to a typesetter."""
    given = evidence(60, 3000)
    survey = replace(given.calibration, survey="UKIDSS LAS DR11 plus" * 3, color="W − M" * 9)
    return replace(
        given, stack="$coadd_{x}$ " * 30, band="Ks_long$", notes=[NOTE] * 7,
        target=replace(given.target, name="GRB$_{1}$" * 9), calibration=survey,
    )  # fmt: skip


CASES = {
    "usual": lambda: evidence(notes=(NOTE,)),
    "crowded": lambda: evidence(6000, 40_000, notes=(NOTE, NOTE)),
    "poor": photometrycase.poor,
    "not calibrated": photometrycase.uncalibrated,
    "long names": long_names,
    "no sources": lambda: replace(evidence(0, 0), target=None),
    "a wide window": lambda: replace(evidence(), shape=(1024, 3000)),
}


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("case", CASES)
def test_no_words_overlap_and_all_are_on_the_sheet(case, page, tmp_path):
    with drawn(tmp_path / "page.png", A4, 100) as figure:
        PAGES[page](figure, CASES[case]())
        figure.canvas.draw()
        boxes = [(word.get_text(), word.get_window_extent()) for word in shown(figure)]
        assert len(boxes) > 5
        for text, box in boxes:
            assert box.x0 >= 0, text
            assert box.y0 >= 0, text
            assert box.x1 <= figure.bbox.x1, text
            assert box.y1 <= figure.bbox.y1, text
        for (text, box), (other, beside) in combinations(boxes, 2):
            # Boxes hold the room of ascenders and descenders: a pixel in common is no overlap.
            wide = min(box.x1, beside.x1) - max(box.x0, beside.x0)
            high = min(box.y1, beside.y1) - max(box.y0, beside.y0)
            assert wide <= 1 or high <= 2, f"{text!r} and {other!r}"


@pytest.mark.parametrize("draw", [draw_calibration, draw_depth])
def test_page_is_a_sheet_and_the_same_every_time(draw, tmp_path):
    given = evidence()
    stars = given.calibration.stars.copy()
    for name in ("a.png", "b.png"):
        draw(tmp_path / "new" / name, given)
    pages = sorted((tmp_path / "new").iterdir())
    assert [page.name for page in pages] == ["a.png", "b.png"]
    assert read_png(pages[0]).shape[:2] == (1984, 2805)
    assert pages[0].read_bytes() == pages[1].read_bytes()
    assert pages[0].stat().st_size < 1.5e6
    assert all(stars[name].tolist() == given.calibration.stars[name].tolist()
               for name in ("residual", "used", "reason"))  # fmt: skip


def words_of(page, given, tmp_path):
    with drawn(tmp_path / "page.png", A4, 100) as figure:
        PAGES[page](figure, given)
        return [text.get_text() for text in figure.findobj(Text)]


def test_what_the_pages_say(tmp_path):
    given = evidence()
    words = words_of("calibration", given, tmp_path)
    # 320 used stars with their scatter of 0.03: an error of the mean of 0.0017.
    assert words.count("24.512 ± 0.002 ± 0.008") == 1
    assert {"320 of 400", "+0.034 ± 0.006", "Zero point 24.512 ± 0.002 ± 0.008"} <= set(words)
    assert "slope −0.0007 ± 0.0018 per mag; +0.0004 ± 0.0016 at J = 14.2" in words
    words = words_of("depth", given, tmp_path)
    assert {"20.80", "21.35", "20.74", "20.81 ± 0.03", "9 000", "5σ limit at GRB 240606A"} <= set(
        words
    )
    without = words_of("calibration", photometrycase.uncalibrated(), tmp_path)
    assert "no zero point" in without
    assert any("2MASS did not answer" in text for text in without)


def test_a_refused_zero_point_is_shown_with_the_reason(tmp_path):
    refused = replace(evidence(notes=(NOTE,)), refusal="it is 1.4 mag from 24.1, at most 1.0")
    words = words_of("calibration", refused, tmp_path)
    assert "REFUSED: see the notes" in words
    assert "zero point refused: it is 1.4 mag from 24.1, at most 1.0" in words
    assert "REFUSED: see the notes" not in words_of("calibration", evidence(), tmp_path)


def test_a_slope_is_called_one(tmp_path):
    given = evidence()
    sloping = replace(given.calibration.trend, slope=0.02, slope_err=0.004)
    for trend, title in (
        (sloping, "Slope with magnitude: +20.0 mmag per mag (5.0σ)"),
        (given.calibration.trend, "No slope with magnitude (0.4σ)"),
        (None, "Residuals with magnitude"),
    ):
        one = replace(given, calibration=replace(given.calibration, trend=trend))
        assert title in words_of("calibration", one, tmp_path)


def test_notes_that_do_not_fit_are_counted(tmp_path):
    words = words_of("depth", CASES["long names"](), tmp_path)
    fit = words.count("–")
    assert fit >= 1
    assert f"and {7 - fit} more: see the report" in words


def test_many_sources_are_not_drawn_one_by_one(tmp_path):
    with drawn(tmp_path / "page.png", A4, 100) as figure:
        compose_depth(figure, CASES["crowded"]())
        for axes in figure.axes:
            assert all(line.get_xdata().__len__() < MANY for line in axes.lines)


# ---------------------------------------------------------------- numbers


def test_numbers_as_words():
    assert number(-3.7, 2) == "−3.70"
    assert number(np.nan, 2) == "–"
    assert signed(-0.0001, 3) == "+0.000"
    assert within(24.512, 0.002, 0.008, digits=3) == "24.512 ± 0.002 ± 0.008"
    assert within(24.512, 0.0004, 0.008, digits=3) == "24.5120 ± 0.0004 ± 0.0080"
    assert within(-0.034, np.nan, digits=3, sign=True) == "−0.034"


# ---------------------------------------------------------------- stars


def test_every_star_is_in_one_group():
    table = calibration(500).stars
    found = groups(table)
    np.testing.assert_array_equal(np.sum([one.rows for one in found], axis=0), 1)
    assert len(found) == len(MARKS) + 2
    assert (found[-1].words, found[-1].rows.sum()) == ("used", 400)
    assert found[-2].words == "other reasons"
    assert [one.words for one in found[:2]] == ["extended", "blended"]
    assert len({(one.color, one.marker) for one in found}) == len(found)


def test_stars_beyond_the_limits_lie_on_the_edge(panel):
    table = calibration(5).stars
    draw_stars(panel, table, np.arange(5.0), np.array([0.0, 0.1, 9.0, np.nan, -9.0]), (-1, 1))
    used = next(line for line in panel.lines if len(line.get_xdata()) == 4)
    np.testing.assert_allclose(used.get_ydata(), [0, 0.1, 0.96, np.nan])
    assert panel.texts[0].get_text() == "2 beyond, at the edge"


@pytest.fixture
def panel(tmp_path):
    with drawn(tmp_path / "panel.png", (4, 4), 50) as figure:
        yield place(figure, 1, 1, 2, 2)


def test_without_its_term_the_zero_point_follows_the_colour(panel):
    """Stars without residuals lie on the drawn line."""
    one = calibration(100)
    one.stars["residual"] = 0.0
    draw_color(panel, one)
    used = next(line for line in panel.lines if len(line.get_xdata()) == 80)
    color = np.asarray(used.get_xdata(), float)
    np.testing.assert_allclose(used.get_ydata(), COLOR_SLOPE * (color - COLOR_PIVOT), atol=1e-12)
    fit = next(line for line in panel.lines if len(line.get_xdata()) == 60)
    x, y = fit.get_data()
    np.testing.assert_allclose(y, COLOR_SLOPE * (np.asarray(x) - COLOR_PIVOT), atol=1e-12)


def test_histogram_and_gaussian_have_the_same_area(panel):
    one = calibration(2000)
    draw_zero_point(panel, one)
    bars = panel.patches[:41]
    assert len({round(bar.get_width(), 9) for bar in bars}) == 1
    width = bars[0].get_width()
    # Beyond 4.5 sigma of the Gaussian are 7e-6; of the stars' mixture of widths at most 0.5 %.
    assert sum(bar.get_height() for bar in bars) == pytest.approx(1600, rel=5e-3)
    bell = next(line for line in panel.lines if len(line.get_xdata()) == 201)
    assert np.trapezoid(bell.get_ydata(), bell.get_xdata()) / width == pytest.approx(1600, rel=1e-4)
    middle = float(np.median([line.get_xdata()[0] for line in panel.lines if line is not bell]))
    assert middle == ZERO_POINT


# ---------------------------------------------------------------- maps


def test_means_over_the_chip(panel):
    """The left half is 20 mmag too bright, the right half too faint."""
    one = calibration(2000)
    one.stars["residual"] = np.where(one.stars["x"] < (SHAPE[1] - 1) / 2, 0.02, -0.02)
    draw_residual_map(panel, one, SHAPE)
    means = np.asarray(panel.images[0].get_array())
    assert means.shape == (8, 8)
    np.testing.assert_allclose(means[:, :4], 20)
    np.testing.assert_allclose(means[:, 4:], -20)
    assert panel.images[0].get_extent() == [-0.5, SHAPE[1] - 0.5, -0.5, SHAPE[0] - 0.5]


def test_few_stars_are_drawn_one_by_one(panel):
    one = calibration(50)
    draw_residual_map(panel, one, SHAPE)
    assert not panel.images
    assert panel.collections[0].get_array().size == 40


def test_psf_is_where_it_is_on_the_chip(panel):
    """The n-th of nine in order of the chip has its bright pixel in its n-th corner."""
    width = Map(np.arange(9.0).reshape(3, 3), 100)
    stamps = []
    for n in range(9):
        stamp = np.full((5, 5), 0.01)
        stamp[n // 3, n % 3] = 0.5
        stamps.append(Stamp(100 * (n % 3) + 50, 100 * (n // 3) + 50, stamp))
    residual = np.zeros((5, 5))
    residual[2, 2] = 0.005
    shuffled = [stamps[k] for k in (4, 8, 1, 0, 7, 3, 2, 6, 5)]
    one = PsfEvidence(shuffled, residual, 9, width, width, width)
    draw_stamps(panel, one)
    picture = np.asarray(panel.images[0].get_array())
    assert picture.shape == (17, 17)
    y, x = np.nonzero(picture == 100)
    np.testing.assert_array_equal(y // 6 * 3 + x // 6, y % 6 * 3 + x % 6)
    assert y.size == 9
    assert [text.get_text() for text in panel.texts[:9]] == [f"{n:.2f}″" for n in range(9)]


def test_psf_residual_in_per_cent_of_the_peak(panel):
    given = photometrycase.psf()
    draw_residual(panel, given)
    peak = np.mean([one.values.max() for one in given.stamps])
    percent = np.asarray(panel.images[0].get_array())
    np.testing.assert_allclose(percent, 100 * given.residual / peak)
    assert panel.get_title(loc="left") == f"PSF residual: at most {np.abs(percent).max():.1f} %"


class RoundStar:
    """A PSF that is the same everywhere, for stars in the middle of pixels."""

    half, fwhm_pix = 15, 4.0
    stars = Table({"x": [50.0, 120.0, 150.0, 3.0], "y": [60.0, 61.0, 150.0, 3.0],
                   "flux": [1e3, 2e3, 5e3, 1e9]})  # fmt: skip

    def stamp(self, x, y, half=None):
        return photometrycase.moffat(4.0, side=2 * (self.half if half is None else half) + 1)

    def shape_at(self, x, y):
        return 4.0 + 0.01 * x, 0.001 * y, 30.0


def test_evidence_of_a_psf():
    """The stars are wider than the model; one that is cut by the edge does not count."""
    psf = RoundStar()
    true = photometrycase.moffat(4.4)
    data = np.zeros((200, 180))
    for x, y, flux in psf.stars[:3].iterrows():
        data[int(y) - 15 : int(y) + 16, int(x) - 15 : int(x) + 16] += flux * true
    found = gather_psf(psf, data, 0.5)
    np.testing.assert_allclose(found.residual, true - psf.stamp(0, 0), atol=1e-12)
    assert found.n_stars == 4
    assert found.stamps[0].values.shape == (31, 31)
    assert [(round(one.x, 2), round(one.y, 2)) for one in found.stamps[1:4]] == [
        (89.5, 33.17), (149.17, 33.17), (29.83, 99.5),
    ]  # fmt: skip
    assert found.fwhm_arcsec.values.shape == (10, 9)
    # The middle of the first of the cells of 20 pixels is at 9.5.
    np.testing.assert_allclose(found.fwhm_arcsec.values[:, 1], 0.5 * (4.0 + 0.295))
    np.testing.assert_allclose(found.ellipticity.values[2], 0.0495)
    assert gather_psf(psf, data[:20, :20], 0.5).residual is None


# ---------------------------------------------------------------- completeness


def test_shares_and_their_errors(panel):
    """Wilson's intervals; they end at 0 and 1. What was not injected tells nothing."""
    table = Table({"mag": [21.0, 20.0, 19.0, 18.0], "injected": [10, 10, 10, 0],
                   "recovered": [0, 5, 10, 0]})  # fmt: skip
    nothing = Map(np.zeros((1, 1), np.float32), 100)
    draw_completeness(panel, Depth(20.5, 21.0, nothing, table, 20.0, 0.1))
    found = panel.containers[0]
    np.testing.assert_allclose(found.lines[0].get_data(), [[19, 20, 21], [1, 0.5, 0]])
    bars = np.array([segment[:, 1] for segment in found.lines[2][0].get_segments()])
    half = np.sqrt(2.5 + 0.25) / 11
    np.testing.assert_allclose(bars, [[1 - 1 / 11, 1], [0.5 - half, 0.5 + half], [0, 1 / 11]])
    assert panel.get_title(loc="left") == "Half are found at 20.00 ± 0.10 mag"
    said = [text.get_text() for text in panel.texts]
    assert "30 stars injected; 25 % found at the 5σ limit" in said
