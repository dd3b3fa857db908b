"""`clipbias probe` as it is followed: options anywhere, dry runs, limits, reuse, sweeps that go past a failure."""

from __future__ import annotations

import csv
import io
import json
import logging
import random
from collections.abc import Callable

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
    assert record["data"] == "scenes-2[:30]" and record["settings"]["limit"] == 30 and "--limit 30" in record["command"]
    rows = list(csv.DictReader(io.StringIO(run(*asked, "--csv"))))
    assert {row["data"] for row in rows} == {"scenes-2[:30]"} and rows[0]["p_holm"] == ""
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


def working(*planned: dict[str, int]) -> tuple[Work, Callable[..., None]]:
    """Work, and a function that lets time pass and then reports (seconds, kind, done, total)."""
    now = [0.0]
    work = Work(list(planned), clock=lambda: now[0])

    def after(seconds: float, kind: str, done: int, total: int) -> None:
        now[0] += seconds
        work.step(kind, done, total)

    work.begin(0)
    return work, after


def test_time_left_follows_the_speed_of_what_was_done():
    work, after = working({"images": 100, "texts": 1000}, {"images": 100, "texts": 1000})
    after(10.0, "images", 50, 100)  # 5 per second
    assert work.left() is None and work.rest() == "10 s of images left"
    after(2.0, "texts", 200, 500)  # a short first step: the model warms up
    assert work.left() is None and work.rest() == ""
    after(4.0, "texts", 400, 500)  # 50 per second
    # 50 + 100 images at 5, 600 + 1,000 texts at 50.
    assert work.left() == pytest.approx(150 / 5 + 1600 / 50)
    after(4.0, "texts", 200, 500)  # a second pass, as fast
    assert work.done["texts"] == 600
    work.begin(1)
    assert work.left() == pytest.approx(100 / 5 + 1000 / 50)
    for _ in range(3):  # passes of one batch each, all as long
        after(1.0, "texts", 60, 60)
    assert work.done["texts"] == 180
    assert [spoken(s) for s in (5, 600, 7500)] == ["5 s", "10 min", "2 h 05 min"]


def test_time_left_does_not_jump():
    """Batches take 1.5 to 0.5 of their mean time, the first ten times as long: once told, the end stays where it is."""
    work, after = working({"texts": 10_000})
    draw, now, ends = random.Random(0), 0.0, []
    for batch in range(200):
        seconds = 10.0 if not batch else draw.uniform(0.5, 1.5)
        after(seconds, "texts", 50 * (batch + 1), 10_000)
        now += seconds
        if (left := work.left()) is not None and now > 60:
            ends.append(now + left)
    assert max(ends) < 1.25 * now and min(ends) > 0.8 * now
    shares = [ends[i + 1] / ends[i] for i in range(len(ends) - 1)]
    assert min(shares) > 0.95 and max(shares) < 1.05


def test_what_is_cached_is_not_waited_for():
    work, after = working({"images": 100, "texts": 1000})
    after(0.1, "cached images", 100, 100)
    after(0.1, "cached texts", 400, 1000)
    assert work.share() == 0
    after(4.0, "texts", 200, 600)
    assert work.left() == pytest.approx(400 / 50) and work.share() == pytest.approx(200 / 600)


def test_a_plan_that_was_too_small_grows_and_the_share_never_falls():
    work, after = working({"steps": 1})
    shares = []
    for step in range(1, 11):
        after(4.0, "steps", step, 10)
        shares.append(work.share())
    assert shares == pytest.approx([step / 10 for step in range(1, 11)]) and work.left() == 0


def test_a_log_gets_a_line_a_minute():
    now, out = [0.0], io.StringIO()
    lines = Lines(60.0, clock=lambda: now[0], stream=out)
    for second in range(0, 150, 10):
        now[0] = float(second)
        lines(f"at {second}", "30 s left")
    assert out.getvalue().splitlines() == ["clipbias: at 60, about 30 s left", "clipbias: at 120, about 30 s left"]


def test_what_is_said_before_a_run_breaks_at_blanks_in_a_narrow_terminal(run, monkeypatch):
    monkeypatch.setattr("clipbias.cli.console.terminal_width", lambda: 60)
    told = (
        CliRunner()
        .invoke(app, ["probe", "needle", "padding", "-m", "nano-debias", "--limit", "20", "--dry-run"])
        .stdout
    )
    lines = told.splitlines()
    starts = [line for line in lines if not line.startswith("  ")]
    assert [line.partition(":")[0] for line in starts] == ["data", "cost", "run"] and max(map(len, lines)) <= 60
    monkeypatch.setattr("clipbias.cli.console.terminal_width", lambda: None)
    whole = (
        CliRunner()
        .invoke(app, ["probe", "needle", "padding", "-m", "nano-debias", "--limit", "20", "--dry-run"])
        .stdout
    )
    assert " ".join(told.split()) == " ".join(whole.split()) and len(whole.splitlines()) == 3


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
