"""The page of an observation, read and in a real browser."""

import json
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from conftest import skip_unless_ci
from photometrus.cli import main
from photometrus.errors import MissingInput, PhotometrusError, UsageError
from photometrus.htmlreport.observation import observation
from photometrus.htmlreport.page import try_report, write_report
from photometrus.htmlreport.pictures import PREVIEW_PIXELS, preview
from photometrus.io.fitsfile import write_compressed
from photometrus.wcs import tan_sip

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
    return {
        "frame": f"{1598997 + k:08d}C{chip}", "used": k != 1, "lost": False,
        "reason": "" if k != 1 else f"cloud {BREAKOUT}", "level": "full", "level_reason": BREAKOUT,
        "seeing_arcsec": (1.9, None, 10.2)[k], "ellipticity": 0.05, "sky_adu": 2000.0 + k,
        "noise_adu": 17.5, "transparency": 1.0, "n_matched": 40, "rms_arcsec": 0.1,
        "internal_rms_arcsec": 0.02,
    }  # fmt: skip


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


# ---------------------------------------------------------------- without a browser


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


# ---------------------------------------------------------------- in a browser

CONTRAST = """
const ask = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const rgba = (color) => {
  ask.clearRect(0, 0, 1, 1); ask.fillStyle = color; ask.fillRect(0, 0, 1, 1);
  return [...ask.getImageData(0, 0, 1, 1).data];
};
const light = (color) => {
  const [r, g, b] = rgba(color).map((v) => v / 255).map(
    (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = (at) => {
  while (at && rgba(getComputedStyle(at).backgroundColor)[3] < 255) at = at.parentElement;
  return at ? getComputedStyle(at).backgroundColor : 'white';
};
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const found = [];
for (let node; node = texts.nextNode();) {
  const at = node.parentElement;
  if (!node.textContent.trim() || !at.checkVisibility() || at.closest('script, svg')) continue;
  const [a, b] = [light(getComputedStyle(at).color), light(ground(at))].sort((x, y) => y - x);
  found.push([(a + 0.05) / (b + 0.05), node.textContent.trim().slice(0, 40)]);
}
return found;
"""
NAMELESS = """
const named = (at) => (at.getAttribute('aria-label') || at.textContent
  || (at.labels && at.labels.length && at.labels[0].textContent)
  || [...at.querySelectorAll('img')].map((i) => i.alt).join('')).trim();
const ids = [...document.querySelectorAll('[id]')].map((at) => at.id);
const pointed = [...document.querySelectorAll('[aria-labelledby], [aria-describedby]')]
  .map((at) => at.getAttribute('aria-labelledby') || at.getAttribute('aria-describedby'));
return [
  ...[...document.querySelectorAll('button, a, input, [role]')].filter((at) => !named(at)),
  ...[...document.querySelectorAll('main img')].filter((at) => !at.alt),
].map((at) => at.outerHTML.slice(0, 80)).concat(
  ids.filter((id, k) => ids.indexOf(id) !== k), pointed.filter((id) => !ids.includes(id)));
"""


@pytest.fixture(scope="module")
def browser():
    """A real Chromium without a window."""
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if not all(programs):
        skip_unless_ci("chromium and chromium-driver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(programs[1]))
    yield driver
    driver.quit()


@pytest.fixture
def open_page(browser, tree):
    """Gives a function that opens the page at a width; at the end the console must be empty."""

    def show(width: int = 1440, scheme: str = "light"):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        media = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in media.items()]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        browser.get((tree / "report.html").as_uri())
        return browser

    yield show
    assert browser.get_log("browser") == []


def of_chip(page, chip: int, what: str):
    return page.find_element(By.CSS_SELECTOR, f"[aria-labelledby=chip{chip}] {what}")


def scale(page, chip: int) -> float:
    text = of_chip(page, chip, ".layer").get_attribute("style")
    return float(text.split("scale(")[1].split(")")[0])


def point_at(page, chip: int, x: float, y: float):
    """The mouse at a part of a preview, from its upper left; what the page says of it."""
    view = of_chip(page, chip, ".view")
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", view)
    box = view.rect
    dx, dy = round((x - 0.5) * box["width"]), round((y - 0.5) * box["height"])
    ActionChains(page, duration=0).move_to_element_with_offset(view, dx, dy).perform()
    # Where the mouse is in truth: browsers round to whole pixels.
    at = page.execute_script(
        "const b = arguments[0].getBoundingClientRect();"
        "return [b.left + b.width / 2, b.top + b.height / 2, b.left, b.top, b.width, b.height]",
        view,
    )
    inside = int(at[0]) + dx - at[2], int(at[1]) + dy - at[3]
    return (inside[0] / at[4], inside[1] / at[5]), of_chip(page, chip, ".readout").text


