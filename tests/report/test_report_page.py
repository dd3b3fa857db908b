"""The page in a real browser: it sorts, folds, draws, is accessible, asks for nothing, takes hostile names as text."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from importlib import resources

import pytest
from PIL import Image
from tests_support import HOSTILE, SVG, write_models

from clipbias.report.build import build_report, gather
from clipbias.report.examples import Example, Seen, data_uri
from clipbias.report.heat import Heat
from clipbias.report.page.build import build_page
from clipbias.results.folder import load_runs

pytestmark = pytest.mark.skipif(
    shutil.which("chromium") is None or shutil.which("chromedriver") is None, reason="no Chromium with its driver here"
)


def browser(profile, scheme="light"):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    quiet = ("background-networking", "component-update", "sync", "gpu", "quic")
    for argument in ("headless", "no-sandbox", "no-first-run", *(f"disable-{part}" for part in quiet)):
        options.add_argument(f"--{argument}")
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    return driver


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    root = tmp_path_factory.mktemp("page")
    for model in ("a", "bb", HOSTILE):
        write_models(root / "results" / str(len(model)), model)
    build_report([root / "results"], root / "out", look=SVG)
    return root / "out" / "index.html"


@pytest.fixture(scope="module")
def page(report, tmp_path_factory):
    driver = browser(tmp_path_factory.mktemp("profile"))
    driver.get(report.as_uri())
    yield driver
    driver.quit()


def resize(page, width):
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )


def column(page, key: str) -> list[str]:
    """The shown cells of a column, by the key of its heading's button."""
    return page.execute_script(
        """const board = document.getElementById("board");
        const place = [...board.tHead.rows[1].cells].findIndex(h => h.querySelector(`[data-key="${arguments[0]}"]`));
        return [...board.tBodies[0].rows].filter(r => !r.hidden)
            .map(r => (r.cells[place].querySelector("b") || r.cells[place].firstChild).textContent)""",
        key,
    )


def button(page, key: str):
    return page.find_element("css selector", f'.sort[data-key="{key}"]')


def test_the_board_sorts_high_first_then_low_by_keyboard_too(page):
    button(page, "i1").click()
    down = [float(value) for value in column(page, "i1")]
    assert down == sorted(down, reverse=True) and len(down) == 3
    head = button(page, "i1").find_element("xpath", "..")
    assert head.get_attribute("aria-sort") == "descending"
    button(page, "i1").send_keys("\n")
    assert [float(value) for value in column(page, "i1")] == down[::-1]
    assert head.get_attribute("aria-sort") == "ascending"


def test_names_sort_from_a(page):
    button(page, "name").click()
    assert column(page, "name") == sorted(column(page, "name"))


def test_a_group_opens_and_closes(page):
    fold = next(b for b in page.find_elements("css selector", ".fold") if "Retrieval" in b.text)
    cell = page.find_element("css selector", '#board thead .more[data-group="Retrieval"]')
    assert not cell.is_displayed()
    fold.click()
    assert cell.is_displayed() and fold.get_attribute("aria-expanded") == "true"
    fold.click()
    assert not cell.is_displayed()


def test_the_filter_leaves_what_is_asked_for(page):
    field = page.find_element("id", "filter")
    field.send_keys("BB")
    assert column(page, "name") == ["bb"]
    assert page.find_element("id", "shown").text == "1 shown"
    field.clear()
    field.send_keys(" \b")
    assert len(column(page, "name")) == 3


def test_charts_are_drawn_of_the_models_that_are_picked(page):
    from selenium.webdriver.support.ui import WebDriverWait

    points = '[data-key="drops"] .mark-symbol.role-mark path'
    page.execute_script('document.getElementById("chart-drops").scrollIntoView()')
    WebDriverWait(page, 20).until(lambda p: len(p.find_elements("css selector", points)) == 6)
    page.find_element("css selector", '#models input[value="bb"]').click()
    WebDriverWait(page, 20).until(lambda p: len(p.find_elements("css selector", points)) == 4)
    page.find_element("id", "none").click()
    WebDriverWait(page, 20).until(lambda p: "No model is picked" in p.find_element("id", "chart-drops").text)
    page.find_element("id", "all").click()
    WebDriverWait(page, 20).until(lambda p: len(p.find_elements("css selector", points)) == 6)


def test_hostile_names_are_text_and_nothing_is_asked_for(page):
    assert HOSTILE in column(page, "name")
    assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    # "chrome" is the browser's own empty tab at its start.
    assert [url for url in urls if not url.startswith(("file:", "data:", "chrome:", "chrome-untrusted:"))] == []
    assert sum(url.startswith("file:") for url in urls) <= 1


