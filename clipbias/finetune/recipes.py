"""The recipes by name, with the values of the paper, of Long-CLIP's public code, or of the nano scale."""

from __future__ import annotations

from dataclasses import replace

from clipbias.errors import UserError
from clipbias.finetune.recipe import Recipe

# Paper: ShareGPT4V, 3 epochs, global batch 256, lambda_s = 0.1. Where it is silent, Long-CLIP's
# public code: AdamW, lr 1e-6, weight decay 1e-2, 200 warm-up steps, cosine, label smoothing 0.1.
DEBIAS = Recipe(name="debias", objective="long-short")
SAMPLE = replace(DEBIAS, name="sample", prefix_padding=False)
DROP = replace(SAMPLE, name="drop", sample_sentences=False)
LONGCLIP = replace(
    DROP, name="longclip", drop_summary=False, short_rule="first-stop", weight_long=1.0, weight_short=1.0
)
# The nano scale: from scratch and small, so rates are those of small models, not of the paper.
PRETRAIN_NANO = Recipe(
    name="pretrain-nano",
    objective="clip",
    context_length=77,
    keep_positions=77,
    label_smoothing=0.0,
    batch_size=256,
    steps=1600,
    lr=1e-3,
    weight_decay=0.1,
    warmup=100,
    precision="bf16",
)
NANO_SETTINGS = {"batch_size": 128, "steps": 600, "lr": 5e-4, "warmup": 20, "precision": "bf16", "validation": 0}

RECIPES = {r.name: r for r in (DEBIAS, SAMPLE, DROP, LONGCLIP)}
"""The steps of the paper's ablation table, by name."""


def nano(recipe: Recipe) -> Recipe:
    """A recipe at the nano scale: what it teaches is unchanged, size and rates are not."""
    return recipe.override(**NANO_SETTINGS)


def recipe_called(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        UserError: there is none.
    """
    if name not in RECIPES:
        raise UserError(f"no recipe is called {name!r}; there are {', '.join(RECIPES)}")
    return RECIPES[name]
