"""Every probe on a small model of every class: it runs, or one line says what this model cannot answer."""

from __future__ import annotations

import logging
from dataclasses import replace

import huggingface_hub
import numpy as np
import pytest
from every_class import CLASSES

import clipbias
from clipbias.data.kept import with_kept_images
from clipbias.probe.asked import data_settings, wanted_probes
from clipbias.probe.kinds import KINDS
from clipbias.probe.sweep import Outcome, Sweep, run_sweep
from clipbias.results.folder import read_rows, read_run
from clipbias.results.settings import Settings

ALL = wanted_probes(["all"])
_SLOW = {"shift": {"shifts": [0, 40]}, "shapley": {"captions": 2}, "influence": {"captions": 2}}
_KINDS = {probe.kind: probe for _, probe in [*ALL, *wanted_probes(["truncate-tokens"])]}
# One of each kind, of those that change ids where there are some; bootstraps of curves are not the question here.
SOME = [(one.name, replace(one, settings={**one.settings, **_SLOW.get(kind, {})})) for kind, one in _KINDS.items()]
SHORT = {"place-pads"}  # 40 pads and more find no place
WHOLE = {"attention", "influence", "token-padding", "truncate-tokens", *SHORT}  # only whole texts are shown
REFUSED = {
    "open_clip": SHORT,
    "open_clip CoCa": {"attention", *SHORT},
    "open_clip SigLIP": SHORT,
    "open_clip, transformers' text": SHORT,
    "transformers": SHORT,
    "sentence-transformers": SHORT,
    "language model that sees": WHOLE,
    "user": WHOLE,
}


@pytest.fixture(scope="module")
def scenes():
    on, dataset = data_settings("scenes", limit=3)
    return on, with_kept_images(dataset)


@pytest.fixture
def outcomes(scenes, tmp_path, monkeypatch, caplog):
    """What comes of probes of a class, and the lines beside them."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))

    def run(kind: str, probes) -> tuple[list[Outcome], list[str]]:
        name = CLASSES[kind](tmp_path)
        trusted = kind == "language model that sees"
        encoder = clipbias.load_model(name, device="cpu", trust_remote_code=trusted)
        caplog.clear()
        caplog.set_level(logging.WARNING, "clipbias")
        sweep = Sweep(
            probes=probes,
            models=[(Settings(probe="", model=name, data=""), encoder)],
            datasets=[scenes],
            out=tmp_path / "out",
        )
        return list(run_sweep(sweep)), [record.getMessage() for record in caplog.records]

    return run


def _check(found: list[Outcome], lines: list[str], probes, refused: set[str]) -> None:
    assert [one.probe for one in found] == [probe.name for _, probe in probes]
    assert {one.probe for one in found if one.problem} == refused
    assert all("\n" not in one.problem and len(one.problem) < 200 and not one.failed for one in found)
    about = [line.split(":")[0] for line in lines]
    assert len(about) == len(set(about)) and not set(about) & refused, lines
    for one in found:
        if one.folder is not None:
            values = [row.value for row in read_rows(one.folder)]
            assert values and np.isfinite(values).all(), one.probe
            assert read_run(one.folder).captions == 3


def test_some_probes_are_of_every_kind():
    assert {probe.kind for _, probe in SOME} == set(KINDS)


@pytest.mark.parametrize("kind", CLASSES)
def test_a_probe_of_each_kind_is_answered_or_refused_in_a_line(outcomes, kind):
    refused = REFUSED.get(kind.split(" ")[0] if kind.startswith("transformers") else kind, set())
    _check(*outcomes(kind, SOME), SOME, refused & {probe.name for _, probe in SOME})


@pytest.mark.parametrize("kind", ["openai", "user"])
def test_all_probes_finish(outcomes, kind):
    # No image of scenes has several captions.
    _check(*outcomes(kind, ALL), ALL, {"himo-docci", *REFUSED.get(kind, set())})
