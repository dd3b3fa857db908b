"""Names become file names in one place: portable, bounded, never a path, and distinct where the names are."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipbias.names import file_name

HOSTILE = [
    *("", ".", "..", "../..", "../../etc/passwd", "/abs/photos.csv", "C:\\x", "a/b", "a\\b", "~", "~root", ".hidden"),
    *(
        "con",
        "NUL",
        "nul.txt",
        "COM1",
        "lpt9.tar.gz",
        "aux ",
        "prn.",
        "COM¹",
        "name.",
        "name ",
        "na\x00me",
        "a\nb",
        "\x1b[2J",
    ),
    *(
        "a" * 300,
        "ü" * 300,
        "а",
        "a",
        "A",
        "ａ",
        "ﬁ",
        "fi",
        "e\u0301",
        "é",
        "\u202ex",
        "\ud800",
        "a:b",
        "a*b?",
        "-rf",
        "run~0123456789",
    ),
]
names = st.one_of(st.sampled_from(HOSTILE), st.text(), st.text(st.sampled_from("./\\~aA:нul \x00-"), max_size=12))


@given(names)
def test_a_file_name_is_one_portable_component(name):
    made = file_name(name)
    assert 1 <= len(made.encode()) <= 80 and made.isascii() and made.isprintable()
    assert (
        made not in (".", "..")
        and ".." not in made
        and not made.startswith((".", "-"))
        and not made.endswith((".", " "))
    )
    assert not set(made) & set('/\\:*?"<>| \t')
    assert PurePosixPath(made).name == made and PureWindowsPath(made).name == made
    assert not PureWindowsPath(made).is_reserved()


@given(names, names)
def test_distinct_names_have_distinct_files_also_where_case_is_ignored(one, other):
    assert (file_name(one).lower() == file_name(other).lower()) == (one == other)


@given(names)
def test_a_file_name_names_itself_or_is_marked_as_changed(name):
    made = file_name(name)
    assert made == name or "~" in made


@pytest.mark.parametrize("name", ["nano-debias", "drop-first", "long-dci", "vit_b.16+x", "0"])
def test_plain_names_stay(name):
    assert file_name(name) == name
