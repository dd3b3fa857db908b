"""`clipbias demo`: every probe of the paper on the models that ship, then the report and what it shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipbias.cli.console import say

if TYPE_CHECKING:
    from clipbias.results.record import Row

DEMO_MODELS = ("nano-clip", "nano-longclip", "nano-drop", "nano-sample", "nano-debias")


def register(app: typer.Typer) -> None:
    """Add the subcommand."""

    @app.command()
    def demo(
        results: Annotated[Path, typer.Option(help="Results folder.")] = Path("results"),
        out: Annotated[Path, typer.Option(help="Where the report is written.")] = Path("figures"),
        device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    ) -> None:
        """Probe the models that ship, and write the report; a minute."""
        from clipbias.cli.console import progress_bar
        from clipbias.data.loading import load_dataset
        from clipbias.models.loading import load_model
        from clipbias.probe.asked import with_kept_images
        from clipbias.probe.run import run_probe
        from clipbias.probe.session import Session
        from clipbias.probe.spec import find_probes
        from clipbias.report.build import build_report
        from clipbias.results.folder import read_rows

        probes = find_probes("paper")
        dataset = load_dataset("scenes")
        say(f"data: {dataset.protocol}")
        dataset = with_kept_images(dataset)
        rows: dict[str, list[Row]] = {}
        runs: dict[tuple[str, str], Path] = {}
        for name in DEMO_MODELS:
            say(f"model: {name}")
            with progress_bar() as progress:
                session = Session(load_model(name, device=device), dataset, progress=progress)
                for probe in probes:
                    runs[name, probe.name] = run_probe(session, probe, results)
                rows[name] = [row for probe in probes for row in read_rows(runs[name, probe.name])]
        build_report([results], out)
        say("\n" + summary(rows) + "\n")
        say("\n".join(verdicts(runs)))
        say(f"\nresults: {results}\nreport: {out / 'index.html'}")
        say("next: open it in a browser; `clipbias probe paper --model MODEL` probes another (`clipbias models`)")


def summary(rows: dict[str, list[Row]]) -> str:
    """What the runs show, a line a question; numbers are T2I R@1 in percent with 95% intervals.

    Args:
        rows: model -> rows of the paper's probes.
    """
    found = {
        (model, row.probe, row.condition): row
        for model, mine in rows.items()
        for row in mine
        if row.direction == "t2i" and row.metric == "recall@1" and row.scope == "eligible"
    }

    def value(model: str, probe: str, condition: str) -> str:
        row = found[model, probe, condition]
        return f"{100 * row.value:5.1f} ({_percent(row.low)} to {_percent(row.high)})"

    def change(model: str, probe: str, condition: str) -> str:
        row = found[model, probe, condition]
        low, high = _percent(row.delta_low, "+.1f"), _percent(row.delta_high, "+.1f")
        return f"{_percent(row.delta, '+6.1f')} points ({low} to {high})"

    blocks = (
        ("Full captions, T2I R@1", value, "drop-first", "full"),
        ("The first sentence alone", value, "first-only", "first-only"),
        ("What removing the first sentence changes", change, "drop-first", "drop-first"),
        ("What moving the first sentence to fourth place changes", change, "swap-1-4", "swap-1-4"),
        ("What one padding sentence before two sentences changes", change, "padding", "pad-1"),
        ("What five padding sentences change", change, "padding", "pad-5"),
    )
    lines = []
    for title, show, probe, condition in blocks:
        lines.append(f"{title}:")
        lines += [f"  {model:14} {show(model, probe, condition)}" for model in rows]
    return "\n".join(lines)


def verdicts(
    runs: Mapping[tuple[str, str], Path], first: str = "nano-longclip", second: str = "nano-debias"
) -> list[str]:
    """What the numbers say of the fix, in words, decided by the interval of the difference of the two changes.

    Args:
        runs: run folder by model and probe.
        first, second: the models that are compared, on the same queries (`clipbias.results.compare`).
    """
    from clipbias.results.compare import compare_runs

    out = []
    for probe, condition, words in (
        ("drop-first", "drop-first", "Without the first sentence"),
        ("swap-1-4", "swap-1-4", "With the first sentence in fourth place"),
        ("padding", "pad-5", "Behind five padding sentences"),
    ):
        found = compare_runs(runs[first, probe], runs[second, probe])
        apart = next(one.apart for one in found if (one.condition, one.direction) == (condition, "t2i"))
        points = f"{abs(100 * apart.value):.1f} points"
        ends = f"95% of the difference {_percent(apart.low, '+.1f')} to {_percent(apart.high, '+.1f')}"
        if apart.low <= 0 <= apart.high:
            verdict = f"no difference between {second} and {first} is shown ({ends})"
        else:
            verdict = f"{second} loses {points} {'less' if apart.low > 0 else 'more'} than {first} ({ends})"
        out.append(f"{words}, {verdict}.")
    return out


def _percent(share: float | None, form: str = ".1f") -> str:
    return "-" if share is None else format(100 * share, form)
