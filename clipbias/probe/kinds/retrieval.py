"""Retrieval: the conditions of a probe on every caption, exact ranks in both directions, and the rows made of them."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd

from clipbias.errors import NotApplicable
from clipbias.probe.rows import rows_from_queries
from clipbias.probe.session import Session, TextKey
from clipbias.probe.spec import Condition, Probe
from clipbias.probe.tables import Cut, Measured, query_tables
from clipbias.results.record import Row

log = logging.getLogger(__name__)


def _measure(session: Session, condition: Condition, name: str, draw: int) -> Measured:
    texts, eligible = _texts(session, condition, draw)
    told = session.placed(texts)
    del texts  # not held while they are ranked
    cut = _cut(told.lengths, session.encoder.context_length)
    return Measured(name, condition, eligible, cut, *session.retrieved(told), told.numbers)


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
    queries = query_tables(measured, probe.baseline, session.dataset.caption_image, len(session.dataset.image_names))
    cuts: dict[str, list[Cut]] = {}
    for one in measured:
        cuts.setdefault(one.condition.name, []).append(one.cut)
    cut = {name: _means(draws) for name, draws in cuts.items()}
    return rows_from_queries(probe, queries, cut, session.seed), queries


def _means(draws: list[Cut]) -> tuple[float, float]:
    """The share of texts that are longer than the context, and the mean number of tokens cut."""
    texts = sum(one.texts for one in draws)
    return sum(one.longer for one in draws) / texts, sum(one.tokens for one in draws) / texts
