"""`models check`: good models pass every check that applies; each kind of broken model fails the check made for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hub_models import write_hub_folder
from openclip_folder import write_siglip

import clipbias
from clipbias.errors import CheckFailed
from clipbias.models.check import check_model, describe, require_checked
from clipbias.models.wrapped import WrappedEncoder


def _verdicts(encoder) -> dict[str, str]:
    return {finding.check: finding.verdict for finding in check_model(encoder)}


@pytest.mark.parametrize("kind", ["nano", "siglip", "clip", "chinese_clip"])
def test_models_of_each_library_pass(tmp_path, kind):
    if kind == "nano":
        encoder = clipbias.load_model("nano-debias", device="cpu")
    elif kind == "siglip":
        write_siglip(tmp_path, ["a dog sits on a bench", "two birds over a lake"], pad="</s>")
        encoder = clipbias.load_model(str(tmp_path), device="cpu")
    else:
        write_hub_folder(kind, tmp_path)
        encoder = clipbias.load_model(str(tmp_path), device="cpu")
    findings = list(check_model(encoder))
    assert [f for f in findings if f.verdict != "yes"] == []
    require_checked(findings)
    assert describe(encoder)["text tower for probes"] == "yes"


class Mine:
    """A user's model: a text is the counts of its letters, an image its mean colour."""

    context_length = 12
    noise = 0.0
    scale = 1.0

    def encode_texts(self, texts):
        rows = [[text[: 2 * self.context_length].count(c) + 0.1 for c in "aeiourst <|/[d"] for text in texts]
        return np.array(rows) + self.noise * np.random.default_rng().normal(size=(len(texts), 14))

    def encode_images(self, images):
        means = np.stack([np.asarray(image.resize((2, 2))).reshape(-1) for image in images]).astype(float) + 1
        return np.pad(means, ((0, 0), (0, 2)))

    def token_lengths(self, texts):
        return [len(text) // 2 for text in texts]


def _wrapped(**changes):
    model = type("Changed", (Mine,), changes)()
    return WrappedEncoder(model, "mine", torch.device("cpu"), "fp32")


def test_a_users_model_is_told_what_does_not_apply():
    found = _verdicts(_wrapped())
    assert found["features are normalised"] == found["the same twice"] == found["what is cut is counted"] == "yes"
    assert found["attention sums to one"] == found["one end token a text"] == "not applicable"


@pytest.mark.parametrize(
    ("check", "changes"),
    [
        ("the same twice", {"noise": 0.1}),
        ("different inputs, different features", {"encode_texts": lambda self, texts: np.ones((len(texts), 14))}),
        (
            "texts do not depend on their batch",
            {"encode_texts": lambda self, t: Mine.encode_texts(self, t) + len(t) * np.eye(14)[0]},
        ),
        ("what is cut is counted", {"token_lengths": lambda self, texts: [1] * len(texts)}),
        ("features are normalised", {"encode_texts": lambda self, texts: np.full((len(texts), 14), np.nan)}),
        (
            "special words in a caption cut nothing",
            {"encode_texts": lambda self, texts: Mine.encode_texts(self, [t.split("</s>")[0] for t in texts])},
        ),
    ],
)
def test_what_is_broken_fails_its_check(check, changes):
    findings = list(check_model(_wrapped(**changes)))
    assert next(f.verdict for f in findings if f.check == check) == "no"
    with pytest.raises(CheckFailed, match=check):
        require_checked(findings)


def test_the_command_prints_a_card(capsys, monkeypatch):
    from clipbias.cli.app import main

    monkeypatch.setattr("sys.argv", ["clipbias", "models", "check", "nano-clip", "--device", "cpu"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code in (0, None)
    shown = capsys.readouterr().out
    assert "activation=quickgelu" in shown and "yes            attention sums to one" in shown
