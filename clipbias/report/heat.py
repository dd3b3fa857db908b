"""What leaving out each token of a caption does to its similarity with its image: captions to look at."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from clipbias.data.sentences import caption_sentences
from clipbias.report.examples import Datasets, data_uri, same_data
from clipbias.results.folder import Finished
from clipbias.results.record import LEFT_OUT

PER_DATA = 6
_NAME = re.compile(re.escape(LEFT_OUT).replace(r"\{\}", r"(\d{1,9})"))


@dataclass(frozen=True)
class Heat:
    """One caption, and what leaving out each of its tokens does.

    Attributes:
        data, query: the data set and the caption's number.
        caption: its sentences joined with blanks.
        first: length of its first sentence, in characters.
        image: a data URI.
        models: model -> [begin, end, change] of each token: its characters, and the cosine of the whole caption minus
            that without it, times 100.
    """

    data: str
    query: int
    caption: str
    first: int
    image: str
    models: dict[str, list[tuple[int, int, float]]]


def find_heat(runs: Sequence[Finished], datasets: Datasets, per_data: int = PER_DATA) -> list[Heat]:
    """Captions whose tokens were left out one by one, of data sets that are here, unchanged.

    Args:
        runs: as `load_runs` gives them; those of the influence probe that kept its queries are read.
        datasets: as `same_data` takes them.
        per_data: captions of each data set.
    """
    groups: dict[tuple[str, str, str], list[Finished]] = {}
    for one in runs:
        if one.run.probe == "influence" and len(one.queries):
            groups.setdefault((one.run.data, one.run.split, one.run.data_fingerprint), []).append(one)
    out = []
    for key, group in sorted(groups.items(), key=lambda item: item[0]):
        dataset = same_data(datasets, *key)
        if dataset is None:
            continue
        numbers = sorted({int(query) for one in group for query in one.queries["query"].unique()})
        for query in [number for number in numbers if number < len(dataset.captions)][:per_data]:
            sentences = caption_sentences(dataset, query)
            caption = " ".join(sentences)
            found = {one.run.model: token_changes(one.queries, query, len(caption)) for one in group}
            image = data_uri(dataset.load_image(int(dataset.caption_image[query])))
            told = {model: changes for model, changes in found.items() if changes}
            if told:
                out.append(Heat(key[0], query, caption, len(sentences[0]), image, told))
    return out


def token_changes(queries: pd.DataFrame, query: int, length: int) -> list[tuple[int, int, float]]:
    """[begin, end, change] of each token of a caption of ``length`` characters; empty where they are not all known."""
    mine = queries[queries["query"] == query].set_index("condition")["cosine"]
    if "whole" not in mine:
        return []
    out = []
    for name, cosine in mine.drop("whole").items():
        found = _NAME.fullmatch(str(name))
        if not found or not int(found[2]) <= int(found[3]) <= length:
            return []
        out.append((int(found[2]), int(found[3]), round(100 * float(mine["whole"] - cosine), 2)))
    return out


def first_share(changes: Sequence[tuple[int, int, float]], first: int) -> float:
    """The share of absolute change, in percent, of tokens that begin before character ``first``."""
    total = sum(abs(change) for _, _, change in changes)
    return 100 * sum(abs(change) for begin, _, change in changes if begin < first) / total if total else 0.0
