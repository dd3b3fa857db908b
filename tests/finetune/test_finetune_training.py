"""Whole steps and whole trainings: gradients of a plain loop, resuming, stopping, exporting."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import plain_clip as plain
import processes
import pytest
import torch
from openclip_folder import write_folder
from small_training import start, train_on
from typer.testing import CliRunner

import clipbias
from clipbias.cli.app import app
from clipbias.data.build import without_images
from clipbias.data.loading import load_dataset
from clipbias.errors import UserError
from clipbias.finetune.batches import batch_indices
from clipbias.finetune.export import LAYOUTS, export, export_run, model_card, write_layout, write_small
from clipbias.finetune.folder import all_metrics
from clipbias.finetune.loop import learning_rate, step_losses
from clipbias.finetune.model import TrainModel
from clipbias.finetune.recipes import DEBIAS, LONGCLIP
from clipbias.finetune.runs import finetune
from clipbias.finetune.train import total_steps, train
from clipbias.models.nano import nano_clip
from clipbias.models.tokenizer import ClipTokens

QUICK = {"batch_size": 8, "steps": 6, "lr": 1e-3, "warmup": 2, "pca_dim": 4}


def plain_loss(model, batch, recipe) -> torch.Tensor:
    """The recipe's loss straight from the formulas: one caption at a time, shifted ids, an SVD."""
    state = {k.removeprefix("clip.").removeprefix("text."): v for k, v in model.named_parameters()}
    table = torch.cat([state["positional_embedding"][:20], model.positional_embedding_res[20:]])
    images = torch.stack([plain.image_feature(state, pixels) for pixels in batch.pixels])

    def texts(ids, n_pre):
        rows = []
        for row, pads in zip(ids.tolist(), n_pre, strict=True):
            end = row.index(49_407)
            rows.append(plain.text_feature(state, [row[0], *[0] * pads, *row[1 : end + 1]], table))
        return torch.stack(rows)

    count = len(images)
    long = texts(batch.long_ids, [0] * count)
    short = texts(batch.short_ids, batch.n_pre.tolist() if batch.n_pre is not None else [0] * count)
    mean = images.mean(0)
    u, s, v = torch.linalg.svd(images - mean, full_matrices=False)
    components = mean + (u[:, : recipe.pca_dim] * s[: recipe.pca_dim]) @ v[: recipe.pca_dim]

    def nce(a, b):
        logits = state["logit_scale"].exp() * a @ b.T
        soft = torch.full_like(logits, recipe.label_smoothing / count) + torch.eye(count) * (1 - recipe.label_smoothing)
        return -((soft * logits.log_softmax(1)).sum(1).mean() + (soft * logits.T.log_softmax(1)).sum(1).mean()) / 2

    return recipe.weight_long * nce(images, long) + recipe.weight_short * nce(components, short)


@pytest.mark.parametrize("recipe", [DEBIAS, LONGCLIP], ids=lambda r: r.name)
def test_the_loss_and_every_gradient_are_those_of_a_plain_loop(recipe):
    recipe = recipe.override(**QUICK)
    model, maker = start(recipe)
    batch = maker.batch(range(8), 0)
    loss = step_losses(model, batch, recipe)["loss"]
    loss.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    want = plain_loss(model, batch, recipe)
    assert loss.item() == pytest.approx(want.item(), abs=1e-5)
    want.backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(
                found[name], parameter.grad, atol=1e-5, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}"
            )
    assert set(found) == {n for n, p in model.named_parameters() if p.requires_grad}


def test_the_batches_of_debias_hold_what_the_recipe_says():
    recipe = DEBIAS.override(**QUICK)
    _, maker = start(recipe)
    for index in range(40):
        long, short = maker.texts(index, 0)
        sentences = maker.dataset.sentences[index]
        assert long == maker.dataset.captions[index] and sentences[0] not in short
        assert sum(s in short for s in sentences[1:]) >= 1
    batch = maker.batch(range(40), 0)
    ends = (batch.short_ids == 49_407).int().argmax(1)
    assert ((batch.n_pre >= 0) & (batch.n_pre + ends + 1 <= 248)).all() and len(batch.n_pre.unique()) > 20
    assert torch.equal(batch.short_ids, maker.batch(range(40), 0).short_ids)
    assert not torch.equal(batch.short_ids, maker.batch(range(40), 1).short_ids)


