"""Two texts an image, one right and one wrong: how often the right one is nearer (chance 0.5, and what a tie counts).

Trials come from a table (``settings.file``, CSV, TSV or JSON lines) with the columns ``image`` (a name of the data
set's), ``right``, ``wrong`` and, where they are, ``group`` (reported apart) and ``item``: an item's trials must all be
right for it to count, as in Winoground's text score (two images an item) and SugarCrepe++ (two right texts an item). On
scenes without a file, pairs with known facts are made: one colour told wrong, two colours exchanged, a negation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from clipbias.data.limited import limited
from clipbias.data.scenes import scenes_of, world_of
from clipbias.data.tables import text_rows
from clipbias.errors import NotApplicable, UserError
from clipbias.gate import check_count, require_file
from clipbias.probe.measure import mean_rows, no_queries, preferred
from clipbias.probe.session import Session
from clipbias.probe.spec import Probe
from clipbias.results.record import Row
from clipbias.scenes.language import Sentence, article
from clipbias.scenes.world import GROUND_COLOURS, Scene, Stream


@dataclass(frozen=True)
class Trial:
    """An image by its index, the text that is true of it and the one that is not."""

    image: int
    right: str
    wrong: str
    group: str
    item: str


def read_trials(file: Path, images: dict[str, int]) -> list[Trial]:
    """The trials of a table; ``images``: name -> index.

    Raises:
        UserError: not readable, a column is missing, or an image is not in the data set.
    """
    require_file(file, "json")
    out: list[Trial] = []
    for number, (entry, where) in enumerate(text_rows(file), 1):
        values = [entry.get(name) for name in ("image", "right", "wrong")]
        if not all(isinstance(value, str) and value for value in values):
            raise UserError(f"{where}: the columns image, right and wrong need a text each")
        image, right, wrong = map(str, values)
        check_count("characters", max(len(right), len(wrong)), where, "characters in one text")
        check_count("captions", number, str(file), "pairs")
        if image not in images:
            raise UserError(f"{where}: the data set has no image {image[:100]!r}")
        group, item = str(entry.get("group") or "all"), str(entry.get("item") or f"row {number}")
        out.append(Trial(images[image], right, wrong, group, item))
    if not out:
        raise UserError(f"{file}: no pairs; a row has image, right, wrong")
    return out


def scene_trials(scene: Scene, caption: Sequence[Sentence], image: int) -> list[Trial]:
    """A scene's own pairs on its whole caption: ``replaced`` (ground colour), ``swapped`` (with the sky), ``negated``.

    One sentence tells the ground's colour; the summary tells the sky's, and so may one of the details.
    """
    texts = [s.text for s in caption]
    ground = next(k for k, s in enumerate(caption) if "ground.colour" in s.facts)
    above = [k for k, s in enumerate(caption) if k and "sky.colour" in s.facts]
    sky, colour = scene.sky_colour, scene.ground_colour
    other = Stream("pairs", scene.split, scene.index).pick([c for c in GROUND_COLOURS if c not in (colour, sky)])

    def told(changes: dict[int, tuple[str, str]]) -> str:
        # Whole words: "stands" holds "tan".
        return " ".join(
            re.sub(rf"\b{changes[k][0]}\b", changes[k][1], t) if k in changes else t for k, t in enumerate(texts)
        )

    right = " ".join(texts)
    wrong = {"replaced": told({ground: (colour, other)})}
    # With another article the exchange would show in the grammar.
    if sky != colour and article(sky).split()[0] == article(colour).split()[0]:
        wrong["swapped"] = told(
            {0: (f"{sky} sky", f"{colour} sky"), ground: (colour, sky)} | dict.fromkeys(above, (sky, colour))
        )
    wrong["negated"] = " ".join((*texts, f"The ground is not {colour}."))
    true = {"negated": " ".join((*texts, f"The ground is not {other}."))}
    return [Trial(image, true.get(g, right), text, g, f"{g} {image}") for g, text in wrong.items() if text != right]


def pairs(session: Session, probe: Probe) -> tuple[list[Row], pd.DataFrame]:
    """Rows, a condition a group: ``pair_accuracy``, and ``item_accuracy`` where an item has several trials.

    Raises:
        NotApplicable: no file, and the data are not scenes.
        UserError: the file is not as it should be.
    """
    known, dataset = probe.settings_like(file="", scenes=300), session.dataset
    if known["file"]:
        trials = read_trials(Path(known["file"]), {name: k for k, name in enumerate(dataset.image_names)})
    elif world := world_of(dataset):
        scenes = scenes_of(limited(dataset, known["scenes"]), world)
        trials = [t for k, scene in enumerate(scenes) for t in scene_trials(scene, world.long_caption(scene), k)]
    else:
        raise NotApplicable(
            f"probe {probe.name}: say settings.file, a table of image, right, wrong; only scenes have their own"
        )
    images = session.images()
    features, row, _ = session.texts([(text, None, 0) for t in trials for text in (t.right, t.wrong)])
    owner = images[[t.image for t in trials]]
    right, wrong = ((features[row[side::2]] * owner).sum(dim=1) for side in (0, 1))
    table = pd.DataFrame({"group": [t.group for t in trials], "item": [t.item for t in trials]})
    table = table.assign(image=[t.image for t in trials], hit=preferred(right, wrong))
    rows: list[Row] = []
    for order, (group, part) in enumerate(table.groupby("group", sort=False)):
        items = part.groupby("item", sort=False).agg(hit=("hit", "prod"), image=("image", "first"))
        both = [("pair_accuracy", part)] + [("item_accuracy", items)] * (len(items) < len(part))
        for metric, values in both:
            rows += mean_rows(
                values["image"].to_numpy(), values[["hit"]].to_numpy(dtype=np.float64), probe=probe.name,
                condition=str(group), order=order, metrics=[metric], xs=[None], credits=True,
            )  # fmt: skip
    return rows, no_queries()
