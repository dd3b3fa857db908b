"""`clipbias probe` as it is followed: options anywhere, dry runs, limits, reuse, sweeps that go past a failure."""

from __future__ import annotations

import csv
import io
import json
import logging

import pytest
from typer.testing import CliRunner

from clipbias.cli.app import app, hoisted
from clipbias.errors import CheckFailed, UserError
from clipbias.progress import Lines, Work, spoken


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The command line in an empty folder; a failing command raises."""
    monkeypatch.chdir(tmp_path)
    logger = logging.getLogger("clipbias")
    monkeypatch.setattr(logger, "handlers", [logging.NullHandler()])
    before = logger.level

    def call(*arguments: str) -> str:
        return CliRunner().invoke(app, arguments, catch_exceptions=False).stdout

    yield call
    logger.setLevel(before)


def test_global_options_stand_anywhere_before_the_double_hyphen():
    assert hoisted(["probe", "a", "-q", "--config", "c.toml", "--debug", "--", "-q"]) == [
        *("-q", "--config", "c.toml", "--debug", "probe", "a", "--", "-q")
    ]
    assert hoisted(["models", "--config=c.toml"]) == ["--config=c.toml", "models"]
    assert hoisted(["models", "--config"]) == ["models", "--config"]


def test_a_dry_run_says_the_cost_and_writes_nothing(run, tmp_path):
    shown = run("probe", "padding", "attention", "-m", "nano-debias", "--limit", "20", "--dry-run")
    # Six conditions of 20 captions, all different.
    assert "at most 20 images and 120 distinct texts" in shown and "attention" in shown
    assert not list(tmp_path.iterdir())


def test_limited_runs_say_so_are_reused_and_quiet_prints_results_only(run, tmp_path):
    asked = ("probe", "drop-first", "-m", "nano-debias", "--limit", "30")
    first, second, quiet = run(*asked), run(*asked), run(*asked, "-q")
    assert "only the first 30 images" in first and "results: results" in first and "next: clipbias report" in first
    assert "reused, same fingerprint" in second and "reused" not in first
    assert quiet.startswith("drop-first: nano-debias, n 30") and "results:" not in quiet and "data:" not in quiet
    (record,) = (json.loads(p.read_text()) for p in tmp_path.rglob("run.json"))
    assert record["data"] == "scenes[:30]" and record["settings"]["limit"] == 30 and "--limit 30" in record["command"]
    rows = list(csv.DictReader(io.StringIO(run(*asked, "--csv"))))
    assert {row["data"] for row in rows} == {"scenes[:30]"} and rows[0]["p_holm"] == ""
    assert len(rows) == len(json.loads(run(*asked, "--json")))
    with pytest.raises(UserError, match="not both"):
        run(*asked, "--json", "--csv")


def test_a_sweep_goes_past_a_model_that_fails(run, tmp_path):
    (tmp_path / "broken.pt").write_bytes(b"no weights")
    (tmp_path / "models.txt").write_text("# three\nnano-debias\nbroken.pt  # not one\nnano-longclip\n")
    with pytest.raises(CheckFailed, match=r"1 of the runs asked for failed: broken\.pt"):
        run("probe", "drop-first", "--models", "models.txt", "--limit", "20")
    assert {json.loads(p.read_text())["model"] for p in tmp_path.rglob("run.json")} == {"nano-debias", "nano-longclip"}
    (tmp_path / "none.txt").write_text("# nothing\n")
    with pytest.raises(UserError, match="names nothing"):
        run("probe", "drop-first", "--models", "none.txt")
    with pytest.raises(UserError, match="did you mean nano-clip"):
        run("probe", "drop-first", "-m", "nano-debias", "-m", "nano-clib", "--limit", "20")


def test_time_left_follows_the_speed_of_what_was_done():
    now = [0.0]
    work = Work([{"images": 100, "texts": 1000}, {"images": 100, "texts": 1000}], clock=lambda: now[0])
    work.begin(0)
    assert work.left() is None
    now[0] = 10.0
    work.step("images", 50, 100)  # 5 per second
    now[0] = 12.0
    work.step("texts", 400, 500)  # 200 per second
    # 50 + 100 images at 5, 600 + 1,000 texts at 200.
    assert work.left() == pytest.approx(150 / 5 + 1600 / 200)
    now[0] = 13.0
    work.step("texts", 200, 500)  # a second pass: 600 done at 600 per 3 s
    assert work.done["texts"] == 600
    work.begin(1)
    assert work.left() == pytest.approx(100 / 5 + 1000 / 200)
    for _ in range(3):  # passes of one batch each, all as long
        work.step("texts", 60, 60)
    assert work.done["texts"] == 180
    assert [spoken(s) for s in (5, 600, 7500)] == ["5 s", "10 min", "2 h 05 min"]


def test_a_log_gets_a_line_a_minute():
    now, out = [0.0], io.StringIO()
    lines = Lines(60.0, clock=lambda: now[0], stream=out)
    for second in range(0, 150, 10):
        now[0] = float(second)
        lines(f"at {second}", 30.0)
    assert out.getvalue().splitlines() == ["clipbias: at 60, about 30 s left", "clipbias: at 120, about 30 s left"]


def test_doctor_tells_and_fails_where_nothing_can_be_written(run, monkeypatch, tmp_path):
    facts = json.loads(run("doctor", "--no-online", "--json"))
    assert {fact["part"] for fact in facts} >= {"version", "device", "folder", "weights", "data"}
    assert all(type(fact["ok"]) is bool for fact in facts)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(CheckFailed, match="cache"):
        run("doctor", "--no-online")


def test_names_are_completed():
    from clipbias.cli import complete

    assert [name for name, _ in complete.probes("drop")] == ["drop-first"]
    assert "nano-debias" in complete.models("nano") and complete.datasets("sce") == ["scenes", "scenes-2"]


def test_help_is_without_environment_variables():
    assert "env var" not in CliRunner().invoke(app, ["probe", "--help"]).stdout
