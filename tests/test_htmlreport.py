"""The page of an observation, read."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest
from astropy.wcs import WCS

from htmlcase import CENTRES, SCALE_DEG, make_tree
from photometrus.cli import main
from photometrus.errors import MissingInput, PhotometrusError, UsageError
from photometrus.htmlreport.observation import observation
from photometrus.htmlreport.page import try_report, write_report
from photometrus.htmlreport.pictures import PREVIEW_PIXELS, preview
from photometrus.wcs import tan_sip


class Reader(HTMLParser):
    """The tags of a page, its attributes' names, and where it leads."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.links = [], set(), set()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links |= {value for name, value in attrs if name in ("src", "href")}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = make_tree(tmp_path_factory.mktemp("observation"))
    write_report(root)
    return root


def test_the_command_writes_one_page_that_asks_for_nothing_else(tmp_path, capsys):
    root = make_tree(tmp_path / "field 1111")
    assert main(["report", str(root)]) == 0
    assert capsys.readouterr().out.strip() == str(root / "report.html")
    text = (root / "report.html").read_text(encoding="utf-8")
    read = Reader()
    read.feed(text)
    assert {link for link in read.links if not link.startswith(("data:image/", "#"))} == {
        "run.json",
        *(f"stack/coadd.Open-H.01598997-01598999.C{chip}.fits.fz" for chip in CENTRES),
    }
    # What headers, logs and files say is text: one script, ours, and nothing that listens.
    assert read.tags.count("script") == 1
    assert not [name for name in read.attributes if name.startswith("on")]
    assert "url(" not in text
    assert "@import" not in text
    assert not list(root.glob("*.part"))


def test_the_same_products_give_the_same_page(tree, tmp_path):
    before = (tree / "report.html").read_bytes()
    assert write_report(tree).read_bytes() == before


def test_a_folder_without_a_record_is_told_apart_from_a_damaged_one(tmp_path):
    with pytest.raises(MissingInput, match=r"no run.json in it; give the folder"):
        write_report(tmp_path)
    for text in ("{", "[]", '{"chips": {"C1": 3}, "band": "H"}', '{"chips": {}}'):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(UsageError, match="not the record of an observation"):
            write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("kept", [0.0, 0.5])
def test_damaged_products_cost_their_part_or_a_sentence(tmp_path, kept, caplog):
    root = make_tree(tmp_path / "p")
    for path in root.glob("stack/*"):
        content = path.read_bytes()
        path.write_bytes(content[: int(kept * len(content))] or b"garbage")
    write_report(root)
    assert not any(chip.preview or chip.page for chip in observation(root).chips)
    record = json.loads((root / "run.json").read_text())
    record["chips"]["C1"]["frames"] = [3]
    (root / "run.json").write_text(json.dumps(record))
    with pytest.raises(PhotometrusError, match=r"report.html: cannot be made"):
        write_report(root)
    try_report(root)  # at the end of a recipe that is a line in the log
    assert "no report.html" in caplog.text


def test_files_outside_of_the_folder_are_not_shown(tmp_path):
    root = make_tree(tmp_path / "p")
    (root / "stack/qa.Open-H.01598997-01598999.C1.png").rename(tmp_path / "secret.png")
    record = json.loads((root / "run.json").read_text())
    record["chips"]["C1"]["page"] = "../secret.png"
    (root / "run.json").write_text(json.dumps(record))
    assert [bool(chip.page) for chip in observation(root).chips] == [False, True, True, True]


def test_verdicts(tree):
    shown = observation(tree)
    kind, headline, sentence = shown.verdict
    assert (kind, headline) == ("good", "Complete")
    assert sentence == "8 of 12 frames are in 4 stacks; 4 left out by judgement, none lost."
    shown.chips[0].frames[1]["lost"] = True
    assert shown.verdict[:2] == ("losses", "Done, with losses: 1 frame could not be used")
    shown.record["missing"] = [{"frame": "01598996C1", "reason": "not in the archive"}]
    assert shown.verdict[2].endswith("3 left out by judgement, 2 lost.")


def test_chips_stand_as_on_the_sky(tree):
    # Four stacks say it themselves; east is left.
    cells = {chip: place[1:] for chip, place in observation(tree).places.items()}
    assert cells == {1: (0, 1), 2: (0, 0), 3: (1, 1), 4: (1, 0)}
    turned = observation(tree)
    for chip, (ra, dec) in CENTRES.items():
        plane = turned.chips[chip - 1].preview.plane
        plane["ra"], plane["dec"] = 2 * 83.6 - ra, 2 * -32.7 - dec
    cells = {chip: place[1:] for chip, place in turned.places.items()}
    assert cells == {4: (0, 1), 3: (0, 0), 2: (1, 1), 1: (1, 0)}
    assert turned.places[1][0] == "south-east"


def test_a_preview_knows_where_it_is_when_reduced_and_distorted():
    # 2600 pixels in blocks of 3; SIP of 3 pixels at the edge is what a plane cannot follow.
    side = 2600
    quadratic = np.zeros((3, 3))
    quadratic[2, 0] = 3.0 / (side / 2) ** 2
    cd = np.array([[-SCALE_DEG, 0.0], [0.0, SCALE_DEG]])
    wcs = tan_sip((10.0, 80.0), (side / 2, side / 2), cd, quadratic, np.zeros((3, 3)))
    shown, sky = preview(np.ones((side, side), np.float32), wcs)
    assert max(shown.picture.width, shown.picture.height) <= PREVIEW_PIXELS
    plane = shown.plane
    for x, y in ((300.0, 400.0), (1300.0, 1300.0), (2200.0, 2500.0)):
        ra, dec = (float(v) for v in wcs.all_pix2world(x, y, 0))
        u, v = (float(v) for v in sky.place(ra, dec))
        assert u == pytest.approx((x + 0.5) / 3, abs=1e-3)
        assert v == pytest.approx(shown.picture.height - (y + 0.5) / 3, abs=1e-3)
        xi, eta = (a + b * u + c * v for a, b, c in (plane["xi"], plane["eta"]))
        own = WCS(naxis=2)
        own.wcs.ctype, own.wcs.cd = ("RA---TAN", "DEC--TAN"), cd
        own.wcs.crval, own.wcs.crpix = (plane["ra"], plane["dec"]), (1.0, 1.0)
        expected = cd @ np.asarray(own.all_world2pix(ra, dec, 0))
        found = np.degrees([xi, eta])
        # What the plane cannot follow of 3 pixels, 1.5 arcsec, at the edge.
        assert np.abs(found - expected).max() * 3600 < 1.5
