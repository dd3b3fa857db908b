"""Two models on the same queries: what a condition costs the one and the other, and how surely that differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd

from clipbias.errors import UserError
from clipbias.results.folder import Finished, finished, load_runs
from clipbias.results.queries import credits, ranks
from clipbias.results.record import Run, condition_of
from clipbias.stats.contrasts import EXTREME, Equivalence, contrast, equivalence
from clipbias.stats.intervals import Interval, difference
from clipbias.stats.tests import holm, sign_flip

_KEYS = ["condition", "direction", "query"]


@dataclass(frozen=True)
class Comparison:
    """R@1 of two models under one condition and direction, on captions eligible in both; fractions, 95% intervals.

    Attributes:
        base_first, base_second: R@1 under the baseline on the very same queries; None where the condition is it.
        first, second: R@1 under the condition.
        drop_first, drop_second: the change from the baseline, paired; None where the condition is it.
        apart: second minus first: of the drops, or of R@1 itself under the baseline.
        p, p_holm: sign-flip p of ``apart``, plain and corrected over the conditions and directions of the probe.
        log_odds: ``apart`` in log-odds, where one of the recalls is above 95% or below 5%.
        equivalence: tests of ``apart`` against a margin, where one was given.
        n, clusters: queries and images.
    """

    probe: str
    condition: str
    direction: str
    base_first: float | None
    base_second: float | None
    first: float
    second: float
    drop_first: Interval | None
    drop_second: Interval | None
    apart: Interval
    p: float
    p_holm: float
    log_odds: Interval | None
    equivalence: Equivalence | None
    n: int
    clusters: int


def compare_runs(first: Finished, second: Finished, margin: float | None = None, seed: int = 0) -> list[Comparison]:
    """One `Comparison` per condition and direction of two runs of one probe on the same data.

    Args:
        first, second: the runs.
        margin: for `equivalence`, as a fraction (0.02 is 2 points).
        seed: of the tests, where they have to sample.

    Raises:
        UserError: the runs are of different probes or different data, or have no query in common.
    """
    require_comparable(first, second)
    table = _side_by_side(first, second)
    if table.empty:
        return []
    baseline = _baseline(first)
    out = []
    for direction, mine in table.groupby("direction", sort=False):
        parts = {str(name): part.set_index("query") for name, part in mine.groupby("condition", sort=False)}
        base = parts.get(baseline)
        for name, part in parts.items():
            chosen = part[part["eligible_a"] & part["eligible_b"]]
            against = None if base is None or name == baseline else base.reindex(chosen.index)
            if len(chosen):
                out.append(_compared(first.run.probe, name, str(direction), chosen, against, margin, seed))
    corrected = holm([one.p for one in out])
    return [replace(one, p_holm=p) for one, p in zip(out, corrected, strict=True)]


def require_comparable(first: Finished, second: Finished) -> None:
    """Refuse two runs that are not of one probe on the same data.

    Raises:
        UserError: they are not.
    """
    a, b = first.run, second.run
    if (a.probe_spec, a.data_fingerprint) != (b.probe_spec, b.data_fingerprint):
        raise UserError(
            f"{first.folder} and {second.folder} cannot be compared: they ran different probes or different data"
        )


def _baseline(one: Finished) -> str:
    """The condition that a run's other conditions are compared with."""
    return next((row.baseline for row in one.rows if row.baseline is not None), "")


def _compared(
    probe: str,
    condition: str,
    direction: str,
    part: pd.DataFrame,
    base: pd.DataFrame | None,
    margin: float | None,
    seed: int,
) -> Comparison:
    cluster = part["cluster_a"].to_numpy()
    hits = [part[f"hit{side}"].to_numpy() for side in ("_a", "_b")]
    known = {
        "probe": probe, "condition": condition, "direction": direction, "first": float(hits[0].mean()),
        "second": float(hits[1].mean()), "n": len(part), "clusters": len(np.unique(cluster)), "p_holm": 1.0,
    }  # fmt: skip
    if base is None:
        values, bound = hits[1] - hits[0], 1.0
        apart, p, odds = difference(values, cluster), sign_flip(values, cluster, seed), None
        drops: tuple[Interval | None, Interval | None] = (None, None)
        before: tuple[float | None, float | None] = (None, None)
    else:
        bases = [base[f"hit{side}"].to_numpy() for side in ("_a", "_b")]
        found = contrast((bases[0], hits[0]), (bases[1], hits[1]), cluster, seed)
        values, bound = hits[1] - bases[1] - hits[0] + bases[0], 2.0
        apart, p, odds = found.apart, found.p, found.log_odds
        drops = (found.first, found.second)
        before = (float(bases[0].mean()), float(bases[1].mean()))
    return Comparison(
        **known,  # type: ignore[arg-type]
        base_first=before[0],
        base_second=before[1],
        drop_first=drops[0],
        drop_second=drops[1],
        apart=apart,
        p=p,
        log_odds=odds,
        equivalence=None if margin is None else equivalence(values, margin, cluster, bound),
    )


def _side_by_side(first: Finished, second: Finished) -> pd.DataFrame:
    """The queries that both runs have, the columns of the one with ``_a`` and of the other with ``_b``.

    ``hit``: credit for the first place; ``rank``: expected.
    """
    tables = []
    for one in (first, second):
        table = one.queries
        tables.append(_over_draws(table.assign(hit=credits(table), rank=ranks(table))))
    return tables[0].merge(tables[1], on=_KEYS, suffixes=("_a", "_b"), validate="one_to_one")


