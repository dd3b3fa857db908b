"""Specs, transforms, statistics and the self-test."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import clipbias
from clipbias.data.build import without_images
from clipbias.data.loading import load_dataset
from clipbias.errors import UserError
from clipbias.models.ids import EOT, PAD, SOT
from clipbias.probe import rigged, selftest
from clipbias.probe.run import run_probe
from clipbias.probe.session import Session
from clipbias.probe.spec import Probe, find_probes, read_probe, shipped_probes
from clipbias.probe.transforms import TRANSFORMS, check_call
from clipbias.results.folder import read_queries, read_rows
from clipbias.stats.intervals import proportion
from clipbias.stats.tests import holm
from clipbias.stats.ties import credit, expected_rank, expected_reciprocal_rank

SENTENCES = st.lists(st.text("ab. ", min_size=1, max_size=4), min_size=1, max_size=9).map(tuple)


@settings(max_examples=200, deadline=None)
@given(SENTENCES, st.integers(0, 5), st.integers(1, 9), st.integers(1, 9))
def test_orders_keep_every_sentence_and_come_back(sentences, seed, i, j):
    for name, parameters in (
        ("reverse", {}),
        ("rotate", {"by": i}),
        ("permute", {"seed": seed}),
        ("swap", {"i": i, "j": j}),
    ):
        out = TRANSFORMS[name](sentences, **parameters)
        if out is None:
            assert len(sentences) < 2 or max(i, j) > len(sentences)
            continue
        assert Counter(out) == Counter(sentences)
        if name in ("reverse", "swap"):
            assert TRANSFORMS[name](out, **parameters) == sentences
        assert TRANSFORMS[name](sentences, **parameters) == out


@settings(max_examples=100, deadline=None)
@given(SENTENCES, st.integers(1, 9), st.integers(0, 5))
def test_cuts_and_paddings_do_what_they_say(sentences, n, count):
    kept = TRANSFORMS["keep_first"](sentences, n=n)
    assert kept == sentences[:n] == TRANSFORMS["keep_first"](kept, n=n)
    left = TRANSFORMS["drop"](sentences, k=n)
    if left is None:
        assert n > len(sentences) or len(sentences) == 1
    else:
        assert left == tuple(s for place, s in enumerate(sentences, 1) if place != n)
    for where in ("before", "after", "between"):
        padded = TRANSFORMS["pad"](sentences, text="X.", n=count, where=where)
        assert len(padded) == len(sentences) + count
        place = {"before": 0, "after": len(sentences), "between": 1}[where]
        assert padded == sentences[:place] + ("X.",) * count + sentences[place:]
    with pytest.raises(UserError, match="'before', 'after' or 'between'"):
        check_call("pad", {"text": "X.", "n": 1, "where": "nowhere"})


def test_every_shipped_spec_is_sound_and_suites_resolve():
    specs = {name: read_probe(path) for name, path in shipped_probes().items()}
    assert {"padding", "swap", "first-only", "drop-first", "swap-1-4", "permute", "attention", "needle"} <= set(specs)
    for name, spec in specs.items():
        assert spec.name == name and spec.title and spec.question
        assert all(find_probes(member) for member in spec.suite)
    assert [p.name for p in find_probes("paper")] == ["padding", "swap", "first-only", "drop-first", "swap-1-4"]
    padding = specs["padding"]
    two = ("One.", "Two.", "Three.")
    assert [c.apply(two) for c in padding.conditions] == [
        ("This is a photo.",) * n + ("One.", "Two.") for n in range(6)
    ]
    assert specs["swap-1-4"].conditions[1].apply(("a", "b", "c", "d", "e")) == ("d", "b", "c", "a", "e")
    assert specs["swap-1-4"].conditions[1].apply(("a", "b", "c")) is None


GOOD = """name = "mine"
title = "t"
question = "q"
baseline = "full"
[[condition]]
name = "full"
[[condition]]
name = "cut"
transforms = [{ name = "keep_first", n = 1 }]
"""


@pytest.mark.parametrize(
    ("change", "line", "message"),
    [
        (('title = "t"', ""), 1, "title: a text is needed"),
        (('"full"\n[[', '"fool"\n[['), 4, "baseline: 'fool' is none of"),
        (("keep_first", "keep_frist"), 9, "did you mean keep_first"),
        (("n = 1", "n = 1, m = 1"), 9, "no parameter 'm'; it takes n"),
        (('question = "q"', 'question = "q"\ncolour = 1'), 4, "colour: no such key"),
        (("transforms", "transform"), 9, "transform: no such key"),
        (('name = "cut"', 'name = "full"'), 8, "two conditions have this name"),
        (("transforms = [", 'x = "a"\ntransforms = ['), 9, "x: a number is needed"),
        (("transforms = [", "first_tokens = 0\ntransforms = ["), 9, "first_tokens: a whole number from 1"),
        (("transforms = [", 'captions = "tall"\ntransforms = ['), 9, "captions: choose"),
        (('name = "mine"', "name = "), 1, "Invalid"),
        (("n = 1 }]\n", "n = 1 }]\n[settings]\ncaptions = 5\n"), 10, "settings: only a probe with a kind of its own"),
    ],
)
def test_a_spec_with_a_mistake_is_answered_by_line_and_key(tmp_path, change, line, message):
    path = tmp_path / "p.toml"
    path.write_text(GOOD.replace(*change, 1))
    with pytest.raises(UserError, match=message) as caught:
        find_probes(str(path))
    text = str(caught.value)
    assert f"line {line}" in text and "p.toml" in text and "\n" not in text


def test_a_probe_that_does_not_exist_is_named_with_those_there_are():
    with pytest.raises(UserError, match=r"no probe is called 'paddin'; there are .*padding"):
        find_probes("paddin")
    with pytest.raises(UserError, match="transform keep_first: n is missing"):
        check_call("keep_first", {})


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_the_step_down_rule(p_values):
    found = holm(p_values)
    count = len(p_values)
    for p, corrected in zip(p_values, found, strict=True):
        # The corrected value is the largest of (m - rank) * p over the values that come no later.
        expected = max(min(1.0, (count - sum(q < r for q in p_values)) * r) for r in p_values if r <= p)
        assert corrected == pytest.approx(min(1.0, expected))


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def _session(count: int, model: str = "nano-debias") -> Session:
    return Session(clipbias.load_model(model), without_images(load_dataset("scenes"), range(count, 1000)))


def test_rows_follow_from_the_queries_that_are_kept(tmp_path):
    folder = run_probe(_session(60), find_probes("leave-one-out")[0], tmp_path)
    queries, rows = read_queries(folder), read_rows(folder)
    for row in rows:
        part = queries[(queries["condition"] == row.condition) & (queries["direction"] == row.direction)]
        part = part[part["eligible"]] if row.scope == "eligible" else part
        assert row.n == len(part) and row.clusters == part["cluster"].nunique()
        counts = [part[name].to_numpy() for name in ("better", "equal", "right")]
        if row.metric.startswith("recall@"):
            credits = credit(*counts, int(row.metric.split("@")[1]))
            assert (row.value, row.low, row.high) == pytest.approx(
                tuple(proportion(credits, part["cluster"].to_numpy()))
            )
            assert row.ties == ((credits > 0) & (credits < 1)).sum()
            assert row.delta is None or row.base == pytest.approx(row.value - row.delta)
        if row.metric == "median_rank":
            assert row.value == np.median(expected_rank(*counts))
        if row.metric == "mrr":
            assert row.value == pytest.approx(expected_reciprocal_rank(*counts).mean())
    last = next(r for r in rows if r.condition == "without-8" and r.scope == "eligible")
    assert 0 < last.eligible < 60 and last.affected == last.eligible
    eighth = sum(len(s) >= 8 for s in _session(60).sentences)
    assert last.eligible == eighth


def test_token_forms_change_the_ids_and_nothing_else(tmp_path):
    session = _session(4)
    text = session.dataset.captions[0]
    ids = session.encoder.tokenize([text])[0].tolist()
    end = ids.index(EOT)
    padded = [SOT, *[PAD] * 7, *ids[1 : end + 1]] + [PAD] * (248 - end - 8)
    cut = [*ids[:6], EOT] + [PAD] * 241
    features, row, lengths = session.texts([(text, None, 7), (text, 5, 0), (text, None, 0)])
    want = session.encoder.encode_token_ids(torch.tensor([padded, cut, ids]))
    torch.testing.assert_close(features[torch.from_numpy(row)], want)
    assert lengths.tolist() == [end + 8, 7, end + 1]


def test_truncation_is_counted(tmp_path):
    rows = read_rows(run_probe(_session(50, "nano-clip"), find_probes("drop-first")[0], tmp_path))
    lengths = clipbias.load_model("nano-clip").token_lengths(_session(50).dataset.captions)
    full = next(r for r in rows if r.condition == "full")
    assert full.truncated == pytest.approx((lengths > 77).mean())
    assert full.tokens_lost == pytest.approx(np.maximum(lengths - 77, 0).mean())


def test_short_captions_where_there_are_none_are_said(tmp_path):
    from dataclasses import replace

    session = _session(4)
    session.dataset = replace(session.dataset, short_captions=None)
    with pytest.raises(UserError, match="scenes has no short captions"):
        run_probe(session, find_probes("short")[0], tmp_path)


def test_the_selftest_knows_something_of_every_probe_and_every_encoder():
    from clipbias.probe.rigged import KINDS

    claims = selftest.all_claims(selftest.Rig())
    assert set(claims) == {probe.name for probe in find_probes("all")}
    for kind in KINDS[:4]:  # readers of the start, of weights, of the set, of the summary
        assert sum(kind in mine for mine in claims.values()) >= 10, kind
    assert all(mine and all(mine.values()) for mine in claims.values())


def test_the_selftest_passes_and_notices_an_encoder_that_is_wrong(monkeypatch):
    some = ("swap-1-4", "token-padding", "text", "attention", "reliance", "place-pads")
    checks = selftest.run_selftest(some)
    assert {check.what.partition(",")[0] for check in checks} == set(some)
    assert [check for check in checks if not check.passed] == []
    # A reader of order that is called one that ignores it must be found out, whichever probe asks.
    monkeypatch.setattr(rigged.RiggedTower, "weights", lambda self, row: (row > 0) * 0.8 ** np.arange(len(row)))
    wrong = {check.what.partition(",")[0] for check in selftest.run_selftest(some) if not check.passed}
    assert wrong == set(some)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("captoins = 5", "settings.captoins = 5; known are captions"),
        ("captions = 'all'", "settings.captions = 'all'; it must be like 1000"),
        ("captions = 0", "settings.captions = 0; it must be like 1000"),
        ("captions = 5000001", "settings.captions: 5,000,001"),
        ("captions = true", "settings.captions = True; it must be like 1000"),
    ],
)
def test_settings_of_a_kind_are_checked(tmp_path, setting, message):
    shipped = find_probes("attention")[0].text
    (tmp_path / "a.toml").write_text(shipped.replace("captions = 1000", setting))
    with pytest.raises(UserError, match=re.escape(message)):
        run_probe(_session(4), find_probes(str(tmp_path / "a.toml"))[0], tmp_path / "results")


def test_lists_in_settings_are_checked():
    def probe(fillers: object) -> Probe:
        return Probe("p", "", "", "", "", (), "", kind="needle", settings={"fillers": fillers})

    assert probe([0, 3]).settings_like(fillers=[0], places=8) == {"fillers": [0, 3], "places": 8}
    with pytest.raises(UserError, match=r"settings\.fillers: 1,001"):
        probe([0, 1001]).settings_like(fillers=[0])
    for wrong in ([0, -1], ["a"], 3, [True]):
        with pytest.raises(UserError, match="fillers"):
            probe(wrong).settings_like(fillers=[0], places=8)


def test_a_user_spec_runs_from_its_file(tmp_path):
    (tmp_path / "mine.toml").write_text(GOOD)
    folder = run_probe(_session(5), find_probes(str(tmp_path / "mine.toml"))[0], tmp_path / "results")
    assert Path(folder).name == "mine" and {r.condition for r in read_rows(folder)} == {"full", "cut"}
