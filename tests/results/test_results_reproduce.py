"""Published numbers beside measured ones: what is inside, what is missed, and the causes that are tried."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests_support import make_row
from typer.testing import CliRunner

from clipbias.cli.app import app
from clipbias.errors import CheckFailed, UserError
from clipbias.models.loading import load_model
from clipbias.rerun import reproduce as module
from clipbias.rerun.causes import CAUSES
from clipbias.rerun.reproduce import compared, leaderboard_numbers, missed, numbers_for, paper_plan
from clipbias.results.settings import Settings

NUMBERS = [n for n in leaderboard_numbers() if n.model == "nano-clip"]


def test_numbers_meet_the_row_of_their_direction_and_condition():
    rows = [
        make_row(condition="full", scope="all", value=0.66, low=0.63, high=0.69),
        make_row(condition="full", scope="eligible", value=0.1, low=0.0, high=0.2),
        make_row(condition="drop-first", scope="eligible", value=0.2, delta=-0.4, delta_low=-0.5, delta_high=-0.3),
    ]
    found = {(c.number.direction, c.number.condition): c for c in compared(NUMBERS, rows)}
    assert set(found) == {("t2i", ""), ("t2i", "drop-first")}
    assert found["t2i", ""].measured == 66 and found["t2i", "drop-first"].low == -50


def test_a_number_is_inside_up_to_its_rounding_and_one_source_that_fits_is_enough():
    row = make_row(condition="full", scope="all", value=0.66, low=0.63, high=0.69)
    base = next(n for n in NUMBERS if n.direction == "t2i" and not n.condition)
    found = compared([replace(base, value=v) for v in (69.04, 69.06, 20.0)], [row])
    assert [c.inside for c in found] == [True, False, False]
    assert missed(found) == [] and len(missed(found[1:])) == 2


def test_causes_come_in_order_and_change_one_setting_each():
    encoder = load_model("nano-clip")
    dci = [c.change(Settings("drop-first", "nano-clip", "dci"), encoder) for c in CAUSES]
    assert {s.data for s in dci if s is not None} == {"dci", "dci-lotlip", "dci-fgclip"}
    for data, changed in (("coco", "first_five"), ("docci", "upright")):
        asked = Settings("drop-first", "nano-clip", data)
        options = [c.change(asked, encoder) for c in CAUSES]
        assert changed in {key for s in options if s is not None for key in s.options}
        for s in options:
            assert s is None or sum(getattr(s, n) != getattr(asked, n) for n in s.record()) == 1
    assert [c.name for c in CAUSES][:3] == ["context length", "resolution", "text padding"]
    assert all(c.change(asked, encoder) or c.known(asked, encoder) for c in CAUSES)


def test_nothing_published_says_where_there_is_something():
    with pytest.raises(UserError, match="urban1k"):
        numbers_for("longclip-b16", "scenes")


def test_the_paper_plan_names_what_is_missing_and_what_it_would_cost(monkeypatch):
    monkeypatch.delenv("CLIPBIAS_DATA", raising=False)
    plan = {(n.model, n.data): n for n in paper_plan()}
    assert ("debias-b16", "docci") in plan and ("longclip-b16", "urban1k") in plan
    assert any("data: docci" in line for line in plan["debias-b16", "docci"].missing)
    assert "5,000 images" in plan["debias-b16", "docci"].cost


def test_a_model_that_ships_reproduces_its_leaderboard_and_a_wrong_number_is_missed(tmp_path, monkeypatch, request):
    def run(out):
        return CliRunner().invoke(app, ["reproduce", "nano-clip", "--device", "cpu", "--out", str(out), "--no-cache"])

    monkeypatch.setattr(module, "leaderboard_numbers", lambda: [n for n in NUMBERS if n.condition != "swap-1-4"])
    good = run(tmp_path / "whole")
    assert good.exit_code == 0 and good.output.count("inside") == 3, good.output
    wrong = [replace(n, value=20.0) for n in NUMBERS if not n.condition]
    monkeypatch.setattr(module, "leaderboard_numbers", lambda: wrong)
    request.getfixturevalue("few_scenes")  # a number far off is missed on these, too
    bad = run(tmp_path / "few")
    assert isinstance(bad.exception, CheckFailed) and "nano-clip scenes-2 T2I" in str(bad.exception)
    assert "the usual causes" in bad.output and "--precision bf16" in bad.output
    assert bad.output.index("context length") < bad.output.index("mixed precision") < bad.output.index("normalisation")
