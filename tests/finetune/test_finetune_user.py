"""A user's own data are fine-tuned on without a split, and the run leaves what Long-CLIP's loader takes."""

from __future__ import annotations

import torch
from typer.testing import CliRunner

from clipbias.cli.app import app
from clipbias.data.loading import load_dataset


def test_a_folder_is_trained_on_and_the_checkpoint_is_long_clips(tmp_path):
    scenes = load_dataset("scenes", split="validation")
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(4):
        scenes.load_image(index).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(scenes.captions[index])
    out = tmp_path / "run"
    settings = ("steps=1", "batch_size=4", "validation=0", "workers=1")
    options = [part for setting in settings for part in ("--set", setting)]
    run = CliRunner().invoke(
        app, ["finetune", "debias", "--data", str(folder), "--out", str(out), "--no-evaluate", *options]
    )
    assert run.exit_code == 0, run.output
    state = torch.load(out / "model.pt", weights_only=True)
    assert state["token_embedding.weight"].shape == (49_408, 128) and "token_embedding.rows" not in state
    assert state["positional_embedding"].shape == state["positional_embedding_res"].shape == (248, 128)
    assert all(value.dtype == torch.float32 for value in state.values())
