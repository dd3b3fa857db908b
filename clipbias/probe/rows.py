"""Rows of retrieval probes, made of their per-query tables alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from clipbias.probe.counting import DIRECTIONS
from clipbias.probe.ranking import CREDITS, Ranking, decided_by_ties, per_query_metrics
from clipbias.probe.spec import Probe
from clipbias.results.record import Row, condition_of
from clipbias.stats.clusters import numbered
from clipbias.stats.intervals import METHODS, difference, mean, proportion
from clipbias.stats.tests import holm, sign_flip


def rows_from_queries(
    probe: Probe, queries: pd.DataFrame, cut: Mapping[str, tuple[float, float]], seed: int
) -> list[Row]:
    """The rows of a probe: all that they say comes from its queries, but for what was cut.

    Args:
        probe: the spec.
        queries: columns `QUERY_COLUMNS`, every condition in both directions.
        cut: condition -> share of captions cut at the context, mean tokens cut.
        seed: of the sign flips.
    """
    parts = _parts(queries)
    draws: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for name, _ in parts):
        draws.setdefault(condition_of(name), []).append(name)
    swept = {c.name: c.x for c in probe.conditions}
    rows: list[Row] = []
    for direction in DIRECTIONS:
        base = _over_draws([parts[name, direction] for name in draws[probe.baseline]])
        for order, (name, drawn) in enumerate(draws.items()):
            captions = [parts[draw, "t2i"] for draw in drawn]
            part = [parts[draw, direction] for draw in drawn]
            told = np.all(_mask(captions, "eligible"), axis=0)
            changed = np.any(_mask(captions, "affected"), axis=0)
            eligible: np.ndarray = np.all(_mask(part, "eligible"), axis=0)
            measured = base if name == probe.baseline else _over_draws(part)
            truncated, lost = cut[name]
            shared = {
                "probe": probe.name,
                "condition": name,
                "order": order,
                "x": swept[name],
                "baseline": None if name == probe.baseline else probe.baseline,
                "direction": direction,
                "eligible": int(told.sum()),
                "affected": int((changed & told).sum()),
                "truncated": truncated,
                "tokens_lost": lost,
            }
            for scope, chosen in (("eligible", eligible), ("all", np.ones_like(eligible))):
                if chosen.any():
                    against = None if name == probe.baseline else base.values
                    rows += _rows(shared, scope, chosen, measured, against, part[0]["cluster"].to_numpy(), seed)
    return _corrected(rows)


def _parts(queries: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """The table by condition and direction, in order of appearance; views of it where each is one stretch of rows."""
    (condition, names), (direction, ways) = (pd.factorize(queries[name]) for name in ("condition", "direction"))
    codes = condition.astype(np.int32) * len(ways) + direction.astype(np.int32)
    starts = [0, *(np.flatnonzero(codes[1:] != codes[:-1]) + 1).tolist()] if len(codes) else []
    first = [int(codes[start]) for start in starts]
    if len(set(first)) < len(first):  # scattered: only a copy puts them together
        return _parts(queries.iloc[np.argsort(_first_seen(codes)[codes], kind="stable")])
    stops = [*starts[1:], len(codes)]
    return {
        (str(names[code // len(ways)]), str(ways[code % len(ways)])): queries.iloc[start:stop]
        for code, start, stop in zip(first, starts, stops, strict=True)
    }


def _first_seen(codes: np.ndarray) -> np.ndarray:
    """Code -> the row at which it comes first."""
    out = np.full(int(codes.max()) + 1, len(codes))
    np.minimum.at(out, codes, np.arange(len(codes)))
    return out


@dataclass(frozen=True)
class _Values:
    """Of each metric, the value of each query [Q], and whether [Q] it rests on the order of equals."""

    values: dict[str, np.ndarray]
    ties: dict[str, np.ndarray]


def _over_draws(parts: list[pd.DataFrame]) -> _Values:
    """A condition's queries: each one's mean over the draws, so that an interval over queries carries them."""
    rankings = [_ranking(part) for part in parts]
    found = [per_query_metrics(ranking) for ranking in rankings]
    values = {metric: np.mean([one[metric] for one in found], axis=0) for metric in found[0]}
    tied = {
        metric: np.any(
            [decided_by_ties(metric, one[metric], r.equal) for one, r in zip(found, rankings, strict=True)], axis=0
        )
        for metric in values
    }
    return _Values(values, tied)


def _mask(parts: list[pd.DataFrame], column: str) -> np.ndarray:
    """A column of each draw [draws, Q]."""
    return np.stack([part[column].to_numpy(dtype=bool) for part in parts])


def _ranking(part: pd.DataFrame) -> Ranking:
    """The ranking that a part of a table of queries holds."""
    better, equal, right = (part[name].to_numpy().astype(np.int64) for name in ("better", "equal", "right"))
    return Ranking(better, equal, right, part["cosine"].to_numpy(), part["margin"].to_numpy())


def _rows(
    shared: dict[str, object],
    scope: str,
    chosen: np.ndarray,
    measured: _Values,
    base: dict[str, np.ndarray] | None,
    cluster: np.ndarray,
    seed: int,
) -> list[Row]:
    """One row per metric on the ``chosen`` [Q] queries; ``base``: the baseline's values, None for itself."""
    index = numbered(cluster[chosen], int(chosen.sum()))
    count = int(index.max()) + 1
    images = None if count == len(index) else index  # each query its own image: nothing to sum over
    out = []
    for metric, all_values in measured.values.items():
        values, credits = all_values[chosen], metric in CREDITS
        found = (proportion if credits else mean)(values, images)
        delta = None if base is None else values - base[metric][chosen]
        change = None if delta is None else (difference if credits else mean)(delta, images)
        how = METHODS["proportion" if credits else "mean"] if found else ""
        if change is not None:
            how += f"; change: {METHODS['difference' if credits else 'mean']}"
        row = Row(
            **shared,  # type: ignore[arg-type]
            scope=scope,
            metric=metric,
            value=float(values.mean()),
            low=found.low if found else None,
            high=found.high if found else None,
            method=how,
            base=None if base is None else float(base[metric][chosen].mean()),
            delta=None if delta is None else float(delta.mean()),
            delta_low=change.low if change else None,
            delta_high=change.high if change else None,
            p=sign_flip(delta, images, seed) if metric == "recall@1" and delta is not None else None,
            p_holm=None,
            n=len(index),
            clusters=count,
            ties=int(measured.ties[metric][chosen].sum()),
        )
        out.append(row)
        if metric == "mean_rank":
            median = replace(row, metric="median_rank", value=float(np.median(values)), low=None, high=None, method="")
            out.append(replace(median, base=None, delta=None, delta_low=None, delta_high=None))
    return out


def _corrected(rows: list[Row]) -> list[Row]:
    """Rows with Holm's correction over the tests on eligible queries."""
    tested = [place for place, row in enumerate(rows) if row.p is not None and row.scope == "eligible"]
    out = list(rows)
    for place, p in zip(tested, holm([float(rows[place].p or 0) for place in tested]), strict=True):
        out[place] = replace(rows[place], p_holm=p)
    return out
