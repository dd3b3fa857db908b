"""Retrieval: the conditions of a probe on every caption, exact ranks in both directions, and the rows made of them."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd

from clipbias.errors import NotApplicable
from clipbias.probe.counting import DIRECTIONS
from clipbias.probe.ranking import Ranking
from clipbias.probe.rows import rows_from_queries
from clipbias.probe.session import Session, TextKey
from clipbias.probe.spec import Condition, Probe
from clipbias.results.record import LEADER, QUERY_COLUMNS, Row

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measured:
    """One draw of a condition on every caption: texts, what the transforms could do, what was cut, ranks, leaders.

    ``name`` is that of the draw, ``condition`` what it is a draw of; ``leaders`` as `Session.retrieved` gives them.
    """

    name: str
    condition: Condition
    texts: list[TextKey]
    eligible: np.ndarray
    lengths: np.ndarray
    rankings: dict[str, Ranking]
    leaders: np.ndarray


def _measure(session: Session, condition: Condition, name: str, draw: int) -> Measured:
    captions, sentences = session.captions(condition.captions)
    changed = [condition.apply(s, draw) for s in sentences]
    # With nothing to change the caption goes in as its authors wrote it, not re-joined.
    texts = [
        (caption if out is None or out == before else " ".join(out), condition.first_tokens, condition.token_padding)
        for caption, before, out in zip(captions, sentences, changed, strict=True)
    ]
    rankings, leaders, lengths = session.retrieved(texts)
    return Measured(name, condition, texts, np.array([out is not None for out in changed]), lengths, rankings, leaders)


def _query_mask(caption_mask: np.ndarray, owner: np.ndarray, images: int, direction: str) -> np.ndarray:
    """A mask over captions as one over queries: an image counts when all its captions do."""
    if direction == "t2i":
        return caption_mask
    out = np.ones(images, dtype=bool)
    np.logical_and.at(out, owner, caption_mask)
    return out


def retrieval(session: Session, probe: Probe) -> tuple[list[Row], pd.DataFrame]:
    """Rows and per-query ranks of a probe that is a list of conditions on captions.

    Raises:
        NotApplicable: the model can answer nothing but the baseline, or not even that.
    """
    measured: list[Measured] = []
    left: dict[str, NotApplicable] = {}
    for number, condition in enumerate(probe.conditions):
        try:
            draws = probe.draws(condition)
            measured += [_measure(session, condition, name, draw) for draw, name in enumerate(draws)]
        except NotApplicable as error:
            # The baseline has to be there; without it there is nothing to compare with.
            if condition.name == probe.baseline:
                raise
            left[condition.name] = error
        session.progress(probe.name, number + 1, len(probe.conditions))
    if left:
        reason = next(iter(left.values()))
        if all(one.condition.name == probe.baseline for one in measured):
            raise reason
        log.warning("%s: left out %s: %s", probe.name, ", ".join(left), reason)
    return _rows_and_queries(session, probe, measured)


def _rows_and_queries(session: Session, probe: Probe, measured: list[Measured]) -> tuple[list[Row], pd.DataFrame]:
    owner, images = session.dataset.caption_image, len(session.dataset.image_names)
    context = session.encoder.context_length
    baseline = next(m for m in measured if m.condition.name == probe.baseline)
    # Names repeat a million times: a number a row.
    names, ways = pd.Index([m.name for m in measured]), pd.Index(DIRECTIONS)
    tables: list[pd.DataFrame] = []
    for direction in DIRECTIONS:
        for one in measured:
            affected = np.array([a != b for a, b in zip(one.texts, baseline.texts, strict=True)])
            table = query_table(one.rankings[direction], session.clusters(direction)).assign(
                condition=repeated(names, one.name, session.clusters(direction)),
                direction=repeated(ways, direction, session.clusters(direction)),
                eligible=_query_mask(one.eligible, owner, images, direction),
                affected=_query_mask(affected, owner, images, direction),
            )
            table[LEADER] = one.leaders if direction == "t2i" else np.int32(-1)
            tables.append(table[[*QUERY_COLUMNS, LEADER]])
    queries = pd.concat(tables, ignore_index=True)
    lengths: dict[str, list[np.ndarray]] = {}
    for one in measured:
        lengths.setdefault(one.condition.name, []).append(one.lengths)
    cut = {name: _cut(np.concatenate(draws), context) for name, draws in lengths.items()}
    return rows_from_queries(probe, queries, cut, session.seed), queries


def repeated(names: pd.Index, name: str, rows: np.ndarray) -> pd.Categorical:
    """One name for every row."""
    return pd.Categorical.from_codes(np.full(len(rows), names.get_loc(name), dtype=np.int16), names)


def _cut(lengths: np.ndarray, context: int) -> tuple[float, float]:
    """The share of texts that are longer than the context, and the mean number of tokens cut."""
    return float((lengths > context).mean()), float(np.maximum(lengths - context, 0).mean())


def query_table(ranking: Ranking, cluster: np.ndarray) -> pd.DataFrame:
    """What is kept of each query of one condition and direction."""
    whole = {name: getattr(ranking, name).astype(np.int32) for name in ("better", "equal", "right")}
    real = {name: getattr(ranking, name).astype(np.float32) for name in ("cosine", "margin")}
    query = np.arange(len(cluster), dtype=np.int32)
    return pd.DataFrame({"query": query, "cluster": cluster.astype(np.int32), **whole, **real})
