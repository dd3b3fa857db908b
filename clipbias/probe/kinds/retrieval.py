"""Retrieval: the conditions of a probe on every caption, exact ranks in both directions, and the rows made of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from clipbias.errors import NotApplicable
from clipbias.probe.ranking import CREDITS, DIRECTIONS, Ranking, decided_by_ties, per_query_metrics
from clipbias.probe.session import Session, TextKey
from clipbias.probe.spec import Condition, Probe
from clipbias.results.record import QUERY_COLUMNS, Row
from clipbias.stats.clusters import numbered
from clipbias.stats.intervals import METHODS, difference, mean, proportion
from clipbias.stats.tests import holm, sign_flip

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measured:
    """One condition on every caption: texts, what the transforms could do, what was cut, and the ranks."""

    condition: Condition
    texts: list[TextKey]
    eligible: np.ndarray
    lengths: np.ndarray
    rankings: dict[str, Ranking]


def _measure(session: Session, condition: Condition) -> Measured:
    captions, sentences = session.captions(condition.captions)
    changed = [condition.apply(s) for s in sentences]
    # With nothing to change the caption goes in as its authors wrote it, not re-joined.
    texts = [
        (caption if out is None or out == before else " ".join(out), condition.first_tokens, condition.token_padding)
        for caption, before, out in zip(captions, sentences, changed, strict=True)
    ]
    rankings = session.rankings(texts)
    _, _, lengths = session.texts(texts)
    return Measured(condition, texts, np.array([out is not None for out in changed]), lengths, rankings)


def _query_mask(caption_mask: np.ndarray, owner: np.ndarray, images: int, direction: str) -> np.ndarray:
    """A mask over captions as one over queries: an image counts when all its captions do."""
    if direction == "t2i":
        return caption_mask
    out = np.ones(images, dtype=bool)
    np.logical_and.at(out, owner, caption_mask)
    return out


def retrieval(session: Session, probe: Probe) -> tuple[list[Row], pd.DataFrame]:
    """Rows and per-query ranks of a probe that is a list of conditions on captions."""
    measured = []
    for number, condition in enumerate(probe.conditions):
        try:
            measured.append(_measure(session, condition))
        except NotApplicable as error:
            # The baseline has to be there; without it there is nothing to compare with.
            if condition.name == probe.baseline:
                raise
            log.warning("%s: condition %s left out: %s", probe.name, condition.name, error)
        session.progress(probe.name, number + 1, len(probe.conditions))
    return _rows_and_queries(session, probe, measured)


def _rows_and_queries(session: Session, probe: Probe, measured: list[Measured]) -> tuple[list[Row], pd.DataFrame]:
    owner, images = session.dataset.caption_image, len(session.dataset.image_names)
    context = session.encoder.context_length
    baseline = next(m for m in measured if m.condition.name == probe.baseline)
    tables: list[pd.DataFrame] = []
    for direction in DIRECTIONS:
        for one in measured:
            affected = np.array([a != b for a, b in zip(one.texts, baseline.texts, strict=True)])
            table = _queries(one.rankings[direction], session.clusters(direction)).assign(
                condition=one.condition.name,
                direction=direction,
                eligible=_query_mask(one.eligible, owner, images, direction),
                affected=_query_mask(affected, owner, images, direction),
            )
            tables.append(table[list(QUERY_COLUMNS)])
    queries = pd.concat(tables, ignore_index=True)
    cut = {m.condition.name: _cut(m.lengths, context) for m in measured}
    return rows_from_queries(probe, queries, cut, session.seed), queries


def _cut(lengths: np.ndarray, context: int) -> tuple[float, float]:
    """The share of texts that are longer than the context, and the mean number of tokens cut."""
    return float((lengths > context).mean()), float(np.maximum(lengths - context, 0).mean())


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
    parts = {key: part for key, part in queries.groupby(["condition", "direction"], sort=False)}
    conditions = list(dict.fromkeys(queries["condition"]))
    swept = {c.name: c.x for c in probe.conditions}
    rows: list[Row] = []
    for direction in DIRECTIONS:
        base = per_query_metrics(_ranking(parts[probe.baseline, direction]))
        for order, name in enumerate(conditions):
            captions, part = parts[name, "t2i"], parts[name, direction]
            eligible = part["eligible"].to_numpy()
            truncated, lost = cut[name]
            metrics = base if name == probe.baseline else per_query_metrics(_ranking(part))
            shared = {
                "probe": probe.name,
                "condition": name,
                "order": order,
                "x": swept[name],
                "baseline": None if name == probe.baseline else probe.baseline,
                "direction": direction,
                "eligible": int(captions["eligible"].sum()),
                "affected": int((captions["affected"] & captions["eligible"]).sum()),
                "truncated": truncated,
                "tokens_lost": lost,
            }
            for scope, chosen in (("eligible", eligible), ("all", np.ones_like(eligible))):
                if chosen.any():
                    against = None if name == probe.baseline else base
                    rows += _rows(shared, scope, chosen, metrics, part, against, seed)
    return _corrected(rows)


def _ranking(part: pd.DataFrame) -> Ranking:
    """The ranking that a part of a table of queries holds."""
    better, equal, right = (part[name].to_numpy().astype(np.int64) for name in ("better", "equal", "right"))
    return Ranking(better, equal, right, part["cosine"].to_numpy(), part["margin"].to_numpy())


def _rows(
    shared: dict[str, object],
    scope: str,
    chosen: np.ndarray,
    metrics: dict[str, np.ndarray],
    part: pd.DataFrame,
    base: dict[str, np.ndarray] | None,
    seed: int,
) -> list[Row]:
    """One row per metric on the ``chosen`` [Q] of the queries ``part``; ``base``: the baseline's, None for itself."""
    index = numbered(part["cluster"].to_numpy()[chosen], int(chosen.sum()))
    equal = part["equal"].to_numpy()[chosen]
    count = int(index.max()) + 1
    images = None if count == len(index) else index  # each query its own image: nothing to sum over
    out = []
    for metric, all_values in metrics.items():
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
            ties=int(decided_by_ties(metric, values, equal).sum()),
        )
        out.append(row)
        if metric == "mean_rank":
            median = replace(row, metric="median_rank", value=float(np.median(values)), low=None, high=None, method="")
            out.append(replace(median, base=None, delta=None, delta_low=None, delta_high=None))
    return out


def _queries(ranking: Ranking, cluster: np.ndarray) -> pd.DataFrame:
    """What is kept of each query of one condition and direction."""
    whole = {name: getattr(ranking, name).astype(np.int32) for name in ("better", "equal", "right")}
    real = {name: getattr(ranking, name).astype(np.float32) for name in ("cosine", "margin")}
    query = np.arange(len(cluster), dtype=np.int32)
    return pd.DataFrame({"query": query, "cluster": cluster.astype(np.int32), **whole, **real})


def _corrected(rows: list[Row]) -> list[Row]:
    """Rows with Holm's correction over the tests on eligible queries."""
    tested = [place for place, row in enumerate(rows) if row.p is not None and row.scope == "eligible"]
    out = list(rows)
    for place, p in zip(tested, holm([float(rows[place].p or 0) for place in tested]), strict=True):
        out[place] = replace(rows[place], p_holm=p)
    return out
