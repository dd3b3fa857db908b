"""Attention by position: where the token that becomes the feature looks.

From the query that the tower pools (EOT in CLIP-style models, the last position in SigLIP) the weight on every
position, in every layer and head (see `clipbias.models.tower`). What stands before the text (SOT, which soaks up
attention) and the end token are kept apart: "text" is what lies between, its weights renormalised to sum to one.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from clipbias.probe.measure import curve_means, mean_rows, no_queries, sentence_rows, token_shares
from clipbias.probe.positions import curves, sentence_of_tokens, shares
from clipbias.probe.session import Session
from clipbias.probe.spec import Probe
from clipbias.results.record import Row

_BATCH = 32


def _summary(weights: np.ndarray, sentence: np.ndarray) -> list[float]:
    """Numbers of one caption's text weights [L], which sum to one."""
    length = len(weights)
    positive = weights[weights > 0]
    place = np.arange(length)
    slope = float(np.polyfit(place, np.log(np.maximum(weights, 1e-12)), 1)[0]) if length > 1 else float("nan")
    return [
        float(weights[sentence == 0].sum()),
        float((sentence == 0).mean()),
        float(np.exp(-(positive * np.log(positive)).sum())),
        length,
        float(weights[:20].sum()),
        slope,
        float(weights[sentence == 0].sum() / (sentence == 0).mean()),
    ]


SUMMARY = (
    "first_sentence_attention",
    "first_sentence_tokens",
    "effective_positions",
    "text_tokens",
    "first_20_attention",
    "log_slope",
    "first_sentence_concentration",
)


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
    tower = session.encoder.text_tower()
    tokens = tower.tokens
    limit = min(probe.settings_like(captions=1000)["captions"], len(dataset.captions))
    chosen = np.linspace(0, len(dataset.captions) - 1, limit).astype(int)
    summaries: list[np.ndarray] = []
    texts_weights: list[np.ndarray] = []
    layers_weights: list[np.ndarray] = []
    texts_rollout: list[np.ndarray] = []
    owners: list[np.ndarray] = []
    heads_first: list[np.ndarray] = []
    ends: list[np.ndarray] = []
    for start in range(0, limit, _BATCH):
        rows = chosen[start : start + _BATCH]
        texts = [" ".join(session.sentences[i]) for i in rows]
        found = tower.attention(tokens(texts))
        weights, rolled = found.weights.double().cpu().numpy(), found.rollout.double().cpu().numpy()
        for place, row in enumerate(rows):
            sentence = sentence_of_tokens(tokens, session.sentences[row])
            layers = weights[place].mean(axis=1)  # [layers, L]
            layers = np.vstack([layers, layers.mean(axis=0)])
            first, last = tokens.text_start, tokens.text_start + len(sentence)
            ends.append(np.stack([layers[:, :first].sum(1), layers[:, last : last + 1].sum(1)], axis=1))
            text = layers[:, first:last] / layers[:, first:last].sum(axis=1, keepdims=True)
            summaries.append(np.array([_summary(line, sentence) for line in text]))
            head = weights[place][:, :, first:last]
            heads_first.append(head[:, :, sentence == 0].sum(-1) / head.sum(-1))
            texts_weights.append(text[-1])
            layers_weights.append(text[:-1])
            texts_rollout.append(shares(rolled[place, first:last]))
            owners.append(sentence)
        session.progress(probe.name, min(start + _BATCH, limit), limit)
    cluster = dataset.caption_image[chosen]
    values = np.concatenate([np.stack(ends), np.stack(summaries)], axis=2)  # [N, layers + 1, 9]
    names = ["sot_attention", "eot_attention", *SUMMARY]
    layers_count = values.shape[1] - 1
    rows_out: list[Row] = []
    for layer in range(layers_count + 1):
        condition = "all" if layer == layers_count else f"layer-{layer + 1}"
        x = None if layer == layers_count else float(layer + 1)
        rows_out += mean_rows(
            cluster,
            values[:, layer],
            probe=probe.name,
            condition=condition,
            order=layer,
            metrics=names,
            xs=[x] * len(names),
        )
    order = layers_count + 1
    by_head = np.stack(heads_first)
    for layer in range(by_head.shape[1]):
        for head in range(by_head.shape[2]):
            rows_out += mean_rows(
                cluster, by_head[:, layer, head, None], probe=probe.name,
                condition=f"layer-{layer + 1}-head-{head + 1}",
                order=order, metrics=["first_sentence_attention"], xs=[float(head + 1)],
            )  # fmt: skip
            order += 1
    first_rolled = np.array([[w[o == 0].sum()] for w, o in zip(texts_rollout, owners, strict=True)])
    rows_out += mean_rows(
        cluster, first_rolled, probe=probe.name, condition="all", order=layers_count,
        metrics=["first_sentence_rollout"], xs=[None],
    )  # fmt: skip
    for name, weights_of in (("attention", texts_weights), ("rollout", texts_rollout)):
        for place_kind, curve in curves(weights_of, tokens.room).items():
            rows_out += curve_means(cluster, curve, probe.name, f"{name}_by_{place_kind}", layers_count)
        rows_out += sentence_rows(cluster, weights_of, owners, probe.name, name, layers_count)
    rows_out += sentence_rows(cluster, token_shares(owners), owners, probe.name, "tokens", layers_count)
    for layer in range(layers_count):
        tenths = curves([w[layer] for w in layers_weights], tokens.room)["tenth"]
        rows_out += curve_means(cluster, tenths, probe.name, "attention_by_tenth", layer, f"layer-{layer + 1}")
    return rows_out, no_queries()
