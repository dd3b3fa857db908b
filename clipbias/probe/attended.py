"""Where a text tower's weights lie in a caption: the numbers of one caption, gathered over many."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from clipbias.probe.positions import shares


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


@dataclass
class Weights:
    """What the tower's weights say of each of N captions; lists are by caption."""

    texts: list[np.ndarray] = field(default_factory=list)  # [L] of the text, all layers
    layers: list[np.ndarray] = field(default_factory=list)  # [layers, L]
    rollout: list[np.ndarray] = field(default_factory=list)  # [L]
    owners: list[np.ndarray] = field(default_factory=list)  # [L] each token's sentence
    heads: list[np.ndarray] = field(default_factory=list)  # [layers, heads] the first sentence's share
    ends: list[np.ndarray] = field(default_factory=list)  # [layers + 1, 2] SOT's and EOT's weight
    summaries: list[np.ndarray] = field(default_factory=list)  # [layers + 1, len(SUMMARY)]

    def add(self, weights: np.ndarray, rolled: np.ndarray, sentence: np.ndarray, start: int) -> None:
        """One caption: weights [layers, heads, positions], rollout [positions], whose text begins at ``start``."""
        layers = weights.mean(axis=1)
        layers = np.vstack([layers, layers.mean(axis=0)])
        last = start + len(sentence)
        self.ends.append(np.stack([layers[:, :start].sum(1), layers[:, last : last + 1].sum(1)], axis=1))
        text = layers[:, start:last] / layers[:, start:last].sum(axis=1, keepdims=True)
        self.summaries.append(np.array([_summary(line, sentence) for line in text]))
        head = weights[:, :, start:last]
        self.heads.append(head[:, :, sentence == 0].sum(-1) / head.sum(-1))
        self.texts.append(text[-1])
        self.layers.append(text[:-1])
        self.rollout.append(shares(rolled[start:last]))
        self.owners.append(sentence)
