"""What a page is made from, gathered once, and the part of it that is of one model or one data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from clipbias.report.examples import Example
from clipbias.report.heat import Heat
from clipbias.report.page.board import Line
from clipbias.report.style import Drawn
from clipbias.results.folder import Finished


@dataclass(frozen=True)
class Material:
    """Everything that pages show.

    Attributes:
        runs: as `load_runs` gives them.
        lines: of the leaderboard, as `board_lines` gives them: their ranks are among all models, on every page.
        drawn: the figures, whose files lie in ``figures``.
        examples, heat: for the caption browser, and for the captions of which each token was left out.
        order: of the models.
        figures: the folder of the figures.
        downloads: name, kind and content of the files that the page offers.
    """

    runs: Sequence[Finished]
    lines: Sequence[Line]
    drawn: Sequence[Drawn]
    examples: Sequence[Example]
    heat: Sequence[Heat]
    order: Sequence[str]
    figures: Path
    downloads: Sequence[tuple[str, str, str]] = ()


@dataclass(frozen=True)
class Place:
    """Where a page stands among others; by default it stands alone.

    Attributes:
        heading: instead of the usual one.
        up: address of the front page.
        models, data: addresses of the pages of models and data sets, by name.
        published: lines of published numbers to show, as `clipbias.results.published.lines` gives them.
    """

    heading: str = ""
    up: str = ""
    models: tuple[tuple[str, str], ...] = ()
    data: tuple[tuple[str, str], ...] = ()
    published: tuple[tuple[str, ...], ...] = ()


def of_model(all_of_it: Material, model: str) -> Material:
    """The material of one model alone."""
    drawn = [_only(one, model) for one in all_of_it.drawn if "model" in one.table]
    examples = [replace(e, models=tuple(s for s in e.models if s.model == model)) for e in all_of_it.examples]
    heat = [replace(h, models={m: c for m, c in h.models.items() if m == model}) for h in all_of_it.heat]
    return replace(
        all_of_it,
        runs=[one for one in all_of_it.runs if one.run.model == model],
        drawn=[one for one in drawn if len(one.table)],
        lines=[line for line in all_of_it.lines if line.model == model],
        examples=[one for one in examples if one.models],
        heat=[one for one in heat if one.models],
        order=[model],
    )


def _only(one: Drawn, model: str) -> Drawn:
    published = one.published
    theirs = published if published is None else published[published["model"] == model]
    return replace(one, table=one.table[one.table["model"] == model], published=theirs)


def of_data(all_of_it: Material, data: str) -> Material:
    """The material of one data set alone."""
    runs = [one for one in all_of_it.runs if one.run.data == data]
    ran = {one.run.model for one in runs}
    return replace(
        all_of_it,
        runs=runs,
        drawn=[one for one in all_of_it.drawn if one.data == data],
        lines=[line for line in all_of_it.lines if line.data == data],
        examples=[one for one in all_of_it.examples if one.data == data],
        heat=[one for one in all_of_it.heat if one.data == data],
        order=[model for model in all_of_it.order if model in ran],
    )
