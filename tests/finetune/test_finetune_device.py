"""Training on an accelerator: nothing meets on two devices, and the host waits once per step."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from fake_device import DEVICE, fake_device
from small_training import start

from clipbias.finetune.loop import start_state, train_step
from clipbias.finetune.model import TrainModel
from clipbias.finetune.recipe import Recipe
from clipbias.finetune.recipes import PRETRAIN_NANO, RECIPES
from clipbias.finetune.runs import compact_tokens, scene_tokens
from clipbias.finetune.validation import validation_recall

QUICK = {
    "batch_size": 8, "steps": 2, "lr": 1e-3, "warmup": 1, "pca_dim": 3, "log_scale": 0.0, "eps": 1e-4, "beta2": 0.98,
}  # fmt: skip
CHANGES = (
    {}, {"micro_batch": 3}, {"clip_gradient": 1.0, "max_logit_scale": 100.0},
    {"pca_scope": "global"}, {"pca_group": 4, "pca_dim": 2},
)  # fmt: skip


def steps(recipe: Recipe, device: torch.device, waits: list[str] | None = None) -> tuple[list[float], TrainModel]:
    """Losses of two steps, and the model after them."""
    model, maker = start(recipe)
    model = model.to(device)
    state = start_state(model, recipe)
    batches = [maker.batch(range(start, start + 8), 0) for start in (0, 8)]
    if waits is not None:
        waits.clear()
    return [train_step(state, batch.to(device), recipe, 2)["loss"] for batch in batches], model


def per_step(recipe: Recipe) -> list[str]:
    """Where the host may wait: at each decomposition, which reads its own status, and at the losses."""
    parts = 8 // recipe.pca_group if recipe.pca_group else 1
    return ["_linalg_eigh.default"] * (parts * recipe.has_short) + ["_to_copy.default"]


@pytest.mark.parametrize(
    ("name", "changes"),
    [(name, {}) for name in RECIPES] + [("debias", changes) for changes in CHANGES[1:]],
    ids=str,
)
def test_a_step_waits_once_and_computes_the_same(name: str, changes: dict[str, object]) -> None:
    recipe = RECIPES[name].override(**(QUICK | changes))
    wanted, there = steps(recipe, torch.device("cpu"))
    with fake_device() as waits:
        found, here = steps(recipe, DEVICE, waits)
        assert waits == per_step(recipe) * 2
        trained = {key: value.detach().cpu() for key, value in here.named_parameters()}
    assert found == pytest.approx(wanted, abs=1e-4)
    for key, value in there.named_parameters():
        torch.testing.assert_close(trained[key], value.detach(), atol=2e-5, rtol=1e-3)


def test_a_compact_token_table_lies_on_the_device() -> None:
    recipe = RECIPES["debias"].override(**QUICK)
    with fake_device() as waits:
        model, maker = start(recipe)
        model = model.to(DEVICE)
        with compact_tokens(model.clip, scene_tokens("scenes"), 1.0):
            state = start_state(model, recipe)
            batch = maker.batch(range(8), 0)
            waits.clear()
            train_step(state, batch.to(DEVICE), recipe, 3)
            assert waits == per_step(recipe)


def test_short_captions_alone_wait_once() -> None:
    recipe = PRETRAIN_NANO.override(**QUICK, context_length=248, keep_positions=20)
    with fake_device() as waits:
        model, maker = start(recipe)
        maker.short_variant = lambda index, epoch: f"{index} red stars"
        state = start_state(model.to(DEVICE), recipe)
        batch = maker.batch(range(8), 0)
        waits.clear()
        train_step(state, batch.to(DEVICE), recipe, 3)
        assert waits == ["_to_copy.default"]


def test_validation_reads_features_back_once_a_batch() -> None:
    recipe = RECIPES["debias"].override(**QUICK)
    model, maker = start(recipe)
    wanted = validation_recall(model, maker, recipe)
    with fake_device() as waits:
        model, maker = start(recipe)
        model = model.to(DEVICE)
        waits.clear()
        assert validation_recall(model, maker, recipe) == wanted
        assert waits == ["_to_copy.default"] * 6  # the images, and five texts for each caption


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