def _over_draws(table: pd.DataFrame) -> pd.DataFrame:
    """Each query's mean over the draws of a condition, in place of its draws."""
    name = table["condition"].map(condition_of)
    if (name == table["condition"]).all():
        return table
    how = {"cluster": "first", "eligible": "all", "affected": "any", "hit": "mean", "rank": "mean"}
    return table.assign(condition=name).groupby(_KEYS, sort=False, as_index=False).agg(how)


def changed_queries(first: Finished, second: Finished) -> pd.DataFrame:
    """Queries that one run finds (credit for the first place) more than the other, largest change of rank first.

    Returns:
        Columns condition, direction, query, rank_a, rank_b.
    """
    table = _side_by_side(first, second)
    table = table[(table["hit_a"] != table["hit_b"]) & table["eligible_a"] & table["eligible_b"]]
    size = (np.log(table["rank_b"]) - np.log(table["rank_a"])).abs()
    return table.loc[size.sort_values(ascending=False, kind="stable").index, [*_KEYS, "rank_a", "rank_b"]]


def run_pairs(first: str, second: str, results: Path) -> list[tuple[Finished, Finished]]:
    """The runs to compare: two folders, or all runs of two models on the same data with the same probes.

    Raises:
        UserError: a name is neither a folder nor a model in the results, or the models share no run.
    """
    if (Path(first) / "run.json").exists() and (Path(second) / "run.json").exists():
        return [(finished(Path(first)), finished(Path(second)))]
    found: dict[str, dict[tuple[str, str, str], Finished]] = {first: {}, second: {}}
    models = set()
    for one in load_runs([results]):
        run = one.run
        models.add(run.model)
        if run.model in found:
            found[run.model][run.data, run.data_fingerprint, run.probe_spec] = one
    for name in (first, second):
        if not found[name]:
            raise UserError(f"{name!r} is neither a run folder nor a model in {results}: {', '.join(sorted(models))}")
    shared = [key for key in found[first] if key in found[second]]
    if not shared:
        raise UserError(f"{first} and {second} have no probe in common on the same data in {results}")
    return [(found[first][key], found[second][key]) for key in shared]


def as_record(one: Comparison) -> dict[str, object]:
    """A comparison for tables and JSON: intervals and tests by the names of their fields; open ends are infinite."""

    def plain(value: object) -> object:
        return {name: plain(part) for name, part in value._asdict().items()} if hasattr(value, "_asdict") else value

    return {field.name: plain(getattr(one, field.name)) for field in fields(one)}


def comparison_text(a: Run, b: Run, compared: Sequence[Comparison]) -> str:
    """The comparisons of one probe for people, in 80 columns."""
    if not compared:
        return f"{a.probe} on {a.data}: nothing is ranked, so there is nothing to compare\n"
    lines = [
        f"{a.probe} on {a.data} ({a.split}): R@1 in percent, eligible captions",
        f"  A = {a.model}",
        f"  B = {b.model}",
        "  change: from the baseline on the same captions; B - A: difference of the",
        "  two changes (of R@1 itself under the baseline), 95% interval; p: sign flips",
        "  over images, Holm-corrected over this table",
        *[
            f"  ranks of {name} are of results schema 1: ties count against the model"
            for name, run in (("A", a), ("B", b))
            if run.schema == 1
        ],
        "",
        f"{'condition':15} {'':3} {'A':>5} {'change':>6} {'B':>5} {'change':>6}   {'B - A':>6} {'95%':17} {'p':>6}",
    ]
    for one in compared:
        drops = [f"{100 * d.value:+6.1f}" if d else " " * 6 for d in (one.drop_first, one.drop_second)]
        ends = f"{100 * one.apart.low:+.1f} to {100 * one.apart.high:+.1f}"
        name = one.condition if len(one.condition) <= 15 else one.condition[:14] + "…"
        lines.append(
            f"{name:15} {one.direction.upper():3} {100 * one.first:5.1f} {drops[0]} {100 * one.second:5.1f} {drops[1]}"
            f"   {100 * one.apart.value:+6.1f} {ends:17} {_p(one.p_holm):>6}"
        )
        lines += [f"    {line}" for line in _more(one)]
    if any(one.log_odds for one in compared):
        lines.append(
            f"\nlog-odds: the same difference of changes, where a recall is above {100 - 100 * EXTREME:.0f}%"
            f"\nor below {100 * EXTREME:.0f}% and points are squeezed"
        )
    return "\n".join(lines) + "\n"


def _more(one: Comparison) -> list[str]:
    """What stands below a line: log-odds, equivalence."""
    out = []
    if one.log_odds:
        low, high = (f"{end:+.2f}" if np.isfinite(end) else "open" for end in one.log_odds[1:])
        out.append(f"log-odds {one.log_odds.value:+.2f} ({low} to {high})")
    if one.equivalence:
        test = one.equivalence
        worse = "B is no worse" if test.p_no_worse < 0.05 else "not shown that B is no worse"
        same = "; the two are equivalent" if test.p < 0.05 else ""
        out.append(f"margin {100 * test.margin:g} points: {worse} (p {_p(test.p_no_worse).strip()}){same}")
    return out


def _p(value: float) -> str:
    return "<.001" if value < 0.001 else f"{value:.3f}"
