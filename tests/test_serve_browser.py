"""The page of a tree of observations in a real browser, and a run that it follows."""

import os
import signal
import subprocess
import sys

import pytest
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from browsing import CONTRAST, LEAST_CONTRAST, NAMELESS, chromium
from htmlcase import HOSTILE, make_tree
from photometrus.io.lock import locked
from test_serve import run


@pytest.fixture(scope="module")
def browser():
    with chromium() as driver:
        yield driver


@pytest.fixture(scope="module")
def top(tmp_path_factory):
    top = tmp_path_factory.mktemp("served")
    make_tree(top / "a_20240825" / "H")
    with locked(run(top), "photometrus pipeline"):
        yield top


@pytest.fixture(scope="module")
def server(top):
    """The real command in a process of its own; its address. Ctrl-C ends it well."""
    words = [sys.executable, "-m", "photometrus", "serve", str(top), "-port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as done:
        yield done.stdout.readline().split(" is at ")[1].split()[0]
        done.send_signal(signal.SIGINT)
        out, err = done.communicate(timeout=20)
    assert (done.returncode, out, err) == (0, "stopped\n", "")


@pytest.fixture
def look(browser, server):
    """Gives a function that opens a page of the server; the console must be empty."""

    def look(path="", width=1440, scheme="light"):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        browser.get(server + path)
        return browser

    yield look
    assert browser.get_log("browser") == []


def cells(page, k):
    return [
        cell.text for cell in page.find_elements(By.CSS_SELECTOR, f"tbody tr > :nth-child({k})")
    ]


def test_the_table_sorts_and_finds(look):
    page = look()
    assert HOSTILE in cells(page, 2)[0]  # of the log: the latest, running, comes first
    page.find_elements(By.CSS_SELECTOR, "thead button")[5].click()
    assert cells(page, 6) == ["2 of 3", "8 of 12"]
    page.find_elements(By.CSS_SELECTOR, "thead button")[5].click()
    assert cells(page, 6) == ["8 of 12", "2 of 3"]
    find = page.find_element(By.ID, "find")
    find.send_keys("running_2024 h")
    rows = page.find_elements(By.CSS_SELECTOR, "tbody tr")
    assert [row.is_displayed() for row in rows] == [False, True]
    assert page.find_element(By.CSS_SELECTOR, ".count").text == "1 of 2 observations"


def test_a_run_is_followed_without_losing_the_place(look, top):
    page = look()
    page.find_elements(By.CSS_SELECTOR, "thead button")[5].click()
    page.find_elements(By.CSS_SELECTOR, "thead button")[5].click()
    page.execute_script("document.querySelector(\"a[href$='/running_20240825/H/']\").focus()")
    with (top / "running_20240825/H/photometrus.log").open("a") as journal:
        journal.write("2024-08-26T08:00:09.123Z INFO    C3 stack 7/9\n")
    # The table is exchanged while it is looked at.
    wait = WebDriverWait(page, 10, ignored_exceptions=[StaleElementReferenceException])
    wait.until(lambda _: "C3 stack 7/9" in cells(page, 2)[1])
    wait.until(lambda _: cells(page, 6) == ["8 of 12", "2 of 3"])  # still sorted
    wait.until(lambda _: "running" in page.switch_to.active_element.get_attribute("href"))
    wait.until(lambda _: page.switch_to.active_element.click() is None)
    wait.until(lambda _: page.find_element(By.TAG_NAME, "h1").text == "running_20240825")
    log = "[aria-label=Log]"
    wait.until(lambda _: page.find_element(By.CSS_SELECTOR, log).text.endswith("C3 stack 7/9"))
    running = ".verdict.running .headline"
    wait.until(lambda _: page.find_element(By.CSS_SELECTOR, running).is_displayed())


def test_a_report_works_behind_the_server(look):
    page = look("o/a_20240825/H/report.html")
    pictures = "return document.querySelectorAll('.layer img:not([hidden])').length"
    WebDriverWait(page, 10).until(lambda _: page.execute_script(pictures) == 0)
    button = page.find_element(By.CSS_SELECTOR, "[data-copy=command]")
    button.send_keys(Keys.ENTER)
    WebDriverWait(page, 5).until(lambda _: button.text == "Copied")
    # Where it stands it may not speak to the server.
    asked = page.execute_async_script(
        "const done = arguments[0]; fetch('/rows').then(() => done('read'), () => done('refused'))"
    )
    assert asked == "refused"
    refusals = page.get_log("browser")
    assert refusals
    assert all("/rows" in entry["message"] for entry in refusals)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["", "o/running_20240825/H/"])
def test_words_can_be_read_and_things_have_names(look, path, scheme):
    page = look(path, scheme=scheme)
    assert min(page.execute_script(CONTRAST))[0] >= LEAST_CONTRAST
    assert page.execute_script(NAMELESS) == []


@pytest.mark.parametrize("path", ["", "o/running_20240825/H/"])
def test_a_phone_does_not_scroll_sideways(look, path):
    page = look(path, width=390)
    sizes = page.execute_script(
        "const e = document.documentElement; return [e.scrollWidth, e.clientWidth]"
    )
    assert sizes[0] <= sizes[1] <= 390


def test_a_server_that_is_gone_is_told(browser, top):
    words = [sys.executable, "-m", "photometrus", "serve", str(top), "-port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as done:
        browser.get(done.stdout.readline().split(" is at ")[1].split()[0])
        os.kill(done.pid, signal.SIGKILL)
    gone = browser.find_element(By.CSS_SELECTOR, ".gone")
    WebDriverWait(browser, 10).until(lambda _: gone.is_displayed())
    assert cells(browser, 2)  # what was known is still shown
    browser.get("about:blank")
    browser.get_log("browser")  # it says that it could not ask
