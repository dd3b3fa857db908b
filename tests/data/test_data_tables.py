"""Tables that a few bytes make huge, or that are no tables: refused by their counts, before rows are made."""

from __future__ import annotations

import os
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipbias.data.loading import load_dataset
from clipbias.errors import UserError


def refused(path, match):
    began = time.monotonic()
    with pytest.raises(UserError, match=match) as error:
        load_dataset(str(path))
    assert "\n" not in str(error.value) and time.monotonic() - began < 5


def test_twenty_million_equal_rows_of_parquet_are_not_read(tmp_path):
    path = tmp_path / "many.parquet"
    schema = pa.schema([("image", pa.string()), ("caption", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        part = pa.array(["a"] * 1_000_000).dictionary_encode().cast(pa.string())
        for _ in range(6):
            writer.write_table(pa.table({"image": part, "caption": part}, schema=schema))
    assert path.stat().st_size < 100_000
    refused(path, r"6,000,000 rows \(limit 5,000,000")


def test_one_long_text_in_many_rows_of_parquet_is_not_copied(tmp_path):
    path = tmp_path / "long.parquet"
    with pq.ParquetWriter(path, pa.schema([("image", pa.string()), ("caption", pa.string())])) as writer:
        for _ in range(20):
            writer.write_table(pa.table({"image": ["a.png"] * 50, "caption": ["x" * 200_000] * 50}))
    assert path.stat().st_size < 1_000_000
    refused(path, "more than 100,000 characters")


@pytest.mark.parametrize(
    "table",
    [
        {"image": [1, 2], "caption": ["a", "b"]},
        {"image": ["a", None], "caption": ["a", "b"]},
        {"image": ["a", "b"], "caption": [1.5, 2.0]},
        {"image": [b"\xff", b"a"], "caption": ["a", "b"]},
        {"image": ["a", "b"], "caption": [{"x": 1}, {"x": 2}]},
        {"x": ["a", "b"]},
        {"image": pa.array([], pa.string()), "caption": pa.array([], pa.string())},
    ],
)
def test_columns_of_other_types_are_one_line(tmp_path, table):
    pq.write_table(pa.table(table), tmp_path / "odd.parquet")
    refused(tmp_path / "odd.parquet", "odd.parquet")


def test_a_parquet_file_with_two_columns_of_one_name(tmp_path):
    twice = pa.Table.from_arrays([pa.array(["a"])] * 3, names=["image", "caption", "caption"])
    pq.write_table(twice, tmp_path / "twice.parquet")
    try:
        load_dataset(str(tmp_path / "twice.parquet"))
    except UserError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_a_row_without_end_and_too_many_rows_are_refused(tmp_path, monkeypatch, suffix):
    monkeypatch.setenv("CLIPBIAS_LIMIT_LINE_BYTES", "1000")
    path = tmp_path / f"long{suffix}"
    path.write_text("x" * 1001)
    refused(path, "line 1: longer than 1,000")
    monkeypatch.setenv("CLIPBIAS_LIMIT_CAPTIONS", "3")
    row = {".csv": "a.png,b\n", ".tsv": "a.png\tb\n", ".jsonl": '{"image": "a.png", "caption": "b"}\n'}[suffix]
    head = {".csv": "image,caption\n", ".tsv": "image\tcaption\n", ".jsonl": ""}[suffix]
    path.write_text(head + row * 3)
    assert len(load_dataset(str(path)).captions) == 3
    path.write_text(head + row * 4)
    refused(path, "4 captions or more .limit 3")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".tar"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, suffix, kind):
    path = tmp_path / f"odd{suffix}"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    refused(path, "not a regular file" if kind != "folder" else "no images there")


@pytest.mark.parametrize("name", ["", "a" * 300, "./" + "a" * 300, "a\0b.csv", "~nobody-of-that-name/x.csv"])
def test_names_that_are_no_names(name):
    with pytest.raises(UserError, match=r"^[^\n]*$"):
        load_dataset(name)
