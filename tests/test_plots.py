"""Pictures: read back, measured; nothing overlaps, nothing depends on the hour."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from astropy.wcs import WCS
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread as read_png
from matplotlib.text import Text

from chipcase import SHAPE, evidence, residuals, without_rejected
from photometrus.plots.chip import cell_means, local_plane
from photometrus.plots.page import A4, compose, draw_page
from photometrus.plots.preview import preview
from photometrus.plots.style import drawn
from photometrus.plots.words import key_numbers, left_out_frames
from photometrus.wcs import pointing_wcs, tan_sip

LONG = "no reference catalogue (the survey did not answer within 30 s): the frames are aligned"
CASES = {
    "usual": evidence(),
    "all used": evidence(left_out=()),
    "one frame": evidence(1, left_out=()),
    "many left out": evidence(40, left_out=tuple(range(0, 40, 2)), notes=(LONG, LONG)),
    "no catalogue": evidence(catalog=False, notes=(LONG,)),
    "not counted": without_rejected(evidence()),
    "odd name": replace(evidence(), target="$GRB_{2}$ 100% \\alpha " * 3),
}


def test_page_is_a_sheet_that_is_not_heavy(tmp_path):
    path = tmp_path / "stack" / "qa.png"
    draw_page(path, CASES["usual"])
    assert [found.name for found in path.parent.iterdir()] == ["qa.png"]
    assert read_png(path).shape[:2] == (2805, 1984)
    assert path.stat().st_size < 1.5e6


def test_the_same_evidence_gives_the_same_bytes(tmp_path):
    for name in ("a.png", "b.png"):
        draw_page(tmp_path / name, CASES["usual"])
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def shown(figure: Figure) -> list[Text]:
    """All words of a page; of the axes' numbers those that lie along their axis."""
    hidden = set()
    for axes in figure.findobj(Axes):
        for labels, way in ((axes.get_xticklabels(), 0), (axes.get_yticklabels(), 1)):
            low, high = axes.bbox.min[way] - 1, axes.bbox.max[way] + 1
            for label in labels:
                middle = np.mean(label.get_window_extent().get_points()[:, way])
                if not axes.axison or not low <= middle <= high:
                    hidden.add(label)
    words = figure.findobj(lambda artist: isinstance(artist, Text) and artist.get_visible())
    return [word for word in words if word.get_text().strip() and word not in hidden]


@pytest.mark.parametrize("case", CASES)
def test_no_words_overlap_and_all_are_on_the_sheet(case, tmp_path):
    with drawn(tmp_path / "page.png", A4, 100) as figure:
        compose(figure, CASES[case])
        figure.canvas.draw()
        words = shown(figure)
        assert len(words) > 100
        boxes = [(word.get_text(), word.get_window_extent()) for word in words]
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


def test_what_does_not_fit_is_counted(tmp_path):
    with drawn(tmp_path / "page.png", A4, 100) as figure:
        compose(figure, CASES["many left out"])
        words = shown(figure)
        text = "\n".join(word.get_text() for word in words)
        table = next(word for word in words if word.get_text() == "Key numbers").axes
        lowest = min(word.get_window_extent().y0 for word in table.texts)
        # The room of a line, at 100 dots per inch, below the axes is still empty.
        assert lowest > table.bbox.y0 - 12
    assert "1\n01599131C1: cloud" in text
    # 20 left out and one lost; those that are shown have a line with the name.
    shown_names = text.count("C1: cloud")
    assert shown_names >= 2
    assert f"and {21 - shown_names} more: see run.json" in text
    assert LONG[:40] in text


def test_key_numbers():
    numbers = dict(key_numbers(evidence()))
    assert numbers["Frames in the stack"] == "4 of 6"
    assert numbers["Seeing, ellipticity: mean of the frames"] == "1.50″, 0.050"
    assert numbers["Rms per axis: to the catalogue, among dithers"] == "110, 90 mas"
    east, north = numbers["Mean offset east, north"].replace("−", "-").split(" ")[:2]
    # 1600 residuals of 0.1": the mean is known to 2.5 mas.
    assert abs(float(east.strip(",")) - 30) < 12
    assert abs(float(north)) < 12
    without = dict(key_numbers(evidence(catalog=False)))
    assert without["Mean offset east, north"] == "–"
    assert list(left_out_frames(evidence()))[0][:2] == (1, "01599145C1")


