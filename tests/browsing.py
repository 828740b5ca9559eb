"""A real Chromium without a window, and what it is asked about every page."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from conftest import skip_unless_ci

LEAST_CONTRAST = 4.5
"""Of text on its ground: WCAG 2, level AA."""
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


@contextmanager
def chromium() -> Iterator[webdriver.Chrome]:
    """A browser; the tests that want one are skipped where none is."""
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if not all(programs):
        skip_unless_ci("chromium and chromium-driver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(programs[1]))
    try:
        yield driver
    finally:
        driver.quit()
