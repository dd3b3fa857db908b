"""Rows of retrieval probes, made of their per-query tables alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from clipbias.probe.counting import DIRECTIONS
from clipbias.probe.ranking import CREDITS, METRICS, Ranking, decided_by_ties
from clipbias.probe.spec import Probe
from clipbias.results.record import Row, condition_of
from clipbias.stats.clusters import numbered
from clipbias.stats.intervals import METHODS, difference, mean, proportion
from clipbias.stats.tests import holm, sign_flip

Parts = dict[tuple[str, str], pd.DataFrame]


def rows_from_queries(
    probe: Probe,
    queries: pd.DataFrame | Sequence[pd.DataFrame],
    cut: Mapping[str, tuple[float, float]],
    seed: int,
) -> list[Row]:
    """The rows of a probe: all that they say comes from its queries, but for what was cut.

    Args:
        probe: the spec.
        queries: columns `QUERY_COLUMNS`, every condition in both directions; or tables that make it up, each condition
            and direction in one of them.
        cut: condition -> share of captions cut at the context, mean tokens cut.
        seed: of the sign flips.
    """
    tables = [queries] if isinstance(queries, pd.DataFrame) else queries
    parts = {key: part for table in tables for key, part in _parts(table).items()}
    draws: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for name, _ in parts):
        draws.setdefault(condition_of(name), []).append(name)
    swept = {c.name: c.x for c in probe.conditions}
    rows: list[Row] = []
    for direction in DIRECTIONS:
        base = [parts[name, direction] for name in draws[probe.baseline]]
        for order, (name, drawn) in enumerate(draws.items()):
            captions = [parts[draw, "t2i"] for draw in drawn]
            told = np.all(_mask(captions, "eligible"), axis=0)
            changed = np.any(_mask(captions, "affected"), axis=0)
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
            part = [parts[draw, direction] for draw in drawn]
            rows += _rows(shared, part, None if name == probe.baseline else base, seed)
    return _corrected(rows)


def _parts(queries: pd.DataFrame) -> Parts:
    """The table by condition and direction, in order of appearance; views of it where each is one stretch of rows."""
    (condition, names), (direction, ways) = (_numbered(queries[name]) for name in ("condition", "direction"))
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


def _numbered(names: pd.Series) -> tuple[np.ndarray, pd.Index]:
    """A number for each row, and the name that it stands for."""
    if isinstance(names.dtype, pd.CategoricalDtype):
        return names.cat.codes.to_numpy(), names.cat.categories
    codes, known = pd.factorize(names)
    return codes, pd.Index(known)


def _first_seen(codes: np.ndarray) -> np.ndarray:
    """Code -> the row at which it comes first."""
    out = np.full(int(codes.max()) + 1, len(codes))
    np.minimum.at(out, codes, np.arange(len(codes)))
    return out


def _over_draws(draws: Sequence[Ranking], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Of a condition's queries [Q], each one's mean over the draws, so that an interval over queries carries them; and
    whether it rests on the order of equals."""
    values = [METRICS[metric](one) for one in draws]
    tied = [decided_by_ties(metric, found, one.equal) for found, one in zip(values, draws, strict=True)]
    if len(draws) == 1:
        return values[0], tied[0]
    return np.mean(values, axis=0), np.any(tied, axis=0)


def _mask(parts: list[pd.DataFrame], column: str) -> np.ndarray:
    """A column of each draw [draws, Q]."""
    return np.stack([part[column].to_numpy(dtype=bool) for part in parts])


def _ranking(part: pd.DataFrame) -> Ranking:
    """The ranking that a part of a table of queries holds."""
    return Ranking(*(part[name].to_numpy() for name in ("better", "equal", "right", "cosine", "margin")))


def _rows(
    shared: dict[str, object], draws: list[pd.DataFrame], baseline: list[pd.DataFrame] | None, seed: int
) -> list[Row]:
    """The rows of a condition in one direction, first on eligible queries, then on all; no ``baseline``: its own.

    One metric at a time, so that memory does not grow with their number.
    """
    eligible: np.ndarray = np.all(_mask(draws, "eligible"), axis=0)
    scopes = {
        scope: _Scope(scope, chosen, *_images(draws[0]["cluster"].to_numpy()[chosen]))
        for scope, chosen in (("eligible", eligible), ("all", np.ones_like(eligible)))
        if chosen.any()
    }
    own = [_ranking(part) for part in draws]
    against = None if baseline is None else [_ranking(part) for part in baseline]
    out: dict[str, list[Row]] = {scope: [] for scope in scopes}
    for metric in METRICS:
        measured, tied = _over_draws(own, metric)
        base = None if against is None else _over_draws(against, metric)[0]
        for scope, where in scopes.items():
            out[scope] += _of_metric(shared, where, metric, measured, tied, base, seed)
    return [row for rows in out.values() for row in rows]


@dataclass(frozen=True)
class _Scope:
    """The queries that rows are on.

    Attributes:
        name: of the scope.
        chosen: [Q] which queries.
        images: the number of each chosen query's image; None: each its own, nothing to sum over.
        clusters: how many images.
    """

    name: str
    chosen: np.ndarray
    images: np.ndarray | None
    clusters: int


def _images(cluster: np.ndarray) -> tuple[np.ndarray | None, int]:
    index = numbered(cluster, len(cluster))
    count = int(index.max()) + 1
    return (None if count == len(index) else index), count


def _of_metric(
    shared: dict[str, object],
    scope: _Scope,
    metric: str,
    measured: np.ndarray,
    tied: np.ndarray,
    base: np.ndarray | None,
    seed: int,
) -> list[Row]:
    """A metric's row, and the median's behind that of the mean rank."""
    values, images, credits = measured[scope.chosen], scope.images, metric in CREDITS
    found = (proportion if credits else mean)(values, images)
    before = None if base is None else base[scope.chosen]
    delta = None if before is None else values - before
    change = None if delta is None else (difference if credits else mean)(delta, images)
    how = METHODS["proportion" if credits else "mean"] if found else ""
    if change is not None:
        how += f"; change: {METHODS['difference' if credits else 'mean']}"
    row = Row(
        **shared,  # type: ignore[arg-type]
        scope=scope.name,
        metric=metric,
        value=float(values.mean()),
        low=found.low if found else None,
        high=found.high if found else None,
        method=how,
        base=None if before is None else float(before.mean()),
        delta=None if delta is None else float(delta.mean()),
        delta_low=change.low if change else None,
        delta_high=change.high if change else None,
        p=sign_flip(delta, images, seed) if metric == "recall@1" and delta is not None else None,
        p_holm=None,
        n=len(values),
        clusters=scope.clusters,
        ties=int(tied[scope.chosen].sum()),
    )
    if metric != "mean_rank":
        return [row]
    median = replace(row, metric="median_rank", value=float(np.median(values)), low=None, high=None, method="")
    return [row, replace(median, base=None, delta=None, delta_low=None, delta_high=None)]


def _corrected(rows: list[Row]) -> list[Row]:
    """Rows with Holm's correction over the tests on eligible queries."""
    tested = [place for place, row in enumerate(rows) if row.p is not None and row.scope == "eligible"]
    out = list(rows)
    for place, p in zip(tested, holm([float(rows[place].p or 0) for place in tested]), strict=True):
        out[place] = replace(rows[place], p_holm=p)
    return out
