"""What the results say, in three sentences; each is decided by tests on the same queries, none is stronger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clipbias.report.columns import Column
from clipbias.report.display import model_name
from clipbias.report.page.board import Cell, Line


@dataclass(frozen=True)
class Finding:
    """A question, the answer at a glance and in words, and how sure it is: ``verdict`` in a word, ``doubt`` in more."""

    question: str
    headline: str
    answer: str
    verdict: str
    doubt: str


SIGNIFICANT, ALIKE, UNTESTED = "significant", "not significant", "not tested"


def findings(lines: Sequence[Line], columns: Sequence[Column]) -> list[Finding]:
    """Which model retrieves best, which relies least on the first sentence, and what order or padding costs.

    Args:
        lines: one data set's.
        columns: the leaderboard's, by whose rank sets models are called better or worse.
    """
    by_key = {column.key: column for column in columns}
    out = []
    if answer := _best(lines):
        out.append(answer)
    one = sum("t1" in line.cells or "drop" in line.cells for line in lines) == 1
    relies = "Does it rely on the first sentence?" if one else "Which model relies most on the first sentence?"
    for key, question, words in (
        ("drop", relies, "without the first sentence"),
        ("swap", "Does the order of sentences matter?", "with the first sentence in fourth place"),
        ("pad5", "Does padding matter?", "behind five padding sentences"),
    ):
        if len(out) < 3 and (answer := _losses(lines, by_key[key], question, words)):
            out.append(answer)
    return out


def percent(cell: Cell, sign: str = "") -> str:
    """A cell with its interval: "66.3% (63.4 to 69.2)", or in points with its sign."""
    return f"{cell.value:{sign}.1f}{'' if sign else '%'}{_ends(cell, sign)}".replace("-", "\u2212")


def _ends(cell: Cell, sign: str = "") -> str:
    if cell.low is None or cell.high is None:
        return ""
    return f" ({cell.low:{sign}.1f} to {cell.high:{sign}.1f})"


def _edge(line: Line, key: str) -> tuple[int, int]:
    """The best and the worst rank that the data allow; (1, 0) where nothing was tested."""
    text = line.cells[key].rank
    if not text:
        return 1, 0
    ends = [int(part) for part in text.split("–")]
    return ends[0], ends[-1]


def _several(names: Sequence[str]) -> str:
    """Names in a sentence; of many, the first and how many more."""
    names = [*names[:3], f"{len(names) - 3} others"] if len(names) > 4 else names
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _best(lines: Sequence[Line]) -> Finding | None:
    mine = [line for line in lines if "t1" in line.cells]
    if not mine:
        return None
    top = max(mine, key=lambda line: line.cells["t1"].value)
    answer = f"{model_name(top.model)} finds the right image for {percent(top.cells['t1'])} of whole captions"
    if len(mine) == 1:
        headline = f"{top.cells['t1'].value:.1f}% of images found"
        return Finding(
            "How well does it retrieve?", headline, answer + ".", "", "One model: nothing to compare it with."
        )
    shared = [model_name(line.model) for line in mine if line is not top and _edge(line, "t1")[0] == 1]
    worse = len(mine) - 1 - len(shared)
    answer += ", the highest of " + str(len(mine)) + " models."
    if not top.cells["t1"].rank:
        doubt, verdict = "The models did not run the same queries; the difference was not tested.", UNTESTED
    elif shared:
        verdict = ALIKE
        doubt = f"Not significantly better than {_several(shared)}."
        if worse:
            doubt += f" The other {worse if worse > 1 else 'one'} {'are' if worse > 1 else 'is'} significantly worse."
    else:
        doubt, verdict = "Significantly better than every other model.", SIGNIFICANT
    tie = f", tied with {shared[0] if len(shared) == 1 else f'{len(shared)} others'}" if shared else ""
    return Finding("Which model retrieves best?", model_name(top.model) + tie, answer, verdict, doubt)


def _losses(lines: Sequence[Line], column: Column, question: str, words: str) -> Finding | None:
    key = column.key
    mine = [line for line in lines if key in line.cells]
    if not mine:
        return None
    least = max(mine, key=lambda line: line.cells[key].value)
    most = min(mine, key=lambda line: line.cells[key].value)
    sure = [line for line in mine if (high := line.cells[key].high) is not None and high < 0]
    if len(mine) == 1:
        sure_words = "The interval excludes no change." if sure else "The interval includes no change."
        answer = f"{model_name(most.model)} changes by {percent(most.cells[key], '+')} points {words}."
        headline = _headline(most, key).rpartition(": ")[2]
        return Finding(question, headline, answer, SIGNIFICANT if sure else ALIKE, sure_words)
    answer = (
        f"{words[0].upper()}{words[1:]}, {model_name(most.model)} changes most, by {percent(most.cells[key], '+')} "
        f"points of R@1; {model_name(least.model)} least, by {percent(least.cells[key], '+')}."
    )
    count = "Every model" if len(sure) == len(mine) else f"{len(sure)} of {len(mine)} models"
    doubt = f"{count} {'loses' if len(sure) in (1, len(mine)) else 'lose'} significantly."
    best, worst = _edge(most, key)
    if not worst:
        doubt += " The models did not run the same queries and were not compared."
        return Finding(question, _headline(most, key), answer, UNTESTED, doubt)
    apart = best > _edge(least, key)[1]
    if apart:
        doubt += f" {model_name(least.model)} loses significantly less than {model_name(most.model)}"
        alike = [model_name(line.model) for line in mine if line is not least and _edge(line, key)[0] == 1]
        doubt += f", not significantly less than {_several(alike)}." if alike else " and than every other model."
    else:
        doubt += f" {model_name(least.model)} and {model_name(most.model)} do not differ significantly."
    return Finding(question, _headline(most, key), answer, SIGNIFICANT if apart else ALIKE, doubt)


def _headline(line: Line, key: str) -> str:
    """ "Long-CLIP B/16: -55.4 points"."""
    value = f"{line.cells[key].value:+.1f}".replace("-", "\u2212")
    return f"{model_name(line.model)}: {value} points"
