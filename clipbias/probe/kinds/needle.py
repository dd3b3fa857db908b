"""Position sensitivity where a fact is known: one sentence, told right or wrong, in the k-th place.

Two captions differ in that sentence alone (on scenes in one word, the colour of the ground), which stands k-th;
everything else a caption says stays. A model that reads the k-th sentence prefers the right one for the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
import pandas as pd

from clipbias.errors import NotApplicable, UserError
from clipbias.gate import check_count
from clipbias.probe.measure import mean_rows, no_queries, preferred
from clipbias.probe.session import Session
from clipbias.probe.spec import Probe
from clipbias.results.record import Row
from clipbias.stats.intervals import METHODS, resampled


def needle_captions(
    sentences: Sequence[str], place: int, wrong: str, k: int, fillers: tuple[str, ...] = ()
) -> tuple[str, str] | None:
    """The right and the wrong caption with sentence ``place`` (from 0) as the ``k``-th (from 1), behind ``fillers``.

    None where the caption has too few sentences for that place.
    """
    if k > len(sentences):
        return None
    others = [*sentences[:place], *sentences[place + 1 :]]
    right, false = (
        " ".join([*fillers, *others[: k - 1], told, *others[k - 1 :]]) for told in (sentences[place], wrong)
    )
    return right, false


def half_depth(accuracy: np.ndarray) -> np.ndarray:
    """The sentence [R] at which accuracy above chance falls to half of what it is in the first sentence.

    ``accuracy`` [R, K] by place 1..K, chance 0.5. Linear between places; K where it never falls so far; 0 where
    the first sentence is not read either.
    """
    above = accuracy - 0.5
    count = above.shape[1]
    out = np.full(len(above), float(count))
    for number, line in enumerate(above):
        if line[0] <= 0:
            out[number] = 0.0
            continue
        fallen = np.flatnonzero(line <= line[0] / 2)
        if len(fallen):
            k = int(fallen[0])  # never 0: the first value is above its own half
            out[number] = k + (line[k - 1] - line[0] / 2) / (line[k - 1] - line[k])
    return out


def needle(session: Session, probe: Probe) -> tuple[list[Row], pd.DataFrame]:
    """Rows of the needle probe.

    ``needle_accuracy`` by place k (chance 0.5, and what a tie counts), ``needle_cut``, the share of captions whose two
    forms have the same feature because the context ends before the needle, and ``needle_half_depth``.

    Raises:
        NotApplicable: the data know no fact of any caption (`RetrievalDataset.told_wrong`).
    """
    dataset = session.dataset
    if dataset.told_wrong is None:
        raise NotApplicable(
            f"the needle probe needs data whose facts are known: use --data scenes or scenes-2, not {dataset.name}"
        )
    settings = probe.settings_like(scenes=300, places=8, filler="This is a photo.", fillers=[0])
    places, filler, numbers = settings["places"], settings["filler"], settings["fillers"]
    check_count("characters", max(numbers, default=0) * len(filler), f"probe {probe.name}", "characters of fillers")
    known = [
        (caption, fact)
        for caption, fact in enumerate(islice(dataset.told_wrong, settings["scenes"]))
        if fact is not None
    ]
    if not known:
        raise UserError(f"{dataset.name}: no fact is known of its first {settings['scenes']:,} captions")
    images, cluster = session.images(), dataset.caption_image[[caption for caption, _ in known]]
    scenes = len(known)
    rows: list[Row] = []
    for order, count in enumerate(numbers):
        values, cut = np.full((2, scenes, places), np.nan)
        pairs: list[tuple[int, int]] = []
        texts: list[str] = []
        for index, (caption, (place, false)) in enumerate(known):
            for k in range(1, places + 1):
                both = needle_captions(session.sentences[caption], place, false, k, (filler,) * count)
                if both is not None:
                    pairs.append((index, k - 1))
                    texts += both
        # Not through the session: both texts of a pair in one batch, so that what is cut alike is the same to the bit.
        features = session.encoder.encode_texts(texts, session.batch_size)
        owner = images[cluster[[index for index, _ in pairs]]]
        right, wrong = ((features[side::2] * owner).sum(dim=1) for side in (0, 1))
        scene_of, place_of = np.array(pairs).T
        values[scene_of, place_of] = preferred(right, wrong)
        cut[scene_of, place_of] = (features[::2] == features[1::2]).all(dim=1).numpy()
        for metric, what in (("needle_accuracy", values), ("needle_cut", cut)):
            rows += mean_rows(
                cluster,
                what,
                probe=probe.name,
                condition=f"fillers-{count}",
                order=order,
                metrics=[metric] * places,
                xs=[float(k + 1) for k in range(places)],
                credits=True,
            )
        rows.append(_half_depth_row(cluster, values, rows[-1], session.seed))
        session.progress(probe.name, order + 1, len(numbers))
    return rows, no_queries()


def _half_depth_row(cluster: np.ndarray, values: np.ndarray, like: Row, seed: int) -> Row:
    """`half_depth` of the mean accuracies, with its interval over resampled scenes."""
    told = values[:, ~np.isnan(values).all(axis=0)]
    found = resampled(half_depth, told, cluster, seed)
    return replace(
        like, x=None, metric="needle_half_depth", n=len(values), clusters=len(values), eligible=len(values),
        affected=len(values), ties=0, value=found.value, low=found.low, high=found.high, method=METHODS["resampled"],
    )  # fmt: skip
