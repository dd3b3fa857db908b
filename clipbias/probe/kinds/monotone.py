"""HiMo@K (HiMo-CLIP, arXiv 2511.06653): does the similarity with the image rise as a caption grows?

K growing prefixes of a caption, the last one whole. K = 2, 3: the share of captions whose cosine rises strictly at
every step. K > 3: Pearson's correlation of the step 1..K with the cosine, averaged over captions; 0 where all are
equal, as in the authors' code.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from clipbias.errors import NotApplicable
from clipbias.probe.measure import mean_rows, no_queries
from clipbias.probe.session import Session
from clipbias.probe.spec import Probe
from clipbias.results.record import Row

STRICT = 3
"""Up to this many steps a strict rise is asked for; beyond, a correlation."""


def prefix_lengths(sentences: int, steps: int) -> list[int]:
    """How many of ``sentences`` the 1st .. last of ``steps`` prefixes have: as even as can be, all different."""
    return [-(-step * sentences // steps) for step in range(1, steps + 1)]


def himo(cosines: np.ndarray) -> float:
    """HiMo@K of one caption's cosines [K], shortest prefix first."""
    if len(cosines) <= STRICT:
        return float((np.diff(cosines) > 0).all())
    spread = cosines - cosines.mean()
    steps = np.arange(len(cosines)) - (len(cosines) - 1) / 2
    size = np.sqrt((spread**2).sum() * (steps**2).sum())
    return float((spread @ steps) / size) if size > 0 else 0.0


def monotone(session: Session, probe: Probe) -> tuple[list[Row], pd.DataFrame]:
    """Rows: ``himo@K`` for the K of ``settings.steps`` on captions of at least K sentences, and ``himo@all``, the
    correlation over every prefix of captions of more than three sentences.

    Raises:
        NotApplicable: no caption has enough sentences.
    """
    steps = sorted(set(probe.settings_like(steps=[2, 3])["steps"]) - {0, 1})
    dataset, sentences = session.dataset, session.sentences
    values = np.full((len(sentences), len(steps) + 1), np.nan)
    images = session.images()
    least = np.array([*steps, STRICT + 1])
    asked = np.array([len(caption) for caption in sentences])[:, None] >= least
    if not asked.any():
        raise NotApplicable(f"{dataset.name}: no caption has two sentences")
    rows_of = np.flatnonzero(asked.any(axis=1)).tolist()
    prefixes = [(i, k) for i in rows_of for k in range(1, len(sentences[i]) + 1)]
    keys = [
        (" ".join(sentences[i][:k]) if k < len(sentences[i]) else dataset.captions[i], None, 0) for i, k in prefixes
    ]
    features, row, _ = session.texts(keys)
    owner = dataset.caption_image[[i for i, _ in prefixes]]
    cosines = np.array([float(features[r] @ images[o]) for r, o in zip(row, owner, strict=True)])
    start = dict(zip(rows_of, np.cumsum([0, *(len(sentences[i]) for i in rows_of[:-1])]).tolist(), strict=True))
    for i in rows_of:
        mine = cosines[start[i] : start[i] + len(sentences[i])]
        for column, k in enumerate(steps):
            if asked[i, column]:
                values[i, column] = himo(mine[np.array(prefix_lengths(len(mine), k)) - 1])
        if asked[i, -1]:
            values[i, -1] = himo(mine)
    out: list[Row] = []
    for column, name in enumerate([*(str(k) for k in steps), "all"]):
        out += mean_rows(
            dataset.caption_image, values[:, [column]], probe=probe.name, condition="prefixes", order=0,
            metrics=[f"himo@{name}"], xs=[None], credits=name != "all" and int(name) <= STRICT,
        )  # fmt: skip
    return out, no_queries()
