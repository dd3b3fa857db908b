"""The gate: what is no regular file, or too much of one, is refused in one line and at once."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipbias import formats, gate
from clipbias.errors import UserError


@pytest.fixture(params=["pipe", "socket", "device", "link to a pipe", "folder", "missing", "name with NUL"])
def odd(request, tmp_path, monkeypatch):
    path = tmp_path / "odd"
    match request.param:
        case "pipe":
            os.mkfifo(path)
        case "socket":
            monkeypatch.chdir(tmp_path)  # a socket's path may have 108 letters
            with socket.socket(socket.AF_UNIX) as server:
                server.bind("odd")
        case "device":
            path.symlink_to("/dev/zero")
        case "link to a pipe":
            os.mkfifo(tmp_path / "pipe")
            path.symlink_to(tmp_path / "pipe")
        case "folder":
            path.mkdir()
        case "name with NUL":
            return tmp_path / "a\0b"
    return path


@pytest.mark.parametrize("read", [gate.read_bytes, gate.read_text, formats.read_json, formats.read_toml])
def test_what_is_no_regular_file_is_refused_at_once(odd, read, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    began = time.monotonic()
    with pytest.raises(UserError) as refused:
        read(odd, "spec")
    assert time.monotonic() - began < 1
    assert str(odd.name.partition("\0")[0]) in str(refused.value) and "\n" not in str(refused.value)


def test_a_pipe_put_in_the_place_of_a_file_after_the_look_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("x")
    look = gate.require_file

    def and_swap(*arguments):
        look(*arguments)
        path.unlink()
        os.mkfifo(path)

    monkeypatch.setattr(gate, "require_file", and_swap)
    waited = threading.Timer(5, lambda: os.open(path, os.O_WRONLY))  # ends the wait of a gate that waits
    waited.start()
    began = time.monotonic()
    with pytest.raises(UserError, match="a pipe"):
        gate.read_bytes(path, "spec")
    waited.cancel()
    assert time.monotonic() - began < 1


def test_sizes_are_looked_at_before_anything_is_read(tmp_path):
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(12 << 30)
    with pytest.raises(UserError, match=r"12,884,901,888 bytes \(limit 262,144 .*CLIPBIAS_LIMIT_SPEC_BYTES"):
        gate.read_text(path, "spec")


def test_limits_come_from_the_argument_and_the_environment(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 2000)
    with pytest.raises(UserError, match="limit 1,999"):
        gate.read_bytes(path, "spec", 1999)
    assert gate.read_bytes(path, "spec", 2000) == b"x" * 2000
    monkeypatch.setenv("CLIPBIAS_LIMIT_SPEC_BYTES", "1KiB")
    with pytest.raises(UserError, match="limit 1,024"):
        gate.read_bytes(path, "spec")
    monkeypatch.setenv("CLIPBIAS_LIMIT_SPEC_BYTES", "2kb")
    assert len(gate.read_bytes(path, "spec")) == 2000
    monkeypatch.setenv("CLIPBIAS_LIMIT_SPEC_BYTES", "much")
    with pytest.raises(UserError, match="write a whole number"):
        gate.read_bytes(path, "spec")
    monkeypatch.setenv("CLIPBIAS_LIMIT_CONDITIONS", "3")
    assert gate.check_count("conditions", 3, "here") == 3
    with pytest.raises(UserError, match=r"here: 4 conditions \(limit 3; CLIPBIAS_LIMIT_CONDITIONS sets it\)"):
        gate.check_count("conditions", 4, "here")


def test_files_that_say_less_than_they_hold_are_not_read_on(tmp_path):
    with pytest.raises(UserError, match="more than 10 bytes"):
        gate.read_bytes(tmp_path.__class__("/proc/self/status"), "spec", 10)  # says 0 bytes


def test_long_lines_are_refused_by_number(tmp_path, monkeypatch):
    path = tmp_path / "lines"
    path.write_bytes(b"ab\n" + b"c" * 50)
    assert list(gate.read_lines(path, "table")) == [b"ab\n", b"c" * 50]
    monkeypatch.setenv("CLIPBIAS_LIMIT_LINE_BYTES", "49")
    with pytest.raises(UserError, match="line 2: longer than 49 bytes"):
        list(gate.read_lines(path, "table"))


@pytest.mark.parametrize(
    "text",
    [
        "a." * 60_000 + "b=1",
        "[" + '"a".' * 60_000 + "b]",
        '"=".' + "a." * 60_000 + "b=1",
        "a" * 200_000,
        '"' * 200_000,
        "a=" + "[" * 100_000,
        "a=" + "{a=" * 40_000,
        "x=1" + "0" * 5000,
        "x = 1e",
    ],
)
def test_hostile_toml_is_one_line_and_quick(text):
    began = time.monotonic()
    with pytest.raises(UserError, match=r"^here: [^\n]*$"):
        formats.parse_toml(text, "here")
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "1" * 5000, "{", '"\\ud800', "nul"])
def test_hostile_json_is_one_line(text):
    with pytest.raises(UserError, match=r"^here: [^\n]*$"):
        formats.parse_json(text, "here")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (r'"\ud800"', r"column 2 (\ud800)"),
        (r'{"a": "\n\uDFFF x"}', r"column 10 (\uDFFF)"),
        (r'["\ud83d\ude00", "\\\\", "\\\ude00"]', r"column 29 (\ude00)"),
        (r'"\ud83d\ud83d\ude00"', r"column 2 (\ud83d)"),
        (r'"\ud83d\ude00\ude00"', r"column 14 (\ude00)"),
        ('{\n "\\udc00": 1}\n', r"line 2, column 3 (\udc00)"),
    ],
)
def test_half_a_character_in_json_is_refused_with_its_place(text, place):
    with pytest.raises(UserError, match=r"^here: half a character at [^\n]*$") as refused:
        formats.parse_json(text, "here")
    assert place in str(refused.value)


@given(st.text(st.characters(), max_size=6) | st.text(st.sampled_from("\\ud80dc\ud800\udc00😀"), max_size=12))
def test_json_is_refused_exactly_where_utf_8_could_not_hold_it(text):
    written = json.dumps([text, {text: 1}])
    whole = json.loads(written)
    try:
        json.dumps(whole, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        with pytest.raises(UserError, match="half a character"):
            formats.parse_json(written, "here")
    else:
        assert formats.parse_json(written, "here") == whole


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("any") / "file"
    path.write_bytes(content)
    assert gate.read_bytes(path, "spec") == content
    for read in (gate.read_text, formats.read_json, formats.read_toml):
        try:
            read(path, "spec")
        except UserError as error:
            assert "\n" not in str(error)


def test_the_documented_limits_are_those_of_the_code():
    text = (Path(__file__).parents[2] / "docs" / "security.md").read_text("utf-8")
    for kind, most in (*gate.SIZES.items(), *gate.COUNTS.items()):
        assert f"| {kind} | {most:,} |" in text
