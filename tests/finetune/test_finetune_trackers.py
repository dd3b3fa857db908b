"""What a training tells others while it runs: trackers of its metrics, and checkpoints along the way."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch
from small_training import start

import clipbias
from clipbias.errors import UserError
from clipbias.finetune.export import export_step
from clipbias.finetune.recipe import read_recipe
from clipbias.finetune.recipes import DEBIAS
from clipbias.finetune.runs import compact_tokens, scene_tokens
from clipbias.finetune.trackers import tracking
from clipbias.finetune.train import train
from clipbias.models.suggest import wanted_models

QUICK = {"batch_size": 8, "lr": 1e-3, "warmup": 2, "pca_dim": 3}


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_tracker_is_asked_for_in_words_where_its_package_is_missing(tmp_path, monkeypatch, name):
    recipe = DEBIAS.override(**QUICK).override(steps=1, log_to=name)
    monkeypatch.setitem(sys.modules, {"tensorboard": "torch.utils.tensorboard"}.get(name, name), None)
    with pytest.raises(UserError, match=f"pip install {name}"), tracking(tmp_path, recipe):
        pass


def test_trackers_get_every_step_and_are_closed(tmp_path, monkeypatch):
    boards, runs, flow = mock.MagicMock(), mock.MagicMock(), mock.MagicMock()
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", boards)
    monkeypatch.setitem(sys.modules, "wandb", runs)
    monkeypatch.setitem(sys.modules, "mlflow", flow)
    recipe = DEBIAS.override(**QUICK).override(steps=2, log_to="tensorboard, wandb,mlflow")
    model, maker = start(recipe)
    train(model, maker, recipe, tmp_path / "run")
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    writer = boards.SummaryWriter.return_value.__enter__.return_value
    assert [c.args[1:] for c in writer.add_scalar.call_args_list if c.args[0] == "loss"] == [
        (losses[0], 0), (losses[1], 1)
    ]  # fmt: skip
    logged = runs.init.return_value.log.call_args_list
    assert [(c.args[0]["loss"], c.kwargs["step"]) for c in logged] == [(losses[0], 0), (losses[1], 1)]
    assert runs.init.call_args.kwargs["config"]["log_to"] == recipe.log_to
    runs.init.return_value.finish.assert_called_once_with()
    assert [c.kwargs["step"] for c in flow.log_metrics.call_args_list] == [0, 1]
    assert flow.start_run.return_value.__exit__.called
    with pytest.raises(ZeroDivisionError), tracking(tmp_path, recipe):
        _ = 1 / 0
    runs.init.return_value.finish.assert_called_with(exit_code=1)
    with pytest.raises(UserError, match="no tracker is called 'wandbb'; did you mean wandb"):
        train(model, maker, recipe.override(log_to="wandbb"), tmp_path / "other")


def test_an_older_recipe_that_asked_for_tensorboard_is_read(tmp_path):
    (tmp_path / "r.toml").write_text("tensorboard = true\n")
    assert read_recipe(tmp_path / "r.toml", DEBIAS).log_to == "tensorboard"
    (tmp_path / "r.toml").write_text("tensorboard = false\n")
    assert read_recipe(tmp_path / "r.toml", DEBIAS) == DEBIAS


def test_kept_checkpoints_load_and_neither_they_nor_a_cut_change_a_byte(tmp_path):
    recipe = DEBIAS.override(**QUICK).override(steps=4)
    kept = recipe.override(keep_every=2)

    def run(folder: Path, recipe, cut: int = 0) -> None:
        model, maker = start(recipe)

        def keep(trained, step):
            export_step(trained, DEBIAS, folder, "command", "scenes", step)
            if step == cut:
                raise KeyboardInterrupt

        def stop(step, steps, values):
            if cut and step == cut - 1:
                os.kill(os.getpid(), signal.SIGTERM)

        compact = compact_tokens(model.clip, scene_tokens("scenes"), 1.0)
        with compact, contextlib.suppress(KeyboardInterrupt, SystemExit):
            train(model, maker, recipe, folder, resume=True, keep=keep, progress=stop)

    run(tmp_path / "plain", recipe)
    run(tmp_path / "kept", kept)
    plain, saved = (torch.load(tmp_path / n / "state.pt", weights_only=True)["model"] for n in ("plain", "kept"))
    assert plain.keys() == saved.keys() and all(torch.equal(saved[name], plain[name]) for name in plain)
    names = [f"kept-step-{step:06d}.pt" for step in (2, 4)]
    assert sorted(p.name for p in (tmp_path / "kept" / "checkpoints").glob("*.pt")) == names
    one, other = (clipbias.load_model(str(tmp_path / "kept" / "checkpoints" / name)) for name in names)
    assert one.name == "kept-step-000002" and one.fingerprint != other.fingerprint
    assert wanted_models([str(tmp_path / "kept" / "checkpoints"), "a", "a"]) == [
        *(str(tmp_path / "kept" / "checkpoints" / name) for name in names), "a"
    ]  # fmt: skip
    before = {n: (tmp_path / "kept" / "checkpoints" / n).read_bytes() for n in names}
    (tmp_path / "cut").mkdir()
    run(tmp_path / "cut" / "kept", kept, cut=3)
    run(tmp_path / "cut" / "kept", kept)
    assert before == {n: (tmp_path / "cut" / "kept" / "checkpoints" / n).read_bytes() for n in names}
