"""`clipbias demo`: the paper's probes and token padding on the models that ship, then the report and what it shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipbias.cli.console import say
from clipbias.shipped import WORLD

if TYPE_CHECKING:
    from clipbias.results.record import Row

DEMO_MODELS = ("nano-clip", "nano-longclip", "nano-drop", "nano-sample", "nano-debias")
DEMO_PROBES = ("paper", "token-padding")


def register(app: typer.Typer) -> None:
    """Add the subcommand."""

    @app.command()
    def demo(
        results: Annotated[Path, typer.Option(help="Results folder.")] = Path("results"),
        out: Annotated[Path, typer.Option(help="Where the report is written.")] = Path("figures"),
        device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    ) -> None:
        """Probe the models that ship, and write the report."""
        from clipbias.cli.console import note, quiet
        from clipbias.probe.asked import data_settings, wanted_probes
        from clipbias.probe.distributed import local_device
        from clipbias.probe.plan import cost
        from clipbias.probe.sweep import Sweep, run_sweep
        from clipbias.progress import watched
        from clipbias.report.build import build_report
        from clipbias.results.folder import read_rows
        from clipbias.results.settings import Settings

        probes, on = wanted_probes(list(DEMO_PROBES)), data_settings(WORLD)
        models = [Settings(probe="", data="", model=name, device=local_device(device)) for name in DEMO_MODELS]
        sweep = Sweep(probes, [(one, None) for one in models], [on], results)
        note(f"data: {on[1].protocol}", wrap=True)
        counts = cost(on[1], [probe for _, probe in probes]).counts()
        rows: dict[str, list[Row]] = {name: [] for name in DEMO_MODELS}
        runs: dict[tuple[str, str], Path] = {}
        with watched([counts] * len(models), quiet=quiet()) as watch:
            for one in run_sweep(sweep, watch, watch.begin):
                if one.folder is None:
                    say(f"skipped {one.probe} of {one.model}: {one.problem}")
                    continue
                runs[one.model, one.probe] = one.folder
                rows[one.model] += read_rows(one.folder)
        build_report([results], out)
        say("\n" + summary(rows) + "\n")
        say("\n".join(verdicts(runs)))
        say(f"\nresults: {results}\nreport: {out / 'index.html'}")
        say("next: open it in a browser; `clipbias probe paper --model MODEL` probes another (`clipbias models`)")


def summary(rows: dict[str, list[Row]]) -> str:
    """What the runs show, a line a question; numbers are T2I R@1 in percent with 95% intervals.

    Args:
        rows: model -> rows of the demo's probes; a model without a probe has no line under its questions.
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
        ("What 80 pads before two sentences change, DeBias-CLIP's own padding", change, "token-padding", "shift-80"),
    )
    lines = []
    for title, show, probe, condition in blocks:
        lines.append(f"{title}:")
        able = [model for model in rows if (model, probe, condition) in found]
        lines += [f"  {model:14} {show(model, probe, condition)}" for model in able]
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
    from clipbias.results.folder import finished

    out = []
    for probe, condition, words in (
        ("drop-first", "drop-first", "Without the first sentence"),
        ("swap-1-4", "swap-1-4", "With the first sentence in fourth place"),
        ("padding", "pad-5", "Behind five padding sentences"),
        ("token-padding", "shift-80", "Behind 80 pads"),
    ):
        if not {(first, probe), (second, probe)} <= runs.keys():
            continue  # one of them cannot answer it
        found = compare_runs(finished(runs[first, probe]), finished(runs[second, probe]))
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
