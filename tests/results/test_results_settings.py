"""The command line made of a run's settings asks for the very same settings again."""

from __future__ import annotations

import shlex
from dataclasses import fields
from functools import cache
from typing import Any

import pytest
import typer.main
from hypothesis import given
from hypothesis import strategies as st

from clipbias.cli.app import app
from clipbias.cli.console import pairs
from clipbias.errors import UserError
from clipbias.results.settings import FLAGS, Settings, read_settings

texts = st.one_of(
    st.sampled_from(["nano-clip", "mine:load", "runs/a/model.pt", "-x", "--model", "a b", "x'y\"z", "$HOME;ls", "é=1"]),
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"), min_size=1, max_size=20),
)
keys = st.from_regex(r"[a-z][a-z_]{0,9}", fullmatch=True).filter(
    lambda k: k not in ("name", "weights", "device", "precision", "revision", "root", "split", "skip_bad")
)
options = st.dictionaries(keys, st.one_of(st.just(""), texts), max_size=3)
asked = st.builds(
    Settings,
    probe=texts,
    model=texts,
    data=texts,
    weights=st.one_of(st.just(""), texts),
    revision=st.one_of(st.just(""), texts),
    model_options=options,
    root=st.one_of(st.just(""), texts),
    split=st.one_of(st.just(""), texts),
    options=options,
    skip_bad=st.booleans(),
    device=texts,
    precision=texts,
    compile=st.booleans(),
    seed=st.integers(0, 2**31),
)


@cache
def probe_command() -> Any:
    return typer.main.get_command(app).commands["probe"]  # type: ignore[attr-defined]


def typed(arguments: list[str]) -> Settings:
    """What `clipbias probe` understands, through the parser of the command itself."""
    command = probe_command()
    given = command.make_context("probe", list(arguments)).params
    (probe,), (model,) = given["names"], given["model"]
    return Settings(
        probe=probe,
        model=model,
        data=given["data"],
        weights=str(given["weights"] or ""),
        revision=given["revision"] or "",
        model_options=pairs(given["model_option"], "--model-option"),
        root=str(given["root"] or ""),
        split=given["split"] or "",
        options=pairs(given["option"], "--option"),
        skip_bad=given["skip_bad"],
        device=given["device"],
        precision=given["precision"],
        compile=given["compile_"],
        seed=given["seed"],
    )


def as_path(text: str) -> str:
    from pathlib import Path

    return str(Path(text)) if text else ""


@given(asked)
def test_every_combination_of_settings_comes_back_through_the_command_line(settings):
    settings = settings.changed(weights=as_path(settings.weights), root=as_path(settings.root))
    words = shlex.split(settings.command)
    assert words[:2] == ["clipbias", "probe"]
    assert typed(words[2:]) == settings


@given(asked)
def test_settings_come_back_through_their_record(settings):
    import json

    assert read_settings(json.loads(json.dumps(settings.record()))) == settings


def test_every_option_of_the_command_that_decides_a_result_is_a_setting():
    """A new option of `clipbias probe` has to be recorded, or named here as deciding nothing."""
    command = typer.main.get_command(app).commands["probe"]  # type: ignore[attr-defined]
    flags = {flag for p in command.params for flag in p.opts if flag.startswith("--")}
    # Leave to run code is the user's word each time: a record that gave it would run code of anybody.
    nothing_of_the_result = {"--out", "--cache", "--json", "--csv", "--list", "--help", "--trust-remote-code"}
    # Several models and data sets are as many runs, each with its own --model and --data.
    nothing_of_the_result |= {"--models", "--data-list", "--dry-run", "--batch-size"}
    assert flags - nothing_of_the_result == set(FLAGS.values())
    assert {f.name for f in fields(Settings)} == {"probe", *FLAGS}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": "0"}, "seed"),
        ({"seed": True}, "seed"),
        ({"options": {"a": 1}}, "options"),
        ({"model": None}, "model"),
        ({"more": 1}, "more"),
        ({"model_options": {"trust_remote_code": "true"}}, "trust_remote_code"),
        ({"options": {"root": "/"}}, "root"),
    ],
)
def test_settings_that_are_not_are_refused_by_name(change, said):
    record = Settings("swap", "nano-clip", "scenes").record() | change
    with pytest.raises(UserError, match=said):
        read_settings(record)
    with pytest.raises(UserError, match="not a table"):
        read_settings([])
