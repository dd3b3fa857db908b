"""What each token does to the similarity with the caption's own image: two measures that do not rest on attention.

- leave-one-token-out: the cosine of the whole caption minus that of the caption without the token;
- gradient x input: the gradient of the cosine at the token's embedding, times that embedding.

A token may raise the similarity or lower it; by position the shares of absolute influence are reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipbias.models.encoder import ClipEncoder
from clipbias.models.tokenizer import clip_token_lists, pack_ids
from clipbias.probe.attention import text_tower
from clipbias.probe.measure import curve_means, mean_rows, no_queries
from clipbias.probe.positions import curves, sentence_of_tokens, shares
from clipbias.probe.runner import Session
from clipbias.probe.spec import Probe
from clipbias.probe.stats import ClusterBootstrap
from clipbias.results import Row

if TYPE_CHECKING:
    from open_clip.transformer import TextTransformer


def leave_one_out(encoder: ClipEncoder, tokens: Sequence[int], image: Tensor) -> np.ndarray:
    """The cosine with ``image`` [D] minus that without token i, for each text token [L].

    Args:
        encoder: the model.
        tokens: the text's token ids, without SOT and EOT; at most what the context holds.
        image: an L2-normalised image feature.
    """
    tokens = list(tokens)
    without = [tokens[:i] + tokens[i + 1 :] for i in range(len(tokens))]
    features = encoder.encode_token_ids(pack_ids([tokens, *without], encoder.context_length, 0))
    cosines = (features.double() @ image.double()).cpu().numpy()
    return cosines[0] - cosines[1:]


def gradient_times_input(tower: TextTransformer, ids: Tensor, image: Tensor) -> Tensor:
    """Gradient of the cosine at each token's embedding, times the embedding, summed over it: [B, L].

    Args:
        tower: a text tower with a ``token_embedding``.
        ids: token ids [B, L].
        image: L2-normalised image features [B, D].
    """
    kept: list[Tensor] = []

    def catch(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_())
        return kept[0]

    handle = tower.token_embedding.register_forward_hook(catch)
    try:
        with torch.enable_grad():
            cosines = (F.normalize(tower(ids).float(), dim=-1) * image).sum(-1)
            (gradient,) = torch.autograd.grad(cosines.sum(), kept[0])
    finally:
        handle.remove()
    return (gradient * kept[0]).sum(-1).detach()


def influence(session: Session, probe: Probe) -> tuple[list[Row], pd.DataFrame]:
    """Rows of the influence probe, for each measure (``influence``: leave-one-token-out; ``gradient``).

    Condition ``all``: ``first_sentence_<measure>``, the share of absolute influence on the first sentence;
    ``<measure>_by_token``, ``_by_tenth``, ``_by_sentence``; and ``first_sentence_tokens`` to compare with.

    Raises:
        UserError: the model has no text tower of a known kind.
    """
    encoder, dataset = session.encoder, session.dataset
    tower, tokenizer = text_tower(encoder)
    assert isinstance(encoder, ClipEncoder)  # text_tower refuses others
    limit = min(probe.settings_like(captions=100)["captions"], len(dataset.captions))
    chosen = np.linspace(0, len(dataset.captions) - 1, limit).astype(int)
    images = session.images()
    found: dict[str, list[np.ndarray]] = {"influence": [], "gradient": []}
    owners = []
    for number, row in enumerate(chosen, 1):
        sentences = session.sentences[row]
        owner = sentence_of_tokens(tokenizer, sentences)
        tokens = clip_token_lists([" ".join(sentences)])[0][: len(owner)]
        image = images[dataset.caption_image[row]].to(encoder.device)
        owners.append(owner)
        found["influence"].append(shares(leave_one_out(encoder, tokens, image.cpu())))
        ids = pack_ids([tokens], encoder.context_length, 0).to(encoder.device)
        gradient = gradient_times_input(tower, ids, image[None].float())[0, 1 : len(tokens) + 1]
        found["gradient"].append(shares(gradient.double().cpu().numpy()))
        session.progress(probe.name, number, limit)
    bootstrap = ClusterBootstrap(dataset.caption_image[chosen], session.seed)
    columns = {
        "first_sentence_tokens": [(owner == 0).mean() for owner in owners],
        **{
            f"first_sentence_{name}": [w[o == 0].sum() for w, o in zip(weights, owners, strict=True)]
            for name, weights in found.items()
        },
    }
    rows = mean_rows(
        bootstrap, np.column_stack(list(columns.values())), probe=probe.name, condition="all", order=0,
        metrics=list(columns), xs=[None] * len(columns),
    )  # fmt: skip
    for name, weights in found.items():
        for kind, curve in curves(weights, owners, tokenizer.context_length - 2).items():
            rows += curve_means(bootstrap, curve, probe.name, f"{name}_by_{kind}", 0)
    return rows, no_queries()