def test_a_script_that_the_page_did_not_bring_does_not_run(page):
    page.execute_script(
        """const script = document.createElement("script"); script.textContent = "window.intruder = 1";
        document.body.append(script)"""
    )
    assert page.execute_script("return window.intruder") is None
    policy = page.find_element("css selector", "meta[http-equiv]").get_attribute("content")
    assert "unsafe" not in policy and "http" not in policy and policy.startswith("default-src 'none'")


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_the_screen_and_axe_finds_nothing(page, width, scheme):
    pytest.importorskip("axe_core_python")
    from selenium.webdriver.support.ui import WebDriverWait

    resize(page, width)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    page.execute_script('document.getElementById("chart-drops").scrollIntoView()')
    WebDriverWait(page, 20).until(lambda p: p.find_elements("css selector", '[data-key="drops"] svg'))
    page.execute_script(resources.files("axe_core_python").joinpath("axe.min.js").read_text("utf-8"))
    found = page.execute_async_script("const done = arguments[0]; axe.run().then(all => done(all.violations))")
    assert [(one["id"], one["nodes"][0]["html"][:200]) for one in found] == []


def test_the_page_prints_what_is_folded(page):
    import base64

    resize(page, 1280)
    printed = base64.b64decode(page.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})["data"])
    assert printed.startswith(b"%PDF") and len(printed) > 20_000
    assert not page.find_element("css selector", "#leaderboard details").get_attribute("open")


def test_rank_sets_need_the_same_queries():
    from clipbias.report.columns import COLUMNS
    from clipbias.report.page.board import Cell, Line
    from clipbias.report.page.findings import findings

    cells = {key: Cell(value, value - 1, value + 1, "") for key, value in (("t1", 50.0), ("drop", -20.0))}
    lines = [Line("d", name, 77, cells) for name in ("a", "b")]
    best, first = findings(lines, COLUMNS)
    assert best.doubt == "The models did not run the same queries; the difference was not tested."
    assert "were not compared" in first.doubt


def test_commands_that_differ_in_the_probe_alone_are_one():
    from clipbias.report.page.build import merged

    told = "--model m --seed 0"
    commands = [
        f"clipbias probe a {told}",
        f"clipbias probe b-1 c {told}",
        "clipbias demo",
        f"clipbias probe a {told}1",
    ]
    assert merged(commands) == [f"clipbias probe a b-1 c {told}", "clipbias demo", f"clipbias probe a {told}1"]


@pytest.fixture(scope="module")
def captions(tmp_path_factory):
    """A page of made-up captions: what was ranked first instead, and tokens left out one by one."""
    root = tmp_path_factory.mktemp("captions")
    for model in ("a", "bb"):
        write_models(root / "results" / str(len(model)), model)
    picture = data_uri(Image.new("RGB", (8, 8), "red"))
    other = data_uri(Image.new("RGB", (8, 8), "blue"))
    seen = (Seen("a", "1", "9", 0.3, 0.1, 5), Seen("bb", "1", "4", 0.3, 0.2, 6))
    example = Example(
        "d", 0, "drop-first", "First", "drop-first", f"A cat. {HOSTILE}", HOSTILE, picture, seen, {5: other}
    )
    changes = [(0, 1, 0.1), (2, 5, 4.0), (5, 6, 0.0), (7, 8, -2.0)]
    heat = Heat("d", 0, f"A cat. {HOSTILE}", 6, picture, {"a": changes, "bb": changes[:2]})
    material = gather(load_runs([root / "results"]), [], root / "out", (), 0, [SVG], [])
    page = root / "index.html"
    page.write_text(build_page(replace(material, examples=[example], heat=[heat])), "utf-8")
    driver = browser(tmp_path_factory.mktemp("profile2"))
    driver.get(page.as_uri())
    yield driver
    driver.quit()


def test_what_was_ranked_first_instead_is_shown_with_whom_it_fooled(captions):
    assert [part.text for part in captions.find_elements("css selector", ".instead")] == ["Ranked first instead by a"]
    assert HOSTILE in captions.find_element("css selector", ".example").text


def test_tokens_are_shaded_by_what_leaving_them_out_does(captions):
    shares = captions.execute_script(
        """return [...document.querySelectorAll("#heat p")].map(p => [...p.querySelectorAll(".token")].map(
            t => [t.textContent, t.style.getPropertyValue("--share"), t.classList.contains("lowers"), t.title]))"""
    )
    assert shares[0] == [
        ["A", "3%", False, "+0.10"], ["cat", "100%", False, "+4.00"], [".", "0%", False, "0.00"],
        [HOSTILE[0], "50%", True, "\u22122.00"],
    ]  # fmt: skip
    paragraphs = captions.find_elements("css selector", "#heat p")
    assert all(HOSTILE[1:] in paragraph.text for paragraph in paragraphs) and "cut off" in paragraphs[1].text
    # 4.1 of 6.1 before the first sentence's end.
    assert "67% of the absolute change is in the first sentence" in captions.find_element("id", "heat").text
    assert [entry for entry in captions.get_log("browser") if entry["level"] == "SEVERE"] == []
