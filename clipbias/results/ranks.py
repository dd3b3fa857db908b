"""Ranks of models on a leaderboard, as sets that the data allow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from clipbias.results.folder import Finished
from clipbias.results.queries import top1
from clipbias.stats.ranksets import rank_sets, rank_text


def shared_ranks(runs: Sequence[Finished]) -> pd.DataFrame:
    """T2I R@1 ranks on full captions within each data set and protocol, from the drop-first probe's queries.

    Models are ranked together that ran on the very same data (by fingerprint).

    Returns:
        Columns data, protocol, model, rank: "2", or "1-3" where the data do not tell.
    """
    groups: dict[tuple[str, str, str], dict[str, Finished]] = {}
    for one in runs:
        if one.run.probe == "drop-first":
            run = one.run
            groups.setdefault((run.data, run.protocol, run.data_fingerprint), {}).setdefault(run.model, one)
    lines = []
    for (data, protocol, _), models in groups.items():
        hits = {name: top1(models[name].queries, "full") for name in sorted(models)}
        hits = {name: found for name, found in hits.items() if len(found)}
        if not hits:
            continue
        first = next(iter(hits))
        index = hits[first].index
        queries = models[first].queries
        of_t2i = queries[(queries["direction"] == "t2i") & (queries["condition"] == "full")].set_index("query")
        sets = rank_sets(
            np.column_stack([found.loc[index].to_numpy() for found in hits.values()]),
            of_t2i.loc[index, "cluster"].to_numpy(),
        )
        lines += [[data, protocol, name, rank_text(*both)] for name, both in zip(hits, sets, strict=True)]
    return pd.DataFrame(lines, columns=["data", "protocol", "model", "rank"])
