"""Ranks that models share where the data cannot tell them apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from clipbias.results.folder import Finished
from clipbias.stats.bootstrap import ClusterBootstrap, percentile_interval


def significant_ranks(hits: np.ndarray, cluster: np.ndarray, seed: int = 0) -> list[int]:
    """The rank of each model: one more than the number of models that are significantly better.

    Args:
        hits: [Q, M] top-1 hits (0 or 1) of M models on the same queries.
        cluster: [Q] the image of each query.
        seed: of the bootstrap.

    A model is better where the 95% interval of the paired difference (bootstrap over images) lies above zero.
    """
    sampled = ClusterBootstrap(cluster, seed).means(hits.astype(np.float64), np.ones(len(hits), dtype=bool))
    ranks = []
    for model in range(hits.shape[1]):
        low, _ = percentile_interval(sampled - sampled[:, model : model + 1])
        ranks.append(1 + int((low > 0).sum()))
    return ranks


def shared_ranks(runs: Sequence[Finished]) -> pd.DataFrame:
    """T2I R@1 ranks on full captions within each data set and protocol, from the drop-first probe's queries.

    Models are ranked together that ran on the very same data (by fingerprint).

    Returns:
        Columns data, protocol, model, rank (from "1"; models that do not differ significantly may share one).
    """
    groups: dict[tuple[str, str, str], dict[str, pd.DataFrame]] = {}
    for run, queries in ((one.run, one.queries) for one in runs if one.run.probe == "drop-first"):
        mine = queries[(queries["condition"] == "full") & (queries["direction"] == "t2i")].set_index("query")
        if len(mine):
            groups.setdefault((run.data, run.protocol, run.data_fingerprint), {}).setdefault(run.model, mine)
    lines = []
    for (data, protocol, _), models in groups.items():
        names = sorted(models)
        index = models[names[0]].index
        hits = np.column_stack([models[n].loc[index, "rank"].to_numpy() == 1 for n in names])
        best = significant_ranks(hits, models[names[0]]["cluster"].to_numpy())
        lines += [[data, protocol, name, str(rank)] for name, rank in zip(names, best, strict=True)]
    return pd.DataFrame(lines, columns=["data", "protocol", "model", "rank"])
