"""The page of an observation in a real browser."""

import json

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from browsing import CONTRAST, LEAST_CONTRAST, NAMELESS, chromium
from htmlcase import BREAKOUT, HOSTILE, SIZE, TARGET, header, make_tree
from photometrus.htmlreport.observation import observation
from photometrus.htmlreport.page import write_report
from photometrus.io.fitsfile import write_compressed


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = make_tree(tmp_path_factory.mktemp("observation"))
    write_report(root)
    return root


@pytest.fixture(scope="module")
def browser():
    with chromium() as driver:
        yield driver


@pytest.fixture
def open_page(browser, tree):
    """Gives a function that opens the page at a width; at the end the console must be empty."""

    def show(width: int = 1440, scheme: str = "light", media: str = "", root=tree):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        likes = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in likes.items()]
        emulated = {"media": media, "features": features}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", emulated)
        browser.get((root / "report.html").as_uri())
        pictures = "return document.querySelectorAll('.layer img:not([hidden])').length"
        WebDriverWait(browser, 10).until(lambda _: browser.execute_script(pictures) == 0)
        return browser

    show.tree = tree
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
    words, degrees, *_ = text.replace("−", "-").split(" · ")
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
    assert of_chip(page, 3, "canvas").value_of_css_property("filter") == "invert(1)"


GREYS = """
const canvas = arguments[0];
return [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]
  .filter((_, k) => k % 4 === 0);
"""


def test_stretches_and_values(open_page):
    page = open_page()
    (x, y), text = point_at(page, 2, 0.4, 0.6)
    ny, nx = SIZE
    *_, pixel, value = text.replace("−", "-").split(" · ")
    px, py = (float(word) for word in pixel.split()[1::2])
    # FITS counts from 1 and from below; it is told with one digit.
    assert (px, py) == pytest.approx((x * nx + 0.5, ny - y * ny + 0.5), abs=0.06)
    greys = observation(open_page.tree).chips[1].preview.greys
    # The sky's noise is 1 ADU; what WebP leaves of a pixel of it is worse than that at times.
    assert float(value.removeprefix("≈ ").removesuffix(" ADU")) == pytest.approx(0, abs=5)
    canvas = of_chip(page, 2, "canvas")
    seen = {}
    for name in ("zscale", "asinh", "log", "wide"):
        Select(page.find_element(By.ID, "stretch")).select_by_value(name)
        seen[name] = np.array(page.execute_script(GREYS, canvas)).reshape(ny, nx)
        # The brightest star is white under all; it is 500 noises bright.
        assert seen[name][ny - 1 - 40, 70] == 255
    # Linear between the limits of zscale: the sky is where they say, but for half a grey of
    # rounding twice, and what compression does to the median.
    sky = 255 * (greys.level - greys.black) / (greys.white - greys.black)
    assert np.median(seen["zscale"]) == pytest.approx(sky, abs=6)
    for name in ("asinh", "log", "wide"):
        assert not np.array_equal(seen[name], seen["zscale"])


def test_pixels_without_a_value_say_so(open_page, tmp_path):
    root = make_tree(tmp_path / "p")
    path = root / "stack/coadd.Open-H.01598997-01598999.C2.fits.fz"
    data = np.ones(SIZE, np.float32) + np.random.RandomState(1).normal(0, 1, SIZE)
    data[:, :150] = 0.0
    path.unlink()
    write_compressed(path, data.astype(np.float32), header(2), 16.0)
    write_report(root)
    page = open_page(root=root)
    assert point_at(page, 2, 0.2, 0.5)[1].endswith(" · no value")
    assert point_at(page, 2, 0.8, 0.5)[1].endswith(" ADU")


def test_two_fingers_zoom_and_a_tap_enlarges_on_a_phone(open_page):
    page = open_page(390)
    view = of_chip(page, 4, ".view")
    small = view.rect["width"]
    east, west = (of_chip(page, chip, ".view").rect for chip in (2, 1))
    assert east["x"] < west["x"]  # as on the sky, on a phone too
    assert east["y"] == pytest.approx(west["y"], abs=40)  # its heads may have two lines
    page.execute_script("arguments[0].scrollIntoView()", view)
    view.click()
    assert view.rect["width"] > 1.8 * small
    box = page.execute_script(
        "const b = arguments[0].getBoundingClientRect(); return [b.left, b.top]", view
    )
    size = view.rect["width"]

    def fingers(apart: float, kind: str) -> None:
        points = [
            {"x": box[0] + size / 2 + side * apart, "y": box[1] + size / 3, "id": k}
            for k, side in enumerate((-1, 1))
        ]
        touch = {"type": kind, "touchPoints": [] if kind == "touchEnd" else points}
        page.execute_cdp_cmd("Input.dispatchTouchEvent", touch)

    page.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    fingers(40, "touchStart")
    for apart in (60, 80, 100):
        fingers(apart, "touchMove")
    fingers(100, "touchEnd")
    page.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
    assert scale(page, 4) == pytest.approx(100 / 40, rel=0.01)


