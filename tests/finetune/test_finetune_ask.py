"""A training as it is asked for."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from tests_support import run_here

from clipbias.finetune import ask
from clipbias.finetune.ask import Training, training_command


@pytest.mark.parametrize(
    "asked",
    [
        Training("debias", settings={"steps": 3, "compile": True, "name": "a 'b' [c]"}, seed=4),
        Training(
            "longclip", "./my model.pt", Path("w$.pt"), "a b.csv", "root", "train", Path("r.toml"), pack="pack dir"
        ),
    ],
)
def test_the_command_in_a_model_card_asks_for_the_same_training(monkeypatch, tmp_path, asked):
    seen = []
    monkeypatch.setattr(ask, "run_training", lambda given, *_: seen.append(given))
    run_here(*shlex.split(training_command(asked))[1:], "--out", "runs", cwd=tmp_path)
    texts = {name: str(value) for name, value in asked.settings.items()}
    (given,) = seen
    paths = {name: Path(getattr(given, name)) for name in ("root", "pack") if getattr(given, name)}
    wanted = {name: Path(getattr(asked, name)) for name in ("root", "pack") if getattr(asked, name)}
    assert replace(given, **paths) == replace(asked, settings=texts, **wanted)
