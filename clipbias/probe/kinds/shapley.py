"""Shapley shares: what each sentence of a caption brings to finding its image, over all orders of adding sentences.

The value of a subset of sentences, joined in the caption's order, is the credit for the first rank of that text among
all images; of no sentence, chance. Shares sum to the whole caption's value minus chance: the caption's gain.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from clipbias.probe.measure import curve_means, mean_rows, no_queries, spread
from clipbias.probe.positions import SENTENCES
from clipbias.probe.session import Session
from clipbias.probe.spec import Probe
from clipbias.results.record import Row
from clipbias.stats.shapley import Subset, subsets_needed
from clipbias.stats.shapley import shapley as shares_of
from clipbias.stats.ties import credit


def shapley(session: Session, probe: Probe) -> tuple[list[Row], pd.DataFrame]:
    """Rows, on ``settings.captions`` captions spread over the data: ``shapley_by_sentence`` (x: place; a caption's
    shares sum to its gain), ``caption_gain``, ``shapley_first``, and ``shapley_error``, the mean standard error of a
    share where orders were sampled (more than six sentences, ``settings.orders`` of them).
    """
    known = probe.settings_like(captions=100, orders=16)
    dataset = session.dataset
    chosen = spread(len(dataset.captions), known["captions"])
    images = session.images()
    curve = np.full((len(chosen), SENTENCES), np.nan)
    single = np.full((len(chosen), 3), np.nan)  # gain, first share, error
    for number, caption in enumerate(chosen):
        sentences = session.sentences[caption]
        subsets, orders = subsets_needed(len(sentences), known["orders"], session.seed + int(caption))
        told = [s for s in subsets if s]
        keys = [(" ".join(sentences[k] for k in s), None, 0) for s in told]
        features, row, _ = session.texts(keys)
        cosines = features[row] @ images.T
        own = cosines[:, int(dataset.caption_image[caption])][:, None]
        better = (cosines > own).sum(dim=1).numpy()
        equal = (cosines == own).sum(dim=1).numpy() - 1
        found = credit(better, equal, np.ones_like(better), 1)
        value: dict[Subset, float] = {(): 1 / len(images), **dict(zip(told, found.tolist(), strict=True))}
        shares, error = shares_of(len(sentences), orders, value.__getitem__)
        count = min(len(shares), SENTENCES)
        curve[number, :count] = shares[:count]
        single[number] = shares.sum(), shares[0], error.mean() if orders else np.nan
        session.progress(probe.name, number + 1, len(chosen))
    cluster = dataset.caption_image[chosen]
    rows = mean_rows(
        cluster, single, probe=probe.name, condition="all", order=0,
        metrics=["caption_gain", "shapley_first", "shapley_error"], xs=[None] * 3,
    )  # fmt: skip
    return rows + curve_means(cluster, curve, probe.name, "shapley_by_sentence", 0), no_queries()
