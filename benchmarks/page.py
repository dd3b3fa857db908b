"""How fast the report's page opens: made-up results of many models and data sets, in headless Chromium.

python benchmarks/page.py --models 20 --data 10 --examples 1000
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from tests_support import write_models

from clipbias.report.build import gather
from clipbias.report.examples import Example, Seen, data_uri
from clipbias.report.page.build import build_page
from clipbias.report.style import PAPER
from clipbias.results.folder import load_runs


def made_up(models: list[str], data: list[str], count: int) -> list[Example]:
    """Examples of captions of 100 words, with a picture each."""
    words = ["a", "large", "red", "circle", "under", "a", "blue", "sky", "with", "many", "other", "things", "in", "it"]
    out = []
    for number in range(count):
        caption = " ".join(words[(number + place) % len(words)] for place in range(100))
        fell = [str(1 + (number * 7 + place) % 900) for place in range(len(models))]
        seen = tuple(Seen(model, "1", rank, 0.3, 0.2) for model, rank in zip(models, fell, strict=True))
        picture = data_uri(Image.effect_noise((192, 144), 20 + number % 50))
        name = data[number % len(data)]
        out.append(Example(name, number, "drop-first", "First sentence removed", "drop-first", caption,
                           caption.partition(" ")[2], picture, seen))  # fmt: skip
    return out


def opened(page: Path, profile: str) -> dict[str, float]:
    """Seconds until the page was loaded, and until its first chart was drawn."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.support.ui import WebDriverWait

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("headless", "no-sandbox", "disable-gpu", f"user-data-dir={profile}", "window-size=1280,900"):
        options.add_argument(f"--{argument}")
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        began = time.monotonic()
        driver.get(page.as_uri())
        loaded = driver.execute_script(
            "const t = performance.getEntriesByType('navigation')[0]; return (t.loadEventEnd - t.startTime) / 1000"
        )
        driver.execute_script("document.querySelector('.chart').scrollIntoView()")
        WebDriverWait(driver, 60).until(lambda d: d.find_elements("css selector", ".chart svg .mark-symbol"))
        return {"loaded": loaded, "first chart drawn": time.monotonic() - began}
    finally:
        driver.quit()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("models", 20), ("data", 10), ("examples", 1000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    models = [f"model-{number:02}" for number in range(asked.models)]
    data = [f"data-{number}" for number in range(asked.data)]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for model in models:
            for name in data:
                write_models(root / "results" / name, model, name, data_fingerprint=name, model_fingerprint=model)
        material = gather(load_runs([root / "results"]), [], root, (), 0, [PAPER])
        page = root / "index.html"
        page.write_text(build_page(replace(material, examples=made_up(models, data, asked.examples))), "utf-8")
        print(f"{asked.models} models, {asked.data} data sets, {asked.examples} examples")
        print(f"page: {page.stat().st_size / 1e6:.1f} MB")
        for words, seconds in opened(page, str(root / "profile")).items():
            print(f"{words}: {seconds:.2f} s")


if __name__ == "__main__":
    main()
