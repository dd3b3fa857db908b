"""Two runs of the same probe on the same queries: what changed, and how surely."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from clipbias.errors import UserError
from clipbias.results.folder import load_runs, read_queries, read_run
from clipbias.stats.bootstrap import ClusterBootstrap, mcnemar_exact, percentile_interval

_KEYS = ["condition", "direction", "query"]


@dataclass(frozen=True)
class Difference:
    """R@1 of ``second`` minus ``first`` on eligible queries, with its paired 95% interval and exact McNemar p."""

    probe: str
    condition: str
    direction: str
    first: float
    second: float
    delta: float
    low: float
    high: float
    p: float
    n: int


def compare_runs(first: Path, second: Path, seed: int = 0) -> list[Difference]:
    """Paired differences in R@1 between two run folders, a condition and direction each.

    Raises:
        UserError: the runs are of different probes or different data.
    """
    a, b = read_run(first), read_run(second)
    if (a.probe_spec, a.data_fingerprint) != (b.probe_spec, b.data_fingerprint):
        raise UserError(f"{first} and {second} cannot be compared: they ran different probes or different data")
    table = _side_by_side(first, second)
    out = []
    for (condition, direction), part in table.groupby(["condition", "direction"], sort=False):
        part = part[part["eligible_a"] & part["eligible_b"]]
        if part.empty:
            continue
        hits = np.column_stack([part["rank_a"] == 1, part["rank_b"] == 1])
        bootstrap = ClusterBootstrap(part["cluster_a"].to_numpy(), seed)
        sampled = bootstrap.means(hits.astype(np.float64), np.ones(len(part), dtype=bool))
        low, high = percentile_interval(sampled[:, 1:] - sampled[:, :1])
        one, two = hits.mean(axis=0)
        p = mcnemar_exact(hits[:, 0], hits[:, 1])
        out.append(
            Difference(
                a.probe,
                str(condition),
                str(direction),
                one,
                two,
                two - one,
                float(low[0]),
                float(high[0]),
                p,
                len(part),
            )
        )
    return out


def _side_by_side(first: Path, second: Path) -> pd.DataFrame:
    """The queries that both runs have, the columns of the one with ``_a`` and of the other with ``_b``."""
    return read_queries(first).merge(read_queries(second), on=_KEYS, suffixes=("_a", "_b"), validate="one_to_one")


def changed_queries(first: Path, second: Path) -> pd.DataFrame:
    """Queries that one run finds (rank 1) and the other does not, those with the largest change of rank first.

    Returns:
        Columns condition, direction, query, rank_a, rank_b.
    """
    table = _side_by_side(first, second)
    table = table[(table["rank_a"] == 1) != (table["rank_b"] == 1)]
    size = (np.log(table["rank_b"]) - np.log(table["rank_a"])).abs()
    return table.loc[size.sort_values(ascending=False, kind="stable").index, [*_KEYS, "rank_a", "rank_b"]]


def run_pairs(first: str, second: str, results: Path) -> list[tuple[Path, Path]]:
    """The run folders to compare: two folders, or all runs of two models on the same data with the same probes.

    Raises:
        UserError: a name is neither a folder nor a model in the results, or the models share no run.
    """
    if (Path(first) / "run.json").exists() and (Path(second) / "run.json").exists():
        return [(Path(first), Path(second))]
    found: dict[str, dict[tuple[str, str, str], Path]] = {first: {}, second: {}}
    models = set()
    for one in load_runs([results]):
        run = one.run
        models.add(run.model)
        if run.model in found:
            found[run.model][run.data, run.data_fingerprint, run.probe_spec] = one.folder
    for name in (first, second):
        if not found[name]:
            raise UserError(f"{name!r} is neither a run folder nor a model in {results}: {', '.join(sorted(models))}")
    shared = [key for key in found[first] if key in found[second]]
    if not shared:
        raise UserError(f"{first} and {second} have no probe in common on the same data in {results}")
    return [(found[first][key], found[second][key]) for key in shared]


def print_comparison(differences: list[Difference]) -> None:
    """The differences, a line each."""
    for d in differences:
        print(
            f"{d.probe:10} {d.condition:11} {d.direction.upper()}  {100 * d.first:5.1f} -> {100 * d.second:5.1f}  "
            f"{100 * d.delta:+6.1f} points ({100 * d.low:+.1f} to {100 * d.high:+.1f}), McNemar p {d.p:.2g}, n {d.n}"
        )
