"""Position sensitivity on the embedded scenes: one fact, told right or wrong, in the k-th sentence.

Two captions differ in one word, the colour of the ground, which the k-th sentence states; everything else a
caption says of its scene stays. A model that reads the k-th sentence prefers the right one for the image.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from clipbias.errors import UserError
from clipbias.probe.measure import mean_rows, no_queries
from clipbias.probe.runner import Session
from clipbias.probe.spec import Probe
from clipbias.probe.stats import ClusterBootstrap
from clipbias.results import Row
from clipbias.scenes import long_caption, sample_scene
from clipbias.scenes.world import GROUND_COLOURS, Scene, Stream

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


def needle(session: Session, probe: Probe) -> tuple[list[Row], pd.DataFrame]:
    """Rows of the needle probe: ``needle_accuracy`` (chance 0.5; ties count as wrong) by place k.

    Raises:
        UserError: the data are not the embedded scenes, whose truth is known.
    """
    dataset = session.dataset
    if dataset.name != "scenes":
        raise UserError(f"the needle probe needs data whose facts are known: use --data scenes, not {dataset.name}")
    settings = probe.settings
    scenes = min(int(settings.get("scenes", 300)), len(dataset.image_names))  # type: ignore[call-overload]
    places = int(settings.get("places", 8))  # type: ignore[call-overload]
    filler = str(settings.get("filler", "This is a photo."))
    numbers = [int(n) for n in settings.get("fillers", [0])]  # type: ignore[attr-defined]
    images = session.images()[:scenes]
    bootstrap = ClusterBootstrap(np.arange(scenes), session.seed)
    rows: list[Row] = []
    for order, count in enumerate(numbers):
        values = np.full((scenes, places), np.nan)
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
        for (index, place), hit in zip(pairs, (right > wrong).tolist(), strict=True):
            values[index, place] = hit
        rows += mean_rows(
            bootstrap,
            values,
            probe=probe.name,
            condition=f"fillers-{count}",
            order=order,
            metrics=["needle_accuracy"] * places,
            xs=[float(k + 1) for k in range(places)],
        )
        session.progress(probe.name, order + 1, len(numbers))
    return rows, no_queries()
