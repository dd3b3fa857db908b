"""The page of published numbers, docs/published.md."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from clipbias.names import for_markdown
from clipbias.results.published import Published, conflicts

_INTRO = """# Published numbers

{count} numbers that papers, READMEs, audits and users reported, each with its source. They were read, not
measured here; measured results are in [leaderboards](leaderboards.md). The table is `leaderboards/published.csv`.
This page is made by `clipbias published --markdown > docs/published.md`; `clipbias published --data docci` prints
a part of it.

Compare numbers of one data set and one *protocol* only: which captions were used, and how they were joined, moves
R@1 by more than most methods do. Values are as printed, in percent. *Ran by* says whose run it was; a source that
prints another model's row often does not say whether it ran the model or quotes it.
"""


def page(numbers: Sequence[Published]) -> str:
    """Markdown: R@1 by data set, other measures, and where sources differ on the same weights."""
    out = [_INTRO.format(count=len(numbers))]
    plain = [n for n in numbers if (n.metric, n.condition) == ("recall@1", "") and n.direction]
    for data, group in groupby(plain, key=lambda n: n.dataset):
        out.append(f"## {for_markdown(data)}\n")
        out.append(_recalls(list(group)))
    rest = [n for n in numbers if n not in set(plain)]
    if rest:
        out.append("## Other measures\n")
        out.append(_others(rest))
    differing = conflicts(numbers)
    if differing:
        out.append("## Where sources differ\n")
        one_protocol = sum(len({n.protocol for n in group}) == 1 for group in differing)
        out.append(
            "The same weights, data set and measure, and not the same number. In "
            f"{one_protocol} of {len(differing)} groups the stated protocol is one.\n"
        )
        out.append(_conflicts(differing))
    return "\n".join(out)


def _recalls(numbers: Sequence[Published]) -> str:
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    notes: dict[tuple[str, ...], list[str]] = {}
    for n in numbers:
        which = (n.model, n.registered, n.backbone, n.protocol, n.source, n.cited, n.ran_by)
        rows.setdefault(which, {})[n.direction] = f"{n.value:.1f}"
        if n.note and n.note not in notes.setdefault(which, []):
            notes[which].append(n.note)
    out = ["| model | backbone | T2I | I2T | protocol | source | ran by, notes |", "|---|---|---|---|---|---|---|"]
    for key, cells in rows.items():
        model, registered, backbone, protocol, source, cited, ran_by = key
        name = f"{for_markdown(model)} (`{registered}`)" if registered else for_markdown(model)
        said = for_markdown("; ".join([ran_by, *notes.get(key, [])]))
        out.append(
            f"| {name} | {for_markdown(backbone) or 'not stated'} | {cells.get('t2i', '')} | {cells.get('i2t', '')} "
            f"| {for_markdown(protocol)} | [{for_markdown(cited)}]({source}) | {said} |"
        )
    return "\n".join(out) + "\n"


def _others(numbers: Sequence[Published]) -> str:
    out = ["| data | model | backbone | measure | value | source | notes |", "|---|---|---|---|---|---|---|"]
    for n in numbers:
        what = ", ".join(part for part in (n.direction.upper(), n.metric, n.condition) if part)
        out.append(
            f"| {for_markdown(n.dataset)} | {for_markdown(n.model)} | {for_markdown(n.backbone) or 'not stated'} "
            f"| {for_markdown(what)} | {n.shown} | [{for_markdown(n.cited)}]({n.source}) | {for_markdown(n.note)} |"
        )
    return "\n".join(out) + "\n"


def _conflicts(groups: Sequence[Sequence[Published]]) -> str:
    out = ["| data | model | measure | value | protocol | source | ran by, notes |", "|---|---|---|---|---|---|---|"]
    for group in groups:
        for place, n in enumerate(group):
            what = ", ".join(part for part in (n.direction.upper(), n.metric, n.condition) if part)
            head = f"| {for_markdown(n.dataset)} | {for_markdown(f'{n.model} {n.backbone}')} | {for_markdown(what)} "
            said = for_markdown("; ".join(part for part in (n.ran_by, n.note) if part))
            out.append(
                f"{'| | | ' if place else head}| {n.shown} | {for_markdown(n.protocol)} "
                f"| [{for_markdown(n.cited)}]({n.source}) | {said} |"
            )
    return "\n".join(out) + "\n"
