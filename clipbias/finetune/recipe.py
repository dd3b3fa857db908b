"""A training recipe: one small typed config, from a TOML file and command-line overrides."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from clipbias.errors import UserError
from clipbias.formats import read_toml


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training. Units: learning rate per step, steps in optimiser steps."""

    name: str
    objective: str  # "clip": plain InfoNCE on short captions; "long-short": Long-CLIP's two losses
    context_length: int = 248
    keep_positions: int = 20
    short_rule: str = (
        "sentences"  # "first-stop": Long-CLIP's; "sentences": the switches below; "none": no short caption
    )
    drop_summary: bool = True
    sample_sentences: bool = True
    prefix_padding: bool = True
    weight_long: float = 0.9
    weight_short: float = 0.1
    pca_dim: int = 32
    label_smoothing: float = 0.1  # of InfoNCE; SigLIP's sigmoid loss has none
    batch_size: int = 256
    epochs: float = 3.0
    steps: int = 0  # overrides epochs where positive
    lr: float = 1e-6
    weight_decay: float = 1e-2
    decay_on: str = "all"  # of what is trained; "matrices": not biases, norms and scalars, as open_clip has it
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    warmup: int = 200
    log_scale: float = 4.6052  # logarithm of InfoNCE's logit scale at the start (100); 0: the base's own
    max_logit_scale: float = 0.0  # of InfoNCE; 0: not limited. SigLIP's scale is the base's own and not limited
    clip_gradient: float = 0.0  # largest gradient norm; 0 leaves gradients alone
    precision: str = "fp32"
    pca_scope: str = "process"  # "process": components of each process' own share, as published; "global": of the batch
    pca_group: int = 0  # samples of a process' share that have components of their own; 0: all of it
    lead_dose: float = 0.0  # of pre-training: how likely boilerplate stands before a caption's content
    validation: int = 500  # samples held out at the end of the data (at most a tenth of them)
    validate_every: int = 500  # steps
    seed: int = 0
    # From here on: how it is computed, not what. A run may be resumed with others.
    micro_batch: int = 0  # samples in memory at a time, the loss still that of the whole batch; 0: all
    checkpointing: bool = False  # forget activations and compute them again: less memory, a third more time
    compile: bool = False  # torch.compile of the towers
    workers: int = 0  # threads that make batches ahead; 0: one a core
    log_to: str = ""  # trackers that get the metrics too, with commas between: tensorboard, wandb, mlflow
    keep_every: int = 0  # steps between checkpoints that are kept; 0: none but the last
    deterministic: bool = False  # only kernels that give the same bits each time; on a GPU slower

    def __post_init__(self) -> None:
        for key, value in asdict(self).items():
            if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
                raise UserError(f"recipe setting {key} = {value[:80]!r}: not valid Unicode")
        allowed = {
            "objective": ("clip", "long-short"),
            "short_rule": ("first-stop", "sentences", "none"),
            "precision": ("fp32", "bf16", "fp16"),
            "pca_scope": ("process", "global"),
            "decay_on": ("all", "matrices"),
        }
        for key, options in allowed.items():
            if getattr(self, key) not in options:
                raise UserError(
                    f"recipe {self.name}: {key} = {getattr(self, key)!r} is not one of {', '.join(options)}"
                )
        for key in ("batch_size", "lr", "context_length", "pca_dim", "validate_every"):
            if not getattr(self, key) > 0:
                raise UserError(f"recipe {self.name}: {key} = {getattr(self, key)!r} must be positive")
        for key in ("micro_batch", "validation", "pca_group", "log_scale", "max_logit_scale", "workers", "keep_every"):
            if getattr(self, key) < 0:
                raise UserError(f"recipe {self.name}: {key} = {getattr(self, key)!r} must not be negative")
        for key in ("beta1", "beta2", "lead_dose"):
            if not 0 <= getattr(self, key) <= 1 or (key != "lead_dose" and getattr(self, key) == 1):
                raise UserError(f"recipe {self.name}: {key} = {getattr(self, key)!r} must lie between 0 and 1")
        if self.pca_group and self.pca_scope == "global":
            raise UserError(f"recipe {self.name}: pca_group = {self.pca_group} needs pca_scope = 'process'")

    @property
    def has_short(self) -> bool:
        """Whether there are short captions."""
        return self.objective == "clip" or self.short_rule != "none"

    def teaches_like(self, other: Recipe) -> bool:
        """Whether both lead to the same weights, up to rounding: settings of how it is computed are left out."""
        own = Recipe(name=self.name, objective=self.objective)
        computed = {key: getattr(own, key) for key in COMPUTED}
        return replace(self, **computed) == replace(other, **computed)

    def override(self, **changes: object) -> Recipe:
        """A copy with some fields changed; texts are read as the field's type.

        Raises:
            UserError: no such field, or a value that does not fit.
        """
        types = {f.name: type(getattr(self, f.name)) for f in fields(self)}
        out: dict[str, object] = {}
        for key, value in changes.items():
            if key not in types:
                raise UserError(f"a recipe has no setting {key!r}; it has {', '.join(types)}")
            try:
                out[key] = _read(value, types[key])
            except (ValueError, TypeError, OverflowError) as error:
                raise UserError(f"recipe setting {key} = {value!r}: {error}") from error
        if "seed" in out and not 0 <= int(str(out["seed"])) < 2**63:
            raise UserError(f"recipe setting seed = {out['seed']}: must be from 0 to 2**63 - 1")
        return replace(self, **out)  # type: ignore[arg-type]

    def to_toml(self) -> str:
        """The recipe as a TOML text that `read_recipe` takes back."""
        return "".join(f"{key} = {_toml(value)}\n" for key, value in asdict(self).items())


COMPUTED = ("micro_batch", "checkpointing", "compile", "workers", "log_to", "keep_every", "deterministic")
"""The settings that say how a training is computed."""


def _toml(value: object) -> str:
    """A value as `read_recipe` takes it."""
    if isinstance(value, str):
        # Beside JSON's escapes TOML wants DEL as one, and has none for the pairs of surrogates of JSON in ASCII.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _read(value: object, kind: type) -> object:
    if kind is bool and isinstance(value, str):
        if value.lower() not in ("true", "false"):
            raise ValueError("must be true or false")
        return value.lower() == "true"
    if kind is int and isinstance(value, float) and not value.is_integer():
        raise ValueError("must be a whole number")
    if kind is bool and not isinstance(value, bool):
        raise ValueError("must be true or false")
    return kind(value)


def read_recipe(path: Path, base: Recipe) -> Recipe:
    """``base`` with the settings of a TOML file.

    Raises:
        UserError: the file cannot be read, is no TOML, or has a setting that does not fit.
    """
    try:
        settings: dict[str, Any] = read_toml(path)
    except UserError as error:
        raise UserError(f"{path}: not a readable recipe: {error}") from error
    if settings.pop("tensorboard", False):  # how recipes of version 1.0.0 said it
        settings.setdefault("log_to", "tensorboard")
    try:
        return base.override(**settings)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
