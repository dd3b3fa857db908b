"""Effects of places, freed of content: a fixed-effects linear model of what was found of each sentence at each place.

y[u, j] = content[u] + place[j] + rest, where u is one sentence of one caption, told at several places j. Within u its
content is a constant, so demeaning takes it out whatever it is (the within estimator; no distribution of contents is
assumed, as random effects would need). Where every sentence stands at every place, the estimate is the plain difference
of means. Intervals are over images: each one's influence on the estimate, with the interval of any mean.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from clipbias.stats.intervals import Interval, mean


class Places(NamedTuple):
    """Effects [K] of places, summing to 0; ``slope``: their least-squares change a place. No interval: all equal."""

    effects: list[tuple[float, Interval | None]]
    slope: tuple[float, Interval | None]


def place_effects(values: np.ndarray, content: np.ndarray, place: np.ndarray, cluster: np.ndarray) -> Places:
    """The effect of each place on ``values``.

    For the interaction with a model give the differences of two models' values on the same design: the estimator is
    linear, so that is the difference of their effects, paired.

    Args:
        values: [N], e.g. credit for the first rank.
        content: [N] which sentence it is: the units whose constant is taken out.
        place: [N], 0..K-1.
        cluster: [N] the image.

    Raises:
        ValueError: some places are never met by one sentence, so they cannot be compared.
    """
    count = int(place.max()) + 1
    index = np.unique(content, return_inverse=True)[1]
    size = np.bincount(index)[:, None]
    design = np.zeros((len(values), count))
    design[np.arange(len(values)), place] = 1

    def within(columns: np.ndarray) -> np.ndarray:
        sums = np.stack([np.bincount(index, weights=column) for column in columns.T], axis=1)
        return np.asarray(columns - (sums / size)[index])

    free, told = within(design), within(values[:, None].astype(np.float64))[:, 0]
    gram = free.T @ free
    if np.linalg.matrix_rank(gram) < count - 1:
        raise ValueError("no sentence joins all places: they cannot be compared")
    inverse = np.linalg.pinv(gram)  # the solution that sums to 0
    effects = inverse @ (free.T @ told)
    influence = len(values) * (free * (told - free @ effects)[:, None]) @ inverse + effects
    steps = np.arange(count) - (count - 1) / 2
    weights = steps / (steps**2).sum()
    found = [(float(effects[j]), mean(influence[:, j], cluster)) for j in range(count)]
    return Places(found, (float(effects @ weights), mean(influence @ weights, cluster)))
