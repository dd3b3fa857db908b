"""`clipbias finetune`: DeBias-CLIP, Long-CLIP, the ablations between, and the nano base."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipbias.cli.console import say
from clipbias.shipped import WORLD

if TYPE_CHECKING:
    from clipbias.finetune.ablation import Grid
    from clipbias.finetune.recipe import Recipe

Settings = Annotated[list[str] | None, typer.Option("--set", help="A recipe setting, e.g. --set lr=1e-5; repeatable.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="Train: DeBias-CLIP's recipe, Long-CLIP's, ablations.", no_args_is_help=True)
    app.add_typer(group, name="finetune")
    for name, title in {
        "debias": "DeBias-CLIP: summary dropped, sentences sampled, padding before the text.",
        "longclip": "Long-CLIP: the short caption is the text before the first full stop.",
        "drop": "Ablation: as debias, with only the summary dropped.",
        "sample": "Ablation: as debias, without the padding.",
        "longclip-weights": "Ablation: as longclip, with debias' weights of the two losses.",
        "long-only": "Control: long captions only, no short one.",
    }.items():
        group.command(name, help=title)(_finetune_command(name))
    group.command("pretrain-nano")(pretrain_nano_command)
    group.command("ablation")(ablation_command)
    group.command("export")(export_command)


def _finetune_command(name: str) -> Callable[..., None]:
    def command(
        base: Annotated[str, typer.Option(help="Model to start from: a name or a checkpoint.")] = "nano-clip",
        weights: Annotated[Path | None, typer.Option(help="The base model's checkpoint file.")] = None,
        data: Annotated[str, typer.Option(help="Training data.")] = WORLD,
        root: Annotated[Path | None, typer.Option(help="The training data's folder.")] = None,
        split: Annotated[
            str | None, typer.Option(help="Which part of it; default train, of your own data all.")
        ] = None,
        recipe: Annotated[Path | None, typer.Option(help="A recipe file (TOML).")] = None,
        settings: Settings = None,
        seed: Annotated[int, typer.Option(min=0, help="Seed of order and sampling.")] = 0,
        out: Annotated[Path | None, typer.Option(help="The run's folder.")] = None,
        resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
        keep_every: Annotated[
            int | None, typer.Option(min=1, help="Steps between checkpoints that are kept, below checkpoints/.")
        ] = None,
        log_to: Annotated[
            str | None, typer.Option(help="Log the metrics to tensorboard, wandb, mlflow (commas between).")
        ] = None,
        evaluate: Annotated[bool, typer.Option(help="Probe before and after.")] = True,
        pack: Annotated[
            Path | None, typer.Option(help="The training data's pixels, from `clipbias data pack`.")
        ] = None,
    ) -> None:
        from clipbias.cli.console import note, pairs, progress_bar
        from clipbias.finetune.ask import Training, run_training

        folder = out or Path("runs") / f"{name}-seed{seed}"
        told = {"keep_every": keep_every, "log_to": log_to}
        changes = pairs(settings, "--set") | {name: value for name, value in told.items() if value is not None}
        asked = Training(name, base, weights, data, root, split, recipe, seed, folder, resume, pack, changes)
        with progress_bar() as bar:
            exported = run_training(
                asked, lambda step, steps, values: bar(_progress_line(name, values), step, steps), note_recipe
            )
        if exported is None:
            return  # the first process writes
        say(f"written: {exported}")
        note(f"next: clipbias probe paper --model {shlex.quote(str(exported))}")
        if evaluate:
            _compare(base, weights, exported, folder, data)

    return command


def note_recipe(text: str) -> None:
    """Show the recipe that a training follows."""
    from clipbias.cli.console import quiet

    if not quiet():
        say(text, end="")


def _progress_line(name: str, values: dict[str, float]) -> str:
    """What the bar says beside how far it is."""
    line = f"{name}, loss {values['loss']:.3f}, lr {values['lr']:.1e}, {values['samples_per_second']:.0f} samples/s"
    return line + (f", {values['gpu_gib']:.1f} GiB" if "gpu_gib" in values else "")


def pretrain_nano_command(
    settings: Settings = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights and order.")] = 0,
    out: Annotated[Path | None, typer.Option(help="The run's folder.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
) -> None:
    """Train a nano CLIP from scratch on the web-like captions of scenes-2."""
    from clipbias.cli.console import pairs, progress_bar
    from clipbias.finetune.export import export_run
    from clipbias.finetune.folder import training_lock
    from clipbias.finetune.recipes import PRETRAIN_NANO
    from clipbias.finetune.runs import pretrain_nano

    chosen = PRETRAIN_NANO.override(**{"seed": seed, **pairs(settings, "--set")})
    folder = out or Path("runs") / f"pretrain-nano-seed{seed}"
    say(chosen.to_toml(), end="")
    with training_lock(folder):
        with progress_bar() as bar:
            model = pretrain_nano(
                chosen,
                folder,
                resume=resume,
                progress=lambda step, steps, values: bar(f"pretrain-nano, loss {values['loss']:.3f}", step, steps),
            )
        path = export_run(model, chosen, folder, f"clipbias finetune pretrain-nano --seed {seed}", WORLD)
    say(f"written: {path}")


def export_command(
    model: Annotated[str, typer.Argument(help="A model: a name, or the model.pt of a run.")],
    out: Annotated[Path, typer.Option(help="The file, or for openclip the folder.")],
    to: Annotated[str, typer.Option(help="longclip, safetensors, openclip or transformers.")] = "safetensors",
) -> None:
    """Write a model in a layout that other programs read."""
    from clipbias.finetune.export import write_layout
    from clipbias.models.loading import load_model

    path = write_layout(load_model(model, device="cpu"), to, out)
    say(f"written: {path}")


def ablation_command(
    base: Annotated[
        str, typer.Option(help="Model to start from; without it a nano base is trained for each seed.")
    ] = "",
    weights: Annotated[Path | None, typer.Option(help="The base model's checkpoint file.")] = None,
    data: Annotated[str, typer.Option(help="Training data.")] = WORLD,
    root: Annotated[Path | None, typer.Option(help="The training data's folder.")] = None,
    test: Annotated[str, typer.Option(help="Data the probes run on.")] = WORLD,
    test_root: Annotated[Path | None, typer.Option(help="Its folder.")] = None,
    seeds: Annotated[str, typer.Option(help="A training each, e.g. 0,1,2.")] = "0,1,2",
    dose: Annotated[
        float, typer.Option(help="How likely boilerplate stands before a nano base's training captions.")
    ] = 0.0,
    recipes: Annotated[
        str, typer.Option(help="Recipes with commas between; none: the bases alone. Default: every step.")
    ] = "",
    settings: Settings = None,
    base_settings: Annotated[
        list[str] | None,
        typer.Option("--set-base", help="A setting of the bases' recipe, e.g. steps=400; repeatable."),
    ] = None,
    out: Annotated[Path, typer.Option(help="A folder a run; finished runs in it are picked up.")] = Path(
        "runs/ablation"
    ),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    parallel: Annotated[
        int, typer.Option(min=1, help="Seeds at a time, each in a process of its own on the device.")
    ] = 1,
    table: Annotated[Path | None, typer.Option(help="Where the table goes, .csv and .md; default: in --out.")] = None,
) -> None:
    """Long-CLIP, + summary removal, + sentence sampling, + padding, over seeds: one table with mean and spread."""
    from clipbias.cli.console import pairs, progress_bar
    from clipbias.errors import UserError
    from clipbias.finetune.grids import AskedGrid, run_seeds
    from clipbias.finetune.recipes import PRETRAIN_NANO
    from clipbias.finetune.runs import BUILT_IN

    try:
        chosen = sorted({int(seed) for seed in seeds.split(",")})
    except ValueError as error:
        raise UserError(f"--seeds {seeds}: write whole numbers with commas between, e.g. 0,1,2") from error
    if data not in BUILT_IN and not base:
        raise UserError(f"--data {data} needs --base: only the built-in scenes can train a base of their own")
    arms = _ablation_recipes(recipes, base, weights, data, pairs(settings, "--set"))
    of_base = PRETRAIN_NANO.override(**{"lead_dose": dose, **pairs(base_settings, "--set-base")})
    asked = AskedGrid(out, arms, chosen, base, weights, data, root, test, test_root, of_base, device)
    grid = asked.grid()
    with progress_bar() as bar:
        runs = run_seeds(
            asked,
            parallel,
            lambda name: lambda step, steps, values: bar(f"{name}, loss {values['loss']:.3f}", step, steps),
            lambda seeds, total: bar("seeds", seeds, total),
        )
    _write_ablation(grid, runs, grid.test.protocol, table or out / "ablation.csv")


def _ablation_recipes(
    names: str, base: str, weights: Path | None, data: str, changes: dict[str, Any]
) -> dict[str, Recipe]:
    """The recipes of the grid, fitted to the base and the data."""
    from clipbias.finetune.ablation import GRID
    from clipbias.finetune.recipes import nano, recipe_called
    from clipbias.finetune.runs import BUILT_IN, for_base
    from clipbias.models.loading import load_model

    wanted = [] if names == "none" else names.split(",") if names else GRID
    recipes = {name: recipe_called(name) for name in wanted}
    if base:
        encoder = load_model(base, weights=weights, device="cpu")
        recipes = {name: for_base(recipe, encoder) for name, recipe in recipes.items()}
    if data in BUILT_IN:
        recipes = {name: nano(recipe) for name, recipe in recipes.items()}
    return {name: recipe.override(**changes) for name, recipe in recipes.items()}


def _write_ablation(grid: Grid, runs: Any, protocol: str, target: Path) -> None:
    """Write and print the grid's tables: mean and spread over seeds, and paired differences."""
    from clipbias.files import write_text
    from clipbias.finetune.ablation import paired, summary, wide
    from clipbias.finetune.trajectory import trajectory
    from clipbias.names import for_markdown
    from clipbias.report.tables import to_csv, to_markdown

    tidy, apart, along = summary(runs), paired(grid), trajectory(grid)
    seeds = ", ".join(map(str, grid.seeds))
    title = f"R@1 in percent, mean ± standard deviation over seeds {seeds}; changes in points."
    note = "Paired differences in points; 95% intervals over queries and training seeds, from five seeds on."
    people = to_markdown(wide(tidy)) + (f"\n{note}\n\n{to_markdown(apart)}" if len(apart) else "")
    for table, name in ((tidy, ""), (apart, "-paired"), (along, "-trajectory")):
        if len(table):
            write_text(target.with_name(f"{target.stem}{name}.csv"), to_csv(table))
    write_text(target.with_suffix(".md"), f"{title}\n{for_markdown(protocol)}.\n\n{people}")
    say(f"{title}\n\n{people}\nwritten: {target.with_suffix('.csv')}, {target.with_suffix('.md')}")


def _compare(base: str, weights: Path | None, exported: Path, folder: Path, data: str) -> None:
    """Probe the base and the trained model and print what changed, paired on the same queries."""
    from clipbias.cli.console import progress_bar
    from clipbias.data.loading import default_dataset_name, load_dataset
    from clipbias.finetune.runs import BUILT_IN
    from clipbias.models.loading import load_model
    from clipbias.probe.run import run_probe
    from clipbias.probe.session import Session
    from clipbias.probe.spec import find_probes
    from clipbias.results.compare import compare_runs, comparison_text
    from clipbias.results.folder import finished

    dataset = load_dataset(data if data in BUILT_IN else default_dataset_name())
    say(f"\nbefore ({base}) and after ({exported}), R@1 in percent, on {dataset.protocol}")
    runs = []
    for stage, encoder in (("before", load_model(base, weights=weights)), ("after", load_model(str(exported)))):
        with progress_bar() as progress:
            session = Session(encoder, dataset, progress=progress)
            runs.append([finished(run_probe(session, p, folder / "probes" / stage)) for p in find_probes("paper")])
    for before, after in zip(*runs, strict=True):
        say(comparison_text(before.run, after.run, compare_runs(before, after)))
