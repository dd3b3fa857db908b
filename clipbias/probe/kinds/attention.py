"""Attention by position: where the token that becomes the feature looks.

From the query that the tower pools (EOT in CLIP-style models, the last position in SigLIP) the weight on every
position, in every layer and head (see `clipbias.models.tower`). What stands before the text (SOT, which soaks up
attention) and the end token are kept apart: "text" is what lies between, its weights renormalised to sum to one.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from clipbias.models.tower import TextTower
from clipbias.probe.attended import SUMMARY, Weights
from clipbias.probe.measure import curve_means, mean_rows, no_queries, sentence_rows, spread, token_shares
from clipbias.probe.positions import curves, sentence_of_tokens
from clipbias.probe.session import Session
from clipbias.probe.spec import Probe
from clipbias.results.record import Row

_BATCH = 32


def _measure(session: Session, tower: TextTower, probe: Probe, chosen: np.ndarray) -> Weights:
    tokens = tower.tokens
    out = Weights()
    for start in range(0, len(chosen), _BATCH):
        rows = chosen[start : start + _BATCH]
        found = tower.attention(tokens([" ".join(session.sentences[i]) for i in rows]))
        weights, rolled = found.weights.double().cpu().numpy(), found.rollout.double().cpu().numpy()
        for place, row in enumerate(rows):
            sentence = sentence_of_tokens(tokens, session.sentences[row])
            out.add(weights[place], rolled[place], sentence, tokens.text_start)
        session.progress(probe.name, min(start + _BATCH, len(chosen)), len(chosen))
    return out


def attention(session: Session, probe: Probe) -> tuple[list[Row], pd.DataFrame]:
    """Rows of the attention probe.

    Per layer (condition ``layer-1`` ...) and over all of them (``all``), heads averaged: SOT's and EOT's weight
    (``sot_attention``, ``eot_attention``), the `SUMMARY` numbers of the text's weights, and the weight by tenth of
    the caption (``attention_by_tenth``). Over all layers also by token and by sentence, the same curves of
    `rollout` as shares of the text, and ``first_sentence_rollout``. Per head of each layer:
    ``first_sentence_attention`` (condition ``layer-1-head-1`` ...).

    Raises:
        NotApplicable: the model's text tower does not show its attention.
    """
    dataset = session.dataset
    chosen = spread(len(dataset.captions), probe.settings_like(captions=1000)["captions"])
    tower = session.encoder.text_tower()
    found = _measure(session, tower, probe, chosen)
    cluster = dataset.caption_image[chosen]
    rows = _layer_rows(found, cluster, probe.name)
    layers = len(found.layers[0])
    rows += _head_rows(found, cluster, probe.name, layers + 1)
    first = np.array([[w[o == 0].sum()] for w, o in zip(found.rollout, found.owners, strict=True)])
    rows += mean_rows(
        cluster, first, probe=probe.name, condition="all", order=layers, metrics=["first_sentence_rollout"], xs=[None]
    )
    return rows + _curve_rows(found, cluster, probe.name, layers, tower.tokens.room), no_queries()


def _layer_rows(found: Weights, cluster: np.ndarray, probe: str) -> list[Row]:
    """SOT, EOT and `SUMMARY` of each layer, then of all of them."""
    values = np.concatenate([np.stack(found.ends), np.stack(found.summaries)], axis=2)  # [N, layers + 1, 9]
    names = ["sot_attention", "eot_attention", *SUMMARY]
    layers = values.shape[1] - 1
    rows: list[Row] = []
    for layer in range(layers + 1):
        rows += mean_rows(
            cluster,
            values[:, layer],
            probe=probe,
            condition="all" if layer == layers else f"layer-{layer + 1}",
            order=layer,
            metrics=names,
            xs=[None if layer == layers else float(layer + 1)] * len(names),
        )
    return rows


def _head_rows(found: Weights, cluster: np.ndarray, probe: str, order: int) -> list[Row]:
    """The first sentence's share in each head of each layer; ``order`` is that of the first."""
    by_head = np.stack(found.heads)  # [N, layers, heads]
    rows: list[Row] = []
    for layer in range(by_head.shape[1]):
        for head in range(by_head.shape[2]):
            rows += mean_rows(
                cluster,
                by_head[:, layer, head, None],
                probe=probe,
                condition=f"layer-{layer + 1}-head-{head + 1}",
                order=order + layer * by_head.shape[2] + head,
                metrics=["first_sentence_attention"],
                xs=[float(head + 1)],
            )
    return rows


def _curve_rows(found: Weights, cluster: np.ndarray, probe: str, layers: int, room: int) -> list[Row]:
    """Attention and rollout by tenth, token and sentence over all layers; attention by tenth in each."""
    rows: list[Row] = []
    for name, weights in (("attention", found.texts), ("rollout", found.rollout)):
        for place, curve in curves(weights, room).items():
            rows += curve_means(cluster, curve, probe, f"{name}_by_{place}", layers)
        rows += sentence_rows(cluster, weights, found.owners, probe, name, layers)
    rows += sentence_rows(cluster, token_shares(found.owners), found.owners, probe, "tokens", layers)
    for layer in range(layers):
        tenths = curves([w[layer] for w in found.layers], room)["tenth"]
        rows += curve_means(cluster, tenths, probe, "attention_by_tenth", layer, f"layer-{layer + 1}")
    return rows
