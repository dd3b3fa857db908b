"""Putting a training together: base model, data, recipe; then the export."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from clipbias.data.build import without_images
from clipbias.data.dataset import RetrievalDataset
from clipbias.data.kept import with_kept_images
from clipbias.errors import UserError
from clipbias.finetune.batches import BatchMaker
from clipbias.finetune.compact import CompactTokens
from clipbias.finetune.loop import learning_rate
from clipbias.finetune.model import TrainModel
from clipbias.finetune.positions import stretch_positions
from clipbias.finetune.recipe import Recipe
from clipbias.finetune.train import Keep, Progress, total_steps, train
from clipbias.finetune.validation import hold_out, validation_recall
from clipbias.models.build import VOCABULARY
from clipbias.models.clip_encoder import ClipEncoder
from clipbias.models.encoder import Encoder
from clipbias.models.ids import EOT, PAD, SOT
from clipbias.models.loading import choose_device
from clipbias.models.nano import NANO_SHAPE, nano_clip
from clipbias.models.preprocessing import clip_preprocessing
from clipbias.models.tokenizer import ClipTokens, Tokens, clip_token_lists
from clipbias.shipped import WORLD

if TYPE_CHECKING:
    from open_clip.model import CustomTextCLIP

STRETCH = 4
"""Long-CLIP's factor for the positions that are not kept."""
SHORT = 77
"""CLIP's positions; models with more are not stretched again."""


BUILT_IN = (WORLD, "scenes")
"""Data sets whose captions are generated."""


@lru_cache(maxsize=2)
def scene_tokens(data: str = WORLD) -> frozenset[int]:
    """Every token id that a caption of these built-in scenes can hold, and the special ones."""
    from clipbias.data.scenes import WORLDS
    from clipbias.scenes import v2

    world = WORLDS[data]
    texts = list(v2.BOILERPLATE) if data == WORLD else []
    for index in range(3000):
        scene = world.sample_scene("train", index)
        texts += [s.text for s in world.long_caption(scene)]
        texts += [world.short_caption(scene, variant) for variant in range(2)]
    return frozenset(chain.from_iterable(clip_token_lists(texts))) | {SOT, EOT, PAD}


@contextmanager
def compact_tokens(clip: CustomTextCLIP, ids: Iterable[int], decay: float) -> Iterator[None]:
    """Within it the token table holds only the rows of ``ids``; after it, all, as if they had been trained together.

    Args:
        clip: the model.
        ids: every id that the training can meet.
        decay: what weight decay leaves, over the whole training, of a row without gradients (`kept_by_decay`).
    """
    full = clip.text.token_embedding
    compact = CompactTokens(full, ids)
    clip.text.token_embedding = compact
    try:
        yield
    finally:
        with torch.no_grad():
            full.weight.mul_(decay)
            full.weight[compact.ids] = compact.weight
        clip.text.token_embedding = full


def kept_by_decay(recipe: Recipe, steps: int) -> float:
    """What AdamW's decay leaves of a weight that never gets a gradient: ``prod(1 - lr_t * weight_decay)``."""
    return math.prod(1 - learning_rate(recipe, step, steps) * recipe.weight_decay for step in range(steps))


def pretrain_nano(
    recipe: Recipe,
    out: Path,
    resume: bool = False,
    progress: Progress | None = None,
    device: str = "cpu",
    dataset: RetrievalDataset | None = None,
) -> TrainModel:
    """Train a nano CLIP from scratch on the web-like captions of scenes-2.

    Args:
        recipe: `recipes.PRETRAIN_NANO` or a variation; ``lead_dose`` is the corpus' (`clipbias.scenes.v2.web_caption`).
        out: the run's folder.
        resume: continue an interrupted run.
        progress: called after each step.
        device: as `clipbias.load_model` takes it; the first weights are the same on all.
        dataset: scenes-2's training scenes, where they are at hand already.
    """
    from clipbias.data.loading import load_dataset
    from clipbias.scenes import v2

    if dataset is None:
        dataset = with_kept_images(load_dataset(WORLD, split="train"))

    def short_variant(index: int, epoch: int) -> str:
        return v2.web_caption(v2.sample_scene("train", index), epoch, recipe.lead_dose)

    transform = clip_preprocessing(NANO_SHAPE.image_size)
    maker = BatchMaker(dataset, recipe, transform, _no_splitter, short_variant)
    looked_at = BatchMaker(scenes_held_out(), recipe, transform, _no_splitter, tokens=maker.tokenize)
    torch.manual_seed(recipe.seed)
    clip = nano_clip()
    with torch.no_grad():
        # Only rows that a caption can use are kept, so that a file is small.
        unseen = torch.ones(VOCABULARY, dtype=torch.bool)
        unseen[sorted(scene_tokens())] = False
        clip.text.token_embedding.weight[unseen] = 0
    clip.to(choose_device(device))
    with compact_tokens(clip, scene_tokens(), 1.0):
        model = TrainModel(clip, None, maker.tokenize)
        train(
            model, maker, recipe, out, resume=resume, progress=progress,
            validate=lambda trained: validation_recall(trained, looked_at, recipe),
        )  # fmt: skip
    return model


def scenes_held_out(data: str = WORLD) -> RetrievalDataset:
    """300 scenes of the split "validation": looked at during trainings on scenes."""
    from clipbias.data.loading import load_dataset

    return with_kept_images(without_images(load_dataset(data, split="validation"), range(300, 1000), "other"))


def _no_splitter(caption: str) -> list[str]:
    raise AssertionError("the built-in captions know their sentences")


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
    """The encoder in open_clip's modules, if it is one that a recipe can train.

    Raises:
        UserError: it is not.
    """
    if not isinstance(encoder, Encoder):
        raise UserError(f"{encoder!r:.80}: fine-tuning needs a model that `clipbias.load_model` gives")
    base = encoder.as_clip()
    table = getattr(base.module.text, "positional_embedding", None)
    if not isinstance(table, nn.Parameter) or table.shape[:-1] != (base.context_length,):
        # What any encoder says that is none of open_clip's.
        Encoder.as_clip(encoder)
    return base


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
    keep: Keep | None = None,
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
        keep: as `train` takes it.

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

    # On scenes the tokens that can occur are known and few; elsewhere the whole table is trained.
    few = dataset.name in BUILT_IN and isinstance(tokens, ClipTokens)
    kept = kept_by_decay(recipe, total_steps(recipe, len(maker)))
    with compact_tokens(model.clip, scene_tokens(dataset.name), kept) if few else nullcontext():
        train(model, maker, recipe, out, resume=resume, progress=progress, validate=validate, keep=keep)
    return model