# ---------------------------------------------------------------- astrometry


def test_a_plane_is_not_distorted():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = (201.3, -0.52)
    ny, nx = SHAPE
    wcs.wcs.crpix = ((nx + 1) / 2, (ny + 1) / 2)
    wcs.wcs.cd = np.array([[0.8, 0.6], [-0.6, 0.8]]) * 0.5 / 3600
    plane = local_plane(replace(evidence(), wcs=wcs))
    distortion = plane.distortion(np.array([0.0, nx - 1]), np.array([0.0, ny - 1]))
    assert np.abs(distortion).max() < 1e-6
    # An offset on the sky that is one pixel to the right on the chip.
    right = plane.on_chip(3600 * wcs.wcs.cd @ [1.0, 0.0])
    np.testing.assert_allclose(right, [0.5, 0.0], atol=1e-9)


def test_a_known_distortion_is_measured():
    """2e-9 u^3 along x and nothing along y, in the chip's pixels."""
    ny, nx = 4088, 4088
    middle = (nx - 1) / 2
    cubic = np.zeros((6, 6))
    cubic[3, 0] = 2e-9
    matrix = np.array([[0.6, 0.8], [0.8, -0.6]]) * 0.5 / 3600
    wcs = tan_sip((10.0, 60.0), (middle + 1, middle + 1), matrix, cubic, np.zeros((6, 6)))
    plane = local_plane(replace(evidence(), wcs=wcs, chip_shape=(ny, nx)))
    u = np.array([-2000.0, 1000.0, 2000.0])
    x, y = plane.distortion(middle + u, middle + 0 * u)
    # The slope at the centre is measured over 8 pixels: 2e-9 * 64 * 2000 = 3e-4 pixels.
    np.testing.assert_allclose(x, 0.5 * 2e-9 * u**3, atol=2e-4)
    np.testing.assert_allclose(y, 0, atol=2e-4)


def test_means_in_cells():
    """One half of the chip is 50 mas too far east; the error is that of single stars."""
    given = evidence(4, left_out=())
    table = residuals(4)
    table["d_east"] = np.where(table["x"] < SHAPE[1] / 2, 0.05, 0.0)
    table["d_north"] = 0.0
    means = cell_means(replace(given, residuals=table))
    assert means.cells == 8
    assert means.x.size == 64
    np.testing.assert_allclose(means.east, np.where(means.x < SHAPE[1] / 2, 50, 0), atol=1e-6)
    # 400 stars in 64 cells; rms of 50 and 0 on two axes, 25 mas, with the halves' Poisson noise.
    assert means.error == pytest.approx(25 / np.sqrt(400 / 64), rel=0.05)


def test_few_stars_share_one_cell():
    given = evidence(1, left_out=())
    means = cell_means(replace(given, residuals=given.residuals[:5]))
    assert means.cells == 1
    assert means.x.size == 1


# ---------------------------------------------------------------- a stack


def test_a_picture_of_a_stack(tmp_path):
    """The star is where it should be, empty sky is white, north and east are told."""
    data = np.random.RandomState(1).normal(0, 1, (2000, 1500)).astype(np.float32)
    data[:, :300] = 0
    data[1500:1530, 1000:1030] += 500
    wcs = pointing_wcs(1, (10.0, -30.0), 48.0)
    preview(tmp_path / "new" / "a.png", data, wcs, "field1111 J C1")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]
    picture = read_png(tmp_path / "new" / "a.png")[..., :3].mean(axis=2)
    ny, nx = picture.shape
    assert ny > nx
    # 2000 pixels are binned by 3 to 667; the axes fill the width
    star = picture[int(ny * 0.22) : int(ny * 0.30), int(nx * 0.64) : int(nx * 0.71)]
    assert star.min() < 0.05
    assert picture[ny // 2, int(nx * 0.1)] == 1.0
    assert picture[ny // 2, int(nx * 0.5)] < 1.0
