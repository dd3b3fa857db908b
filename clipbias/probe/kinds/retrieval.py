"""Retrieval: the conditions of a probe on every caption, exact ranks in both directions, and the rows made of them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from clipbias.errors import NotApplicable
from clipbias.probe.ranking import CREDITS, DIRECTIONS, Ranking, decided_by_ties, per_query_metrics
from clipbias.probe.session import Session, TextKey
from clipbias.probe.spec import Condition, Probe
from clipbias.results.record import QUERY_COLUMNS, Row
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
    rows: list[Row] = []
    tables: list[pd.DataFrame] = []
    for direction in DIRECTIONS:
        cluster = session.clusters(direction)
        base = per_query_metrics(baseline.rankings[direction])
        for order, one in enumerate(measured):
            affected = np.array([a != b for a, b in zip(one.texts, baseline.texts, strict=True)])
            eligible = _query_mask(one.eligible, owner, images, direction)
            shared = {
                "probe": probe.name,
                "condition": one.condition.name,
                "order": order,
                "x": one.condition.x,
                "baseline": None if one is baseline else probe.baseline,
                "direction": direction,
                "eligible": int(one.eligible.sum()),
                "affected": int((affected & one.eligible).sum()),
                "truncated": float((one.lengths > context).mean()),
                "tokens_lost": float(np.maximum(one.lengths - context, 0).mean()),
            }
            for scope, chosen in (("eligible", eligible), ("all", np.ones_like(eligible))):
                if chosen.any():
                    against = None if one is baseline else base
                    rows += _rows(shared, scope, chosen, one.rankings[direction], against, cluster, session.seed)
            table = _queries(one.rankings[direction], cluster).assign(
                condition=one.condition.name,
                direction=direction,
                eligible=eligible,
                affected=_query_mask(affected, owner, images, direction),
            )
            tables.append(table[list(QUERY_COLUMNS)])
    return _corrected(rows), pd.concat(tables, ignore_index=True)


def _rows(
    shared: dict[str, object],
    scope: str,
    chosen: np.ndarray,
    ranking: Ranking,
    base: dict[str, np.ndarray] | None,
    cluster: np.ndarray,
    seed: int,
) -> list[Row]:
    """One row per metric on the ``chosen`` [Q] queries; ``base``: the baseline's values, None for itself."""
    images = cluster[chosen]
    count = len(np.unique(images))
    out = []
    for metric, all_values in per_query_metrics(ranking).items():
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
            n=len(images),
            clusters=count,
            ties=int(decided_by_ties(metric, values, ranking.equal[chosen]).sum()),
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
