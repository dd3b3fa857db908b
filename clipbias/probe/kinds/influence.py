"""What each token does to the similarity with the caption's own image: two measures that do not rest on attention.

- leave-one-token-out: the cosine of the whole caption minus that of the caption without the token;
- gradient x input: the gradient of the cosine at the token's embedding, times that embedding.

A token may raise the similarity or lower it; by position the shares of absolute influence are reported.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from clipbias.errors import NotApplicable
from clipbias.models.tower import TextTower
from clipbias.probe.measure import curve_means, mean_rows, sentence_rows, spread, token_shares
from clipbias.probe.positions import curves, sentence_of_tokens, shares
from clipbias.probe.session import Session
from clipbias.probe.spec import Probe
from clipbias.results.record import LEADER, LEFT_OUT, Row

log = logging.getLogger(__name__)
_SHOWN = 12
"""Captions whose tokens are kept one by one, for a reader to look at."""


def leave_one_out(tower: TextTower, tokens: Sequence[int], image: Tensor) -> np.ndarray:
    """The cosine with ``image`` [D] minus that without token i, for each text token [L].

    Args:
        tower: the model's.
        tokens: the text's token ids, without special tokens; at most what the context holds.
        image: an L2-normalised image feature.
    """
    return _influence(left_out(tower, tokens), image)


def left_out(tower: TextTower, tokens: Sequence[int]) -> Tensor:
    """Features [L + 1, D] of a text of L tokens, and of it without each of them."""
    tokens = list(tokens)
    without = [tokens[:i] + tokens[i + 1 :] for i in range(len(tokens))]
    return tower.features(tower.tokens.pack([tokens, *without]))


def _influence(features: Tensor, image: Tensor) -> np.ndarray:
    cosines = (features.double() @ image.double()).cpu().numpy()
    return cosines[0] - cosines[1:]


def left_out_queries(features: Tensor, images: Tensor, query: int, own: int, spans: np.ndarray) -> pd.DataFrame:
    """The per-query lines of one caption: whole, and without each token, named by number and characters.

    They are no sample of anything and no row is made of them: none is eligible.

    Args:
        features: as `left_out` gives them.
        images: [N, D] L2-normalised features.
        query, own: numbers of the caption and of its image.
        spans: [L, 2] start and end of each token in the caption.
    """
    cosines = features.float() @ images.T
    mine = cosines[:, own].clone()
    cosines[:, own] = -torch.inf
    best, first = cosines.max(dim=1)
    better = (cosines > mine[:, None]).sum(dim=1)
    names = ["whole", *(LEFT_OUT.format(n, begin, end) for n, (begin, end) in enumerate(spans.tolist(), 1))]
    return pd.DataFrame({
        "condition": names, "direction": "t2i", "query": query, "cluster": own, "better": better.numpy(),
        "equal": (cosines == mine[:, None]).sum(dim=1).numpy(), "right": 1, "cosine": mine.numpy(),
        "margin": (mine - best).clamp(max=2.0).numpy(), "eligible": False, "affected": np.arange(len(names)) > 0,
        LEADER: torch.where(better > 0, first, -1).numpy(),
    })  # fmt: skip


def _gradients(tower: TextTower, tokens: Sequence[int], image: Tensor) -> np.ndarray:
    """Gradient x input of each text token [L]."""
    gradient = tower.gradients(tower.tokens.pack([tokens]), image[None])[0]
    start = tower.tokens.text_start
    return gradient[start : start + len(tokens)].double().cpu().numpy()


def influence(session: Session, probe: Probe) -> tuple[list[Row], pd.DataFrame]:
    """Rows of the influence probe, for each measure (``influence``: leave-one-token-out; ``gradient``).

    Condition ``all``: ``first_sentence_<measure>``, the share of absolute influence on the first sentence;
    ``<measure>_by_token``, ``_by_tenth``, ``_by_sentence``; and ``first_sentence_tokens`` to compare with.

    A tower that does not show its gradients is measured by the first alone. Some captions' lines of the per-query
    table, one a token (`left_out_queries`), are there to be looked at.

    Raises:
        NotApplicable: nothing is known of the model's text tower.
    """
    dataset = session.dataset
    tower = session.encoder.text_tower()
    chosen = spread(len(dataset.captions), probe.settings_like(captions=100)["captions"])
    images = session.images()
    found: dict[str, list[np.ndarray]] = {"influence": [], "gradient": []}
    owners: list[np.ndarray] = []
    tables: list[pd.DataFrame] = []
    shown = set(spread(len(chosen), _SHOWN))
    for number, row in enumerate(chosen, 1):
        sentences = session.sentences[row]
        owner = sentence_of_tokens(tower.tokens, sentences)
        tokens = tower.tokens.ids([" ".join(sentences)])[0][: len(owner)]
        image = images[dataset.caption_image[row]]
        owners.append(owner)
        features = left_out(tower, tokens)
        found["influence"].append(shares(_influence(features, image)))
        if number - 1 in shown:
            (spans,) = tower.tokens.spans([" ".join(sentences)])
            own = int(dataset.caption_image[row])
            tables.append(left_out_queries(features, images, int(row), own, spans[: len(tokens)]))
        if "gradient" in found:
            try:
                gradient = _gradients(tower, tokens, image)
            except NotApplicable as error:
                log.warning("%s: left out: gradient x input (%s)", probe.name, error)
                del found["gradient"]
            else:
                found["gradient"].append(shares(gradient))
        session.progress(probe.name, number, len(chosen))
    cluster = dataset.caption_image[chosen]
    columns = {
        "first_sentence_tokens": [(owner == 0).mean() for owner in owners],
        **{
            f"first_sentence_{name}": [w[o == 0].sum() for w, o in zip(weights, owners, strict=True)]
            for name, weights in found.items()
        },
    }
    rows = mean_rows(
        cluster, np.column_stack(list(columns.values())), probe=probe.name, condition="all", order=0,
        metrics=list(columns), xs=[None] * len(columns),
    )  # fmt: skip
    for name, weights in found.items():
        for kind, curve in curves(weights, tower.tokens.room).items():
            rows += curve_means(cluster, curve, probe.name, f"{name}_by_{kind}", 0)
        rows += sentence_rows(cluster, weights, owners, probe.name, name, 0)
    rows += sentence_rows(cluster, token_shares(owners), owners, probe.name, "tokens", 0)
    return rows, pd.concat(tables, ignore_index=True)
