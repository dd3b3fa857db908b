"""`clipbias reproduce`: published numbers beside measured ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipbias.cli.console import say

if TYPE_CHECKING:
    from clipbias.rerun.reproduce import Compared
    from clipbias.rerun.rerun import Sessions
    from clipbias.results.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the subcommand."""

    @app.command()
    def reproduce(
        model: Annotated[str, typer.Argument(help="A registered model, or `paper` for all of the paper.")],
        data: Annotated[str, typer.Option(help="A data set.")] = "scenes",
        weights: Annotated[Path | None, typer.Option(help="The model's checkpoint file.")] = None,
        root: Annotated[Path | None, typer.Option(help="The data set's folder.")] = None,
        device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
        precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "fp32",
        causes: Annotated[bool, typer.Option(help="Where a number is missed, try the usual causes.")] = True,
        out: Annotated[Path, typer.Option(help="Results folder.")] = Path("results"),
        cache: Annotated[bool, typer.Option(help="Use cached embeddings, and cache new ones.")] = True,
    ) -> None:
        """Measure what is published for a model, and say what is missed and why (exit code 1)."""
        from clipbias.cli.console import progress_bar
        from clipbias.errors import CheckFailed
        from clipbias.models.loading import choose_device
        from clipbias.probe.store import open_store
        from clipbias.rerun.rerun import Sessions
        from clipbias.results.settings import Settings

        place = str(choose_device(device))
        with progress_bar() as progress:
            sessions = Sessions(open_store() if cache else None, progress)
            if model == "paper":
                failed = _paper(sessions, place, precision, out)
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
                failed = _one(asked, sessions, out, causes)
        if failed:
            raise CheckFailed(f"not reproduced: {', '.join(failed)}")


def _one(asked: Settings, sessions: Sessions, out: Path, causes: bool) -> list[str]:
    """One model on one data set; returns what was missed."""
    from clipbias.rerun.reproduce import missed, reproduce, try_causes

    found = reproduce(asked, sessions, out)
    _print(f"{asked.model} on {asked.data}", found)
    left = missed(found)
    if left and causes:
        say("the usual causes, in order:")
        for tried in try_causes(asked, left, lambda: sessions, out):
            say(f"  {tried.cause}: {tried.said}")
            for c in tried.compared:
                say(f"    {_line(c)}")
    whole = sorted({c.number.direction.upper() for c in left})
    changes = [c.number.condition for c in found if c.number.condition and not c.inside]
    return [f"{asked.model} {asked.data} {what}" for what in [*whole, *changes]]


def _paper(sessions: Sessions, device: str, precision: str, out: Path) -> list[str]:
    """Everything of the paper that can be run here; what cannot is listed with what it would take."""
    from clipbias.cli.demo import DEMO_MODELS
    from clipbias.probe.run import run_probe
    from clipbias.probe.spec import find_probes
    from clipbias.rerun.reproduce import paper_plan
    from clipbias.results.settings import Settings

    plan = paper_plan()
    ready = [(n.model, n.data) for n in plan if not n.missing]
    failed = []
    for model, data in ready or [(name, "scenes") for name in DEMO_MODELS]:
        asked = Settings(probe="", model=model, data=data, device=device, precision=precision)
        for probe in find_probes("paper"):
            run_probe(sessions.of(asked), probe, out, settings=asked.changed(probe=probe.name))
        failed += _one(asked, sessions, out, causes=bool(ready))
    if not ready:
        say("\nof the paper's own models and data nothing is here; the models that ship stood in for them")
    left = [n for n in plan if n.missing]
    say(f"\n{len(plan) - len(left)} of {len(plan)} pairs of model and data of the paper can be run here")
    if left:
        say("missing:")
        for what in dict.fromkeys(what for n in left for what in n.missing):
            say(f"  {what}")
        say("what each pair would cost:")
        for n in left:
            say(f"  {n.model} on {n.data}: {n.cost}")
    say(f"\nfigures and tables: clipbias report --results {out}")
    return failed


def _print(title: str, found: Sequence[Compared]) -> None:
    say(f"\n{title}: R@1 in percent, changes in points")
    for c in found:
        say(f"  {_line(c)}")


def _line(c: Compared) -> str:

    n = c.number
    what = f"{n.direction.upper()} {n.condition or 'whole captions'}"
    return (
        f"{what}: published {n.value:.1f}, measured {c.measured:.1f} ({c.low:.1f} to {c.high:.1f}), "
        f"difference {c.difference:+.1f}, {'inside' if c.inside else 'outside'}; {n.protocol}; {n.cited}"
    )
