"""The language of the field: words that read as translated or invented stay out of prose, help and comments."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
# What it is called here -> how it must not be called.
WORDS = {
    "fix, mitigate": r"\bmend(s|ed|ing)?\b",
    "CLIP-style models": r"of CLIP's kind",
    "built-in synthetic data": r"\bembedded (world|scenes|validation)\b",
    "registered": r"\b(data sets|models|what) that (has|have) a name\b|\bwhat has a name\b",
    "ablations": r"\bthe steps between\b",
    "per": r"R@1 a (padding )?sentence",
    "JSON output": r"\bfor programs\b",
    "repeatable": r"\bgive it again\b",
    "is removed": r"\b(sentence|token) goes\b",
    "cached embeddings": r"\bkept features\b|\bfeatures are kept\b",
    "not available": r"\bis not to be had\b|\bto be had here\b",
    "interrupted downloads resume": r"\bcut (download|run)s?\b|\bgoes on where it\b",
    "distributed by": r"\bgiven out\b",
    "encoding errors": r"\bdamaged letters\b",
    "NaN loss": r"\bloss (that )?is no number\b",
    "an oracle": r"\ba reader that knew\b",
    "an int": r"\ba int\b",
}
KINDS = ("*.py", "*.md", "*.toml", "*.jinja", "*.js", "*.yml", "*.cff")
PLACES = ("clipbias", "docs", "tests", "probes", "leaderboards", "benchmarks", ".github")


def texts() -> list[Path]:
    found = [path for place in PLACES for kind in KINDS for path in (ROOT / place).rglob(kind)]
    return [*ROOT.glob("*.md"), *found]


def test_no_word_that_the_field_would_not_use():
    wrong = re.compile("|".join(f"(?:{word})" for word in WORDS.values()), re.IGNORECASE)
    files = texts()
    assert len(files) > 200
    found = []
    for path in files:
        # Lines break phrases, and comment signs stand between.
        text = path.read_text("utf-8")
        joined = re.sub(r"\n\s*#?\s*", lambda gap: " " * len(gap[0]), text)
        if path != Path(__file__):
            where = path.relative_to(ROOT)
            found += [f"{where}:{text.count(chr(10), 0, m.start()) + 1}: {m[0]}" for m in wrong.finditer(joined)]
    assert found == []


def test_the_search_tells_words_from_parts_of_words():
    assert re.search(WORDS["fix, mitigate"], "the mend of the bias") and re.search(WORDS["an int"], "a int without")
    assert not re.search(WORDS["fix, mitigate"], "recommended, amended, commendable")
