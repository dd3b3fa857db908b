"""The page's captions, as its script reads them: the browser of changed captions, and tokens left out one by one."""

from __future__ import annotations

from collections.abc import Sequence

from clipbias.report.display import condition_name
from clipbias.report.examples import Example, marked_change
from clipbias.report.heat import Heat, first_share


def caption_facts(examples: Sequence[Example], heat: Sequence[Heat]) -> dict[str, object]:
    """Images (each once), examples, and captions token by token."""
    images: dict[str, int] = {}
    browsed = []
    for one in examples:
        before, after = marked_change(one.before, one.after)
        instead = {number: images.setdefault(uri, len(images)) for number, uri in one.instead.items()}
        browsed.append({
            "data": one.data, "title": one.title, "condition": condition_name(one.condition),
            "image": images.setdefault(one.image, len(images)), "before": before, "after": after,
            "ranks": [
                [seen.model, _rank(seen.rank), _rank(seen.rank_after), instead.get(seen.leader)] for seen in one.models
            ],
        })  # fmt: skip
    tokens = [
        {
            "data": one.data, "caption": one.caption, "first": one.first,
            "image": images.setdefault(one.image, len(images)),
            "models": {
                model: {"share": round(first_share(changes, one.first)), "tokens": changes}
                for model, changes in one.models.items()
            },
        }
        for one in heat
    ]  # fmt: skip
    return {"images": list(images), "examples": browsed, "heat": tokens}


def _rank(rank: object) -> float | int:
    """A rank, a half where two candidates tie for it."""
    number = round(float(str(rank)), 1)
    return int(number) if number.is_integer() else number
