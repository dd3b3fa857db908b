"""What probes are said to cost, against what a counting encoder is asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clipbias.errors import UserError
from clipbias.probe import costs, rigged
from clipbias.probe import kinds as probe_kinds
from clipbias.probe.plan import cost
from clipbias.probe.session import Session
from clipbias.probe.spec import find_probes, read_probe, shipped_probes

ONE = [n for n, path in shipped_probes().items() if n != "himo-docci" and not read_probe(path).suite]


@pytest.fixture(scope="module")
def counted():
    """A probe's name -> texts that a model really encoded for it, and captions, on 40 rigged captions."""

    def count(names):
        data = rigged.rigged_data()
        few = range(40)
        data = replace(
            data, image_names=data.image_names[:40], captions=[data.captions[i] for i in few], name="scenes",
            sentences=[data.sentences[i] for i in few], short_captions=data.short_captions[:40], split="validation",
            caption_image=np.arange(40), told_wrong=data.told_wrong[:40],
        )  # fmt: skip
        encoder = rigged.RiggedEncoder(data, "no order")
        seen, once = [], encoder.tower.features
        encoder.tower.features = lambda ids: (seen.extend(map(bytes, ids.numpy())), once(ids))[1]
        session = Session(encoder, data)
        probes = [probe for name in names for probe in find_probes(name)]
        for probe in probes:
            probe_kinds.KINDS[probe.kind](session, probe)
        return seen, cost(data, probes)

    return count


@pytest.mark.parametrize("name", ONE)
def test_a_probe_costs_no_more_than_is_stated(counted, name):
    seen, planned = counted([name])
    (probe,) = find_probes(name)
    if probe.kind in ("attention", "influence", "needle"):
        assert planned.apart == (name,) and planned.texts == 0
        assert len(seen) <= 40 * costs.kind_texts(probe, 8).texts
    else:
        assert planned.apart == () and 0 < len(seen) <= planned.texts
        if probe.conditions and not any(one.first_tokens for one in probe.conditions):
            assert len(seen) == planned.texts  # those that are cut to the same tokens are encoded once


def test_the_suite_robustness_encodes_each_distinct_text_once(counted):
    seen, planned = counted(["robustness"])
    assert len(seen) == len(set(seen)) == planned.texts <= 40 * 37


def test_the_docs_say_what_the_list_says():
    page = (Path(__file__).parents[2] / "docs" / "probes.md").read_text("utf-8")
    for name in shipped_probes():
        assert f"| `{name}` | {costs.stated(find_probes(name))} |" in page, name


def test_a_kind_that_states_no_cost_is_said_to_state_none():
    other = replace(find_probes("text")[0], kind="mine")
    assert costs.stated([other]) == "not stated"
    assert cost(rigged.rigged_data(), [other]).apart == ("text",)


def test_a_probe_of_a_kind_is_fifteen_lines_and_a_kind_a_hundred_and_fifty():
    for path in shipped_probes().values():
        probe = read_probe(path)
        if not probe.suite and (probe.kind != "retrieval" or probe.repeats > 1):
            assert len(probe.text.splitlines()) <= 15, path.name
    for path in Path(probe_kinds.__file__).parent.glob("*.py"):
        assert len(path.read_text("utf-8").splitlines()) <= 150, path.name


@pytest.mark.parametrize("value", ['"2"', "[2]", '"many"'])
def test_settings_of_a_wrong_type_have_no_cost_and_are_refused_by_the_kind(value, tmp_path):
    spec = tmp_path / "odd.toml"
    spec.write_text(
        f'name = "odd"\ntitle = "t"\nquestion = "q"\nkind = "shapley"\n[settings]\norders = {value}\ncaptions = 2\n'
    )
    (probe,) = find_probes(str(spec))
    assert costs.kind_texts(probe, 7) is None and costs.stated([probe]) == "not stated"
    with pytest.raises(UserError, match=r"settings\.orders"):
        probe.settings_like(captions=100, orders=16)
