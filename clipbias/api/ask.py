"""What a call asks for, to what the commands run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from clipbias.api.results import Results, load_results
from clipbias.errors import UserError
from clipbias.results.settings import Settings
from clipbias.shipped import WORLD

if TYPE_CHECKING:
    import pandas as pd

    from clipbias.data.dataset import RetrievalDataset
    from clipbias.models.encoder import Encoder


def probe(
    probes: str | Sequence[str],
    model: Any,
    data: Any = None,
    *,
    out: str | Path | None = None,
    limit: int = 0,
    seed: int = 0,
    device: str = "auto",
    precision: str = "fp32",
    batch_size: int | None = None,
    cache: bool = True,
    progress: bool = True,
) -> Results:
    """Run probes on a model, or on several, as `clipbias probe` does.

    Args:
        probes: a probe's name, a suite, a TOML file, "all", or a list of these.
        model: a name or path that `clipbias.load_model` takes, a loaded model, any object with ``encode_texts`` and
            ``encode_images``, or a list of these. A folder of a training's kept checkpoints stands for all of them.
        data: a name or path that `clipbias.load_dataset` takes, a loaded data set, a data frame with an image and a
            caption column, or a list of (image, caption) pairs; default: DOCCI if configured, else scenes.
        out: results folder; default: a temporary one that lives as long as the results (`Results.save` keeps them).
        limit: only the first so many images; 0: all.
        seed: of the resampling.
        device, precision: of models given by name.
        batch_size: texts or images in a batch; default: what suits the device.
        cache: use cached embeddings, and cache new ones.
        progress: draw a bar.

    Raises:
        UserError: a name that is not known, or bad input.
    """
    from clipbias.models.suggest import wanted_models
    from clipbias.probe.asked import wanted_probes
    from clipbias.probe.plan import cost
    from clipbias.probe.store import open_store
    from clipbias.probe.sweep import Sweep, run_sweep
    from clipbias.progress import watched
    from clipbias.results.folder import finished

    names = [probes] if isinstance(probes, str) else list(probes)
    wanted = wanted_probes(names)
    given = list(model) if isinstance(model, (list, tuple)) else [model]
    paths = [wanted_models([str(one)]) if isinstance(one, (str, Path)) else [one] for one in given]
    models = [_model(one, device, precision, seed) for ones in paths for one in ones]
    asked, dataset = _data(data, limit)
    temporary = TemporaryDirectory(prefix="clipbias-") if out is None else None
    folder = Path(temporary.name) if temporary else Path(out or "results")
    store = open_store() if cache else None
    sweep = Sweep(wanted, models, [(asked, dataset)], folder, store, batch_size, lenient="all" in names)
    counts = [cost(dataset, [one for _, one in wanted]).counts()] * len(models) if progress else []
    runs = []
    with watched(counts, quiet=not progress) as watch:
        for one in run_sweep(sweep, watch, watch.begin):
            if one.folder is not None:
                runs.append(finished(one.folder))
    return Results(runs, temporary)


def _model(model: Any, device: str, precision: str, seed: int) -> tuple[Settings, Encoder | None]:
    """Settings that name a model, and the model itself where it was given loaded."""
    from clipbias.models.encoder import Encoder
    from clipbias.models.loading import choose_device
    from clipbias.models.suggest import require_model
    from clipbias.models.wrapped import WrappedEncoder

    settings = Settings(probe="", data="", model="", device=device, precision=precision, seed=seed)
    if isinstance(model, (str, Path)):
        named = replace(settings, model=str(model))
        require_model(named.model)
        return named, None
    if not isinstance(model, Encoder):
        name = str(getattr(model, "name", "") or type(model).__name__)
        model = WrappedEncoder(model, name, choose_device("cpu"), "fp32")
    return replace(settings, model=model.name, precision=model.precision, device=str(model.device)), model


def _data(data: Any, limit: int) -> tuple[Settings, RetrievalDataset]:
    """Settings that name the data, and the data set."""
    from clipbias.data.dataset import RetrievalDataset
    from clipbias.data.limited import limited
    from clipbias.data.loading import default_dataset_name
    from clipbias.data.pairs import dataset_of_frame, dataset_of_pairs
    from clipbias.probe.asked import data_settings

    if data is None or isinstance(data, (str, Path)):
        return data_settings(default_dataset_name() if data is None else str(data), limit=limit)
    if not isinstance(data, RetrievalDataset):
        if not isinstance(data, Iterable):
            raise UserError(f"data: {type(data).__name__} is no data set, data frame or list of (image, caption) pairs")
        data = dataset_of_frame(data) if hasattr(data, "columns") else dataset_of_pairs(data)
    asked = Settings(probe="", model="", data=data.name, split=data.split, limit=limit)
    return asked, limited(data, limit) if limit else data


def compare(first: Any, second: Any, results: str | Path = "results", margin: float | None = None) -> pd.DataFrame:
    """Whether a condition costs one model more than another, as `clipbias compare`; a line each, fractions.

    Columns are those of ``clipbias compare --csv``: probe, condition, direction, base_first, base_second, first,
    second, p, p_holm, n, clusters, and the values and 95% ends of intervals, such as apart_value, apart_low and
    apart_high. Where a probe moves sentences through places there are lines with ``place`` (a number, or "slope") and
    each model's effect of it (effect_first_value, ...) too.

    Args:
        first, second: models' names in ``results``, run folders, or `Results` of one model each.
        results: where models are looked for by name.
        margin: also test equivalence within so much, a fraction: 0.02 is the command's ``--margin 2``.

    Raises:
        UserError: nothing in common, or a margin that is no fraction.
    """
    import pandas as pd

    from clipbias.names import flat
    from clipbias.results.compare import run_pairs
    from clipbias.results.pairs import compared

    if margin is not None and not 0 < margin < 1:
        raise UserError(f"margin {margin:g}: give a fraction between 0 and 1, such as 0.02 for 2 points")
    if isinstance(first, Results) and isinstance(second, Results):
        pairs = [
            (a, b)
            for a in first
            for b in second
            if (a.run.probe_spec, a.run.data_fingerprint) == (b.run.probe_spec, b.run.data_fingerprint)
        ]
        if not pairs:
            raise UserError("these results have no probe in common on the same data")
    else:
        pairs = run_pairs(str(first), str(second), Path(results))
    return pd.DataFrame([flat(row) for one, two in pairs for row in compared(one, two, margin).records()])


def card(results: Results | str | Path = "results") -> pd.DataFrame:
    """Each model's bias in five numbers, as `clipbias card`: columns data, model, scalar, value, low, high.

    Raises:
        UserError: damaged results.
    """
    from clipbias.results.card import cards

    return cards(results if isinstance(results, Results) else load_results(results))


def report(
    results: Results | str | Path = "results",
    out: str | Path = "figures",
    *,
    order: Sequence[str] = (),
    examples: int = 8,
    style: str = "paper",
    width: str = "column",
    titles: bool = True,
    dark: bool = False,
    site: bool = False,
    formats: Sequence[str] = ("png", "svg", "pdf"),
) -> Path:
    """Write figures, leaderboard and page, as `clipbias report`; the page's path.

    Args:
        results: runs, or their folder.
        out: where everything is written.
        order: models to show first.
        examples: captions per probe in the page's browser.
        style: of the static figures, "paper" or "talk".
        width: of figures of one panel, "column" or "page".
        titles: above the static figures.
        dark: each static figure also on a dark ground.
        site: a front page, a page per model and per data set, figures in a folder of their own.
        formats: kinds of files of the static figures; SVG is always written.

    Raises:
        UserError: no results, damaged ones, a folder that cannot be written, or an unknown style, width or format.
    """
    from clipbias.report.build import build_report
    from clipbias.report.style import Look

    with TemporaryDirectory(prefix="clipbias-") as folder:
        found = results.save(folder) if isinstance(results, Results) else Path(results)
        look = Look(style, width, titles, formats=tuple(formats))
        build_report([found], Path(out), order, examples, look, dark, site)
    return Path(out) / "index.html"


def finetune(
    recipe: str,
    base: str = "nano-clip",
    data: str = WORLD,
    *,
    out: str | Path,
    seed: int = 0,
    weights: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    **settings: Any,
) -> Encoder:
    """Fine-tune a model by a recipe, as `clipbias finetune` does; the trained model, loaded from its checkpoint.

    Args:
        recipe: "debias", "longclip", "drop" or "sample".
        base: the model to start from: a name or a checkpoint.
        data: training data, one long caption an image.
        out: the run's folder; ``model.pt`` in it is the checkpoint.
        seed: of order and sampling.
        weights: the base model's checkpoint file.
        resume: continue an interrupted run.
        progress: draw a bar.
        settings: of the recipe, such as ``steps=20`` or ``lr=1e-5``.

    Raises:
        UserError: an unknown recipe or setting, a base that cannot be trained, or data without long captions.
    """
    from clipbias.finetune.ask import Training, run_training
    from clipbias.models.loading import load_model
    from clipbias.progress import watched

    asked = Training(recipe, base, weights, data, seed=seed, out=Path(out), resume=resume, settings=settings)
    with watched([{"steps": 1}], quiet=not progress) as watch:
        exported = run_training(asked, lambda step, steps, values: watch("steps", step, steps))
    return load_model(str(exported))


def list_models() -> list[str]:
    """The names of the registered models."""
    from clipbias.models.catalogue import MODELS

    return list(MODELS)


def list_datasets() -> list[str]:
    """The names of the registered data sets."""
    from clipbias.data.loading import DATASETS

    return list(DATASETS)


def list_probes() -> list[str]:
    """The names of the probes and suites that ship."""
    from clipbias.probe.spec import shipped_probes

    return list(shipped_probes())
