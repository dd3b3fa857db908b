"""Probes of several models on several data sets, one after the other, each told as soon as it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from clipbias.data.dataset import RetrievalDataset
from clipbias.data.kept import made_once
from clipbias.errors import NotApplicable, UserError
from clipbias.models.encoder import Encoder
from clipbias.probe.asked import open_encoder
from clipbias.probe.distributed import process_group, serve, shared
from clipbias.probe.run import run_or_reuse
from clipbias.probe.session import Session
from clipbias.probe.spec import Probe
from clipbias.probe.steps import step
from clipbias.probe.store import EmbeddingStore
from clipbias.progress import Progress
from clipbias.results.settings import OF_DATA, Settings


@dataclass(frozen=True)
class Outcome:
    """What came of one probe of one model on one data set.

    Attributes:
        model, data: their names.
        probe: the probe's name; "" where the model failed before any.
        folder: the finished run; None where there is none.
        reused: whether it had been finished before, with the same fingerprints.
        problem: why there is no run; "" where there is.
        failed: whether that is a failure, and not a probe that this model or data cannot answer.
    """

    model: str
    data: str
    probe: str
    folder: Path | None = None
    reused: bool = False
    problem: str = ""
    failed: bool = False


@dataclass(frozen=True)
class Sweep:
    """What is to be run.

    Attributes:
        probes: (what asks for it, probe).
        models: settings that name a model each, its probe and data left open; or loaded encoders with them.
        datasets: settings that name the data, and the loaded set.
        out: results folder.
        store: cached embeddings; None: none.
        batch_size: texts or images in a batch; None: what suits the device.
        lenient: leave out every probe that cannot be answered; else only where several were asked for.
        trust_remote_code: see `open_encoder`.
        go_on: report a model that fails and go on with the next.
    """

    probes: Sequence[tuple[str, Probe]]
    models: Sequence[tuple[Settings, Encoder | None]]
    datasets: Sequence[tuple[Settings, RetrievalDataset]]
    out: Path
    store: EmbeddingStore | None = None
    batch_size: int | None = None
    trust_remote_code: bool = False
    lenient: bool = False
    go_on: bool = False


def run_sweep(
    sweep: Sweep,
    progress: Progress = lambda what, done, total: None,
    begin: Callable[[int, str], None] = lambda part, label: None,
) -> Iterator[Outcome]:
    """Run it; yields each probe's outcome when it is there. Under ``torchrun`` only process 0 yields.

    Args:
        sweep: what to run.
        progress: as `Session` takes it.
        begin: called with the number of each part (a model on a data set) and its name, before it starts.

    Raises:
        UserError: a model or probe fails and ``go_on`` is not set.
    """
    several = len(sweep.models) > 1
    datasets = [(asked, made_once(dataset) if several else dataset) for asked, dataset in sweep.datasets]
    with process_group() as number:
        for place, (asked, loaded) in enumerate(sweep.models):
            begin(place * len(datasets), asked.model)
            try:
                with step():  # of several processes all go on to the next where one cannot load it
                    encoder = loaded or open_encoder(asked, sweep.trust_remote_code)
            except (UserError, MemoryError) as error:
                if not sweep.go_on:
                    raise
                yield Outcome(asked.model, "", "", problem=str(error) or "not enough memory", failed=True)
                continue
            for nth, (on, dataset) in enumerate(datasets):
                if number:
                    serve(encoder, dataset)
                    continue
                begin(place * len(datasets) + nth, f"{encoder.name} on {dataset.name}")
                with shared(encoder) as working:
                    yield from _part(sweep, working, dataset, replace(asked, **on.part(OF_DATA)), progress)


def _part(
    sweep: Sweep, encoder: Encoder, dataset: RetrievalDataset, asked: Settings, progress: Progress
) -> Iterator[Outcome]:
    """The probes of one model on one data set."""
    session = Session(encoder, dataset, asked.seed, progress, sweep.store, sweep.batch_size)
    for name, probe in sweep.probes:
        settings = replace(asked, probe=name, device=str(encoder.device))
        outcome = Outcome(encoder.name, dataset.name, probe.name)
        try:
            folder, reused = run_or_reuse(session, probe, sweep.out, settings=settings)
            yield replace(outcome, folder=folder, reused=reused)
        except UserError as error:
            left_out = sweep.lenient or (isinstance(error, NotApplicable) and len(sweep.probes) > 1)
            if not (left_out or sweep.go_on):
                raise
            yield replace(outcome, problem=str(error), failed=not left_out)
        except MemoryError as error:
            if not sweep.go_on:
                raise
            yield replace(outcome, problem=f"not enough memory {error}".rstrip(), failed=True)
