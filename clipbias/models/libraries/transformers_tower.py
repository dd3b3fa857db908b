"""The text tower of transformers' models: attention as the library gives it, gradients at its embeddings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from clipbias.errors import NotApplicable
from clipbias.models.fp32 import full_fp32
from clipbias.models.libraries.openclip_tower import gradients_at
from clipbias.models.tokenizer import Tokens
from clipbias.models.tower import Attention, TextTower


class HubText(Protocol):
    """A text model of transformers, as an encoder holds it.

    Attributes:
        name, device: of the encoder.
        tokens: the tokenizer.
        trims: whether rows may be cut behind `last_needed`.
    """

    name: str
    device: torch.device
    trims: bool

    @property
    def tokens(self) -> Tokens:
        """The tokenizer."""
        ...

    def encode_token_ids(self, ids: Tensor) -> Tensor:
        """L2-normalised features [N, D] on the CPU."""
        ...

    def last_needed(self, ids: Tensor) -> Tensor:
        """The position [N] of each row's last token that its feature depends on."""
        ...

    def text_features(self, ids: Tensor) -> Tensor:
        """Features [B, D], not normalised."""
        ...

    def text_outputs(self, ids: Tensor, **more: Any) -> Any:
        """``last_hidden_state``, ``pooler_output`` (the features) and, where asked for, ``attentions``."""
        ...

    def attending(self) -> Callable[[], None]:
        """Let the model compute attention in the way that shows it; the answer puts it back."""
        ...

    def embeddings(self) -> nn.Module | None:
        """The table of token embeddings."""
        ...


def _with_gradient(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
    """A hook: the models' weights are frozen, so the graph starts at the embeddings."""
    return output.detach().requires_grad_()


class TransformersTower(TextTower):
    """See `TextTower`."""

    def __init__(self, encoder: HubText) -> None:
        self.name, self.tokens = encoder.name, encoder.tokens
        self._encoder = encoder

    def features(self, ids: Tensor) -> Tensor:
        """See `TextTower.features`."""
        return self._encoder.encode_token_ids(ids)

    @full_fp32()
    def attention(self, ids: Tensor) -> Attention:
        """See `TextTower.attention`; the library makes whole matrices, so a text costs O(layers x heads x length^2)."""
        if self._encoder.trims:
            ids = ids[:, : int(self._encoder.last_needed(ids).max()) + 1]
        ids = ids.to(self._encoder.device)
        restore = self._encoder.attending()
        table = self._encoder.embeddings()
        handle = None if table is None else table.register_forward_hook(_with_gradient)
        try:
            with torch.enable_grad():
                output = self._encoder.text_outputs(ids, output_attentions=True)
                layers = getattr(output, "attentions", None)
                if not layers:
                    raise NotApplicable(f"{self.name}: this model's text tower does not show its attention")
                query = self._pooled(output)
        finally:
            restore()
            if handle is not None:
                handle.remove()
        every = torch.arange(len(ids), device=ids.device)
        with torch.no_grad():
            weights = torch.stack([layer[every, :, query] for layer in layers], dim=1).float()
            row = torch.nn.functional.one_hot(query, ids.shape[1]).float()
            for layer in reversed(layers):
                row = (torch.einsum("bq,bqk->bk", row, layer.mean(1).float()) + row) / 2
        return Attention(weights.detach(), row.detach(), query)

    def _pooled(self, output: Any) -> Tensor:
        """The one position [B] of the last hidden states that the features depend on, found by their gradient.

        Raises:
            NotApplicable: they depend on several.
        """
        hidden = output.last_hidden_state
        if not hidden.requires_grad:
            raise NotApplicable(f"{self.name}: this model's text tower does not show which position it pools")
        (gradient,) = torch.autograd.grad(output.pooler_output.sum(), hidden, allow_unused=True)
        used = None if gradient is None else gradient.abs().sum(-1) > 0
        if used is None or not bool((used.sum(1) == 1).all()):
            raise NotApplicable(f"{self.name}: its feature comes from no one position, so no query's attention is it")
        return used.int().argmax(1)

    def gradients(self, ids: Tensor, images: Tensor) -> Tensor:
        """See `TextTower.gradients`."""
        table = self._encoder.embeddings()
        if table is None:
            raise NotApplicable(f"{self.name}: this model's text tower does not show its embeddings")
        ids, images = ids.to(self._encoder.device), images.to(self._encoder.device).float()
        return gradients_at(table, lambda: self._encoder.text_features(ids), images)
