"""Anything that is parsed, fed with noise: one clear error or a good value, never something else.

``--hypothesis-profile=long`` runs each of these a hundred times longer.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests_support import make_row, make_run

from clipbias.data.jsonfiles import read_json_lines
from clipbias.data.sentences import split_sentences
from clipbias.data.user import open_user_data
from clipbias.errors import UserError
from clipbias.finetune.recipe import read_recipe
from clipbias.finetune.recipes import DEBIAS
from clipbias.models.checkpoint import read_tensors
from clipbias.probe.spec import parse_probe
from clipbias.results.folder import load_runs, read_queries, read_rows, read_run, write_run
from clipbias.results.record import QUERY_COLUMNS

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def changed(record: dict[str, object]) -> st.SearchStrategy[dict[str, object]]:
    """A record with some fields replaced, left out or added."""
    keys = st.sampled_from(sorted(record))
    more = st.dictionaries(keys | st.text(max_size=6), VALUES, max_size=3)
    return st.tuples(more, st.sets(keys, max_size=1)).map(
        lambda pair: {k: v for k, v in (record | pair[0]).items() if k not in pair[1]}
    )


@given(changed(asdict(make_run())))
@example(asdict(make_run()) | {"model": "\x1b[2J"})
@example(asdict(make_run()) | {"captions": True})
@example(asdict(make_run()) | {"seconds": float("nan")})
@example(asdict(make_run()) | {"versions": []})
def test_a_changed_run_is_refused_in_one_line_or_read(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("run")
    (folder / "run.json").write_text(json.dumps(content))
    try:
        run = read_run(folder)
    except UserError as error:
        assert "\n" not in str(error) and "\x1b" not in str(error)
    else:
        assert asdict(run) == content and run.model.isprintable()


@given(changed(asdict(make_row())))
@example(asdict(make_row()) | {"value": float("inf")})
@example(asdict(make_row()) | {"n": "10"})
def test_a_changed_row_is_refused_in_one_line_or_read(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("rows")
    (folder / "rows.jsonl").write_text(json.dumps(content) + "\n")
    try:
        (row,) = read_rows(folder)
    except UserError as error:
        assert "\n" not in str(error) and "line 1" in str(error)
    else:
        assert asdict(row) == content


@given(st.binary(max_size=300), st.integers(0, 5000))
def test_a_changed_table_of_queries_is_refused_or_read(tmp_path_factory, noise, place):
    folder = tmp_path_factory.mktemp("queries")
    lines = [["full", "t2i", query, 0, 0, 0, 1, 0.5, 0.1, True, False] for query in range(20)]
    write_run(folder, make_run(), [make_row()], pd.DataFrame(lines, columns=list(QUERY_COLUMNS)))
    raw = (folder / "queries.parquet").read_bytes()
    place = min(place, len(raw))
    (folder / "queries.parquet").write_bytes(raw[:place] + noise + raw[place + len(noise) :])
    try:
        table = read_queries(folder)
    except UserError:
        return
    assert tuple(table.columns) == QUERY_COLUMNS


@given(st.text(max_size=200))
@example("a" * 3000 + ". " * 3000)
@example("\u202eevil\u202c. \x1b[31mB.\x00 C.")
@example("One.Two.Three...Four?!Five")
def test_sentences_lose_nothing_of_any_text(text):
    joined = "".join("".join(split_sentences(text)).split())
    assert joined == "".join(text.split())


PROBE = parse_probe  # its text is checked as TOML first
SPEC = """
name = "p"
title = "t"
kind = "retrieval"
baseline = "full"
[[condition]]
name = "full"
transforms = []
[[condition]]
name = "x"
transforms = [{ name = "pad", text = "This.", n = 2 }]
"""


@given(st.text(max_size=40), st.integers(0, len(SPEC)), st.integers(0, 40))
def test_a_changed_spec_is_refused_or_read(noise, place, cut):
    text = SPEC[:place] + noise + SPEC[place + cut :]
    try:
        probe = parse_probe(text)
    except UserError:
        return
    tomllib.loads(text)
    for condition in probe.conditions:
        condition.apply(("One.", "Two.", "Three."))


@given(st.text(max_size=60))
@example("lr = 'x'")
@example("batch_size = 1e400")
@example("seed = [1]")
@example("precision = 5")
def test_a_recipe_of_noise_is_refused_or_read(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("recipe") / "r.toml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        read_recipe(path, DEBIAS)
    except UserError as error:
        assert str(path) in str(error)


@given(st.binary(max_size=300))
@example(b'{"a": ' * 50_000)
@example(b"[" * 200_000)
def test_json_lines_of_noise_are_refused_or_read(tmp_path_factory, raw):
    path = tmp_path_factory.mktemp("json") / "x.jsonl"
    path.write_bytes(raw)
    try:
        for entry, where in read_json_lines(path):
            assert str(path) in where and entry is not ...
    except UserError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet", ".tar"])
@given(st.binary(max_size=300), st.integers(0, 60))
def test_tables_of_noise_are_refused_or_read(tmp_path_factory, suffix, noise, place):
    path = tmp_path_factory.mktemp("table") / f"x{suffix}"
    good = b"image,caption\na.png,A dog.\n" if suffix == ".csv" else b'{"image": "a.png", "caption": "A dog."}\n'
    path.write_bytes(good[:place] + noise + good[place:])
    try:
        dataset = open_user_data(str(path))
    except UserError as error:
        assert "\x1b" not in str(error).replace(repr(noise), "") or suffix in (".csv", ".tsv")
    else:
        assert len(dataset.captions) == len(dataset.caption_image)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@given(st.binary(max_size=400))
@example(b"PK\x03\x04" + b"\x00" * 60)
@example((1 << 40).to_bytes(8, "little") + b"{}")
def test_checkpoints_of_noise_are_refused(tmp_path_factory, suffix, raw):
    path = tmp_path_factory.mktemp("checkpoint") / f"x{suffix}"
    path.write_bytes(raw)
    with pytest.raises(UserError) as caught:
        read_tensors(path)
    assert "\n" not in str(caught.value)


def test_results_of_anybody_cannot_name_a_model_that_drives_the_terminal(tmp_path):
    write_run(tmp_path / "r", make_run(), [make_row()], pd.DataFrame(columns=list(QUERY_COLUMNS)))
    run = asdict(make_run(model="m\x1b]0;owned\x07"))  # clipbias itself would not write it
    (tmp_path / "r" / "run.json").write_text(json.dumps(run))
    with pytest.raises(UserError, match="control characters"):
        load_runs([tmp_path])
