"""What probes cost before anything is loaded: distinct texts to encode per caption, from the spec alone.

Retrieval probes are counted on a caption whose sentences and words all differ, so nothing coincides: at most so many.
Other kinds have a formula each; one that is not here states none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from clipbias.probe.spec import Condition, Probe
from clipbias.probe.transforms import Sentences

SENTENCES = 8
"""Sentences of the caption that costs are stated for: DOCCI's mean is 7."""


class Texts(NamedTuple):
    """Texts a caption at most, and how many captions are asked (None: all)."""

    texts: int
    captions: int | None = None

    def __str__(self) -> str:
        return f"{self.texts:,}" + (f" on {self.captions:,} captions" if self.captions is not None else "")


class _Kind(NamedTuple):
    """``texts``: settings, sentences of a caption -> texts; ``limit``: the setting that limits captions, its default;
    ``own``: whether texts go through the model in the probe's own way, past the session; ``images``: whether it needs
    images."""

    texts: Callable[[dict[str, Any], int], int]
    limit: tuple[str, int] | None = None
    own: bool = False
    images: bool = True


def _shapley(known: dict[str, Any], sentences: int) -> int:
    orders = known.get("orders", 16) + known.get("orders", 16) % 2  # in pairs
    every = 2**sentences - 1
    return every if sentences <= 6 else min(every, orders * (sentences - 1) + 1)


def _shift(known: dict[str, Any], sentences: int) -> int:
    return 1 + 3 * len(set(known.get("shifts", [0, 10, 20, 40, 80, 160])) - {0})


_KINDS: dict[str, _Kind] = {
    "attention": _Kind(lambda known, n: 1, ("captions", 1000), own=True, images=False),
    "influence": _Kind(lambda known, n: 249, ("captions", 100), own=True),  # one a token that the context holds
    "needle": _Kind(
        lambda known, n: 2 * known.get("places", 8) * len(known.get("fillers", [0])), ("scenes", 300), own=True
    ),
    "monotone": _Kind(lambda known, n: 1 if known.get("prefixes") == "captions" else n),
    "pairs": _Kind(lambda known, n: 5, ("scenes", 300)),
    "position": _Kind(
        lambda known, n: known.get("places", 4) * known.get("squares", 2) if n >= known.get("places", 4) else 1
    ),
    "reliance": _Kind(lambda known, n: n + 2 if n > 1 else 1),
    "shapley": _Kind(_shapley, ("captions", 100)),
    "shift": _Kind(_shift),
    "text": _Kind(lambda known, n: 7 + min(n, 12) if n > 2 else 0, ("captions", 1000), images=False),
}


def applied(conditions: Iterable[tuple[Condition, int]], caption: str, sentences: Sentences) -> set[tuple[Any, ...]]:
    """The distinct texts, with their forms, that (condition, draw) make of a caption."""
    out = set()
    for condition, draw in conditions:
        changed = condition.apply(sentences, draw)
        text = caption if changed is None or changed == sentences else " ".join(changed)
        out.add((text, condition.first_tokens, condition.token_padding))
    return out


def drawn(probe: Probe, captions: str = "long") -> list[tuple[Condition, int]]:
    """Every (condition, draw) of a retrieval probe on "long" or "short" captions."""
    mine = [c for c in probe.conditions if c.captions == captions]
    return [(condition, draw) for condition in mine for draw in range(len(probe.draws(condition)))]


def kind_texts(probe: Probe, sentences: int) -> Texts | None:
    """What a probe of a kind of its own asks of a caption of so many sentences; None where nothing can be stated."""
    kind = _KINDS.get(probe.kind)
    if kind is None:
        return None
    known = dict(probe.settings)
    try:
        limit = None if kind.limit is None else int(str(known.get(*kind.limit)))
        return Texts(kind.texts(known, sentences), limit)
    except (TypeError, ValueError):  # settings of a wrong type: the kind says so in words when it runs
        return None


def passes_on_its_own(probe: Probe) -> bool:
    """Whether the probe's texts go past the session, and are not among those that it encodes."""
    kind = _KINDS.get(probe.kind)
    return not probe.conditions and (kind is None or kind.own)


def needs_images(probe: Probe) -> bool:
    """Whether the probe asks for features of images."""
    kind = _KINDS.get(probe.kind)
    return kind is None or kind.images


def stated(probes: Iterable[Probe], sentences: int = SENTENCES) -> str:
    """What probes, or those of a suite, ask of each caption of so many sentences, at most; in words."""
    told = tuple(" ".join(f"word{s}_{w}" for w in range(12)) + "." for s in range(sentences))
    distinct: set[tuple[Any, ...]] = set()
    others: dict[int | None, int] = {}
    for probe in probes:
        distinct |= applied(drawn(probe), " ".join(told), told)
        distinct |= {("short", *key) for key in applied(drawn(probe, "short"), "short", ("short",))}
        found = None if probe.conditions else kind_texts(probe, sentences)
        if found is not None:
            others[found.captions] = others.get(found.captions, 0) + found.texts
        elif not probe.conditions:
            return "not stated"
    every = len(distinct) + others.pop(None, 0)
    parts = [str(Texts(every))] if every else []
    return ", ".join([*parts, *(str(Texts(texts, limit)) for limit, texts in sorted(others.items(), reverse=True))])
