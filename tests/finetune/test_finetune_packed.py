"""The towers' forward passes against open_clip's own, and a training step against Long-CLIP's, stated again."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from small_training import start
from torch.func import functional_call

from clipbias.finetune.compact import CompactTokens
from clipbias.finetune.loop import learning_rate, start_state, train_step
from clipbias.finetune.recipes import DEBIAS, LONG_ONLY, LONGCLIP
from clipbias.finetune.runs import compact_tokens, kept_by_decay, scene_tokens
from clipbias.models.ids import move_pads
from clipbias.models.towers import class_features, text_features

QUICK = {"batch_size": 16, "steps": 10, "lr": 1e-4, "warmup": 4, "pca_dim": 4}


def _gradients(model, feature):
    model.zero_grad()
    out = F.normalize(feature(), dim=-1)
    (out * torch.arange(out.numel()).view_as(out).sin()).sum().backward()
    return out.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def _texts(model, ids):
    """The text tower's features at all 248 positions, as open_clip computes them."""
    return functional_call(model.clip.text, {"positional_embedding": model.positions()}, (ids,))


@pytest.mark.parametrize("groups", [None, 1, 5])
@pytest.mark.parametrize("which", ["long", "padded", "image"])
def test_features_and_gradients_are_those_of_the_plain_towers(which, groups):
    model, maker = start(DEBIAS.override(**QUICK))
    batch, text, positions = maker.batch(range(16), 0), model.clip.text, model.positions
    ways = {
        "long": (
            lambda: text_features(text, batch.long_ids, positions(), groups=groups),
            lambda: _texts(model, batch.long_ids),
        ),
        "padded": (
            lambda: text_features(text, batch.short_ids, positions(), batch.n_pre, groups=groups),
            lambda: _texts(model, move_pads(batch.short_ids, batch.n_pre, 1)),
        ),
        "image": (
            lambda: class_features(model.clip.visual, batch.pixels),
            lambda: model.clip.visual(batch.pixels),
        ),
    }
    (found, mine), (wanted, theirs) = (_gradients(model, way) for way in ways[which])
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)
    assert mine.keys() == theirs.keys()
    for name, grad in theirs.items():
        torch.testing.assert_close(mine[name], grad, atol=1e-5, rtol=1e-4)


def test_a_compact_token_table_ends_in_the_weights_of_the_whole_one():
    recipe = DEBIAS.override(**QUICK).override(weight_decay=0.5)
    ends = []
    for compact in (False, True):
        model, maker = start(recipe)
        ids = scene_tokens("scenes") if compact else range(49_408)
        kept = kept_by_decay(recipe, recipe.steps)
        with compact_tokens(model.clip, ids, kept if compact else 1.0):
            state = start_state(model, recipe)
            for step in range(recipe.steps):
                train_step(state, maker.batch(range(16), step), recipe, recipe.steps)
        ends.append(model.clip.text.token_embedding.weight.detach())
    torch.testing.assert_close(ends[1], ends[0], atol=1e-6, rtol=1e-4)
    with pytest.raises(IndexError):
        CompactTokens(model.clip.text.token_embedding, [1, 2])(torch.tensor([3]))


def _features(model, pixels, ids):
    """Features as Long-CLIP's public code has them: all 248 positions, two masked tables, open_clip's own modules."""
    text = model.clip.text
    first = (torch.arange(248) < 20).float()[:, None]
    table = text.positional_embedding * first + model.positional_embedding_res * (1 - first)
    x = text.token_embedding(ids) + table
    x = text.transformer(x, attn_mask=text.attn_mask)
    x = text.ln_final(x)[torch.arange(len(ids)), ids.argmax(dim=-1)] @ text.text_projection
    image = model.clip.visual(pixels)
    return image / image.norm(dim=1, keepdim=True), x / x.norm(dim=1, keepdim=True)


def _longclip_loss(model, batch, dim):
    image, long = _features(model, batch.pixels, batch.long_ids)
    _, short = _features(model, batch.pixels, batch.short_ids)
    mean = image.mean(dim=0)
    parts = torch.linalg.svd(image - mean, full_matrices=False)[2].T[:, :dim]
    rebuilt = (image - mean) @ parts @ parts.T + mean
    target = torch.arange(len(image))
    scale = model.clip.logit_scale.exp()
    total = 0.0
    for a, b in ((image, long), (rebuilt, short)):
        logits = scale * (a @ b.T)
        total = total + F.cross_entropy(logits, target, label_smoothing=0.1) / 2
        total = total + F.cross_entropy(logits.T, target, label_smoothing=0.1) / 2
    return total


def test_ten_steps_end_in_the_weights_of_long_clips_training_step():
    recipe = LONGCLIP.override(**QUICK)
    (model, maker), (plain, _) = start(recipe), start(recipe)
    state = start_state(model, recipe)
    with torch.no_grad():
        plain.clip.logit_scale.fill_(4.6052)
    optimizer = torch.optim.AdamW([p for p in plain.parameters() if p.requires_grad], lr=1e-4, weight_decay=1e-2)
    for step in range(10):
        batch = maker.batch(range(16), step)
        rate = 1e-4 * (step + 1) / 4 if step < 4 else 1e-4 * 0.5 * (1 + math.cos(math.pi * (step - 4) / 6))
        assert learning_rate(recipe, step, 10) == pytest.approx(rate)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss = _longclip_loss(plain, batch, 4)
        loss.backward()
        values = train_step(state, batch, recipe, 10)
        assert values["loss"] == pytest.approx(loss.item(), rel=1e-5)
        if step == 0:
            for (name, mine), theirs in zip(model.named_parameters(), plain.parameters(), strict=True):
                if theirs.grad is not None:
                    assert (mine.grad - theirs.grad).norm() <= 1e-4 * theirs.grad.norm(), name
        optimizer.step()
    width = 64
    for (name, mine), theirs in zip(model.named_parameters(), plain.parameters(), strict=True):
        apart = mine.detach() - theirs.detach()
        if name.endswith("in_proj_bias"):
            # A key's bias adds the same to all logits of a query: its gradient is rounding, which Adam scales up.
            apart[width : 2 * width] = 0
        assert apart.norm() <= 1e-5 * theirs.norm() + 1e-7, name


def test_groups_of_components_are_those_of_processes_of_that_size():
    from clipbias.finetune.losses import pca_reconstruct

    model, maker = start(LONGCLIP.override(**QUICK))
    batch = maker.batch(range(16), 0)
    image = model.encode_image(batch.pixels)
    alone = torch.cat([pca_reconstruct(part, 4) for part in image.split(8)])
    values = {}
    for group in (0, 8, 16):
        recipe = LONGCLIP.override(**QUICK, pca_group=group)
        (trained, _) = start(recipe)
        values[group] = train_step(start_state(trained, recipe), batch, recipe, 10)["short"]
    assert values[0] == values[16] != values[8]
    logits = math.exp(4.6052) * alone @ model.encode_text(batch.short_ids).T
    target = torch.arange(16)
    wanted = sum(F.cross_entropy(side, target, label_smoothing=0.1) for side in (logits, logits.T)) / 2
    assert values[8] == pytest.approx(wanted.item(), rel=1e-4)


def test_without_a_short_caption_the_long_loss_is_all():
    recipe = LONG_ONLY.override(**QUICK)
    model, maker = start(recipe)
    batch = maker.batch(range(16), 0)
    values = train_step(start_state(model, recipe), batch, recipe, 10)
    assert batch.short_ids is None and values["loss"] == values["long"] and "short" not in values
