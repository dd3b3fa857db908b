"""The record of a run: what was run (`Run`), what was measured (`Row`), and the check of records from elsewhere."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass, field
from functools import cache
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from clipbias.names import unprintable

SCHEMA = 2

QUERY_COLUMNS = (
    "condition", "direction", "query", "cluster", "better", "equal", "right", "cosine", "margin", "eligible", "affected"
)  # fmt: skip
"""condition (of several draws: see `draw_name`), direction ("t2i", "i2t"): text;
query: caption index (t2i) or image index (i2t), int32;
cluster: image index, the unit that is independent, int32; better, equal: candidates, not the query's own, whose
similarity is above and exactly that of its best positive, int32; right: its positives that have that similarity,
int32; cosine: with the best positive, float32; margin: cosine minus the best negative's, float32;
eligible: the condition's transforms could be applied to this query's caption(s); affected: they changed it."""
LEADER = "leader"
"""A column that a table may have behind those: the candidate ranked first where that is none of the query's own, else
-1, int32. Runs of earlier versions, and probes that do not need it, leave it out."""
LEFT_OUT = "without token {} ({}-{})"
"""How a per-query table calls a caption without one token: its number from 1, its first character and the one behind
its last."""
QUERY_TABLES = (QUERY_COLUMNS, (*QUERY_COLUMNS, LEADER))


_DRAW = re.compile(r" ~[0-9]+$")


def draw_name(condition: str, draw: int) -> str:
    """What a per-query table calls draw 0, 1, ... of a condition that is drawn several times: ``"sampled ~1"``."""
    return f"{condition} ~{draw + 1}"


def condition_of(name: str) -> str:
    """The condition that a name in a per-query table belongs to."""
    return _DRAW.sub("", name)


@dataclass(frozen=True)
class Row:
    """One measured number.

    Attributes:
        probe, condition: names from the probe's spec; ``order`` is the condition's place in it.
        x: the swept value (number of padding sentences, ...) or None.
        baseline: the condition that ``delta`` is measured against; its own rows have no delta.
        direction: "t2i", "i2t" or "" for numbers without one (a card's scalars, attention mass).
        metric: "recall@1", "recall@5", "recall@10", "median_rank", "mean_rank", "mrr",
            "mean_positive_cosine", "mean_margin", or a probe's own name.
        scope: "eligible" (the headline) or "all".
        value, low, high: the number and its 95% interval (recalls as fractions in 0..1); no interval where all
            queries have one value.
        method: how the interval is made, in words.
        base, delta, delta_low, delta_high: the baseline's value on the very same queries, and the paired difference.
        p, p_holm: sign-flip p of top-1 against the baseline (McNemar's where every image is one query), plain and
            Holm-corrected over the conditions and directions of the probe.
        n, clusters: queries and images behind the value; ties: queries whose value rests on the order of equals.
        eligible, affected: captions that the condition could be and was applied to.
        truncated: share of captions cut at the context length; tokens_lost: mean number of tokens cut per caption.
    """

    probe: str
    condition: str
    order: int
    x: float | None
    baseline: str | None
    direction: str
    metric: str
    scope: str
    value: float
    low: float | None
    high: float | None
    method: str
    base: float | None
    delta: float | None
    delta_low: float | None
    delta_high: float | None
    p: float | None
    p_holm: float | None
    n: int
    clusters: int | None
    ties: int | None
    eligible: int
    affected: int
    truncated: float
    tokens_lost: float


@dataclass(frozen=True)
class Run:
    """Everything about a run that its rows share. Fingerprints are hex digests."""

    schema: int
    probe: str
    probe_spec: str  # the spec's TOML text
    title: str
    model: str
    model_family: str
    model_fingerprint: str
    model_options: dict[str, str]
    data: str
    split: str
    data_fingerprint: str
    protocol: str
    captions: int
    images: int
    skipped: int
    context_length: int
    truncation: str  # in words: "cut, EOT kept last"
    interval: str  # in words: method, resamples, level
    precision: str
    device: str
    seed: int
    seconds: float
    created: str  # UTC, ISO 8601
    command: str  # runs it again
    versions: dict[str, str]  # clipbias, python, torch, open_clip, numpy, pillow
    git_commit: str  # of the clipbias source tree; "" for an installed wheel
    git_dirty: bool
    identity: dict[str, Any] = field(default_factory=dict)  # `Encoder.identity`; {} in runs of schema 1
    settings: dict[str, Any] = field(default_factory=dict)  # `clipbias.results.settings.Settings`
    files: dict[str, str] = field(default_factory=dict)  # the other files of the folder, name -> SHA-256
    seal: str = ""  # see `sealed`; tells edits by hand and damage, and is no signature

    @property
    def fingerprint(self) -> str:
        """What decides the model's features; of its weights and options only, in runs of schema 1."""
        return str(self.identity.get("fingerprint") or self.model_fingerprint)


def sealed(run: Run) -> str:
    """16 hex digits of SHA-256 over everything else in a record."""
    content = {name: value for name, value in asdict(run).items() if name != "seal"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


_NAMES = frozenset({"model", "data", "split", "probe", "condition", "metric", "baseline", "direction", "scope"})
T = TypeVar("T", Row, Run)


def checked(kind: type[T], content: object) -> T:
    """A record from JSON that may come from anybody.

    Raises:
        TypeError: no object, other fields than the record's, or a value of another type.
        ValueError: a number that is none, or a name that would not print as it is.
    """
    if not isinstance(content, dict):
        raise TypeError("not an object")
    hints = _hints(kind)  # type: ignore[arg-type]  # a class is hashable, whatever its instances are
    if content.keys() != hints.keys():
        odd = sorted(content.keys() ^ hints.keys())
        raise TypeError(f"fields missing or not known: {', '.join(map(repr, odd))[:200]}")
    for name, value in content.items():
        if not isinstance(value, hints[name]) or (isinstance(value, bool) and bool not in hints[name]):
            raise TypeError(f"{name} is {type(value).__name__}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} is {value}")
        if name in _NAMES and isinstance(value, str) and unprintable(value):
            raise ValueError(f"{name} {value!r} holds control characters")
    return kind(**content)


@cache
def _hints(kind: type[Row] | type[Run]) -> dict[str, tuple[type, ...]]:
    """The types a field of a record may have in JSON; whole numbers may stand for others."""
    out = {}
    for name, hint in get_type_hints(kind).items():
        plain = tuple(
            get_origin(part) or part for part in (get_args(hint) if get_origin(hint) is UnionType else (hint,))
        )
        out[name] = (*plain, int) if float in plain else plain
    return out
