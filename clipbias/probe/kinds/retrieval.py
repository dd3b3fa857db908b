"""Retrieval: the conditions of a probe on every caption, exact ranks in both directions, and the rows made of them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from clipbias.errors import NotApplicable
from clipbias.probe.ranking import DIRECTIONS, Ranking, per_query_metrics
from clipbias.probe.session import Session, TextKey
from clipbias.probe.spec import Condition, Probe
from clipbias.results.record import Row
from clipbias.stats.bootstrap import holm, mcnemar_exact, percentile_interval

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
    dataset = session.dataset
    owner, images = dataset.caption_image, len(dataset.image_names)
    context = session.encoder.context_length
    baseline = next(m for m in measured if m.condition.name == probe.baseline)
    rows: list[Row] = []
    tables: list[pd.DataFrame] = []
    tests: list[tuple[int, float]] = []
    for direction in DIRECTIONS:
        cluster, bootstrap = session.clusters(direction), session.bootstrap(direction)
        metrics = {m.condition.name: per_query_metrics(m.rankings[direction]) for m in measured}
        base = np.column_stack(list(metrics[probe.baseline].values()))
        for order, one in enumerate(measured):
            name = one.condition.name
            is_baseline = one is baseline
            affected = np.array([a != b for a, b in zip(one.texts, baseline.texts, strict=True)])
            eligible_query = _query_mask(one.eligible, owner, images, direction)
            values = np.column_stack(list(metrics[name].values()))
            cut = one.lengths > context
            shared = {
                "probe": probe.name,
                "condition": name,
                "order": order,
                "x": one.condition.x,
                "baseline": None if is_baseline else probe.baseline,
                "direction": direction,
                "eligible": int(one.eligible.sum()),
                "affected": int((affected & one.eligible).sum()),
                "truncated": float(cut.mean()),
                "tokens_lost": float(np.maximum(one.lengths - context, 0).mean()),
            }
            for scope, chosen in (("eligible", eligible_query), ("all", np.ones_like(eligible_query))):
                if not chosen.any():
                    continue
                sampled = bootstrap.means(values, chosen)
                low, high = percentile_interval(sampled)
                value = values[chosen].mean(axis=0)
                if not is_baseline:
                    sampled_base = bootstrap.means(base, chosen)
                    delta = value - base[chosen].mean(axis=0)
                    delta_low, delta_high = percentile_interval(sampled - sampled_base)
                for k, metric in enumerate(metrics[name]):
                    test = None
                    if metric == "recall@1" and not is_baseline:
                        test = mcnemar_exact(base[chosen, k] > 0, values[chosen, k] > 0)
                        if scope == "eligible":
                            tests.append((len(rows), test))
                    rows.append(
                        Row(
                            **shared,  # type: ignore[arg-type]
                            metric=metric,
                            scope=scope,
                            value=float(value[k]),
                            low=float(low[k]),
                            high=float(high[k]),
                            delta=None if is_baseline else float(delta[k]),
                            delta_low=None if is_baseline else float(delta_low[k]),
                            delta_high=None if is_baseline else float(delta_high[k]),
                            p_mcnemar=test,
                            p_holm=None,
                            n=int(chosen.sum()),
                        )
                    )
                rows.append(_median_row(shared, scope, one.rankings[direction].rank[chosen]))
            tables.append(
                pd.DataFrame(
                    {
                        "condition": name,
                        "direction": direction,
                        "query": np.arange(len(cluster), dtype=np.int32),
                        "cluster": cluster.astype(np.int32),
                        "rank": one.rankings[direction].rank.astype(np.int32),
                        "cosine": one.rankings[direction].cosine.astype(np.float32),
                        "margin": one.rankings[direction].margin.astype(np.float32),
                        "eligible": eligible_query,
                        "affected": _query_mask(affected, owner, images, direction),
                    }
                )
            )
    corrected = holm([p for _, p in tests])
    for (place, _), p in zip(tests, corrected, strict=True):
        rows[place] = replace(rows[place], p_holm=p)
    return rows, pd.concat(tables, ignore_index=True)


def _median_row(shared: dict[str, object], scope: str, ranks: np.ndarray) -> Row:
    """The median rank; no interval, since the bootstrap here is of means."""
    return Row(
        **shared,  # type: ignore[arg-type]
        metric="median_rank",
        scope=scope,
        value=float(np.median(ranks)),
        low=None,
        high=None,
        delta=None,
        delta_low=None,
        delta_high=None,
        p_mcnemar=None,
        p_holm=None,
        n=len(ranks),
    )