def told(text: str) -> SkyCoord:
    """The position in a read-out: its sexagesimal half, which must agree with the degrees."""
    words, degrees = text.replace("−", "-").split(" · ")
    both = [SkyCoord(words, unit=("hourangle", "deg")), SkyCoord(degrees, unit="deg")]
    # The right ascension has hundredths of a second of time: 0.075 arcsec at most.
    assert both[0].separation(both[1]).arcsec < 0.15
    return both[1]


@pytest.mark.parametrize("zoom", [0, 3])
@pytest.mark.parametrize("chip", [1, 4])
def test_the_readout_is_what_astropy_says(open_page, chip, zoom):
    page = open_page()
    for _ in range(zoom):
        of_chip(page, chip, "[data-do=in]").click()
    (x, y), text = point_at(page, chip, 0.3, 0.8)
    ny, nx = SIZE
    # Zoomed about the middle, by 1.4 each time.
    px, py = (0.5 + (v - 0.5) / 1.4**zoom for v in (x, y))
    truth = WCS(header(chip)).pixel_to_world(px * nx - 0.5, ny - py * ny - 0.5)
    # A pixel of the screen is 0.3 arcsec here, and two roundings of one may differ.
    assert told(text).separation(truth).arcsec < 1.0


def test_zoom_by_wheel_keys_buttons_and_drag(open_page):
    page = open_page()
    view = of_chip(page, 2, ".view")
    point_at(page, 2, 0.5, 0.5)
    before = page.execute_script("return scrollY")
    ActionChains(page).scroll_from_origin(ScrollOrigin.from_element(view), 0, -120).perform()
    assert scale(page, 2) == 1.0  # nobody is caught: the wheel turns the page until one clicks
    view.click()
    ActionChains(page).scroll_from_origin(ScrollOrigin.from_element(view), 0, -200).perform()
    assert scale(page, 2) == pytest.approx(np.exp(200 / 400), rel=1e-3)
    assert page.execute_script("return scrollY") <= before
    view.send_keys("0")
    assert scale(page, 2) == 1.0
    view.send_keys("+", "+", "-")
    assert scale(page, 2) == pytest.approx(1.4)
    middle = told(of_chip(page, 2, ".readout").text)
    view.send_keys(Keys.ARROW_RIGHT)
    moved = told(of_chip(page, 2, ".readout").text)
    east, north = middle.spherical_offsets_to(moved)
    # 60 pixels of the screen to the right are to the west, up to the edge.
    assert east.arcsec < -10
    assert abs(north.arcsec) < 0.1
    ActionChains(page, duration=50).drag_and_drop_by_offset(view, 40, 0).perform()
    back = told(of_chip(page, 2, ".readout").text)
    view.send_keys("+", "-")
    assert told(of_chip(page, 2, ".readout").text).ra > moved.ra
    assert back.ra.deg > 0
    assert scale(page, 3) == 1.0


def test_large_and_inverted(open_page):
    page = open_page()
    chip = of_chip(page, 3, ".view")
    small = chip.rect["width"]
    button = of_chip(page, 3, "[data-do=large]")
    page.execute_script("arguments[0].click()", button)
    assert button.get_attribute("aria-pressed") == "true"
    assert chip.rect["width"] > 1.8 * small
    invert = page.find_element(By.ID, "invert")
    invert.send_keys(Keys.SPACE)
    assert invert.get_attribute("aria-pressed") == "true"
    assert of_chip(page, 3, "img").value_of_css_property("filter") == "invert(1)"


def test_marks_are_where_they_belong(open_page):
    page = open_page()
    for kind, n in (("stars", 1), ("others", 1), ("targets", 1)):
        box = page.find_element(By.CSS_SELECTOR, f"[data-marks={kind}]")
        circles = page.find_elements(By.CSS_SELECTOR, f"g.{kind} circle")
        assert len(circles) == n
        assert circles[0].is_displayed() == box.is_selected() == (kind == "targets")
        page.execute_script("arguments[0].click()", box)
        assert circles[0].is_displayed() == box.is_selected() == (kind != "targets")
    # The catalogue's star is in the middle of the stack, the target at its place.
    ny, nx = SIZE
    x, y = WCS(header(1)).all_world2pix(*TARGET, 0)
    for kind, wanted in (("stars", (nx / 2, ny / 2)), ("targets", (x + 0.5, ny - y - 0.5))):
        circle = page.find_element(By.CSS_SELECTOR, f"g.{kind} circle")
        found = [float(circle.get_attribute(name)) for name in ("cx", "cy")]
        assert found == pytest.approx(wanted, abs=0.06)  # they are written with one digit


