"""Training on an accelerator: nothing meets on two devices, and the host waits once per step."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
import torch
from fake_device import DEVICE, Seen, fake_device
from openclip_folder import write_siglip
from small_training import start
from torch import Tensor

import clipbias
from clipbias.data.build import without_images
from clipbias.data.dataset import RetrievalDataset
from clipbias.data.loading import load_dataset
from clipbias.finetune.batches import BatchMaker
from clipbias.finetune.loop import start_state, train_step
from clipbias.finetune.model import TrainModel
from clipbias.finetune.recipe import Recipe
from clipbias.finetune.recipes import PRETRAIN_NANO, RECIPES
from clipbias.finetune.runs import compact_tokens, for_base, scene_tokens, stretched_model
from clipbias.finetune.validation import validation_recall

QUICK = {
    "batch_size": 8, "steps": 2, "lr": 1e-3, "warmup": 1, "pca_dim": 3, "log_scale": 0.0, "eps": 1e-4, "beta2": 0.98,
}  # fmt: skip
READ = "_to_copy.default"
CHANGES = (
    {}, {"micro_batch": 3}, {"clip_gradient": 1.0, "max_logit_scale": 100.0},
    {"pca_scope": "global"}, {"pca_group": 4, "pca_dim": 2},
)  # fmt: skip


def small_scenes() -> RetrievalDataset:
    return without_images(load_dataset("scenes", split="validation"), range(40, 1000))


def steps(recipe: Recipe, device: torch.device, seen: Seen | None = None) -> tuple[list[float], TrainModel]:
    """Losses of two steps, and the model after them."""
    model, maker = start(recipe)
    model = model.to(device)
    state = start_state(model, recipe)
    batches = [maker.batch(range(start, start + 8), 0) for start in (0, 8)]
    if seen is not None:
        seen.clear()
    return [train_step(state, batch.to(device), recipe, 2)["loss"] for batch in batches], model


def per_step(recipe: Recipe) -> list[str]:
    """Where the host may wait: at each decomposition, which reads its own status, and at the losses."""
    parts = 8 // recipe.pca_group if recipe.pca_group else 1
    return ["_linalg_eigh.default"] * (parts * recipe.has_short) + [READ]


def sends_ahead(seen: Seen) -> bool:
    """Whether all that a step needs was sent while the host went on."""
    return bool(seen.sent_ahead) and not seen.sent


@pytest.mark.parametrize(
    ("name", "changes"),
    [(name, {}) for name in RECIPES] + [("debias", changes) for changes in CHANGES[1:]],
    ids=str,
)
def test_a_step_waits_once_and_computes_the_same(name: str, changes: dict[str, object]) -> None:
    recipe = RECIPES[name].override(**(QUICK | changes))
    wanted, there = steps(recipe, torch.device("cpu"))
    with fake_device() as seen:
        found, here = steps(recipe, DEVICE, seen)
        assert seen.waits == per_step(recipe) * 2 and sends_ahead(seen)
        trained = {key: value.detach().cpu() for key, value in here.named_parameters()}
    assert found == pytest.approx(wanted, abs=1e-4)
    for key, value in there.named_parameters():
        torch.testing.assert_close(trained[key], value.detach(), atol=2e-5, rtol=1e-3)


def test_a_compact_token_table_lies_on_the_device() -> None:
    recipe = RECIPES["debias"].override(**QUICK)
    with fake_device() as seen:
        model, maker = start(recipe)
        model = model.to(DEVICE)
        with compact_tokens(model.clip, scene_tokens("scenes"), 1.0):
            state = start_state(model, recipe)
            batch = maker.batch(range(8), 0)
            seen.clear()
            train_step(state, batch.to(DEVICE), recipe, 3)
            assert seen.waits == per_step(recipe) and sends_ahead(seen)


def test_a_tower_that_sees_all_positions(tmp_path: Path) -> None:
    """SigLIP's: its texts are not trimmed, and go through open_clip's own forward pass."""
    scenes = small_scenes()
    write_siglip(tmp_path, scenes.captions, "</s>")

    def trained(device: torch.device, seen: Seen | None = None) -> tuple[float, Tensor]:
        encoder = clipbias.load_model(str(tmp_path), device="cpu").as_clip()
        recipe = for_base(RECIPES["debias"].override(**QUICK), encoder)
        tokens = encoder.tokens.at(recipe.context_length)
        maker = BatchMaker(scenes, recipe, encoder.transform, lambda caption: [caption], tokens=tokens)
        model = stretched_model(encoder.module, recipe, tokens).to(device)
        state = start_state(model, recipe)
        batch = maker.batch(range(8), 0)
        if seen is not None:
            seen.clear()
        loss = train_step(state, batch.to(device), recipe, 3)["loss"]
        if seen is not None:
            assert seen.waits == per_step(recipe) and sends_ahead(seen)
        return loss, model.encode_text(batch.long_ids[:3]).detach().cpu()

    loss, texts = trained(torch.device("cpu"))
    with fake_device() as seen:
        found, there = trained(DEVICE, seen)
    assert found == pytest.approx(loss, abs=1e-4)
    torch.testing.assert_close(there, texts, atol=1e-4, rtol=0)


def test_short_captions_alone_wait_once() -> None:
    recipe = PRETRAIN_NANO.override(**QUICK, context_length=248, keep_positions=20)
    with fake_device() as seen:
        model, maker = start(recipe)
        maker.short_variant = lambda index, epoch: f"{index} red stars"
        state = start_state(model.to(DEVICE), recipe)
        batch = maker.batch(range(8), 0)
        seen.clear()
        train_step(state, batch.to(DEVICE), recipe, 3)
        assert seen.waits == [READ] and sends_ahead(seen)


def test_validation_reads_features_back_once_a_batch() -> None:
    recipe = RECIPES["debias"].override(**QUICK)
    model, maker = start(recipe)
    wanted = validation_recall(model, maker, recipe)
    with fake_device() as seen:
        model, maker = start(recipe)
        model = model.to(DEVICE)
        seen.clear()
        assert validation_recall(model, maker, recipe) == wanted
        assert seen.waits == [READ] * 6  # the images, and five texts for each caption


def test_a_loss_that_is_no_number_changes_nothing_on_a_device() -> None:
    recipe = RECIPES["longclip"].override(**QUICK)
    with fake_device():
        model, maker = start(recipe)
        state = start_state(model.to(DEVICE), recipe)
        batch = maker.batch(range(8), 0)
        before = {name: value.detach().cpu() for name, value in model.named_parameters()}
        with (
            mock.patch("clipbias.finetune.loop.pca_reconstruct", lambda x, dim: x * float("nan")),
            pytest.raises(FloatingPointError, match="nan at step 0"),
        ):
            train_step(state, batch.to(DEVICE), recipe, 3)
        assert all(torch.equal(value.detach().cpu(), before[name]) for name, value in model.named_parameters())
