"""A training as it is asked for: names and settings, to a checkpoint on disk."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clipbias.data.kept import with_kept_images
from clipbias.data.loading import DATASETS, load_dataset
from clipbias.data.sentences import split_sentences
from clipbias.data.user import is_user_data
from clipbias.finetune.export import export_run, export_step
from clipbias.finetune.folder import training_lock
from clipbias.finetune.model import TrainModel
from clipbias.finetune.recipe import Recipe, read_recipe
from clipbias.finetune.recipes import nano, recipe_called
from clipbias.finetune.runs import BUILT_IN, finetune, for_base, scenes_held_out, trainable
from clipbias.finetune.train import Progress
from clipbias.models.encoder import Encoder
from clipbias.models.loading import load_model
from clipbias.probe.distributed import local_device, process_group
from clipbias.shipped import WORLD


@dataclass(frozen=True)
class Training:
    """What `clipbias finetune` takes.

    Attributes:
        recipe: the recipe's name.
        base, weights: the model to start from, and its checkpoint file.
        data, root, split: the training data; without a split "train", of your own data all.
        recipe_file: a TOML file with further settings.
        seed: of order and sampling.
        out: the run's folder.
        resume: continue an interrupted run.
        pack: a folder that `clipbias data pack` made of the training data.
        settings: of the recipe, name -> value; they come last.
    """

    recipe: str
    base: str = "nano-clip"
    weights: str | Path | None = None
    data: str = WORLD
    root: str | Path | None = None
    split: str | None = None
    recipe_file: Path | None = None
    seed: int = 0
    out: Path = Path("runs")
    resume: bool = False
    pack: str | Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


def asked_recipe(asked: Training, encoder: Encoder) -> Recipe:
    """The recipe with everything that the base, the data, the file and the settings change.

    Raises:
        UserError: an unknown recipe or setting, or a base that cannot be trained.
    """
    chosen = for_base(recipe_called(asked.recipe), encoder)
    if asked.data in BUILT_IN:
        chosen = nano(chosen)
    if asked.recipe_file is not None:
        chosen = read_recipe(asked.recipe_file, chosen)
    return chosen.override(**{"seed": asked.seed, **asked.settings})


def training_command(asked: Training) -> str:
    """The command line that trains it again, from the same folder."""
    options = {
        "--base": asked.base, "--weights": asked.weights, "--data": asked.data, "--root": asked.root,
        "--split": asked.split, "--pack": asked.pack, "--recipe": asked.recipe_file, "--seed": asked.seed,
    }  # fmt: skip
    words = ["clipbias", "finetune", asked.recipe]
    for option, value in options.items():
        words += [] if value is None else [option, str(value)]
    for name, value in asked.settings.items():
        words += ["--set", f"{name}={value}"]
    return shlex.join(words)


def run_training(
    asked: Training, progress: Progress | None = None, told: Callable[[str], None] = lambda recipe: None
) -> Path | None:
    """Train and export; the checkpoint, or None under ``torchrun`` where another process writes it.

    Args:
        asked: what to train.
        progress: called after each step.
        told: called with the recipe's TOML before the training.

    Raises:
        UserError: as `asked_recipe`, or data that cannot be trained on.
    """
    encoder = trainable(load_model(asked.base, weights=asked.weights, device=local_device("auto")))
    chosen = asked_recipe(asked, encoder)
    told(chosen.to_toml())
    own = asked.data not in DATASETS and is_user_data(asked.data)
    split = asked.split if own else asked.split or "train"
    dataset, held_out = load_dataset(asked.data, root=asked.root, split=split, pack=asked.pack), None
    if asked.data in BUILT_IN:
        dataset, held_out = with_kept_images(dataset), scenes_held_out(asked.data)
    command = training_command(asked)

    def keep(trained: TrainModel, step: int) -> Path:
        return export_step(trained, chosen, asked.out, command, asked.data, step, encoder)

    with training_lock(asked.out):
        with process_group(None) as number:
            model = finetune(
                encoder,
                dataset,
                chosen,
                asked.out,
                split_sentences,
                resume=asked.resume,
                progress=progress,
                held_out=held_out,
                keep=keep,
            )
        if number:
            return None
        return export_run(model, chosen, asked.out, command, asked.data, encoder, dataset.fingerprint)
