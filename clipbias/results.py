"""Result rows and run folders: what a probe leaves behind and what a report reads.

A run folder ``<results>/<model>/<data>/<probe>/`` holds

- ``run.json``: one `Run` (what was run, on what, with which versions) and how to run it again;
- ``rows.jsonl``: one `Row` a line (condition x direction x metric x scope);
- ``queries.parquet``: one line a query and condition, columns `QUERY_COLUMNS`;
- ``curves.csv``: for probes that draw a curve, columns `CURVE_COLUMNS`.

``run.json`` is written last: a folder without it is an unfinished run.
"""

from __future__ import annotations

from dataclasses import dataclass

SCHEMA = 1

QUERY_COLUMNS = ("condition", "direction", "query", "cluster", "rank", "cosine", "margin", "eligible", "affected")
"""condition, direction ("t2i", "i2t"): text; query: caption index (t2i) or image index (i2t), int32;
cluster: image index, the unit the bootstrap resamples, int32; rank: 1 is best, ties against the model,
int32; cosine: with the best positive, float32; margin: cosine minus the best negative's, float32;
eligible: the condition's transforms could be applied to this query's caption(s); affected: they changed it."""

CURVE_COLUMNS = ("curve", "series", "x", "y", "low", "high", "n")
"""curve: which curve, e.g. "attention.by_token"; series: which line in it, e.g. "layer 3";
x, y: the point; low, high: the 95% interval, empty where there is none; n: captions behind it."""


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
        value, low, high: the number and its 95% interval (recalls as fractions in 0..1).
        delta, delta_low, delta_high: paired difference to the baseline on the same queries.
        p_mcnemar, p_holm: exact McNemar p of top-1 against the baseline, plain and Holm-corrected
            over the conditions and directions of the probe.
        n: queries behind the value; eligible, affected: captions that the condition could be and was
            applied to; truncated: share of captions cut at the context length; tokens_lost: mean
            number of tokens cut per caption.
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
    delta: float | None
    delta_low: float | None
    delta_high: float | None
    p_mcnemar: float | None
    p_holm: float | None
    n: int
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
