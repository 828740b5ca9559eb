"""The page of an observation, in a real browser."""

import json
import re
import time

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from photometrus.cli import main
from photometrus.errors import MissingInput, PhotometrusError, UsageError
from photometrus.htmlreport.observation import observation
from photometrus.htmlreport.page import write_report
from photometrus.htmlreport.pictures import PREVIEW_PIXELS, preview
from photometrus.io.fitsfile import write_compressed, write_image
from photometrus.wcs import sip_cards, tan_sip

HOSTILE = "<script>alert(1)</script>"
BREAKOUT = "</script><img src=x onerror=alert(2)>'\"&"
SIZE = (260, 300)
CENTRES = {1: (83.45, -32.55), 2: (83.75, -32.55), 3: (83.45, -32.85), 4: (83.75, -32.85)}
"""Where C1 is north-west of the axis, C2 north-east, C3 south-west, C4 south-east."""
N_FRAMES = 3
SCALE_DEG = 0.497 / 3600
TARGET = (83.452, -32.553)
LEAST_CONTRAST = 4.5
"""Of text on its ground: WCAG 2, level AA."""


def header(chip: int) -> fits.Header:
    ny, nx = SIZE
    ra, dec = CENTRES[chip]
    cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": ra, "CRVAL2": dec}
    cards |= {"CRPIX1": nx / 2 + 0.5, "CRPIX2": ny / 2 + 0.5, "OBJNAME": HOSTILE, "BAND": "H"}
    cards |= {"CD1_1": -SCALE_DEG, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": SCALE_DEG}
    return fits.Header(list(cards.items()))


def frame(chip: int, k: int) -> dict:
    good = {
        "frame": f"{1598997 + k:08d}C{chip}", "used": k != 1, "lost": False,
        "reason": "" if k != 1 else f"cloud {BREAKOUT}", "level": "full", "level_reason": BREAKOUT,
        "seeing_arcsec": (1.9, None, 10.2)[k], "ellipticity": 0.05, "sky_adu": 2000.0 + k,
        "noise_adu": 17.5, "transparency": 1.0, "n_matched": 40, "rms_arcsec": 0.1,
        "internal_rms_arcsec": 0.02,
    }  # fmt: skip
    return good


def make_tree(root):
    """A folder as the pipeline and photometry leave it: four chips, three frames each."""
    stack, random, chips = root / "stack", np.random.RandomState(3), {}
    stack.mkdir(parents=True)
    for chip in CENTRES:
        name = f"coadd.Open-H.01598997-01598999.C{chip}"
        data = random.normal(0, 1, SIZE).astype(np.float32)
        data[40, 70] = 500.0
        write_compressed(stack / f"{name}.fits.fz", data, header(chip), 16.0)
        page = stack / f"qa.Open-H.01598997-01598999.C{chip}.png"
        Image.new("RGB", (60, 90), "white").save(page)
        chips[f"C{chip}"] = {
            "coadd": f"stack/{name}.fits.fz", "page": f"stack/{page.name}", "error": "",
            "notes": [f"few stars {BREAKOUT}"],
            "numbers": {"exposure_s": 34.0, "seeing_arcsec": 1.9, "rms_arcsec": 0.1},
            "frames": [frame(chip, k) for k in range(N_FRAMES)],
        }  # fmt: skip
    record = {
        "photometrus": "0.1.0", "python": "3.11.7", "libraries": {"numpy": "2.4.6"},
        "command": f"photometrus pipeline -target {BREAKOUT}", "night": "2024-08-25", "band": "H",
        "started": "2024-08-26T08:00:00+00:00", "finished": "2024-08-26T08:01:00+00:00",
        "missing": [], "notes": [BREAKOUT], "chips": chips,
    }  # fmt: skip
    (root / "run.json").write_text(json.dumps(record))
    (root / "config.toml").write_text(f"# {BREAKOUT}\n")
    measure(stack)
    return root


def measure(stack) -> None:
    """What photometry leaves beside the stack of C1: a star of the catalogue, another, a target."""
    name, (ra, dec) = "coadd.Open-H.01598997-01598999.C1", CENTRES[1]
    columns = {
        "ALPHA_J2000": [ra, ra + 0.01], "DELTA_J2000": [dec, dec + 0.01],
        "HMAG_PSF": [14.0, 15.0], "HMAG_CAT": np.ma.MaskedArray([14.0, 0.0], [False, True]),
    }  # fmt: skip
    meta = {"band": "H", "survey": BREAKOUT, "zero_point": 25.3, "limit_5sigma": 19.1}
    Table(columns, meta=meta).write(stack / f"{name}.VHS.ecsv", format="ascii.ecsv")
    said = {
        "target": HOSTILE, "ra_deg": TARGET[0], "dec_deg": TARGET[1], "verdict": "new",
        "stack": name, "band": "H", "system": "AB", "mag": 18.34, "mag_err": 0.1,
        "mag_sys_err": 0.0, "limit_3sigma": 19.6,
    }  # fmt: skip
    (stack / "GRB_H_C1_Report_VHS_01598997.json").write_text(json.dumps(said))
    (stack / "GRB_H_C1_Report_VHS_01598997.txt").write_text(f"We detect {BREAKOUT}\n")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = make_tree(tmp_path_factory.mktemp("observation"))
    write_report(root)
    return root


# ---------------------------------------------------------------- without a browser


def test_the_command_writes_one_page_that_asks_for_nothing_else(tmp_path, capsys):
    root = make_tree(tmp_path / "field 1111")
    assert main(["report", str(root)]) == 0
    assert capsys.readouterr().out.strip() == str(root / "report.html")
    text = (root / "report.html").read_text(encoding="utf-8")
    outside = re.findall(r"""(?:src|href)\s*=\s*["']?([^"'\s>]+)""", text)
    assert {link for link in outside if not link.startswith(("data:image/", "#"))} == {
        "run.json",
        *(f"stack/coadd.Open-H.01598997-01598999.C{chip}.fits.fz" for chip in CENTRES),
    }
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


def test_damaged_products_cost_their_part_or_a_sentence(tmp_path):
    root = make_tree(tmp_path / "p")
    for path in root.glob("stack/*"):
        path.write_bytes(b"garbage")
    write_report(root)
    assert not any(chip.preview or chip.page for chip in observation(root).chips)
    record = json.loads((root / "run.json").read_text())
    record["chips"]["C1"]["frames"] = [3]
    (root / "run.json").write_text(json.dumps(record))
    with pytest.raises(PhotometrusError, match=r"report.html: cannot be made"):
        write_report(root)


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
        own = WCS(sip_cards(tan_sip((plane["ra"], plane["dec"]), (0.5, 0.5), cd)))
        there = own.all_world2pix(ra, dec, 0)
        expected = cd @ (np.asarray(there) + 0.5)
        found = np.degrees([xi, eta])
        # What the plane cannot follow of 3 pixels, 1.5 arcsec, at the edge.
        assert np.abs(found - expected).max() * 3600 < 1.5
