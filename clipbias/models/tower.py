"""The one interface through which probes look into a text tower.

Four things, each with one implementation a library: where tokens lie in the text (`TextTower.tokens`), ids to features,
the attention rows of the pooled query, gradients at the embeddings. Probes ask this, never what class a model is; what
a tower cannot give it refuses with `NotApplicable`, and a probe answers its other parts.

Shapes: B texts, L positions, H heads, D embedding size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from clipbias.errors import NotApplicable
from clipbias.models.tokenizer import Tokens


@dataclass(frozen=True)
class Attention:
    """Where the position that becomes the feature looks.

    Attributes:
        weights: [B, layers, H, L]; each row sums to one.
        rollout: [B, L], the pooled position's row of the product of (A + I) / 2 over the layers, A a layer's attention
            averaged over heads (Abnar and Zuidema 2020); each row sums to one.
        query: the pooled position [B].
    """

    weights: Tensor
    rollout: Tensor
    query: Tensor


class TextTower(ABC):
    """A model's text tower.

    Attributes:
        name: of the model, for messages.
        tokens: texts to ids, and where they lie in the text. A text's own tokens stand at
            ``tokens.text_start`` (plus pads before it) onwards.
    """

    name: str
    tokens: Tokens

    @abstractmethod
    def features(self, ids: Tensor) -> Tensor:
        """L2-normalised features [N, D] of rows of ids [N, L], on the CPU."""

    def attention(self, ids: Tensor) -> Attention:
        """Attention of the pooled query; positions behind the last that it sees may be left out.

        Raises:
            NotApplicable: the tower has no such query, or does not show it.
        """
        raise NotApplicable(f"{self.name}: this text tower does not show its attention")

    def gradients(self, ids: Tensor, images: Tensor) -> Tensor:
        """Gradient of the cosine with ``images`` [B, D] at each token's embedding, times the embedding: [B, L].

        Raises:
            NotApplicable: the tower does not show its embeddings.
        """
        raise NotApplicable(f"{self.name}: this text tower does not show gradients at its embeddings")
