"""Bias against training steps: which rows are drawn, and where."""

from __future__ import annotations

import pandas as pd
from tests_support import SVG, make_row, make_run

from clipbias.probe.measure import no_queries
from clipbias.report.load import all_rows
from clipbias.report.steps import step_figures, step_rows, steps_figure
from clipbias.results.folder import load_runs, run_folder, write_run


def written(tmp_path, models) -> pd.DataFrame:
    for model, change in models.items():
        for probe, condition in (("drop-first", "drop-first"), ("padding", "pad-5")):
            base = make_row(probe=probe, condition="full" if probe == "drop-first" else "pad-0", order=0)
            row = make_row(
                probe=probe, condition=condition, order=1, delta=change, delta_low=change - 0.02,
                delta_high=change + 0.02,
            )  # fmt: skip
            folder = run_folder(tmp_path, model, "scenes", probe)
            write_run(folder, make_run(model=model, probe=probe), [base, row], no_queries())
    return all_rows(load_runs([tmp_path]))


def test_kept_checkpoints_are_told_by_their_names_and_drawn_by_their_steps(tmp_path):
    rows = written(tmp_path / "r", {"a-step-000020": -0.1, "a-step-000100": -0.3, "b": -0.9})
    table = step_rows(rows)
    assert set(table["run"]) == {"a"} and table["step"].tolist() == [20, 20, 20, 100, 100, 100]
    drop = table[table["condition"] == "drop-first"]
    assert drop["value"].round(6).tolist() == [-10, -30] and drop["low"].round(6).tolist() == [-12, -32]
    figure = steps_figure(table)
    panels = {axes.get_title().partition(",")[0]: axes for axes in figure.axes if axes.get_visible()}
    panel = panels["first sentence removed"]
    assert panel.lines[0].get_xdata().tolist() == [20, 100]
    (drawn,) = step_figures(rows, "scenes", tmp_path, [SVG])
    assert (tmp_path / f"{drawn.stem}.svg").is_file()
    assert not step_figures(written(tmp_path / "one", {"a-step-000020": -0.1, "b": 0.0}), "scenes", tmp_path, [SVG])
    assert not step_figures(written(tmp_path / "none", {"b": 0.0}), "scenes", tmp_path, [SVG])
