"""Retrieval: the conditions of a probe on every caption, exact ranks in both directions, and the rows made of them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import NamedTuple

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
    """One draw of a condition on every caption: what is kept of it, without its texts.

    Attributes:
        name: of the draw.
        condition: what it is a draw of.
        eligible: [M] what the transforms could do.
        cut: what the context cut.
        rankings, leaders, numbers: as `Session.retrieved` gives them.
    """

    name: str
    condition: Condition
    eligible: np.ndarray
    cut: Cut
    rankings: dict[str, Ranking]
    leaders: np.ndarray
    numbers: np.ndarray


class Cut(NamedTuple):
    """How many of so many texts are longer than the context, and the tokens that they lose."""

    longer: int
    tokens: int
    texts: int


def _measure(session: Session, condition: Condition, name: str, draw: int) -> Measured:
    texts, eligible = _texts(session, condition, draw)
    found = session.retrieved(texts)
    cut = _cut(found.lengths, session.encoder.context_length)
    return Measured(name, condition, eligible, cut, found.rankings, found.leaders, found.numbers)


def _texts(session: Session, condition: Condition, draw: int) -> tuple[list[TextKey], np.ndarray]:
    """A draw's text of each caption, and whether [M] the condition could be applied to it."""
    captions, sentences = session.captions(condition.captions)
    texts: list[TextKey] = []
    eligible = np.ones(len(captions), dtype=bool)
    for number, (caption, before) in enumerate(zip(captions, sentences, strict=True)):
        out = condition.apply(before, draw)
        eligible[number] = out is not None
        # With nothing to change the caption goes in as its authors wrote it, not re-joined.
        text = caption if out is None or out == before else " ".join(out)
        texts.append((text, condition.first_tokens, condition.token_padding))
    return texts, eligible


def _cut(lengths: np.ndarray, context: int) -> Cut:
    return Cut(int((lengths > context).sum()), int(np.maximum(lengths - context, 0).sum()), len(lengths))


def _query_mask(caption_mask: np.ndarray, owner: np.ndarray, images: int, direction: str) -> np.ndarray:
    """A mask over captions as one over queries: an image counts when all its captions do."""
    if direction == "t2i":
        return caption_mask
    out = np.ones(images, dtype=bool)
    np.logical_and.at(out, owner, caption_mask)
    return out


def retrieval(session: Session, probe: Probe) -> tuple[list[Row], list[pd.DataFrame]]:
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


def _rows_and_queries(session: Session, probe: Probe, measured: list[Measured]) -> tuple[list[Row], list[pd.DataFrame]]:
    queries = _tables(session, probe, measured)
    cuts: dict[str, list[Cut]] = {}
    for one in measured:
        cuts.setdefault(one.condition.name, []).append(one.cut)
    return rows_from_queries(
        probe, queries, {name: _means(draws) for name, draws in cuts.items()}, session.seed
    ), queries


def _tables(session: Session, probe: Probe, measured: list[Measured]) -> list[pd.DataFrame]:
    """The per-query table, one a direction and draw: what they have in common is held once."""
    owner, images = session.dataset.caption_image, len(session.dataset.image_names)
    baseline = next(m for m in measured if m.condition.name == probe.baseline)
    # Names repeat a million times: a number a row.
    names, ways = pd.Index([m.name for m in measured]), pd.Index(DIRECTIONS)
    tables: list[pd.DataFrame] = []
    for direction in DIRECTIONS:
        cluster = session.clusters(direction).astype(np.int32)
        query, nobody = np.arange(len(cluster), dtype=np.int32), np.full(len(cluster), -1, dtype=np.int32)
        way = repeated(ways, direction, query)
        for one in measured:
            columns = {
                "condition": repeated(names, one.name, query),
                "direction": way,
                "query": query,
                "cluster": cluster,
                **_ranked(one.rankings[direction]),
                "eligible": _query_mask(one.eligible, owner, images, direction),
                "affected": _query_mask(one.numbers != baseline.numbers, owner, images, direction),
                LEADER: one.leaders if direction == "t2i" else nobody,
            }
            tables.append(pd.DataFrame({name: columns[name] for name in (*QUERY_COLUMNS, LEADER)}, copy=False))
    return tables


def repeated(names: pd.Index, name: str, rows: np.ndarray) -> pd.Categorical:
    """One name for every row."""
    return pd.Categorical.from_codes(np.full(len(rows), names.get_loc(name), dtype=np.int16), names)


def _means(draws: list[Cut]) -> tuple[float, float]:
    """The share of texts that are longer than the context, and the mean number of tokens cut."""
    texts = sum(one.texts for one in draws)
    return sum(one.longer for one in draws) / texts, sum(one.tokens for one in draws) / texts


def query_table(ranking: Ranking, cluster: np.ndarray) -> pd.DataFrame:
    """What is kept of each query of one condition and direction."""
    query = np.arange(len(cluster), dtype=np.int32)
    return pd.DataFrame({"query": query, "cluster": cluster.astype(np.int32), **_ranked(ranking)}, copy=False)


def _ranked(ranking: Ranking) -> dict[str, np.ndarray]:
    whole = {name: getattr(ranking, name).astype(np.int32, copy=False) for name in ("better", "equal", "right")}
    return {**whole, "cosine": ranking.cosine, "margin": ranking.margin}
