"""Position sensitivity on the built-in scenes: one fact, told right or wrong, in the k-th sentence.

Two captions differ in one word, the colour of the ground, which the k-th sentence states; everything else a
caption says of its scene stays. A model that reads the k-th sentence prefers the right one for the image.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd

from clipbias.errors import UserError
from clipbias.probe.measure import mean_rows, no_queries
from clipbias.probe.session import Session
from clipbias.probe.spec import Probe
from clipbias.results.record import Row
from clipbias.scenes import long_caption, sample_scene
from clipbias.scenes.world import GROUND_COLOURS, Scene, Stream
from clipbias.stats.intervals import METHODS, resampled

FACT = "ground.colour"


def needle_captions(scene: Scene, k: int, fillers: tuple[str, ...] = ()) -> tuple[str, str] | None:
    """The right and the wrong caption with the needle as sentence ``k`` (from 1), behind ``fillers``.

    None where the caption has too few sentences for that place.
    """
    sentences = long_caption(scene)
    needle = next(s.text for s in sentences if FACT in s.facts)
    others = [s.text for s in sentences if FACT not in s.facts]
    if k > len(others) + 1:
        return None
    wrong = Stream("needle", scene.split, scene.index).pick([c for c in GROUND_COLOURS if c != scene.ground_colour])
    right_and_wrong = []
    for colour in (scene.ground_colour, wrong):
        told = re.sub(rf"\b{scene.ground_colour}\b", colour, needle, count=1)
        right_and_wrong.append(" ".join([*fillers, *others[: k - 1], told, *others[k - 1 :]]))
    return right_and_wrong[0], right_and_wrong[1]


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
        UserError: the data are not the built-in scenes, whose truth is known.
    """
    dataset = session.dataset
    if dataset.name != "scenes":
        raise UserError(f"the needle probe needs data whose facts are known: use --data scenes, not {dataset.name}")
    settings = probe.settings_like(scenes=300, places=8, filler="This is a photo.", fillers=[0])
    places, filler, numbers = settings["places"], settings["filler"], settings["fillers"]
    scenes = min(settings["scenes"], len(dataset.image_names))
    images = session.images()[:scenes]
    cluster = np.arange(scenes)
    rows: list[Row] = []
    for order, count in enumerate(numbers):
        values, cut = np.full((2, scenes, places), np.nan)
        pairs: list[tuple[int, int]] = []
        texts: list[str] = []
        for index in range(scenes):
            scene = sample_scene(dataset.split, index)
            for k in range(1, places + 1):
                both = needle_captions(scene, k, (filler,) * count)
                if both is not None:
                    pairs.append((index, k - 1))
                    texts += both
        features = session.encoder.encode_texts(texts)
        owner = images[[index for index, _ in pairs]]
        right, wrong = ((features[side::2] * owner).sum(dim=1) for side in (0, 1))
        scene_of, place_of = np.array(pairs).T
        values[scene_of, place_of] = (right > wrong).numpy() + 0.5 * (right == wrong).numpy()
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
