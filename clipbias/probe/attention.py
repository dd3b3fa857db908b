"""Attention by position: where the token that becomes the feature looks.

From the query that the tower pools (EOT in CLIP's family, the last position in SigLIP's) the weight on every
position, in every layer and head. Only that query's row of each attention matrix is made:
memory is O(layers x heads x length) a caption. SOT (which soaks up attention) and EOT itself are kept apart:
"text" is what lies between, and its weights are renormalised to sum to one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from clipbias.errors import UserError
from clipbias.models.encoder import ClipEncoder, Encoder
from clipbias.models.tokenizer import ClipTokens
from clipbias.models.towers import eot_positions
from clipbias.probe.measure import curve_means, mean_rows, no_queries
from clipbias.probe.positions import curves, sentence_of_tokens, shares
from clipbias.probe.runner import Session
from clipbias.probe.spec import Probe
from clipbias.probe.stats import ClusterBootstrap
from clipbias.results import Row

if TYPE_CHECKING:
    from open_clip.transformer import TextTransformer

_BATCH = 32


def _queries(tower: TextTransformer, ids: Tensor) -> Tensor:
    """The position [B] that the tower pools.

    Raises:
        UserError: a tower of another kind.
    """
    pool = getattr(tower, "pool_type", "")
    if pool in ("argmax", "eos"):
        return eot_positions(ids).to(ids.device)
    if pool == "last":
        return torch.full((len(ids),), ids.shape[1] - 1, device=ids.device)
    raise UserError(
        f"attention by position knows towers pooled at EOT or at the last position, not {pool or 'this one'}"
    )


def _layers(tower: TextTransformer, ids: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Each layer's queries and keys [B, L, H, D], in the order of the forward pass."""
    causal = getattr(tower, "attn_mask", None) is not None
    x = tower.token_embedding(ids) + tower.positional_embedding[: ids.shape[1]]
    for block in tower.transformer.resblocks:
        y = block.ln_1(x)
        heads = block.attn.num_heads
        q, k, v = (
            F.linear(y, block.attn.in_proj_weight, block.attn.in_proj_bias).unflatten(-1, (3, heads, -1)).unbind(2)
        )
        yield q, k
        mixed = F.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=causal
        )
        x = x + block.ls_1(block.attn.out_proj(mixed.transpose(1, 2).flatten(2)))
        x = x + block.ls_2(block.mlp(block.ln_2(x)))


@torch.inference_mode()
def pooled_attention(tower: TextTransformer, ids: Tensor) -> Tensor:
    """Weights [B, layers, H, L] of the pooled query on every position; each row sums to one.

    Args:
        tower: open_clip's ``TextTransformer``, causal and pooled at EOT, or non-causal and pooled at the last position.
        ids: token ids [B, L].

    Raises:
        UserError: a tower of another kind.
    """
    query = _queries(tower, ids)
    every = torch.arange(len(ids), device=ids.device)
    out = []
    for q, k in _layers(tower, ids):
        scores = torch.einsum("bhd,blhd->bhl", q[every, query], k) / q.shape[-1] ** 0.5
        if getattr(tower, "attn_mask", None) is not None:
            hidden = torch.arange(ids.shape[1], device=ids.device) > query[:, None]
            scores = scores.masked_fill(hidden[:, None], float("-inf"))
        out.append(scores.softmax(-1))
    return torch.stack(out, dim=1)


