"""What is written can be read; what others wrote is refused by column and row; one damaged run stops no report."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from tests_support import SVG, make_row, make_run

from clipbias.errors import CheckFailed, UserError
from clipbias.report.build import build_report
from clipbias.report.tables import to_csv
from clipbias.results import schema1
from clipbias.results.folder import load_runs, read_queries, read_rows, read_run, write_run
from clipbias.results.queries import KINDS
from clipbias.results.record import QUERY_COLUMNS, QUERY_TABLES


def queries(count=4):
    whole = np.arange(count, dtype=np.int32)
    return pd.DataFrame(
        {
            "condition": "full",
            "direction": "t2i",
            "query": whole,
            "cluster": whole,
            "better": np.int32(0),
            "equal": np.int32(0),
            "right": np.int32(1),
            "cosine": np.float32(0.5),
            "margin": np.float32(math.inf),
            "eligible": True,
            "affected": False,
        }
    )[list(QUERY_COLUMNS)]


def written(folder, **changes):
    write_run(folder, make_run(**changes), [make_row(condition="full")], queries())
    return folder


def test_every_column_has_a_kind():
    assert {*QUERY_TABLES[-1], *schema1.QUERY_COLUMNS} == set(KINDS)


WRONG = {
    "another type": lambda t: t.assign(better="x"),
    "floats for whole numbers": lambda t: t.assign(query=t["query"] + 0.5),
    "switches for numbers": lambda t: t.assign(cosine=True),
    "texts for switches": lambda t: t.assign(eligible="yes"),
    "numbers for texts": lambda t: t.assign(condition=3),
    "missing numbers": lambda t: t.assign(cosine=[0.1, None, 0.2, 0.3]),
    "missing names": lambda t: t.assign(condition=["a", None, "b", "c"]),
    "NaN": lambda t: t.assign(cosine=[0.1, 0.2, np.nan, 0.3]),
    "negative": lambda t: t.assign(better=[0, 0, -1, 0]),
    "none right": lambda t: t.assign(right=[1, 0, 1, 1]),
    "too large": lambda t: t.assign(query=[0, 1, 2, 2**40]),
    "another direction": lambda t: t.assign(direction=["t2i", "t2i", "x2y", "t2i"]),
    "twice": lambda t: pd.concat([t, t.tail(1)]),
    "escapes": lambda t: t.assign(condition=["full", "a\x1b[31m", "b", "c"]),
    "lists": lambda t: t.assign(margin=[[1.0]] * 4),
    "dates": lambda t: t.assign(query=pd.Timestamp("2020-01-01")),
    "complex column set": lambda t: t.drop(columns="margin"),
    "another column": lambda t: t.assign(more=1),
    "another order": lambda t: t[list(t.columns)[::-1]],
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_table_of_others_is_refused_by_column_and_row(tmp_path, kind):
    folder = written(tmp_path / "run")
    WRONG[kind](queries()).to_parquet(folder / "queries.parquet", index=False)
    with pytest.raises(UserError, match=r"queries\.parquet[^\n]*expected[^\n]*$") as refused:
        read_queries(folder)
    assert "\x1b" not in str(refused.value)


def test_the_row_is_named(tmp_path):
    folder = written(tmp_path / "run")
    WRONG["negative"](queries()).to_parquet(folder / "queries.parquet", index=False)
    with pytest.raises(UserError, match=r"queries.parquet, row 2: better is -1; expected 0 or more there"):
        read_queries(folder)


def test_a_good_table_comes_back(tmp_path):
    pd.testing.assert_frame_equal(read_queries(written(tmp_path / "run")), queries(), check_dtype=True)
    write_run(tmp_path / "empty", make_run(), [make_row()], queries(0))
    assert len(read_queries(tmp_path / "empty")) == 0


def parts() -> list[pd.DataFrame]:
    """A table of 28 rows in tables of three conditions, whose names are held as numbers."""
    names = pd.CategoricalDtype(["one", "two", "three"])
    sizes = {"one": 4, "two": 7, "three": 17}
    return [queries(n).assign(condition=name).astype({"condition": names}) for name, n in sizes.items()]


@pytest.mark.parametrize("group", [1, 5, 14, 1000])
def test_a_table_in_parts_is_written_as_if_it_were_whole(tmp_path, monkeypatch, group):
    monkeypatch.setattr("clipbias.results.queries.GROUP", group)
    whole = pd.concat(parts(), ignore_index=True).astype({"condition": str})
    write_run(tmp_path / "parts", make_run(), [make_row()], parts())
    whole.to_parquet(tmp_path / "whole.parquet", index=False, compression="zstd", row_group_size=group)
    assert (tmp_path / "parts/queries.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    pd.testing.assert_frame_equal(read_queries(tmp_path / "parts"), whole)


def test_a_fault_of_a_part_is_named_as_that_of_a_whole_table(tmp_path, monkeypatch):
    monkeypatch.setattr("clipbias.results.queries.GROUP", 4)  # else they are put together
    one, two, three = parts()
    wrong = {
        "part 2, row 2: better is -1; expected 0 or more there": [
            one,
            two.assign(better=[0, 0, -1, 0, 0, 0, 0]),
            three,
        ],
        r"queries, row 28: query 0 of 'one', t2i is there twice; expected once": [one, two, three, one],
        r"queries, row 4: query 3 of 'one', t2i is there twice": [pd.concat([one, one.tail(1)]), two, three],
    }
    for line, tables in wrong.items():
        with pytest.raises(UserError, match=line):
            write_run(tmp_path / "run", make_run(), [make_row()], tables)
    # Conditions in turn, and queries that fall: out of order, and no fault.
    mixed = pd.concat([one, two, one.assign(query=one["query"] + 4)[::-1]])
    write_run(tmp_path / "mixed", make_run(), [make_row()], mixed)
    assert len(read_queries(tmp_path / "mixed")) == 15


def test_a_run_without_rows_is_neither_written_nor_read(tmp_path):
    with pytest.raises(UserError, match="not written, it could not be read again: it has no rows"):
        write_run(tmp_path / "none", make_run(), [], queries())
    folder = written(tmp_path / "run")
    (folder / "rows.jsonl").write_text("")
    with pytest.raises(UserError, match=r"rows\.jsonl: no rows"):
        read_rows(folder)


@pytest.mark.parametrize(
    ("run", "row", "table"),
    [
        ({"model": "a\u200bb"}, {}, queries()),
        ({}, {"condition": "a\u200bb"}, queries()),
        ({}, {"x": math.nan}, queries()),
        ({}, {"value": math.inf}, queries()),
        ({}, {"n": np.int64(3)}, queries()),
        ({}, {}, WRONG["twice"](queries())),
        ({}, {}, WRONG["NaN"](queries())),
    ],
)
def test_what_could_not_be_read_is_not_written(tmp_path, run, row, table):
    folder = written(tmp_path / "run")
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(UserError, match="not written, it could not be read again"):
        write_run(folder, make_run(**run), [replace(make_row(), **row)], table)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def damage(folder, kind):
    match kind:
        case "pipe":
            (folder / "run.json").unlink()
            os.mkfifo(folder / "run.json")
        case "rows":
            (folder / "rows.jsonl").write_text("{}\n")
        case "queries":
            (folder / "queries.parquet").write_bytes(b"PAR1")
        case "schema":
            (folder / "run.json").write_text(json.dumps({"schema": 99}))
        case "deep":
            (folder / "run.json").write_text("[" * 100_000)


@pytest.mark.parametrize("kind", ["pipe", "rows", "queries", "schema", "deep"])
def test_a_damaged_run_is_left_out_of_the_report_and_named(tmp_path, kind):
    written(tmp_path / "results" / "good")
    damage(written(tmp_path / "results" / "bad", probe="other"), kind)
    with pytest.raises(CheckFailed, match=r"1 damaged files are left out of it:\n  [^\n]*bad"):
        build_report([tmp_path / "results"], tmp_path / "out", look=SVG)
    assert (tmp_path / "out" / "index.html").is_file()
    damaged: list[str] = []
    assert len(load_runs([tmp_path / "results"], damaged)) == 1 and len(damaged) == 1


def test_a_probe_may_be_called_as_a_file_of_a_run(tmp_path):
    folder = written(tmp_path / "results" / "run.json")
    assert [one.folder for one in load_runs([tmp_path / "results"])] == [folder]
    assert read_run(folder).probe == make_run().probe


def test_settings_of_matplotlib_and_dollar_signs_change_nothing(tmp_path, monkeypatch):
    import matplotlib as mpl

    written(tmp_path / "results" / "a", model="$\\evil$ [red] {x}")
    monkeypatch.setitem(mpl.rcParams, "text.usetex", True)
    monkeypatch.setitem(mpl.rcParams, "font.size", 40)
    build_report([tmp_path / "results"], tmp_path / "out")
    assert (tmp_path / "out" / "index.html").is_file() and mpl.rcParams["font.size"] == 40


def test_an_empty_cell_of_a_csv_stays_empty():
    assert to_csv(pd.DataFrame({"a": ["", "=x", "-1"], "b": ["x", "", "y"]})) == "a,b\n,x\n'=x,\n-1,y\n"
