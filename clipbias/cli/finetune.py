"""`clipbias finetune`: DeBias-CLIP, Long-CLIP, the ablations between, and the nano base."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from clipbias.finetune.model import TrainModel
    from clipbias.finetune.recipe import Recipe

Settings = Annotated[
    list[str] | None, typer.Option("--set", help="A recipe setting, e.g. --set lr=1e-5; give it again for more.")
]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="Train: DeBias-CLIP's recipe, Long-CLIP's, and the steps between.", no_args_is_help=True)
    app.add_typer(group, name="finetune")
    for name, title in {
        "debias": "DeBias-CLIP: summary dropped, sentences sampled, padding before the text.",
        "longclip": "Long-CLIP: the short caption is the text before the first full stop.",
        "drop": "Ablation: as debias, with only the summary dropped.",
        "sample": "Ablation: as debias, without the padding.",
    }.items():
        group.command(name, help=title)(_finetune_command(name))
    group.command("pretrain-nano")(pretrain_nano_command)


def _finetune_command(name: str):  # type: ignore[no-untyped-def]
    def command(
        base: Annotated[str, typer.Option(help="Model to start from: a name or a checkpoint.")] = "nano-clip",
        weights: Annotated[Path | None, typer.Option(help="The base model's checkpoint file.")] = None,
        data: Annotated[str, typer.Option(help="Training data.")] = "scenes",
        root: Annotated[Path | None, typer.Option(help="The training data's folder.")] = None,
        split: Annotated[str, typer.Option(help="Which part of it.")] = "train",
        recipe: Annotated[Path | None, typer.Option(help="A recipe file (TOML).")] = None,
        settings: Settings = None,
        seed: Annotated[int, typer.Option(help="Seed of order and sampling.")] = 0,
        out: Annotated[Path | None, typer.Option(help="The run's folder.")] = None,
        resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
        evaluate: Annotated[bool, typer.Option(help="Probe before and after.")] = True,
    ) -> None:
        from clipbias.cli.console import pairs, progress_bar
        from clipbias.data.loading import load_dataset
        from clipbias.data.sentences import split_sentences
        from clipbias.finetune.recipe import read_recipe
        from clipbias.finetune.recipes import nano, recipe_called
        from clipbias.finetune.runs import finetune
        from clipbias.finetune.train import training_pixels
        from clipbias.models.loading import load_model

        chosen = recipe_called(name)
        if data == "scenes":
            chosen = nano(chosen)
        if recipe is not None:
            chosen = read_recipe(recipe, chosen)
        chosen = chosen.override(seed=seed, **pairs(settings, "--set"))
        folder = out or Path("runs") / f"{name}-seed{seed}"
        print(chosen.to_toml(), end="")
        encoder = load_model(base, weights=weights)
        dataset = load_dataset(data, root=root, split=split)
        if data == "scenes":
            dataset = training_pixels(dataset)
        with progress_bar() as bar:
            model = finetune(
                encoder.module,
                dataset,
                chosen,
                folder,
                encoder.image_size,
                split_sentences,
                resume=resume,
                progress=lambda step, steps, values: bar(f"{name}, loss {values['loss']:.3f}", step, steps),
            )
        exported = _finish(
            model, chosen, folder, f"clipbias finetune {name} --base {base} --seed {seed}", data, encoder.fingerprint
        )
        if evaluate:
            _compare(base, weights, exported, folder)

    return command


def pretrain_nano_command(
    settings: Settings = None,
    seed: Annotated[int, typer.Option(help="Seed of weights and order.")] = 0,
    out: Annotated[Path | None, typer.Option(help="The run's folder.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
) -> None:
    """Train nano-clip from scratch on the short captions of the embedded scenes."""
    from clipbias.cli.console import pairs, progress_bar
    from clipbias.finetune.recipes import PRETRAIN_NANO
    from clipbias.finetune.runs import pretrain_nano

    chosen = PRETRAIN_NANO.override(seed=seed, **pairs(settings, "--set"))
    folder = out or Path("runs") / f"pretrain-nano-seed{seed}"
    print(chosen.to_toml(), end="")
    with progress_bar() as bar:
        model = pretrain_nano(
            chosen,
            folder,
            resume=resume,
            progress=lambda step, steps, values: bar(f"pretrain-nano, loss {values['loss']:.3f}", step, steps),
        )
    _finish(model, chosen, folder, f"clipbias finetune pretrain-nano --seed {seed}", "scenes", "from scratch")


def _finish(model: TrainModel, recipe: Recipe, folder: Path, command: str, data: str, base: str) -> Path:
    """Export the model beside its run and say where."""
    from clipbias.finetune.export import export, model_card
    from clipbias.finetune.train import training_seconds
    from clipbias.provenance import source_state, versions

    commit, dirty = source_state()
    facts = {
        "data": data,
        "base": base,
        "seed": str(recipe.seed),
        "training time": f"{training_seconds(folder):.0f} s",
        "clipbias commit": (commit or "installed wheel") + (" with uncommitted changes" if dirty else ""),
        "versions": ", ".join(f"{k} {v}" for k, v in versions().items()),
    }
    nano = recipe.name == "pretrain-nano" or data == "scenes"
    path = folder / "model.pt"
    export(
        model, path, model_card(f"{recipe.name} on {data}", command, recipe.to_toml(), facts), half=nano, compact=nano
    )
    print(f"written: {path}")
    return path


def _compare(base: str, weights: Path | None, exported: Path, folder: Path) -> None:
    """Probe the base and the trained model and print both."""
    from clipbias.cli.console import progress_bar
    from clipbias.cli.probe import print_rows
    from clipbias.data.loading import default_dataset_name, load_dataset
    from clipbias.models.loading import load_model
    from clipbias.probe.compare import compare_runs, print_comparison
    from clipbias.probe.runner import Session, run_probe
    from clipbias.probe.spec import find_probes
    from clipbias.results import read_rows

    dataset = load_dataset(default_dataset_name())
    runs = []
    for stage, encoder in (("before", load_model(base, weights=weights)), ("after", load_model(str(exported)))):
        with progress_bar() as progress:
            session = Session(encoder, dataset, progress=progress)
            runs.append([run_probe(session, p, folder / "probes" / stage) for p in find_probes("paper")])
    for before, after in zip(*runs, strict=True):
        print_rows("after", read_rows(after))
        print_comparison(compare_runs(before, after))