@torch.inference_mode()
def rollout(tower: TextTransformer, ids: Tensor) -> Tensor:
    """Attention rollout [B, L] from the pooled position; each row sums to one.

    Abnar and Zuidema 2020: the pooled position's row of the product of (A + I) / 2 over the layers, A a layer's
    attention averaged over heads. Taken from the last layer down, so that one layer's matrices are held at a time.
    Arguments and errors as `pooled_attention`.
    """
    row = F.one_hot(_queries(tower, ids), ids.shape[1]).float()
    hidden = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).triu(1)
    for q, k in reversed(list(_layers(tower, ids))):
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
        if getattr(tower, "attn_mask", None) is not None:
            scores = scores.masked_fill(hidden, float("-inf"))
        row = (torch.einsum("bq,bqk->bk", row, scores.softmax(-1).mean(1).float()) + row) / 2
    return row


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
        UserError: the model has no text tower of a known kind.
    """
    encoder, dataset = session.encoder, session.dataset
    tower, tokens = text_tower(encoder)
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
        ids = tokens(texts)
        end = eot_positions(ids)
        if tower.attn_mask is not None:
            ids = ids[:, : int(end.max()) + 1]
        ids = ids.to(encoder.device)
        weights = pooled_attention(tower, ids).double().cpu().numpy()
        rolled = rollout(tower, ids).double().cpu().numpy()
        for place, (row, last) in enumerate(zip(rows, end.tolist(), strict=True)):
            sentence = sentence_of_tokens(tokens, session.sentences[row])
            layers = weights[place].mean(axis=1)  # [layers, L]
            layers = np.vstack([layers, layers.mean(axis=0)])
            ends.append(np.stack([layers[:, 0], layers[:, last]], axis=1))
            text = layers[:, 1:last] / layers[:, 1:last].sum(axis=1, keepdims=True)
            summaries.append(np.array([_summary(line, sentence) for line in text]))
            head = weights[place][:, :, 1:last]
            heads_first.append(head[:, :, sentence == 0].sum(-1) / head.sum(-1))
            texts_weights.append(text[-1])
            layers_weights.append(text[:-1])
            texts_rollout.append(shares(rolled[place, 1:last]))
            owners.append(sentence)
        session.progress(probe.name, min(start + _BATCH, limit), limit)
    bootstrap = ClusterBootstrap(dataset.caption_image[chosen], session.seed)
    values = np.concatenate([np.stack(ends), np.stack(summaries)], axis=2)  # [N, layers + 1, 9]
    names = ["sot_attention", "eot_attention", *SUMMARY]
    layers_count = values.shape[1] - 1
    rows_out: list[Row] = []
    for layer in range(layers_count + 1):
        condition = "all" if layer == layers_count else f"layer-{layer + 1}"
        x = None if layer == layers_count else float(layer + 1)
        rows_out += mean_rows(
            bootstrap,
            values[:, layer],
            probe=probe.name,
            condition=condition,
            order=layer,
            metrics=names,
            xs=[x] * len(names),
        )
    order = layers_count + 1
    first = np.stack(heads_first)
    for layer in range(first.shape[1]):
        for head in range(first.shape[2]):
            rows_out += mean_rows(
                bootstrap, first[:, layer, head, None], probe=probe.name,
                condition=f"layer-{layer + 1}-head-{head + 1}",
                order=order, metrics=["first_sentence_attention"], xs=[float(head + 1)],
            )  # fmt: skip
            order += 1
    first_rolled = np.array([[w[o == 0].sum()] for w, o in zip(texts_rollout, owners, strict=True)])
    rows_out += mean_rows(
        bootstrap, first_rolled, probe=probe.name, condition="all", order=layers_count,
        metrics=["first_sentence_rollout"], xs=[None],
    )  # fmt: skip
    for name, weights_of in (("attention", texts_weights), ("rollout", texts_rollout)):
        for place_kind, curve in curves(weights_of, owners, tokens.context_length - 2).items():
            rows_out += curve_means(bootstrap, curve, probe.name, f"{name}_by_{place_kind}", layers_count)
    for layer in range(layers_count):
        tenths = curves([w[layer] for w in layers_weights], owners, tokens.context_length - 2)["tenth"]
        rows_out += curve_means(bootstrap, tenths, probe.name, "attention_by_tenth", layer, f"layer-{layer + 1}")
    return rows_out, no_queries()


def text_tower(encoder: Encoder) -> tuple[TextTransformer, ClipTokens]:
    """A model's text tower and tokenizer.

    Raises:
        UserError: they are not of the known kind.
    """
    if not (isinstance(encoder, ClipEncoder) and isinstance(encoder.tokens, ClipTokens)):
        raise UserError(f"{encoder.name}: measures by position need a text tower of open_clip with CLIP's tokenizer")
    return encoder.module.text, encoder.tokens
