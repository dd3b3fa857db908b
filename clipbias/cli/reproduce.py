"""`clipbias reproduce`: published numbers beside measured ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipbias.cli.console import AsCsv, AsJson, say
from clipbias.names import for_terminal
from clipbias.shipped import WORLD

if TYPE_CHECKING:
    from clipbias.rerun.reproduce import Compared
    from clipbias.rerun.rerun import Sessions
    from clipbias.results.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the subcommand."""

    @app.command()
    def reproduce(
        model: Annotated[str, typer.Argument(help="A registered model, or `paper` for all of the paper.")],
        data: Annotated[str, typer.Option(help="A data set.")] = WORLD,
        weights: Annotated[Path | None, typer.Option(help="The model's checkpoint file.")] = None,
        root: Annotated[Path | None, typer.Option(help="The data set's folder.")] = None,
        device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
        precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "fp32",
        causes: Annotated[bool, typer.Option(help="Where a number is missed, try the usual causes.")] = True,
        out: Annotated[Path, typer.Option(help="Results folder.")] = Path("results"),
        cache: Annotated[bool, typer.Option(help="Use cached embeddings, and cache new ones.")] = True,
        as_json: AsJson = False,
        as_csv: AsCsv = False,
    ) -> None:
        """Measure what is published for a model (exit code 1).

        Says what is missed, and tries the usual causes.
        """
        from clipbias.cli.console import printed, progress_bar
        from clipbias.errors import CheckFailed
        from clipbias.models.loading import choose_device
        from clipbias.probe.store import open_store
        from clipbias.rerun.rerun import Sessions
        from clipbias.results.settings import Settings

        place = str(choose_device(device))
        told = Told(silent=as_json or as_csv)
        with progress_bar() as progress:
            sessions = Sessions(open_store() if cache else None, progress)
            if model == "paper":
                failed = _paper(sessions, place, precision, out, told)
            else:
                asked = Settings(
                    probe="drop-first",
                    model=model,
                    data=data,
                    weights=str(weights or ""),
                    root=str(root or ""),
                    device=place,
                    precision=precision,
                )
                failed = _one(asked, sessions, out, causes, told)
        printed(told.records, as_json, as_csv)
        if failed:
            raise CheckFailed(f"not reproduced: {', '.join(failed)}")


@dataclass
class Told:
    """What was found, as records; and as lines where people read."""

    silent: bool
    records: list[dict[str, object]] = field(default_factory=list)

    def line(self, text: str) -> None:
        """A line for people."""
        if not self.silent:
            say(text)

    def compared(self, asked: Settings, cause: str, found: Sequence[Compared]) -> None:
        """Published numbers beside measured ones, of a model as it is or with a usual cause tried."""
        for c in found:
            n = c.number
            self.line(f"{'    ' if cause else '  '}{for_terminal(_line(c))}")
            self.records.append(
                {
                    "model": asked.model,
                    "data": asked.data,
                    "cause": cause or None,
                    "direction": n.direction,
                    "condition": n.condition,
                    "published": n.value,
                    "measured": c.measured,
                    "low": c.low,
                    "high": c.high,
                    "difference": c.difference,
                    "inside": bool(c.inside),
                    "protocol": n.protocol,
                    "source": n.source,
                }
            )


def _one(asked: Settings, sessions: Sessions, out: Path, causes: bool, told: Told) -> list[str]:
    """One model on one data set; returns what was missed."""
    from clipbias.rerun.reproduce import missed, reproduce, try_causes

    found = reproduce(asked, sessions, out)
    told.line(f"\n{asked.model} on {asked.data}: R@1 in percent, changes in points")
    told.compared(asked, "", found)
    left = missed(found)
    if left and causes:
        told.line("the usual causes, in order:")
        for tried in try_causes(asked, left, lambda: sessions, out):
            told.line(f"  {tried.cause}: {tried.said}")
            told.compared(asked, tried.cause, tried.compared)
    whole = sorted({c.number.direction.upper() for c in left})
    changes = [c.number.condition for c in found if c.number.condition and not c.inside]
    return [f"{asked.model} {asked.data} {what}" for what in [*whole, *changes]]


def _paper(sessions: Sessions, device: str, precision: str, out: Path, told: Told) -> list[str]:
    """Everything of the paper that can be run here; what cannot is listed with what it would take."""
    from clipbias.cli.demo import DEMO_MODELS
    from clipbias.probe.run import run_probe
    from clipbias.probe.spec import find_probes
    from clipbias.rerun.reproduce import paper_plan
    from clipbias.results.settings import Settings

    plan = paper_plan()
    ready = [(n.model, n.data) for n in plan if not n.missing]
    failed = []
    for model, data in ready or [(name, WORLD) for name in DEMO_MODELS]:
        asked = Settings(probe="", model=model, data=data, device=device, precision=precision)
        for probe in find_probes("paper"):
            run_probe(sessions.of(asked), probe, out, settings=asked.changed(probe=probe.name))
        failed += _one(asked, sessions, out, bool(ready), told)
    if not ready:
        told.line("\nof the paper's own models and data nothing is here; the models that ship stood in for them")
    left = [n for n in plan if n.missing]
    told.line(f"\n{len(plan) - len(left)} of {len(plan)} pairs of model and data of the paper can be run here")
    if left:
        told.line("missing:")
        for what in dict.fromkeys(what for n in left for what in n.missing):
            told.line(f"  {what}")
        told.line("what each pair would cost:")
        for n in left:
            told.line(f"  {n.model} on {n.data}: {n.cost}")
    told.line(f"\nfigures and tables: clipbias report --results {out}")
    return failed


def _line(c: Compared) -> str:
    n = c.number
    what = f"{n.direction.upper()} {n.condition or 'whole captions'}"
    return (
        f"{what}: published {n.value:.1f}, measured {c.measured:.1f} ({c.low:.1f} to {c.high:.1f}), "
        f"difference {c.difference:+.1f}, {'inside' if c.inside else 'outside'}; {n.protocol}; {n.cited}"
    )
