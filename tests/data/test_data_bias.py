"""Whether first sentences are summaries: by hand, and on captions made so that they are."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from clipbias.cli.app import app
from clipbias.data.bias import content, repeated, summary_findings


def test_repeats_by_hand():
    assert content("The dog is on a Red chair.") == ["dog", "red", "chair"]
    assert repeated(["dog", "red"], ["red", "cat"], 1) == 0.5
    assert repeated(["a", "red", "dog"], ["one", "red", "dog"], 2) == 0.5
    assert np.isnan(repeated(["one"], ["one", "two"], 2))


def test_summaries_are_told_from_other_first_sentences():
    rng = np.random.default_rng(0)
    vocabulary = [f"w{i}" for i in range(2000)]
    summaries, plain = [], []
    for _ in range(200):
        rest = [" ".join(rng.choice(vocabulary, 8)) + "." for _ in range(5)]
        told = " ".join(one.split()[0] for one in rest)
        summaries.append((told, *rest))
        plain.append((" ".join(rng.choice(vocabulary, 5)) + ".", *rest))

    def found(captions, embed=None):
        return {f.name: f for f in summary_findings(captions, np.arange(200), embed)}

    def bag(texts):
        out = np.zeros((len(texts), 2000))
        for row, text in enumerate(texts):
            for word in text.replace(".", "").split():
                out[row, int(word[1:])] += 1
        return out / np.linalg.norm(out, axis=1, keepdims=True)

    yes, no = found(summaries, bag), found(plain, bag)
    assert yes["first_repeated_1"].value == 1 and no["first_repeated_1"].interval.high < 0.1
    assert yes["first_words"].value == 5 and yes["other_words"].value == 8
    assert yes["first_share"].value == pytest.approx(5 / 45)
    assert yes["first_cosine"].value > 0.3 > no["first_cosine"].value + 0.2
    assert yes["rest_identifies"].value == 1
    assert found([("one", "two")] * 200) == {}


def test_the_command_prints_and_gives_json():
    run = CliRunner().invoke(app, ["data", "bias", "scenes", "--json"])
    assert run.exit_code == 0, run.output
    rows = {row["name"]: row for row in json.loads(run.stdout)}
    # The summary's facts are told once, the main shape's name again.
    assert 0 < rows["first_repeated_1"]["value"] < 0.9 and rows["first_words"]["captions"] == 1000
