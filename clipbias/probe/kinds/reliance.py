"""Reliance freed of information: what a model loses without the first sentence, beyond what that sentence tells.

A reader without order loses what the sentence tells and nothing for its place. On scenes it is the oracle, which knows
every fact that sentences state and shares its guess among the scenes that fit; on any data it is the late fusion of
the same model: the mean of the similarities of a caption's sentences, each encoded alone. Text-to-image, R@1.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from clipbias.data.scenes import scenes_of, world_of
from clipbias.errors import NotApplicable
from clipbias.probe.measure import mean_rows, no_queries
from clipbias.probe.session import Session, TextKey
from clipbias.probe.spec import Probe
from clipbias.results.record import Row
from clipbias.stats.intervals import METHODS, difference
from clipbias.stats.ties import credit


def fused_credits(session: Session, without_first: bool) -> np.ndarray:
    """Credit [M] for the first rank of each caption's image by the mean similarity of its sentences."""
    told = [s[1:] if without_first and len(s) > 1 else s for s in session.sentences]
    keys: list[TextKey] = [(sentence, None, 0) for sentences in told for sentence in sentences]
    images = session.images()
    features, row, _ = session.texts(keys)
    owner = np.repeat(np.arange(len(told)), [len(s) for s in told])
    # The mean of similarities is the similarity with the mean; its length is the same for all images.
    fused = torch.zeros(len(told), features.shape[1]).index_add_(0, torch.from_numpy(owner), features[row])
    fused = torch.nn.functional.normalize(fused, dim=-1)
    ranking = session.ranked(fused, images)["t2i"]
    return credit(*ranking.counts, 1)


def oracle_credits(session: Session, without_first: bool) -> np.ndarray:
    """Credit [M] of who knows the facts that each caption of scenes states: one over the scenes that fit them."""
    dataset = session.dataset
    world = world_of(dataset)
    assert world is not None
    scenes = scenes_of(dataset, world)
    facts = [scene.facts() for scene in scenes]
    told = [world.long_caption(scene)[1 if without_first else 0 :] for scene in scenes]
    stated = [tuple(sorted({f for s in sentences for f in s.facts})) for sentences in told]
    fitting: dict[tuple[str, ...], Counter[tuple[str | None, ...]]] = {}
    for names in set(stated):
        fitting[names] = Counter(tuple(known.get(name) for name in names) for known in facts)
    found = [
        1 / fitting[names][tuple(known.get(name) for name in names)] for names, known in zip(stated, facts, strict=True)
    ]
    return np.array(found)[dataset.caption_image]


def _model_credits(session: Session, without_first: bool) -> np.ndarray:
    keys: list[TextKey] = [
        (" ".join(s[1:]) if without_first and len(s) > 1 else caption, None, 0)
        for caption, s in zip(session.dataset.captions, session.sentences, strict=True)
    ]
    return credit(*session.rankings(keys)["t2i"].counts, 1)


def reliance(session: Session, probe: Probe) -> tuple[list[Row], pd.DataFrame]:
    """Rows, a condition a reader (``model``, ``late-fusion``, ``oracle``): ``full_recall@1`` with the first
    sentence and ``loss``, what its removal costs; for the readers ``excess_loss``, the model's loss minus
    theirs, paired.

    Raises:
        NotApplicable: no caption has two sentences.
    """
    chosen = np.array([len(s) > 1 for s in session.sentences])
    if not chosen.any():
        raise NotApplicable(f"{session.dataset.name}: no caption has two sentences")
    readers = {"model": _model_credits, "late-fusion": fused_credits}
    if world_of(session.dataset):
        readers["oracle"] = oracle_credits
    cluster = session.dataset.caption_image[chosen]
    rows: list[Row] = []
    losses: dict[str, np.ndarray] = {}
    for order, (name, read) in enumerate(readers.items()):
        full, without = (read(session, gone)[chosen] for gone in (False, True))
        losses[name] = full - without
        (row,) = mean_rows(
            cluster, full[:, None], probe=probe.name, condition=name, order=order, metrics=["full_recall@1"],
            xs=[None], credits=True,
        )  # fmt: skip
        rows += [row, _difference(row, "loss", losses[name], cluster, 1.0)]
        if name != "model":
            rows.append(_difference(row, "excess_loss", losses["model"] - losses[name], cluster, 2.0))
        session.progress(probe.name, order + 1, len(readers))
    return rows, no_queries()


def _difference(like: Row, metric: str, values: np.ndarray, cluster: np.ndarray, bound: float) -> Row:
    """A row of a mean of paired differences."""
    found = difference(values, cluster, bound)
    return replace(
        like, metric=metric, value=found.value, low=found.low, high=found.high, method=METHODS["difference"], ties=0
    )
