"""Captions that a perturbation hurt most, with their pictures: the bias on examples."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from PIL import Image

from clipbias.data.dataset import RetrievalDataset
from clipbias.data.loading import load_dataset
from clipbias.data.sentences import caption_sentences, sentences_of
from clipbias.errors import UserError
from clipbias.probe.spec import Condition, parse_probe
from clipbias.results.folder import Finished
from clipbias.results.queries import credits, ranks
from clipbias.results.record import LEADER

PER_PROBE = 8
_SIDE = 192
_INSTEAD = 2
"""Images per caption that were ranked first instead."""


@dataclass(frozen=True)
class Seen:
    """One model on one example: expected rank and cosine of the caption's image before and after.

    ``leader``: the image that is first afterwards, where that is another and the run says which; else -1.
    """

    model: str
    rank: str
    rank_after: str
    cosine: float
    cosine_after: float
    leader: int = -1


@dataclass(frozen=True)
class Example:
    """One caption before and after a perturbation; ``image`` is a data URI, ``query`` the caption's index.

    ``instead``: data URIs of the images that most models rank first afterwards, by number.
    """

    data: str
    query: int
    probe: str
    title: str
    condition: str
    before: str
    after: str
    image: str
    models: tuple[Seen, ...]
    instead: dict[int, str] = field(default_factory=dict)


Datasets = dict[tuple[str, str, str], RetrievalDataset | None]
"""What `same_data` found, by name, split and fingerprint."""


def find_examples(
    runs: Sequence[Finished], per_probe: int = PER_PROBE, datasets: Datasets | None = None
) -> list[Example]:
    """For each probe and data set, the captions whose image fell furthest, over all models that ran it.

    The condition is the one that lost most T2I R@1; a caption's fall is the mean over models of log(rank after /
    rank before), on captions that the perturbation changed. Data sets that are not here, or are not what was run
    (by fingerprint), give no examples. ``datasets``: as `same_data` takes them.
    """
    datasets = {} if datasets is None else datasets
    groups: dict[tuple[str, str, str, str], list[Finished]] = {}
    for one in runs:
        run = one.run
        groups.setdefault((run.data, run.split, run.data_fingerprint, run.probe_spec), []).append(one)
    out = []
    for (name, split, fingerprint, spec), group in sorted(groups.items(), key=lambda item: item[0]):
        dataset = same_data(datasets, name, split, fingerprint)
        if dataset is not None:
            out += _of_one_probe(dataset, name, spec, group, per_probe)
    return out


def same_data(datasets: Datasets, name: str, split: str, fingerprint: str) -> RetrievalDataset | None:
    """The data set that was run, where it can be had without asking the user; kept in ``datasets``."""
    key = (name, split, fingerprint)
    if key not in datasets:
        try:
            dataset = load_dataset(name, split=split)
        except UserError:
            datasets[key] = None
        else:
            datasets[key] = dataset if dataset.fingerprint == fingerprint else None
    return datasets[key]


def _of_one_probe(
    dataset: RetrievalDataset, name: str, spec: str, runs: Sequence[Finished], per_probe: int
) -> list[Example]:
    try:
        probe = parse_probe(spec)
    except UserError:
        return []  # written by another version, or by hand
    conditions = {c.name: c for c in probe.conditions}
    tables: dict[str, pd.DataFrame] = {}
    for one in runs:
        queries = one.queries
        mine = queries[(queries["direction"] == "t2i") & queries["query"].between(0, len(dataset.captions) - 1)]
        if len(mine):
            tables.setdefault(one.run.model, mine.drop_duplicates(["condition", "query"]))
    if not tables or probe.baseline not in conditions:
        return []
    falls: dict[str, pd.Series] = {}
    drops: dict[str, float] = {}
    for condition in conditions:
        if condition == probe.baseline:
            continue
        parts, changes = [], []
        for table in tables.values():
            before, after = _sides(table, probe.baseline, condition)
            if len(after):
                parts.append(np.log(ranks(after) / ranks(before)))
                changes.append(float((_found(after) - _found(before)).mean()))
        if parts:
            falls[condition] = pd.concat(parts, axis=1).mean(axis=1)
            drops[condition] = float(np.mean(changes))
    if not drops:
        return []
    worst = min(drops, key=lambda c: (drops[c], c))
    furthest = falls[worst].sort_values(ascending=False, kind="stable")
    chosen = furthest.index[furthest.to_numpy() > 0][:per_probe]
    return [
        _example(dataset, name, probe.name, probe.title, probe.baseline, conditions, worst, int(q), tables)
        for q in chosen
    ]


def _found(side: pd.DataFrame) -> np.ndarray:
    """Credit for the first place of each query."""
    return credits(side).to_numpy()


def _sides(table: pd.DataFrame, baseline: str, condition: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The queries that a condition changed, before and after, by query."""
    after = table[(table["condition"] == condition) & table["eligible"] & table["affected"]].set_index("query")
    before = table[table["condition"] == baseline].set_index("query")
    return before.loc[before.index.intersection(after.index)], after.loc[after.index.intersection(before.index)]


def _example(
    dataset: RetrievalDataset,
    name: str,
    probe: str,
    title: str,
    baseline: str,
    conditions: dict[str, Condition],
    condition: str,
    query: int,
    tables: dict[str, pd.DataFrame],
) -> Example:
    seen = []
    for model, table in sorted(tables.items()):
        one, two = (table[(table["condition"] == c) & (table["query"] == query)] for c in (baseline, condition))
        if one.empty or two.empty:
            continue  # a condition that this model cannot be asked
        first, second = (f"{ranks(side).iloc[0]:.6g}" for side in (one, two))
        leader = int(two[LEADER].iloc[0]) if LEADER in two else -1
        cosines = float(one["cosine"].iloc[0]), float(two["cosine"].iloc[0])
        seen.append(Seen(model, first, second, *cosines, leader if leader < len(dataset.image_names) else -1))
    before, after = (_text(dataset, conditions[c], query) for c in (baseline, condition))
    image = data_uri(dataset.load_image(int(dataset.caption_image[query])))
    leaders = Counter(one.leader for one in seen if one.leader >= 0).most_common(_INSTEAD)
    instead = {number: data_uri(dataset.load_image(number)) for number, _ in leaders}
    return Example(name, query, probe, title, condition, before, after, image, tuple(seen), instead)


def _text(dataset: RetrievalDataset, condition: Condition, query: int) -> str:
    """A caption as a condition has it; what it does to token ids is not shown."""
    image = int(dataset.caption_image[query])
    if condition.captions == "short" and dataset.short_captions is not None:
        sentences = sentences_of(dataset.short_captions[image])
    else:
        sentences = caption_sentences(dataset, query)
    return " ".join(condition.apply(sentences) or sentences)


def marked_change(before: str, after: str) -> tuple[list[list[object]], list[list[object]]]:
    """Two texts cut into runs of words, each with whether it changed: [[0 or 1, text], ...] of each."""
    from difflib import SequenceMatcher

    old, new = before.split(), after.split()
    sides: tuple[list[list[object]], list[list[object]]] = ([], [])
    for kind, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        for side, words in zip(sides, (old[a:b], new[c:d]), strict=True):
            if words:
                side.append([int(kind != "equal"), " ".join(words)])
    return sides


def data_uri(image: Image.Image) -> str:
    """A picture of at most 192 px a side, as a data URI."""
    small = image.convert("RGB")
    tiny = max(small.size) <= 64
    if not tiny:
        small.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "WEBP" if tiny else "JPEG", **({"lossless": True} if tiny else {"quality": 80}))
    kind = "webp" if tiny else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
