"""Results of schema 1 stay readable; tests/results/schema1 was written by clipbias 1.0 (first-only, 40 scenes)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from clipbias.errors import UserError
from clipbias.results.compare import compare_runs, comparison_text
from clipbias.results.folder import finished, load_runs, read_queries, read_rows, read_run
from clipbias.results.queries import ranks, top1
from clipbias.results.record import QUERY_COLUMNS

OLD = Path(__file__).parent / "schema1"


def test_rows_and_queries_of_schema_1_are_read_and_marked():
    assert read_run(OLD).schema == 1
    lines = [json.loads(line) for line in (OLD / "rows.jsonl").read_text().splitlines()]
    rows = read_rows(OLD)
    assert len(rows) == len(lines) > 20
    for row, line in zip(rows, lines, strict=True):
        assert (row.value, row.low, row.delta, row.p, row.n) == (
            line["value"], line["low"], line["delta"], line["p_mcnemar"], line["n"])  # fmt: skip
        assert row.base is None or row.base == pytest.approx(row.value - row.delta)
        assert row.ties is None and row.clusters is None
        assert row.method == "schema 1: percentile bootstrap over images; ties count against the model"


def test_old_ranks_are_as_they_were_and_give_the_rows():
    queries = read_queries(OLD)
    assert tuple(queries.columns) == QUERY_COLUMNS and "ties count against" in queries.attrs["ties"]
    for row in read_rows(OLD):
        if (row.metric, row.scope) == ("recall@1", "all"):
            assert top1(queries, row.condition, row.direction).mean() == pytest.approx(row.value)
        if (row.metric, row.scope) == ("mean_rank", "all"):
            mine = queries[(queries["condition"] == row.condition) & (queries["direction"] == row.direction)]
            assert ranks(mine).mean() == pytest.approx(row.value)


def test_old_runs_are_loaded_and_compared():
    (one,) = load_runs([OLD])
    assert one.run.model == "nano-debias" and len(one.queries)
    compared = compare_runs(finished(OLD), finished(OLD))
    assert all(found.apart.value == 0 for found in compared)
    assert "ranks of A are of results schema 1" in comparison_text(one.run, one.run, compared)


def test_an_unknown_schema_is_refused(tmp_path):
    shutil.copytree(OLD, tmp_path / "run")
    text = (tmp_path / "run" / "run.json").read_text().replace('"schema": 1', '"schema": 3')
    (tmp_path / "run" / "run.json").write_text(text)
    with pytest.raises(UserError, match="schemas 1 and 2"):
        read_run(tmp_path / "run")
