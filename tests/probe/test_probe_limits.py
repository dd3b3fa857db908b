"""What a probe's file may ask for is checked by the annotations of transforms, and bounded before anything is made."""

from __future__ import annotations

import time
from typing import Annotated

import pytest
from pydantic import Field

from clipbias.errors import UserError
from clipbias.probe.parameters import checked_parameters
from clipbias.probe.spec import Condition, find_probes, parse_probe
from clipbias.probe.transforms import TRANSFORMS, check_call

SPEC = """name = "mine"
title = "t"
question = "q"
baseline = "full"
[[condition]]
name = "full"
"""
WRONG = [-1, -3, True, "2", 1.5, 2.0, [], [1], {}, 10**7, 10**30, float("nan"), None]


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize(
    ("name", "parameter", "others"),
    [
        ("keep_first", "n", {}),
        ("drop", "k", {}),
        ("swap", "i", {"j": 1}),
        ("pad", "n", {"text": "x"}),
        ("rotate", "by", {}),
    ],
)
def test_numbers_of_another_type_or_range_are_refused(name, parameter, others, value):
    with pytest.raises(UserError, match=rf"^transform {name}: {parameter} = [^\n]*$"):
        check_call(name, {**others, parameter: value})


def test_places_start_at_one_and_texts_are_bounded():
    for name, parameters in (
        ("drop", {"k": 0}),
        ("keep_first", {"n": 0}),
        ("pad", {"text": "", "n": 1}),
        ("pad", {"text": "x" * 2001, "n": 1}),
        ("permute", {"seed": -1}),
        ("reverse", {"n": 1}),
    ):
        with pytest.raises(UserError, match=f"transform {name}: "):
            check_call(name, parameters)
    assert check_call("pad", {"text": "x", "n": 0}) is TRANSFORMS["pad"]


def test_the_annotation_is_the_rule_for_new_functions_too():
    def mine(sentences: tuple[str, ...], p: Annotated[float, Field(ge=0, le=1)], k: int = 3) -> None:
        """Not run."""

    checked_parameters(mine, {"p": 0.5}, "here", skip=1)
    with pytest.raises(UserError, match=r"^here: p = '1.5': Input should be less than or equal to 1$"):
        checked_parameters(mine, {"p": 1.5}, "here", skip=1)
    with pytest.raises(UserError, match="here: no parameter 'sentences'; it takes p, k"):
        checked_parameters(mine, {"p": 0.5, "sentences": ()}, "here", skip=1)


def test_paddings_on_paddings_are_bounded():
    condition = Condition("much", (("pad", {"text": "x" * 2000, "n": 1000}),) * 3)
    began = time.monotonic()
    with pytest.raises(UserError, match=r"condition 'much': 2,000,001 characters in one text \(limit 100,000"):
        condition.apply(("a",))
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SPEC + "token_padding = 1000000000\n", "token_padding: a whole number from 0 to 10,000"),
        (SPEC + "first_tokens = 1000000000\n", "first_tokens: a whole number from 1 to 10,000"),
        (SPEC + "x = nan\n", "x: nan is not a number"),
        (SPEC + "x = inf\n", "x: inf is not a number"),
        (SPEC.replace('"mine"', '"mi\\u200bne"'), "characters that print"),
        (SPEC + '[[condition]]\nname = "a\\u200bb"\n', "characters that print"),
        (SPEC.replace('"mine"', f'"{"a" * 300}"'), "1 to 200 characters"),
        (SPEC + "".join(f'[[condition]]\nname = "{i}"\n' for i in range(1001)), "1,002 conditions"),
        (SPEC + "transforms = [" + '{name = "reverse"},' * 51 + "]\n", "51 transforms"),
        ('name = "s"\ntitle = "t"\nquestion = "q"\nsuite = [' + '"padding",' * 201 + "]\n", "201 probes in a suite"),
        ("a." * 60_000 + "b = 1", "a key of 200 parts"),
        ("a = " + "[" * 100_000, "nested too deeply"),
    ],
)
def test_a_spec_that_asks_for_too_much_is_one_line(text, message):
    began = time.monotonic()
    with pytest.raises(UserError, match=message) as refused:
        parse_probe(text, "p.toml")
    assert "\n" not in str(refused.value) and time.monotonic() - began < 2


def suite(path, *members):
    path.write_text(f'name = "{path.stem}"\ntitle = "t"\nquestion = "q"\nsuite = {list(map(str, members))!r}\n')
    return str(path)


def test_suites_that_hold_themselves_are_refused(tmp_path):
    one, other = tmp_path / "one.toml", tmp_path / "other.toml"
    suite(one, other)
    suite(other, "padding", one)
    with pytest.raises(UserError, match=r"holds itself: .*one.toml > .*other.toml > .*one.toml"):
        find_probes(str(one))


def test_suites_that_double_are_read_once_each(tmp_path):
    below = "padding"
    for level in range(7):
        pair = [suite(tmp_path / f"{level}{side}.toml", below, below) for side in "ab"]
        below = suite(tmp_path / f"{level}.toml", *pair) if level % 2 else pair[0]
    began = time.monotonic()
    with pytest.raises(UserError, match="more than eight deep"):
        find_probes(below)
    assert [p.name for p in find_probes(str(tmp_path / "3a.toml"))] == ["padding"]
    assert time.monotonic() - began < 2
