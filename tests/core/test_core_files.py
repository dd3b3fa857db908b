"""Files are replaced whole or not at all; results come back as they were written."""

from __future__ import annotations

import json
import os
import resource
import stat
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from tests_support import make_row, make_run

from clipbias.errors import UserError
from clipbias.files import atomic_path, folder_lock, write_text
from clipbias.models.checkpoint import write_tensors
from clipbias.registry import Registry, import_object
from clipbias.results.folder import find_runs, read_queries, read_rows, read_run, run_folder, write_run
from clipbias.results.record import QUERY_COLUMNS, SCHEMA, sealed


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.txt"
    write_text(target, "old")
    with pytest.raises(RuntimeError), atomic_path(target) as path:
        path.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_written_file_has_the_users_mode(tmp_path):
    umask = os.umask(0o027)
    try:
        write_text(tmp_path / "a.txt", "x")
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


def test_a_folder_that_cannot_be_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*file"):
        write_text(tmp_path / "file" / "below.txt", "x")


@pytest.mark.parametrize("name", ["rows.jsonl", "state.pt", "model.safetensors"])
def test_a_file_that_may_not_grow_so_far_is_one_line_in_numbers(tmp_path, name):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    tensors = {"a": torch.zeros(100_000), "b": torch.zeros(10)}
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(UserError) as caught:
            if name == "rows.jsonl":
                write_text(tmp_path / name, "x" * 400_000)
            else:
                write_tensors(tmp_path / name, tensors)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    takes = "" if name == "rows.jsonl" else "it takes 0.4 MB, "
    assert str(caught.value) == (
        f"cannot write {tmp_path / name}: File too large ({takes}a file may take 0.2 MB, see ulimit -f); "
        "raise the limit or choose another folder"
    )
    assert not os.listdir(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("name", ["rows.jsonl", "state.pt"])
def test_a_full_disk_is_one_line_with_what_is_free(tmp_path, monkeypatch, name):
    def full(prefix, suffix, dir):
        os.symlink("/dev/full", path := f"{dir}/{prefix}x{suffix}")
        return os.open("/dev/null", os.O_RDONLY), path

    monkeypatch.setattr("tempfile.mkstemp", full)
    monkeypatch.setattr(
        "shutil.disk_usage", lambda folder: SimpleNamespace(free=1_260_000) if folder == tmp_path else 0
    )
    with pytest.raises(UserError) as caught:
        if name == "state.pt":
            write_tensors(tmp_path / name, {"a": torch.zeros(1_000_000)})
        else:
            write_text(tmp_path / name, "x" * 400_000)
    takes = "it takes 4.0 MB, " if name == "state.pt" else ""
    assert str(caught.value) == (
        f"cannot write {tmp_path / name}: No space left on device ({takes}1.3 MB are free); "
        "make room or choose another folder"
    )
    assert not os.listdir(tmp_path)


def test_a_run_comes_back_as_it_was_written(tmp_path):
    run, rows = make_run(), [make_row(), make_row(condition="changed", order=1, baseline="full", delta=-0.5)]
    queries = pd.DataFrame([["full", "t2i", 0, 0, 0, 0, 1, 0.5, 0.1, True, False]], columns=list(QUERY_COLUMNS))
    folder = run_folder(tmp_path, "a/b: c", "scenes", "padding")
    assert folder.parent.parent.parent == tmp_path
    write_run(folder, run, rows, queries)
    found = read_run(folder)
    assert found.seal == sealed(found) and set(found.files) == {"rows.jsonl", "queries.parquet"}
    assert (replace(found, files={}, seal=""), read_rows(folder)) == (run, rows)
    pd.testing.assert_frame_equal(read_queries(folder), queries)
    assert find_runs([tmp_path]) == [folder]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("run.json", "{", "not a readable run"),
        ("run.json", json.dumps({"schema": SCHEMA + 1}), "schema"),
        ("run.json", json.dumps({"schema": SCHEMA}), "missing"),
        ("run.json", "[]", "schema"),
        ("rows.jsonl", '{"probe": 1}', "line 1: not a result row"),
        ("queries.parquet", "no table", "not a readable table"),
    ],
)
def test_damaged_results_are_named(tmp_path, file, content, message):
    queries = pd.DataFrame([["full", "t2i", 0, 0, 0, 0, 1, 0.5, 0.1, True, False]], columns=list(QUERY_COLUMNS))
    write_run(tmp_path, make_run(), [make_row()], queries)
    (tmp_path / file).write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        read_run(tmp_path), read_rows(tmp_path), read_queries(tmp_path)
    assert file in str(caught.value) and "\n" not in str(caught.value)


def test_results_that_are_not_there_are_named(tmp_path):
    with pytest.raises(UserError, match="no such results folder"):
        find_runs([tmp_path / "nowhere"])


def test_a_registry_imports_only_what_is_asked_for_and_suggests_near_names():
    things: Registry[object] = Registry("thing", "clipbias.tests.none")
    things.add("pi", "math:pi")
    things.add("broken", "no_such_module:x")
    assert list(things) == ["pi", "broken"]
    assert things["pi"] == pytest.approx(3.14159265)
    with pytest.raises(UserError, match="registered twice"):
        things.add("pi", "math:tau")
    with pytest.raises(UserError, match="did you mean pi"):
        things["pie"]
    with pytest.raises(UserError, match="cannot import"):
        things["broken"]
    with pytest.raises(UserError, match="cannot import"):
        import_object("math:nothing")


def test_no_device_or_folder_is_replaced(tmp_path):
    for target in (Path("/dev/null"), tmp_path):
        with pytest.raises(UserError, match="a folder or a device is there"):
            write_text(target, "x")
    assert Path("/dev/null").is_char_device()


def test_a_link_is_replaced_and_not_written_through(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "mine").read_text() == "mine" and not (tmp_path / "link").is_symlink()


def test_names_of_300_letters_are_one_line(tmp_path):
    with pytest.raises(UserError, match=r"^cannot write [^\n]*File name too long"):
        write_text(tmp_path / ("a" * 300), "x")


def test_a_folder_has_one_writer_at_a_time_and_keeps_no_lock(tmp_path):
    with folder_lock(tmp_path / "out"):
        with pytest.raises(UserError, match="another process is writing there"), folder_lock(tmp_path / "out"):
            pass
        assert not list((tmp_path / "out").iterdir())
    with folder_lock(tmp_path / "out", wait=1):
        pass