def test_frames_are_filtered(open_page):
    page = open_page()
    rows = "[aria-label=Frames] tbody tr"

    def shown() -> list[str]:
        found = page.find_elements(By.CSS_SELECTOR, rows)
        return [row.find_element(By.TAG_NAME, "th").text for row in found if row.is_displayed()]

    assert len(shown()) == 12
    Select(page.find_element(By.CSS_SELECTOR, "[data-filter=chip]")).select_by_visible_text("C3")
    assert shown() == ["01598997C3", "01598998C3", "01598999C3"]
    verdicts = Select(page.find_element(By.CSS_SELECTOR, "[data-filter=verdict]"))
    verdicts.select_by_visible_text("left out")
    assert shown() == ["01598998C3"]
    count = page.find_element(By.CSS_SELECTOR, ".count")
    assert count.text == "1 of 12 frames"
    assert count.get_attribute("role") == "status"


@pytest.mark.parametrize("allowed", [True, False])
def test_the_command_is_copied(open_page, allowed):
    page = open_page()
    if allowed:
        permissions = ["clipboardReadWrite", "clipboardSanitizedWrite"]
        page.execute_cdp_cmd("Browser.grantPermissions", {"permissions": permissions})
    else:
        page.execute_script("navigator.clipboard.writeText = () => Promise.reject(new Error('no'))")
    button = page.find_element(By.CSS_SELECTOR, "[data-copy=command]")
    button.send_keys(Keys.ENTER)
    WebDriverWait(page, 5).until(lambda _: button.text == "Copied")
    pasted = page.execute_async_script(
        "const done = arguments[0];"
        "navigator.clipboard.readText().then(done, (error) => done(String(error)))"
    )
    assert pasted == f"photometrus pipeline -target {BREAKOUT}"


def test_a_running_and_a_failed_observation(open_page, tmp_path):
    root = make_tree(tmp_path / "p")
    record = json.loads((root / "run.json").read_text())
    running = {"state": "running", "chips_asked": [1, 2, 3, 4]}
    failed = {"coadd": None, "page": None, "error": f"no star {BREAKOUT}", "frames": []}
    chips = {
        "running": {"C1": record["chips"]["C1"]},
        "failed": {f"C{chip}": failed for chip in (1, 2, 3, 4)},
    }
    for kind, said in chips.items():
        about = running if kind == "running" else {"state": "done"}
        (root / "run.json").write_text(json.dumps(record | about | {"chips": said}))
        write_report(root)
        page = open_page(root=root)
        assert page.find_element(By.CSS_SELECTOR, f".verdict.{kind} .headline").is_displayed()
        cards = page.find_elements(By.CSS_SELECTOR, ".chip .nothing")
        words = {"running": ["Not done yet"] * 3, "failed": [f"No stack: no star {BREAKOUT}"] * 4}
        assert [card.text for card in cards] == words[kind]
        assert min(page.execute_script(CONTRAST))[0] >= LEAST_CONTRAST


def test_on_paper_nothing_is_cut_off_and_no_button_is_left(open_page):
    page = open_page(scheme="dark", media="print")
    hidden = ("nav", ".tools", ".bar", ".copy", ".hint")
    assert not any(
        found.is_displayed()
        for name in hidden
        for found in page.find_elements(By.CSS_SELECTOR, name)
    )
    ground = page.find_element(By.TAG_NAME, "main").value_of_css_property("color")
    assert ground == "rgba(28, 33, 38, 1)"  # the light colours: paper is white
    page.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert page.find_element(By.CSS_SELECTOR, "details td").is_displayed()  # the losses
    assert not page.find_element(By.CSS_SELECTOR, ".settings").is_displayed()
    # Nothing that scrolls on a screen is wider than its box: the page of A4 is 794 pixels wide.
    size = {"width": 794, "height": 1123, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    wide = (
        "return [...document.querySelectorAll('.scroll')].map((b) => b.scrollWidth - b.clientWidth)"
    )
    assert max(page.execute_script(wide)) <= 1  # a rounding
    boxes = page.find_elements(By.CSS_SELECTOR, ".tall")
    assert boxes
    assert all(box.value_of_css_property("max-height") == "none" for box in boxes)


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
