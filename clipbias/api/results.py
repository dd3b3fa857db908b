"""Results in Python: finished runs as tables, figures and a summary."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from clipbias.errors import UserError
from clipbias.names import for_figure
from clipbias.results.folder import Finished, load_runs, place_for

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_SUMMARY = [
    *("model", "data", "probe", "condition", "direction", "value", "low", "high"),
    *("delta", "delta_low", "delta_high", "p_holm", "n"),
]


class Results(Sequence[Finished]):
    """Finished runs, in the order that they were run or found.

    A run that was made without a results folder lives as long as this object; `save` keeps it.
    """

    def __init__(self, runs: Sequence[Finished], keep: object = None) -> None:
        """``keep``: what has to live as long, such as a temporary folder."""
        self._runs, self._keep = list(runs), keep

    def __len__(self) -> int:
        return len(self._runs)

    @overload
    def __getitem__(self, index: int) -> Finished: ...
    @overload
    def __getitem__(self, index: slice) -> Results: ...
    def __getitem__(self, index: int | slice) -> Finished | Results:
        return Results(self._runs[index], self._keep) if isinstance(index, slice) else self._runs[index]

    def __iter__(self) -> Iterator[Finished]:
        return iter(self._runs)

    def __repr__(self) -> str:
        names = [f"{one.run.probe} of {one.run.model} on {one.run.data}" for one in self._runs[:3]]
        more = f", and {len(self) - 3} more" if len(self) > 3 else ""
        return f"<{len(self)} runs: {', '.join(names)}{more}>" if names else "<no runs>"

    def to_frame(self) -> pd.DataFrame:
        """Every row of every run (`clipbias.results.record.Row`), with model, data and split in front."""
        import pandas as pd

        records: list[dict[str, Any]] = []
        for one in self._runs:
            named = {"model": one.run.model, "data": one.run.data, "split": one.run.split}
            records += [{**named, **asdict(row)} for row in one.rows]
        return pd.DataFrame(records)

    def queries(self) -> pd.DataFrame:
        """A line per query and condition of every run, with model, data and probe in front."""
        import pandas as pd

        parts = []
        for one in self._runs:
            part = one.queries.copy()
            for place, (key, value) in enumerate(
                (("model", one.run.model), ("data", one.run.data), ("probe", one.run.probe))
            ):
                part.insert(place, key, value)
            parts.append(part)
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    def summary(self) -> pd.DataFrame:
        """R@1 on eligible captions and its change from the baseline, fractions with 95% intervals.

        Probes without retrieval give their own numbers, a line each with ``metric`` as the condition.
        """
        import pandas as pd

        frame = self.to_frame()
        if frame.empty:
            return pd.DataFrame(columns=_SUMMARY)
        ranked = (frame["metric"] == "recall@1") & (frame["scope"] == "eligible")
        others = frame["direction"] == ""
        named = frame["condition"].where(~others, frame["condition"] + " " + frame["metric"])
        return frame.assign(condition=named).loc[ranked | others, _SUMMARY].reset_index(drop=True)

    def plot(self, direction: str = "t2i", ax: Axes | None = None) -> Axes:
        """R@1 by condition, a line a model, with 95% intervals.

        Args:
            direction: "t2i" or "i2t".
            ax: where to draw; default: new axes.

        Raises:
            UserError: nothing to draw in that direction.
        """
        import matplotlib.pyplot as plt

        table = self.summary()
        table = table[table["direction"] == direction]
        if table.empty:
            raise UserError(f"no recall in the direction {direction!r} among these results; choose t2i or i2t")
        axes = plt.subplots(layout="constrained")[1] if ax is None else ax
        many = table["data"].nunique() > 1 or table["probe"].nunique() > 1
        longer = table["data"] + " " + table["probe"] + " " + table["condition"]
        table = table.assign(at=longer if many else table["condition"])
        places = {name: place for place, name in enumerate(dict.fromkeys(table["at"]))}
        for model, mine in table.groupby("model", sort=False):
            value = 100 * mine["value"]
            low, high = (100 * mine[end].astype(float).fillna(mine["value"]) for end in ("low", "high"))
            error = [(value - low).clip(lower=0), (high - value).clip(lower=0)]
            label = for_figure(model)
            axes.errorbar([places[name] for name in mine["at"]], value, error, marker="o", capsize=2, label=label)
        ticks = list(map(for_figure, places))
        axes.set_xticks(list(places.values()), ticks, rotation=45 if len(ticks) > 6 else 0)
        axes.set_ylabel(f"{direction.upper()} R@1, %")
        axes.legend()
        return axes

    def _repr_html_(self) -> str:
        """The summary, recall in percent and its changes in points, as notebooks show it."""
        table = self.summary()
        ranked = table["direction"] != ""
        for column in ("value", "low", "high", "delta", "delta_low", "delta_high", "p_holm"):
            numbers = table[column].astype(float)
            percent = ranked & (column != "p_holm")
            table[column] = [
                "" if number != number else f"{100 * number:.1f}" if wanted else f"{number:.3g}"
                for number, wanted in zip(numbers, percent, strict=True)
            ]
        return table.to_html(index=False)

    def save(self, out: str | Path) -> Path:
        """Copy the run folders below ``out``, where `load_results` and `clipbias report` find them.

        Raises:
            UserError: the folder holds other runs or files.
        """
        for one in self._runs:
            target = place_for(Path(out), one.run)
            if target.resolve() != one.folder.resolve():
                shutil.copytree(one.folder, target, dirs_exist_ok=True)
        return Path(out)


def load_results(*folders: str | Path) -> Results:
    """The finished runs below folders; default: ``results``.

    Raises:
        UserError: a folder is not there, or holds damaged or contradicting runs.
    """
    return Results(load_runs([Path(folder) for folder in folders] or [Path("results")]))