def test_the_schedule_is_a_linear_warm_up_and_a_cosine_to_zero():
    recipe = DEBIAS.override(lr=2.0, warmup=4)
    assert [learning_rate(recipe, s, 14) for s in range(4)] == [0.5, 1.0, 1.5, 2.0]
    assert learning_rate(recipe, 9, 14) == pytest.approx(1.0) and learning_rate(recipe, 14, 14) == pytest.approx(0.0)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "state.pt", weights_only=True)["model"]


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize(
    ("how", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 1), (signal.SIGHUP, 129)]
)
def test_a_training_that_was_killed_ends_in_the_same_weights(tmp_path, how, code):
    recipe = DEBIAS.override(**QUICK)
    model, maker = start(recipe)
    train(model, maker, recipe, tmp_path / "whole")
    for stop_after in ("2", "4"):
        run = processes.start(tmp_path / stop_after, train_on, tmp_path / "cut", recipe, torch.get_num_threads(), 0.15)
        run.wait_for(stop_after)
        run.send_signal(how)
        assert run.finish()[0] == code
        assert not list((tmp_path / "cut").glob(".*.part")) or how == signal.SIGKILL
    model, maker = start(recipe)
    train(model, maker, recipe, tmp_path / "cut", resume=True)
    assert (tmp_path / "whole" / "state.pt").read_bytes() == (tmp_path / "cut" / "state.pt").read_bytes()
    assert sorted(os.listdir(tmp_path / "cut")) == sorted(os.listdir(tmp_path / "whole"))  # what a kill left is gone
    steps = [json.loads(line)["step"] for line in (tmp_path / "cut/metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(6))


def test_a_folder_with_another_training_is_not_touched(tmp_path):
    recipe = DEBIAS.override(**QUICK, seed=1).override(steps=1)
    model, maker = start(recipe)
    train(model, maker, recipe, tmp_path)
    before = (tmp_path / "state.pt").read_bytes()
    with pytest.raises(UserError, match="already holds a training"):
        train(model, maker, recipe, tmp_path)
    with pytest.raises(UserError, match="differs from the recipe"):
        train(model, maker, recipe.override(lr=1.0), tmp_path, resume=True)
    (tmp_path / "state.pt").write_bytes(before[:100])
    with pytest.raises(UserError, match="cannot be resumed from"):
        train(model, maker, recipe, tmp_path, resume=True)


def test_a_loss_that_is_no_number_stops_and_keeps_the_batch_and_the_last_good_state(tmp_path):
    recipe = DEBIAS.override(**QUICK)
    model, maker = start(recipe)
    seen = []

    _, third = batch_indices(len(maker), recipe.batch_size, recipe.seed, 3)
    real = maker.batch

    def batch_with_a_hole(indices, epoch):
        batch = real(indices, epoch)
        if list(indices) == list(third):
            batch.pixels.fill_(torch.nan)
        return batch

    def spoil(step, steps, values):
        seen.append({k: v.clone() for k, v in model.state_dict().items()})

    maker.batch = batch_with_a_hole
    with pytest.raises(UserError, match=r"the loss is nan at step 3.*failed_batch\.pt"):
        train(model, maker, recipe, tmp_path, progress=spoil)
    batch = torch.load(tmp_path / "failed_batch.pt", weights_only=True)
    assert bool(batch["pixels"].isnan().all()) and len(batch["short_ids"]) == 8
    assert same(weights(tmp_path), seen[2])


def test_too_little_data_is_said():
    with pytest.raises(UserError, match="5 training captions do not fill one batch of 256"):
        total_steps(DEBIAS, 5)
    assert total_steps(DEBIAS, 1000) == 9


def test_an_export_is_read_as_longclip_with_the_features_of_the_model_in_training(tmp_path):
    recipe = DEBIAS.override(**QUICK)
    model, maker = start(recipe)
    train(model, maker, recipe, tmp_path / "run")
    export(model, tmp_path / "model.pt", model_card("t", "command", recipe.to_toml(), {"seed": "0"}))
    write_small(tmp_path / "model.pt", tmp_path / "small.pt")
    texts = list(maker.dataset.captions[:5])
    for name, tolerance in (("model", 1e-6), ("small", 2e-3)):  # the second is stored in fp16
        encoder = clipbias.load_model(str(tmp_path / f"{name}.pt"))
        assert (encoder.family, encoder.context_length) == ("longclip", 248)
        with torch.no_grad():
            want = model.encode_text(encoder.tokenize(texts))
        torch.testing.assert_close(encoder.encode_texts(texts), want, atol=tolerance, rtol=0)
    assert "command" in (tmp_path / "model.md").read_text()
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    assert state["positional_embedding"].shape == state["positional_embedding_res"].shape == (248, 64)


def test_training_lowers_the_loss(tmp_path):
    recipe = DEBIAS.override(**QUICK).override(steps=40, lr=3e-3)
    model, maker = start(recipe)
    losses = []
    train(model, maker, recipe, tmp_path / "run", progress=lambda step, steps, values: losses.append(values["long"]))
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.3


def test_a_loaded_model_is_trained_whole(tmp_path, few_scenes):
    """A model from the catalogue comes frozen; the command must train every part of it."""
    options = {"steps": 2, "batch_size": 16, "pca_dim": 4, "warmup": 1, "lr": 0.05}
    settings = [text for key, value in options.items() for text in ("--set", f"{key}={value}")]
    arguments = ["finetune", "debias", "--out", str(tmp_path), "--no-evaluate", *settings]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    before = clipbias.load_model("nano-clip").module.state_dict()
    after = clipbias.load_model(str(tmp_path / "model.pt")).module.state_dict()
    for name, tensor in before.items():
        if name != "text.positional_embedding" and tensor.is_floating_point():
            assert not torch.equal(after[name], tensor), name


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read_back_with_the_same_features(tmp_path, layout):
    encoder = clipbias.load_model("nano-debias")
    out = tmp_path / {"longclip": "m.pt", "safetensors": "m.safetensors"}.get(layout, "folder")
    path = write_layout(encoder, layout, out)
    again = clipbias.load_model(str(path))
    texts = ["A large red circle. " * n for n in (1, 3, 40)]
    images = [load_dataset("scenes").load_image(i) for i in range(3)]
    same = {"atol": 1e-6 if layout == "transformers" else 0, "rtol": 0}  # another library's sums
    torch.testing.assert_close(again.encode_texts(texts), encoder.encode_texts(texts), **same)
    torch.testing.assert_close(again.encode_images(images), encoder.encode_images(images), atol=1e-6, rtol=0)
    if layout == "openclip":
        import open_clip

        module, _, transform = open_clip.create_model_and_transforms(f"local-dir:{path}")
        ids = open_clip.get_tokenizer(f"local-dir:{path}")(texts)
        with torch.no_grad():
            theirs = module.eval().encode_text(ids, normalize=True)
            picture = module.encode_image(transform(images[0])[None], normalize=True)
        torch.testing.assert_close(theirs, encoder.encode_texts(texts), atol=1e-5, rtol=0)
        torch.testing.assert_close(picture, encoder.encode_images(images[:1]), atol=1e-5, rtol=0)


def test_a_layout_that_is_not_known_is_said(tmp_path):
    with pytest.raises(UserError, match="choose longclip, safetensors, openclip"):
        write_layout(clipbias.load_model("nano-clip"), "onnx", tmp_path / "x")


def test_other_kept_positions_are_exported_as_they_are_used(tmp_path):
    recipe = DEBIAS.override(**QUICK, keep_positions=13, context_length=13 + 64 * 2)
    model, _ = start(recipe)
    with torch.no_grad():
        model.positional_embedding_res.add_(1.0)
    export(model, tmp_path / "model.pt", "card")
    encoder = clipbias.load_model(str(tmp_path / "model.pt"))
    texts = ["A large red circle over a small blue square. " * 3]
    with torch.no_grad():
        want = model.encode_text(encoder.tokenize(texts))
    torch.testing.assert_close(encoder.encode_texts(texts), want, atol=1e-6, rtol=0)


def test_an_export_in_openais_layout_says_its_activation_and_other_readers_take_it(tmp_path, caplog):
    """It holds what OpenAI's archives hold beside weights; without that, as of others' files, it is assumed."""
    from open_clip.model import build_model_from_openai_state_dict

    module = nano_clip()
    export(TrainModel(module, None, ClipTokens(77)), tmp_path / "model.pt", "card")
    write_small(tmp_path / "model.pt", tmp_path / "small.pt")
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    bare = {key: value for key, value in state.items() if key not in ("input_resolution", "context_length")}
    torch.save(bare, tmp_path / "bare.pt")
    found = {}
    for name in ("model", "small", "bare"):
        caplog.clear()
        with caplog.at_level("INFO", "clipbias"):
            found[name] = clipbias.load_model(str(tmp_path / f"{name}.pt"), device="cpu")
        assert ("does not state its activation" in caplog.text) == (name == "bare")
        assert found[name].options["activation"] == ("quickgelu, assumed" if name == "bare" else "quickgelu")
        assert found[name].family == "openai"
    texts = ["A large red circle. " * n for n in (1, 3)]
    own = found["model"].encode_texts(texts)
    torch.testing.assert_close(found["bare"].encode_texts(texts), own, atol=0, rtol=0)
    theirs = build_model_from_openai_state_dict(dict(state)).float()  # its weights went through fp16
    with torch.no_grad():
        told = theirs.encode_text(found["model"].tokenize(texts), normalize=True)
    torch.testing.assert_close(told, own, atol=3e-3, rtol=0)


def test_a_model_with_gelu_in_openais_layout_is_exported_as_a_folder_that_says_so(tmp_path):
    base = clipbias.load_model("nano-clip", device="cpu", activation="gelu")
    model, recipe = TrainModel(base.module, None, base.tokens), DEBIAS.override(**QUICK)
    (tmp_path / "metrics.jsonl").write_text("")
    again = clipbias.load_model(str(export_run(model, recipe, tmp_path, "command", "d", base)), device="cpu")
    assert (again.family, again.options["activation"]) == ("openclip", "gelu")
    texts = ["A large red circle."]
    torch.testing.assert_close(again.encode_texts(texts), base.encode_texts(texts), atol=1e-6, rtol=0)


def test_an_openclip_model_with_gelu_is_trained_and_exported_as_what_it_is(tmp_path):
    write_folder(tmp_path / "base", 48, context_length=77)
    base = clipbias.load_model(str(tmp_path / "base"))
    recipe = DEBIAS.override(**QUICK).override(steps=2)
    dataset = without_images(load_dataset("scenes", split="validation"), range(40, 1000))
    model = finetune(base, dataset, recipe, tmp_path / "run", lambda caption: [caption])
    texts = list(dataset.captions[:4])
    with torch.no_grad():
        want = model.encode_text(base.tokens.at(248)(texts))
    path = export_run(model, recipe, tmp_path / "run", "command", "d", base, dataset.fingerprint)
    encoder = clipbias.load_model(str(path))
    assert (encoder.family, encoder.context_length) == ("openclip", 248)
    torch.testing.assert_close(encoder.encode_texts(texts), want, atol=1e-6, rtol=0)
    card = (path / "README.md").read_text()
    assert "validation t2i recall@1" in card and dataset.fingerprint in card
    with pytest.raises(UserError, match="has GELU"):
        write_layout(encoder, "longclip", tmp_path / "x.pt")


def test_the_speed_of_a_training_counts_the_wait_for_its_input(tmp_path, monkeypatch):
    recipe = DEBIAS.override(batch_size=8, steps=5, lr=1e-3, warmup=1, pca_dim=3, workers=1)
    model, maker = start(recipe)
    own = maker.batch

    def slow(indices, epoch):
        time.sleep(0.2)
        return own(indices, epoch)

    monkeypatch.setattr(maker, "batch", slow)
    train(model, maker, recipe, tmp_path)
    lines = all_metrics(tmp_path)
    assert sum(line["waited_for_input"] for line in lines) > 0.1
    assert sum(8 / line["samples_per_second"] for line in lines) > 0.9 * 5 * 0.2
