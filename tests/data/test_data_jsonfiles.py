"""JSON one object a line and arrays in pieces: the values of the standard library's reader, or one line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipbias.data import jsonfiles
from clipbias.data.jsonfiles import field, read_json_lines, stream_json_array
from clipbias.errors import UserError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40)
@given(st.lists(VALUES, max_size=8), st.booleans(), st.sampled_from([None, 1, "\t"]), st.integers(1, 9))
def test_an_array_in_pieces_is_the_array(tmp_path_factory, monkeypatch_module, values, ascii_only, indent, chunk):
    path = tmp_path_factory.mktemp("array") / "x.json"
    path.write_text(json.dumps(values, ensure_ascii=ascii_only, indent=indent), "utf-8", "surrogatepass")
    monkeypatch_module.setattr(jsonfiles, "_CHUNK", chunk)
    found = list(stream_json_array(path))
    assert [value for value, _ in found] == values
    places = [place for _, place in found]
    assert places == sorted(places) and all(place <= path.stat().st_size for place in places)


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


BROKEN = {
    "digits": ("9" * 5000, "no JSON|not JSON"),
    "deep": ('{"a":' * 100_000, "nested too deeply"),
    "cut": ('{"a": 1', "broken or cut off|not JSON"),
    "half a character": (r'{"a": "x \ud800"}', r"half a character at column 10 \(\\ud800\)"),
    "half a character in a name": (r'{"\udfff": 1}', r"half a character at column 3 \(\\udfff\)"),
    "word": ("nul", "broken or cut off|not JSON|no JSON"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_element_or_line_is_named_in_one_line(tmp_path, kind):
    text, match = BROKEN[kind]
    (tmp_path / "x.json").write_text(f'[{{"a": 0}}, {text}' + ("" if kind in ("cut", "word") else "]"))
    (tmp_path / "x.jsonl").write_text(f'{{"a": 0}}\n\n{text}\n')
    with pytest.raises(UserError, match=match) as array:
        list(stream_json_array(tmp_path / "x.json"))
    with pytest.raises(UserError, match=match) as lines:
        list(read_json_lines(tmp_path / "x.jsonl"))
    assert "x.json: element 1" in str(array.value) and "x.jsonl, line 3: " in str(lines.value)
    assert "\n" not in str(array.value) + str(lines.value)


def test_what_is_not_utf_8_or_too_long_is_named(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    for content, match in (
        (b'["a", "\xff"]', "not UTF-8 text near element"),
        (b'{"a": 1}', "expected a JSON array"),
        (b'["a" "b"]', "cut off or broken after element 0"),
        (b'["a", ', "element 1 is broken or cut off"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=match):
            list(stream_json_array(path))
    monkeypatch.setenv("CLIPBIAS_LIMIT_LINE_BYTES", "100")
    monkeypatch.setattr(jsonfiles, "_CHUNK", 50)
    path.write_text('["a", "' + "b" * 1000)
    with pytest.raises(UserError, match="element 1 is no JSON or larger than 100 bytes"):
        list(stream_json_array(path))


def test_lines_hold_objects_with_the_fields_asked_for(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text("\ufeff" + '{"a": "one\u2028line"}\r\n[1]\n', "utf-8")
    lines = read_json_lines(path)
    entry, where = next(lines)
    assert entry == {"a": "one\u2028line"} and where == f"{path}, line 1"
    with pytest.raises(UserError, match="line 1: no 'b'"):
        field(entry, "b", where)
    with pytest.raises(UserError, match="line 2: expected a JSON object, found list"):
        next(lines)