def test_tables_sort_and_say_so(open_page):
    page = open_page()
    table = page.find_element(By.CSS_SELECTOR, "[aria-label=Frames] table")

    def column(k: int) -> list[str]:
        return [
            row.text for row in table.find_elements(By.CSS_SELECTOR, f"tbody tr > :nth-child({k})")
        ]

    head = table.find_elements(By.CSS_SELECTOR, "thead th")[3]
    for key, order, first in ((Keys.ENTER, "ascending", "1.90"), (" ", "descending", "10.20")):
        head.find_element(By.TAG_NAME, "button").send_keys(key)
        assert head.get_attribute("aria-sort") == order
        other = "10.20" if first == "1.90" else "1.90"
        # By number, not by letters; what is unknown last.
        assert column(4) == 4 * [first] + 4 * [other] + 4 * ["–"]
    table.find_elements(By.CSS_SELECTOR, "thead button")[0].click()
    assert column(1) == sorted(column(1))
    assert head.get_attribute("aria-sort") is None


def test_figures_open_and_close(open_page):
    page = open_page()
    thumb = page.find_element(By.CSS_SELECTOR, ".thumb")
    page.execute_script("arguments[0].focus()", thumb)
    thumb.send_keys(Keys.ENTER)
    dialog = page.find_element(By.TAG_NAME, "dialog")
    assert dialog.is_displayed()
    assert dialog.find_element(By.TAG_NAME, "img").get_attribute("alt") == "Quality of C1"
    ActionChains(page).send_keys(Keys.ESCAPE).perform()
    assert not dialog.is_displayed()
    assert page.switch_to.active_element == thumb


def test_hostile_words_stay_words(open_page):
    page = open_page()
    assert page.find_element(By.TAG_NAME, "h1").text == HOSTILE
    assert HOSTILE in page.title
    assert len(page.find_elements(By.TAG_NAME, "script")) == 1
    assert not page.find_elements(By.CSS_SELECTOR, "img[src=x], [onerror]")
    shown = page.find_element(By.TAG_NAME, "body").get_attribute("textContent")
    # A note of all, one of each chip, a reason for each loss twice, a survey, a report, ...
    assert shown.count(BREAKOUT) >= 1 + 4 + 8 + 1 + 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_words_can_be_read(open_page, scheme):
    page = open_page(scheme=scheme)
    page.execute_script("document.querySelectorAll('details').forEach((d) => d.open = true)")
    page.find_element(By.ID, "invert").click()
    found = page.execute_script(CONTRAST)
    assert len(found) > 100
    assert min(found)[0] >= LEAST_CONTRAST, min(found)


def test_everything_has_a_name_and_the_keyboard_gets_everywhere(open_page):
    page = open_page()
    assert page.execute_script(NAMELESS) == []
    assert page.find_element(By.TAG_NAME, "html").get_attribute("lang") == "en"
    for landmark in ("header", "nav", "main", "footer"):
        assert page.find_element(By.TAG_NAME, landmark)
    headings = page.execute_script(
        "return [...document.querySelectorAll('h1, h2, h3')].map((h) => Number(h.tagName[1]))"
    )
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert max(np.diff(headings)) == 1  # no level is left out on the way down
    reached = set()
    for _ in range(120):
        ActionChains(page).send_keys(Keys.TAB).perform()
        reached.add(page.execute_script(
            "const at = document.activeElement;"
            "return at.className + at.tagName + (at.dataset.do || '')"
        ))  # fmt: skip
    wanted = {"skipA", "viewDIV", "BUTTONin", "BUTTONlarge", "INPUT", "thumbBUTTON", "SUMMARY"}
    assert {name.replace("zoomed", "").strip() for name in reached} >= wanted


@pytest.mark.parametrize("width", [320, 390, 768])
def test_a_phone_does_not_scroll_sideways(open_page, width):
    page = open_page(width)
    page.execute_script("document.querySelectorAll('details').forEach((d) => d.open = true)")
    sizes = page.execute_script(
        "const e = document.documentElement; return [e.scrollWidth, e.clientWidth]"
    )
    assert sizes[0] <= sizes[1] <= width
