"""The page of an observation, read."""

import json
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from astropy.wcs import WCS
from PIL import Image

from htmlcase import CENTRES, SCALE_DEG, header, make_tree
from photometrus.cli import main
from photometrus.config import Config, dump
from photometrus.errors import MissingInput, PhotometrusError, UsageError
from photometrus.htmlreport.observation import observation
from photometrus.htmlreport.page import try_report, write_report
from photometrus.htmlreport.pictures import FIRST_GREY, PREVIEW_PIXELS, preview
from photometrus.htmlreport.provenance import changed_settings
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
        *(f"stack/qa.Open-H.01598997-01598999.C{chip}.png" for chip in CENTRES),
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


def test_a_run_that_is_not_through_says_what_is_still_to_come(tmp_path):
    root = make_tree(tmp_path / "p")
    record = json.loads((root / "run.json").read_text())
    done = record["chips"]["C3"]
    record |= {"state": "running", "chips_asked": [1, 2, 3, 4], "chips": {"C3": done}}
    (root / "run.json").write_text(json.dumps(record))
    shown = observation(root)
    assert [(chip.number, chip.waiting) for chip in shown.chips] == [
        (1, True), (2, True), (3, False), (4, True)
    ]  # fmt: skip
    kind, headline, sentence = shown.verdict
    assert (kind, headline) == ("running", "Not finished: 1 of 4 chips done")
    assert sentence.endswith("none lost. Still to come: C1, C2, C4.")
    record["chips"] = {}
    (root / "run.json").write_text(json.dumps(record))
    assert observation(root).verdict[2] == "No chip is done yet. Still to come: C1, C2, C3, C4."
    write_report(root)
    # The same record when all is done: chips of which nothing is known are not made up.
    (root / "run.json").write_text(json.dumps(record | {"state": "done"}))
    assert observation(root).verdict[:2] == ("failed", "No stack could be made")


def test_an_observation_without_stacks_has_the_name_of_its_command_or_folder(tmp_path):
    record = {"band": "J", "command": "photometrus pipeline -target 'field 7' -band J", "chips": {}}
    root = tmp_path / "field7_20240606" / "J"
    root.mkdir(parents=True)
    (root / "run.json").write_text(json.dumps(record))
    assert observation(root).name == "field 7"
    (root / "run.json").write_text(json.dumps(record | {"command": "photometrus 'broken"}))
    assert observation(root).name == "field7_20240606"


def test_provenance_names_what_is_not_the_default_and_no_password(tmp_path):
    changed = replace(Config().sky, clip_sigma=4.5)
    text = dump(replace(Config(), sky=changed, chip={"3": {"sky": {"clip_sigma": 6.0}}}))
    text = text.replace('archive = ""', 'archive = "sftp://me:hidden@a.example.org/"')
    assert changed_settings(text) == [
        ("input.archive", '"sftp://me:***@a.example.org/"', '""'),
        ("sky.clip_sigma", "4.5", "3.0"),
        ("chip.3.sky.clip_sigma", "6.0", "–"),
    ]
    assert changed_settings(dump(Config())) == []
    assert changed_settings("no TOML [") == []
    root = make_tree(tmp_path / "p")
    (root / "config.toml").write_text(text)
    record = json.loads((root / "run.json").read_text())
    record["command"] = "photometrus pipeline -archive sftp://me:hidden@a.example.org/"
    (root / "run.json").write_text(json.dumps(record))
    page = write_report(root).read_text(encoding="utf-8")
    assert "hidden@" not in page
    assert "a.example.org" in page


def test_greys_give_the_values_back():
    # Noise of 2 about 10, and a star of 40000. Half a grey d off, sinh(a) is off by at most
    # (exp(d) - 1) cosh(a): a share of the noise near the sky, and the same share of a bright value.
    random = np.random.RandomState(5)
    data = random.normal(10.0, 2.0, (64, 64)).astype(np.float32)
    data[5, 6], data[7, 8] = 40000.0, np.nan
    shown, _ = preview(data, tan_sip((10.0, 80.0), (32.0, 32.0), np.eye(2) * 1e-4,
                                     np.zeros((3, 3)), np.zeros((3, 3))))  # fmt: skip
    greys = shown.greys
    codes = greys.of(data).astype(float)
    assert codes[7, 8] == 0.0
    assert codes[np.isfinite(data)].min() >= FIRST_GREY
    back = greys.level + greys.noise * np.sinh(greys.low + greys.step * (codes - FIRST_GREY))
    away = np.hypot(greys.noise, data - greys.level)
    assert np.nanmax(np.abs(back - data) / away) <= np.expm1(0.5 * greys.step) * 1.001
    assert codes[5, 6] == 255.0
    assert greys.step < 0.06  # 17 greys and more along one sigma of the noise
    for flat in (np.ones((40, 40), np.float32), np.zeros((40, 40), np.float32)):
        assert np.isfinite(list(preview(flat, WCS(header(1)))[0].told["greys"].values())).all()


@pytest.mark.slow
def test_four_full_chips_with_all_their_figures_stay_below_6_mb(tmp_path):
    # Noise is what does not compress, and a page or a figure holds less of it than these.
    root = make_tree(tmp_path / "p")
    random = np.random.RandomState(7)
    noise = random.normal(0.0, 10.0, (4200, 4200)).astype(np.float32)
    picture, _ = preview(noise, WCS(header(1)))
    page = Image.fromarray(np.clip(random.normal(200, 8, (2805, 1984)), 0, 255).astype(np.uint8))
    for path in root.glob("stack/qa*"):
        page.save(path)
    figures = sum(len(chip.page.uri) for chip in observation(root).chips)
    assert 4 * len(picture.picture.uri) + figures < 6e6


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
    # 2600 pixels in blocks of 2; SIP of 3 pixels at the edge is what a plane cannot follow.
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
        assert u == pytest.approx((x + 0.5) / 2, abs=1e-3)
        assert v == pytest.approx(shown.picture.height - (y + 0.5) / 2, abs=1e-3)
        xi, eta = (a + b * u + c * v for a, b, c in (plane["xi"], plane["eta"]))
        own = WCS(naxis=2)
        own.wcs.ctype, own.wcs.cd = ("RA---TAN", "DEC--TAN"), cd
        own.wcs.crval, own.wcs.crpix = (plane["ra"], plane["dec"]), (1.0, 1.0)
        expected = cd @ np.asarray(own.all_world2pix(ra, dec, 0))
        found = np.degrees([xi, eta])
        # What the plane cannot follow of 3 pixels, 1.5 arcsec, at the edge.
        assert np.abs(found - expected).max() * 3600 < 1.5
