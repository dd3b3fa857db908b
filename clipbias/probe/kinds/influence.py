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
from torch import Tensor

from clipbias.errors import NotApplicable
from clipbias.models.tower import TextTower
from clipbias.probe.measure import curve_means, mean_rows, no_queries, sentence_rows, token_shares
from clipbias.probe.positions import curves, sentence_of_tokens, shares
from clipbias.probe.session import Session
from clipbias.probe.spec import Probe
from clipbias.results.record import Row

log = logging.getLogger(__name__)


def leave_one_out(tower: TextTower, tokens: Sequence[int], image: Tensor) -> np.ndarray:
    """The cosine with ``image`` [D] minus that without token i, for each text token [L].

    Args:
        tower: the model's.
        tokens: the text's token ids, without special tokens; at most what the context holds.
        image: an L2-normalised image feature.
    """
    tokens = list(tokens)
    without = [tokens[:i] + tokens[i + 1 :] for i in range(len(tokens))]
    features = tower.features(tower.tokens.pack([tokens, *without]))
    cosines = (features.double() @ image.double()).cpu().numpy()
    return cosines[0] - cosines[1:]


def _gradients(tower: TextTower, tokens: Sequence[int], image: Tensor) -> np.ndarray:
    """Gradient x input of each text token [L]."""
    gradient = tower.gradients(tower.tokens.pack([tokens]), image[None])[0]
    start = tower.tokens.text_start
    return gradient[start : start + len(tokens)].double().cpu().numpy()


def influence(session: Session, probe: Probe) -> tuple[list[Row], pd.DataFrame]:
    """Rows of the influence probe, for each measure (``influence``: leave-one-token-out; ``gradient``).

    Condition ``all``: ``first_sentence_<measure>``, the share of absolute influence on the first sentence;
    ``<measure>_by_token``, ``_by_tenth``, ``_by_sentence``; and ``first_sentence_tokens`` to compare with.

    A tower that does not show its gradients is measured by the first alone.

    Raises:
        NotApplicable: nothing is known of the model's text tower.
    """
    dataset = session.dataset
    tower = session.encoder.text_tower()
    limit = min(probe.settings_like(captions=100)["captions"], len(dataset.captions))
    chosen = np.linspace(0, len(dataset.captions) - 1, limit).astype(int)
    images = session.images()
    found: dict[str, list[np.ndarray]] = {"influence": [], "gradient": []}
    owners = []
    for number, row in enumerate(chosen, 1):
        sentences = session.sentences[row]
        owner = sentence_of_tokens(tower.tokens, sentences)
        tokens = tower.tokens.ids([" ".join(sentences)])[0][: len(owner)]
        image = images[dataset.caption_image[row]]
        owners.append(owner)
        found["influence"].append(shares(leave_one_out(tower, tokens, image)))
        if "gradient" in found:
            try:
                gradient = _gradients(tower, tokens, image)
            except NotApplicable as error:
                log.warning("%s: left out: gradient x input (%s)", probe.name, error)
                del found["gradient"]
            else:
                found["gradient"].append(shares(gradient))
        session.progress(probe.name, number, limit)
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
    return rows, no_queries()
