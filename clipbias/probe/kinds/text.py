"""Position in a text encoder alone, no images (arXiv 2412.15241): what a text's embedding owes to its start.

The cosine of a caption with itself after foreign text is put in, or a sentence taken out, at the start, in the middle,
at the end; and the least-squares weights of its sentences' embeddings in its own.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from clipbias.errors import NotApplicable
from clipbias.probe.measure import curve_means, mean_rows, no_queries, spread
from clipbias.probe.positions import SENTENCES
from clipbias.probe.session import Session, TextKey
from clipbias.probe.spec import Probe
from clipbias.results.record import Row

FOREIGN = "The committee will publish its annual report on trade next week."
LEAST = 3
"""Sentences that a caption needs to have a start, a middle and an end."""


def changed_texts(sentences: tuple[str, ...], foreign: str) -> list[str]:
    """The caption with ``foreign`` at the start, in the middle, at the end; then without its first, middle, last."""
    count = len(sentences)
    put = [(*sentences[:k], foreign, *sentences[k:]) for k in (0, count // 2, count)]
    left = [sentences[:k] + sentences[k + 1 :] for k in (0, count // 2, count - 1)]
    return [" ".join(text) for text in (*put, *left)]


def text(session: Session, probe: Probe) -> tuple[list[Row], pd.DataFrame]:
    """Rows, on ``settings.captions`` captions spread over the data that have three sentences.

    Conditions ``inserted`` and ``removed``: ``self_cosine_start``, ``_middle``, ``_end``. Condition ``regression``:
    ``sentence_weight`` by place and ``sentence_r2``, the share of the embedding's length that sentences explain.

    Raises:
        NotApplicable: no caption has three sentences.
    """
    known = probe.settings_like(captions=1000, text=FOREIGN)
    fit = np.array([i for i, sentences in enumerate(session.sentences) if len(sentences) >= LEAST])
    if not len(fit):
        raise NotApplicable(f"{session.dataset.name}: no caption has {LEAST} sentences")
    chosen = fit[spread(len(fit), known["captions"])]
    keys: list[TextKey] = []
    starts = []
    for i in chosen:
        sentences = session.sentences[i]
        starts.append(len(keys))
        texts = [" ".join(sentences), *changed_texts(sentences, known["text"]), *sentences[:SENTENCES]]
        keys += [(one, None, 0) for one in texts]
    features, row, _ = session.texts(keys)
    cosines = np.empty((len(chosen), 6))
    weights = np.full((len(chosen), SENTENCES), np.nan)
    explained = np.empty((len(chosen), 1))
    for number, (i, start) in enumerate(zip(chosen, starts, strict=True)):
        count = min(len(session.sentences[i]), SENTENCES)
        mine = features[row[start : start + 7 + count]].double().numpy()
        cosines[number] = mine[1:7] @ mine[0]
        found = np.linalg.lstsq(mine[7:].T, mine[0], rcond=None)[0]
        weights[number, :count] = found
        explained[number] = 1 - ((mine[0] - found @ mine[7:]) ** 2).sum()
    cluster = session.dataset.caption_image[chosen]
    names = [f"self_cosine_{where}" for where in ("start", "middle", "end")]
    rows: list[Row] = []
    for order, (condition, part) in enumerate((("inserted", cosines[:, :3]), ("removed", cosines[:, 3:]))):
        rows += mean_rows(
            cluster, part, probe=probe.name, condition=condition, order=order, metrics=names, xs=[None] * 3
        )
    rows += curve_means(cluster, weights, probe.name, "sentence_weight", 2, "regression")
    rows += mean_rows(
        cluster, explained, probe=probe.name, condition="regression", order=2, metrics=["sentence_r2"], xs=[None]
    )
    return rows, no_queries()
