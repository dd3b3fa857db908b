"""The rows of a probe depend on its queries, not on how their table is laid out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from clipbias.probe.rows import rows_from_queries
from clipbias.probe.spec import Condition, Probe

NAMES = ["whole", "cut", "moved"]


@pytest.fixture
def table() -> pd.DataFrame:
    generator, parts = np.random.default_rng(0), []
    for name in NAMES:
        for direction in ("t2i", "i2t"):
            count = 30
            ranks = {"better": generator.integers(0, 3, count), "equal": generator.integers(0, 2, count), "right": 1}
            values = {"cosine": generator.random(count), "margin": generator.random(count)}
            marks = {"eligible": generator.random(count) < 0.8, "affected": True}
            place = {"condition": name, "direction": direction, "query": np.arange(count), "cluster": np.arange(count)}
            parts.append(pd.DataFrame({**place, **ranks, **values, **marks}))
    return pd.concat(parts, ignore_index=True)


def test_rows_are_those_of_the_queries_in_whatever_order_conditions_stand(table: pd.DataFrame) -> None:
    probe = Probe("p", "", "", "", NAMES[0], tuple(Condition(name, ()) for name in NAMES), "")
    cut = dict.fromkeys(NAMES, (0.0, 0.0))
    wanted = rows_from_queries(probe, table, cut, 0)
    share = {(r.condition, r.direction): r for r in wanted if r.metric == "recall@1" and r.scope == "all"}
    for (name, direction), part in table.groupby(["condition", "direction"]):
        # 1 where nothing is better; where one equals it, first in half of the orders.
        credit = (part["better"] == 0) / (1 + part["equal"])
        assert share[str(name), str(direction)].value == pytest.approx(credit.mean())
    scattered = table.sort_values("query", kind="stable")
    assert scattered["condition"].tolist()[:3] != NAMES[:1] * 3
    named = table.astype({"condition": "category", "direction": "category"})
    assert rows_from_queries(probe, scattered, cut, 0) == rows_from_queries(probe, named, cut, 0) == wanted
    parts = [part for _, part in named.groupby(["condition", "direction"], observed=True, sort=False)]
    assert len(parts) == 6 and rows_from_queries(probe, parts, cut, 0) == wanted
