"""The per-query tables of what conditions gave: columns that several have in common are held once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from clipbias.probe.counting import DIRECTIONS
from clipbias.probe.ranking import Ranking
from clipbias.probe.spec import Condition
from clipbias.results.record import LEADER, QUERY_COLUMNS


@dataclass(frozen=True)
class Measured:
    """One draw of a condition on every caption: what is kept of it, without its texts.

    Attributes:
        name: of the draw.
        condition: what it is a draw of.
        eligible: [M] what the transforms could do.
        cut: what the context cut.
        rankings, leaders: as `Session.retrieved` gives them.
        numbers: of its texts, as `Session.placed` gives them.
    """

    name: str
    condition: Condition
    eligible: np.ndarray
    cut: Cut
    rankings: dict[str, Ranking]
    leaders: np.ndarray
    numbers: np.ndarray


class Cut(NamedTuple):
    """How many of so many texts are longer than the context, and the tokens that they lose."""

    longer: int
    tokens: int
    texts: int


def query_tables(measured: list[Measured], baseline: str, owner: np.ndarray, images: int) -> list[pd.DataFrame]:
    """The per-query table, one a direction and draw.

    Args:
        measured: every draw of every condition.
        baseline: the condition against which captions are affected.
        owner: [M] the image of each caption.
        images: how many there are.
    """
    base = next(one.numbers for one in measured if one.condition.name == baseline)
    # Names repeat a million times: a number a row.
    names, ways = pd.Index([m.name for m in measured]), pd.Index(DIRECTIONS)
    tables: list[pd.DataFrame] = []
    for direction in DIRECTIONS:
        query = np.arange(len(owner) if direction == "t2i" else images, dtype=np.int32)
        cluster = owner.astype(np.int32) if direction == "t2i" else query
        nobody = np.full(len(query), -1, dtype=np.int32)
        way = repeated(ways, direction, query)
        for one in measured:
            columns = {
                "condition": repeated(names, one.name, query),
                "direction": way,
                "query": query,
                "cluster": cluster,
                **_ranked(one.rankings[direction]),
                "eligible": _query_mask(one.eligible, owner, images, direction),
                "affected": _query_mask(one.numbers != base, owner, images, direction),
                LEADER: one.leaders if direction == "t2i" else nobody,
            }
            tables.append(pd.DataFrame({name: columns[name] for name in (*QUERY_COLUMNS, LEADER)}, copy=False))
    return tables


def repeated(names: pd.Index, name: str, rows: np.ndarray) -> pd.Categorical:
    """One name for every row."""
    return pd.Categorical.from_codes(np.full(len(rows), names.get_loc(name), dtype=np.int16), names)


def _query_mask(caption_mask: np.ndarray, owner: np.ndarray, images: int, direction: str) -> np.ndarray:
    """A mask over captions as one over queries: an image counts when all its captions do."""
    if direction == "t2i":
        return caption_mask
    out = np.ones(images, dtype=bool)
    np.logical_and.at(out, owner, caption_mask)
    return out


def query_table(ranking: Ranking, cluster: np.ndarray) -> pd.DataFrame:
    """What is kept of each query of one condition and direction."""
    query = np.arange(len(cluster), dtype=np.int32)
    return pd.DataFrame({"query": query, "cluster": cluster.astype(np.int32), **_ranked(ranking)}, copy=False)


def _ranked(ranking: Ranking) -> dict[str, np.ndarray]:
    whole = {name: getattr(ranking, name).astype(np.int32, copy=False) for name in ("better", "equal", "right")}
    return {**whole, "cosine": ranking.cosine, "margin": ranking.margin}
