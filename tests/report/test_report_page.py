"""The page in a real browser: it sorts, filters, asks for nothing, and takes hostile names as text."""

from __future__ import annotations

import json
import shutil

import pytest
from tests_support import HOSTILE, write_models

from clipbias.report.build import build_report

pytestmark = pytest.mark.skipif(
    shutil.which("chromium") is None or shutil.which("chromedriver") is None, reason="no Chromium with its driver here"
)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    root = tmp_path_factory.mktemp("page")
    for model in ("a", "bb", HOSTILE):
        write_models(root / "results" / str(len(model)), model)
    build_report([root / "results"], root / "out")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    quiet = ("background-networking", "component-update", "sync", "gpu", "quic")
    for argument in ("headless", "no-sandbox", "no-first-run", *(f"disable-{part}" for part in quiet)):
        options.add_argument(f"--{argument}")
    options.add_argument(f"--user-data-dir={root / 'profile'}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.get((root / "out" / "index.html").as_uri())
    yield driver
    driver.quit()


def _column(page, name: str) -> list[str]:
    heads = page.find_elements("css selector", "#board thead th")
    place = [head.text.split(" \u25b2")[0].split(" \u25bc")[0] for head in heads].index(name)
    rows = [row for row in page.find_elements("css selector", "#board tbody tr") if row.is_displayed()]
    return [row.find_elements("css selector", "td")[place].text for row in rows]


def test_the_board_sorts_both_ways_by_keyboard_too(page):
    button = next(b for b in page.find_elements("css selector", "#board th button") if b.text == "T2I R@5")
    button.click()
    down = [float(value) for value in _column(page, "T2I R@5")]
    assert down == sorted(down, reverse=True) and len(down) == 3
    assert button.find_element("xpath", "..").get_attribute("aria-sort") == "descending"
    button.send_keys("\n")
    assert [float(value) for value in _column(page, "T2I R@5")] == down[::-1]


def test_the_filter_leaves_what_is_asked_for(page):
    field = page.find_element("id", "filter")
    field.send_keys("BB")
    assert _column(page, "model") == ["bb"]
    field.clear()
    field.send_keys(" \b")
    assert len(_column(page, "model")) == 3


def test_hostile_names_are_text_and_nothing_is_asked_for(page):
    assert HOSTILE in _column(page, "model")
    assert page.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    # "chrome" is the browser's own empty tab at its start.
    assert [url for url in urls if not url.startswith(("file:", "data:", "chrome:", "chrome-untrusted:"))] == []
    assert sum(url.startswith("file:") for url in urls) <= 1


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_is_no_wider_than_the_screen(page, width):
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    )
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
