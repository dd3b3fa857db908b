"""The recipes by name, with the values of the paper, of Long-CLIP's public code, or of the nano scale."""

from __future__ import annotations

from dataclasses import replace

from clipbias.errors import UserError
from clipbias.finetune.recipe import Recipe

# Paper: ShareGPT4V, 3 epochs, global batch 256, lambda_s = 0.1. Where it is silent, Long-CLIP's
# public code: AdamW with torch's betas and eps, decay of 1e-2 on everything trained, lr 1e-6, 200 warm-up
# steps, cosine, label smoothing 0.1, logit scale from 100 and not limited.
DEBIAS = Recipe(name="debias", objective="long-short")
SAMPLE = replace(DEBIAS, name="sample", prefix_padding=False)
DROP = replace(SAMPLE, name="drop", sample_sentences=False)
LONGCLIP = replace(
    DROP, name="longclip", drop_summary=False, short_rule="first-stop", weight_long=1.0, weight_short=1.0
)
# Between Long-CLIP's recipe and DROP: the weights of the losses alone; and no short caption at all.
LONGCLIP_WEIGHTS = replace(LONGCLIP, name="longclip-weights", weight_long=0.9, weight_short=0.1)
LONG_ONLY = replace(LONGCLIP, name="long-only", short_rule="none", weight_long=1.0, weight_short=0.0)
# The nano scale: from scratch and small, so rates are those of small models, not of the paper. docs/experiment.md says
# how the lengths were chosen.
PRETRAIN_NANO = Recipe(
    name="pretrain-nano",
    objective="clip",
    context_length=77,
    keep_positions=77,
    label_smoothing=0.0,
    batch_size=128,
    steps=700,
    lr=1e-3,
    weight_decay=0.1,
    decay_on="matrices",
    beta2=0.98,
    eps=1e-6,
    warmup=50,
    log_scale=0.0,
    max_logit_scale=100.0,
    validate_every=50,
    lead_dose=0.0,
)
# fp32: without matrix units for bf16, a CPU computes it several times as fast. OpenAI's CLIP stands at the logit scale
# that Long-CLIP sets; a nano base stands below, and keeps its own.
NANO_SETTINGS = {
    "batch_size": 64, "steps": 300, "lr": 5e-4, "warmup": 20, "log_scale": 0.0, "validation": 0,
    "validate_every": 50,
}  # fmt: skip

RECIPES = {r.name: r for r in (DEBIAS, SAMPLE, DROP, LONGCLIP, LONGCLIP_WEIGHTS, LONG_ONLY)}
"""DeBias-CLIP's recipe, the steps of the paper's ablation table before it, and two controls, by name."""


def nano(recipe: Recipe) -> Recipe:
    """A recipe at the scale of the built-in scenes: what it teaches is unchanged, size and rates are not."""
    return recipe.override(**NANO_SETTINGS)


def recipe_called(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        UserError: there is none.
    """
    if name not in RECIPES:
        raise UserError(f"no recipe is called {name!r}; there are {', '.join(RECIPES)}")
    return RECIPES[name]
