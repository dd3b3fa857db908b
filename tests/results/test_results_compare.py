"""Comparisons of two models: the difference of their drops, against the queries worked by hand."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from tests_support import make_row, make_run

from clipbias.cli.app import main
from clipbias.errors import UserError
from clipbias.names import for_json
from clipbias.results.compare import as_record, compare_runs, comparison_text
from clipbias.results.folder import finished, read_run, run_folder, write_run
from clipbias.results.record import QUERY_COLUMNS
from clipbias.stats.intervals import difference
from clipbias.stats.tests import holm, sign_flip

SHARES = {"a": {"full": 0.99, "cut": 0.6}, "b": {"full": 0.97, "cut": 0.9}}


def write(out, model, eligible):
    """A run of two conditions; returns its folder and hits {condition: [Q]}."""
    generator = np.random.default_rng(ord(model))
    hits = {condition: generator.random(300) < share for condition, share in SHARES[model].items()}
    lines = [
        [condition, "t2i", q, q // 3, int(not hit), 0, 1, 0.5, 0.1, bool(condition == "full" or eligible[q]), True]
        for condition, mine in hits.items()
        for q, hit in enumerate(mine)
    ]
    folder = run_folder(out, model, "d", "drop-first")
    rows = [make_row(), make_row(condition="cut", baseline="full")]
    write_run(folder, make_run(model=model), rows, pd.DataFrame(lines, columns=list(QUERY_COLUMNS)))
    return folder, {condition: mine.astype(float) for condition, mine in hits.items()}


@pytest.fixture
def pair(tmp_path):
    eligible = np.arange(300) % 5 > 0
    return eligible, write(tmp_path, "a", eligible), write(tmp_path, "b", eligible)


def test_a_comparison_is_the_difference_of_the_drops_on_the_same_captions(pair):
    eligible, (one, first), (two, second) = pair
    whole, cut = compare_runs(finished(one), finished(two), margin=0.02)
    cluster = np.arange(300) // 3
    assert (whole.condition, whole.base_first, whole.drop_first, whole.log_odds) == ("full", None, None, None)
    assert whole.apart == difference(second["full"] - first["full"], cluster) and whole.n == 300
    drops = [(hits["cut"] - hits["full"])[eligible] for hits in (first, second)]
    images = cluster[eligible]
    assert cut.base_first == pytest.approx(first["full"][eligible].mean())
    assert cut.drop_second == difference(drops[1], images)
    assert cut.apart == difference(drops[1] - drops[0], images, 2.0)
    assert cut.apart.value == pytest.approx(cut.drop_second.value - cut.drop_first.value)
    assert (cut.n, cut.clusters) == (240, 100) and cut.log_odds is not None
    plain = [sign_flip(second["full"] - first["full"], cluster), sign_flip(drops[1] - drops[0], images)]
    assert [whole.p, cut.p] == plain and [whole.p_holm, cut.p_holm] == holm(plain)
    assert cut.equivalence.p_no_worse < 1e-3 and cut.equivalence.p == 0.5


def test_the_text_says_what_is_compared_in_80_columns(pair):
    _, (one, _), (two, _) = pair
    text = comparison_text(read_run(one), read_run(two), compare_runs(finished(one), finished(two), margin=0.02))
    assert max(map(len, text.splitlines())) <= 80
    for part in ("A = a", "B = b", "drop-first on d (test)", "B - A", "log-odds", "margin 2 points: B is no worse"):
        assert part in text
    assert "nothing is ranked" in comparison_text(read_run(one), read_run(two), [])


def test_json_holds_every_number_and_no_infinity(pair, monkeypatch, capsys):
    _, (one, _), (two, _) = pair
    record = as_record(compare_runs(finished(one), finished(two), margin=0.02)[1])
    assert record["apart"].keys() == {"value", "low", "high"} and record["equivalence"]["margin"] == 0.02
    assert json.loads(for_json(record | {"apart": {"low": -np.inf}}))["apart"] == {"low": None}
    assert json.loads(for_json(record))["apart"] == record["apart"]
    monkeypatch.setattr("sys.argv", ["clipbias", "compare", str(one), str(two), "--margin", "0", "--json"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2 and "--margin 0: give points" in capsys.readouterr().err


def test_other_data_are_refused(pair, tmp_path):
    _, (one, _), _ = pair
    other = run_folder(tmp_path / "x", "b", "d", "drop-first")
    write_run(other, make_run(data_fingerprint="9"), [make_row()], pd.DataFrame(columns=list(QUERY_COLUMNS)))
    with pytest.raises(UserError, match="different probes or different data"):
        compare_runs(finished(one), finished(other))
