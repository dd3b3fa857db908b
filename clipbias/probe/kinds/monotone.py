"""HiMo@K (HiMo-CLIP, arXiv 2511.06653): does the similarity with the image rise as a caption grows?

K growing prefixes of a caption, the last one whole. K = 2, 3: the share of captions whose cosine rises strictly at
every step. K > 3: Pearson's correlation of the step 1..K with the cosine, averaged over captions; 0 where all are
equal, as in the authors' code. On data that have growing captions of their own (HiMo-Docci) these are the steps.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from clipbias.errors import NotApplicable, UserError
from clipbias.probe.measure import mean_rows, no_queries
from clipbias.probe.session import Session, TextKey
from clipbias.probe.spec import Probe
from clipbias.results.record import Row

STRICT = 3
"""Up to this many steps a strict rise is asked for; beyond, a correlation."""
PREFIXES = ("sentences", "captions")


def prefix_lengths(sentences: int, steps: int) -> list[int]:
    """How many of ``sentences`` the 1st .. last of ``steps`` prefixes have: as even as can be, all different."""
    return [-(-step * sentences // steps) for step in range(1, steps + 1)]


def correlation(cosines: np.ndarray) -> float:
    """Pearson's correlation of the step 1..K with the cosine [K]; 0 where all are equal."""
    spread = cosines - cosines.mean()
    steps = np.arange(len(cosines)) - (len(cosines) - 1) / 2
    size = np.sqrt((spread**2).sum() * (steps**2).sum())
    return float((spread @ steps) / size) if size > 0 else 0.0


def himo(cosines: np.ndarray) -> float:
    """HiMo@K of one caption's cosines [K], shortest prefix first."""
    return float((np.diff(cosines) > 0).all()) if len(cosines) <= STRICT else correlation(cosines)


def _ladders(session: Session, prefixes: str) -> list[tuple[int, list[str]]]:
    """(image, growing texts) of each caption, or of each image whose captions grow themselves."""
    dataset = session.dataset
    if prefixes == "captions":
        grown: list[list[str]] = [[] for _ in dataset.image_names]
        for image, text in zip(dataset.caption_image.tolist(), dataset.captions, strict=True):
            grown[image].append(text)
        return list(enumerate(grown))
    out = []
    for caption, sentences in enumerate(session.sentences):
        texts = [" ".join(sentences[:k]) for k in range(1, len(sentences))] + [dataset.captions[caption]]
        out.append((int(dataset.caption_image[caption]), texts))
    return out


def monotone(session: Session, probe: Probe) -> tuple[list[Row], pd.DataFrame]:
    """Rows: ``himo@K`` for the K of ``settings.steps`` on captions of at least K sentences, and ``himo@all``, the
    correlation over every prefix of captions of more than three sentences.

    With ``settings.prefixes = "captions"`` an image's captions, in their order, are the prefixes, and ``himo@all`` is
    over every image that has two, as the authors' code has it.

    Raises:
        UserError: a setting that is not known.
        NotApplicable: no caption has enough sentences, no image several captions.
    """
    known = probe.settings_like(steps=[2, 3], prefixes="sentences")
    steps, prefixes = sorted(set(known["steps"]) - {0, 1}), known["prefixes"]
    if prefixes not in PREFIXES:
        raise UserError(f"probe {probe.name}: settings.prefixes = {prefixes!r}; choose {', '.join(PREFIXES)}")
    least = [*steps, STRICT + 1 if prefixes == "sentences" else 2]
    ladders = [(image, texts) for image, texts in _ladders(session, prefixes) if len(texts) >= min(least)]
    if not ladders:
        what = "caption has two sentences" if prefixes == "sentences" else "image has several captions"
        raise NotApplicable(f"{session.dataset.name}: no {what}")
    images = session.images()
    keys: list[TextKey] = [(text, None, 0) for _, texts in ladders for text in texts]
    features, row, _ = session.texts(keys)
    owner = np.repeat([image for image, _ in ladders], [len(texts) for _, texts in ladders])
    cosines = np.array([float(features[r] @ images[o]) for r, o in zip(row, owner, strict=True)])
    values = np.full((len(ladders), len(least)), np.nan)
    start = 0
    for line, (_, texts) in enumerate(ladders):
        mine = cosines[start : start + len(texts)]
        start += len(texts)
        for column, k in enumerate(steps):
            if len(mine) >= k:
                values[line, column] = himo(mine[np.array(prefix_lengths(len(mine), k)) - 1])
        if len(mine) >= least[-1]:
            values[line, -1] = correlation(mine)
    cluster = np.array([image for image, _ in ladders])
    out: list[Row] = []
    for column, name in enumerate([*map(str, steps), "all"]):
        out += mean_rows(
            cluster, values[:, [column]], probe=probe.name, condition="prefixes", order=0,
            metrics=[f"himo@{name}"], xs=[None], credits=name != "all" and int(name) <= STRICT,
        )  # fmt: skip
    return out, no_queries()
