"""Putting a training together: base model, data, recipe; then the export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from clipbias.data.dataset import RetrievalDataset
from clipbias.errors import UserError
from clipbias.finetune.batches import BatchMaker
from clipbias.finetune.model import TrainModel
from clipbias.finetune.positions import stretch_positions
from clipbias.finetune.recipe import Recipe
from clipbias.finetune.train import Progress, train, training_pixels
from clipbias.finetune.validation import hold_out, validation_recall
from clipbias.models.clip_encoder import ClipEncoder
from clipbias.models.nano import NANO_SHAPE, nano_clip
from clipbias.models.preprocessing import clip_preprocessing
from clipbias.models.tokenizer import ClipTokens, Tokens

if TYPE_CHECKING:
    from open_clip.model import CustomTextCLIP

STRETCH = 4
"""Long-CLIP's factor for the positions that are not kept."""
SHORT = 77
"""CLIP's positions; models with more are not stretched again."""


def _keep_seen_tokens(clip: CustomTextCLIP, maker: BatchMaker) -> None:
    """Zero the token rows that no training caption can use, so that only the others need storing."""
    seen: set[int] = set()
    for start in range(0, min(len(maker), 4000), 500):
        for epoch in range(2):
            texts = [maker.texts(i, epoch) for i in range(start, start + 500)]
            seen |= set(maker.tokenize([t for pair in texts for t in pair]).unique().tolist())
    with torch.no_grad():
        weight = clip.text.token_embedding.weight
        unseen = torch.ones(len(weight), dtype=torch.bool)
        unseen[sorted(seen)] = False
        weight[unseen] = 0


def pretrain_nano(recipe: Recipe, out: Path, resume: bool = False, progress: Progress | None = None) -> TrainModel:
    """Train a nano CLIP from scratch on the short captions of the built-in scenes (`clipbias.scenes.web_caption`).

    Args:
        recipe: `recipes.PRETRAIN_NANO` or a variation.
        out: the run's folder.
        resume: continue an interrupted run.
        progress: called after each step.
    """
    from clipbias.data.scenes import load_scenes
    from clipbias.scenes import sample_scene, web_caption

    dataset = training_pixels(load_scenes(split="train"))

    def short_variant(index: int, epoch: int) -> str:
        return web_caption(sample_scene("train", index), epoch)

    maker = BatchMaker(dataset, recipe, clip_preprocessing(NANO_SHAPE.image_size), _no_splitter, short_variant)
    torch.manual_seed(recipe.seed)
    clip = nano_clip()
    _keep_seen_tokens(clip, maker)
    model = TrainModel(clip, None, maker.tokenize)
    train(model, maker, recipe, out, resume=resume, progress=progress)
    return model


def _no_splitter(caption: str) -> list[str]:
    raise AssertionError("the embedded captions know their sentences")


def for_base(recipe: Recipe, encoder: object) -> Recipe:
    """The recipe with the context length that this base gets: CLIP's 77 positions become 248, SigLIP's 64 become 196.

    A base with more than CLIP's positions was made for long captions already and keeps its own.

    Raises:
        UserError: the base cannot be trained.
    """
    length = trainable(encoder).context_length
    if length <= SHORT:
        length += (STRETCH - 1) * max(0, length - recipe.keep_positions)
    return recipe.override(context_length=length)


def trainable(encoder: object) -> ClipEncoder:
    """The encoder, if it is one that a recipe can train.

    Raises:
        UserError: it is not.
    """
    if isinstance(encoder, ClipEncoder):
        text = encoder.module.text
        table = getattr(text, "positional_embedding", None)
        fits = isinstance(table, nn.Parameter) and table.shape[:-1] == (encoder.context_length,)
        if fits and hasattr(encoder.module, "logit_scale"):
            return encoder
    raise UserError(
        f"{getattr(encoder, 'name', encoder)}: fine-tuning needs a model of open_clip's with a position table of its "
        "text tower: CLIP, Long-CLIP, OpenCLIP, SigLIP"
    )


def stretched_model(clip: CustomTextCLIP, recipe: Recipe, tokens: Tokens | None = None) -> TrainModel:
    """The base with its position table stretched to the recipe's context, ready to be fine-tuned.

    Args:
        clip: open_clip ``CustomTextCLIP``.
        recipe: says the context length and how many positions are kept.
        tokens: the model's tokenizer; CLIP's where it is not given.

    Raises:
        UserError: the stretch does not lead to the context length asked for.
    """
    text = clip.text
    table = text.positional_embedding.detach()
    if len(table) != recipe.context_length:
        keep = recipe.keep_positions
        factor, rest = divmod(recipe.context_length - keep, max(1, len(table) - keep))
        if rest or factor < 2:
            raise UserError(
                f"context_length {recipe.context_length} cannot be reached from {len(table)} positions keeping {keep}: "
                f"choose {keep} + n * {len(table) - keep}"
            )
        text.positional_embedding = nn.Parameter(stretch_positions(table, keep, factor))
        text.context_length = text.num_pos = recipe.context_length
        if text.attn_mask is not None:
            text.attn_mask = text.build_causal_mask()
        clip.context_length = recipe.context_length
    return TrainModel(clip, recipe.keep_positions, tokens or ClipTokens(recipe.context_length))


def finetune(
    encoder: object,
    dataset: RetrievalDataset,
    recipe: Recipe,
    out: Path,
    split_sentences: Callable[[str], list[str]],
    resume: bool = False,
    progress: Progress | None = None,
    held_out: RetrievalDataset | None = None,
) -> TrainModel:
    """Fine-tune a model on long captions by a recipe (Long-CLIP's, DeBias-CLIP's or a step between).

    Args:
        encoder: the base, as `clipbias.load_model` gives it; its module is trained in place.
        dataset: one long caption an image.
        recipe: the recipe.
        out: the run's folder.
        split_sentences: used where the data set does not know its sentences.
        resume: continue an interrupted run.
        progress: called after each step.
        held_out: data for R@1 during training; without it ``recipe.validation`` images at the end of ``dataset``
            are held out.

    Raises:
        UserError: the base cannot be trained, or not to this context length.
    """
    base = trainable(encoder)
    if held_out is None:
        dataset, held_out = hold_out(dataset, recipe.validation)
    tokens = base.tokens.at(recipe.context_length)
    maker = BatchMaker(dataset, recipe, base.transform, split_sentences, tokens=tokens)
    model = stretched_model(base.module, recipe, tokens)
    validate = None
    if held_out is not None:
        looked_at = BatchMaker(held_out, recipe, base.transform, split_sentences, tokens=tokens)

        def validate(trained: TrainModel) -> dict[str, float]:
            return validation_recall(trained, looked_at, recipe)

    train(model, maker, recipe, out, resume=resume, progress=progress, validate=validate)
    return model
