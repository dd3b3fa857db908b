"""Position freed of content: every sentence at every place, the rest of the caption filled, in a Latin square.

Of a caption with sentences 1..K, sentence s stands alone at place (s + i + r) mod K, i the caption's number and r = 0,
1, ... the square; fillers as long as the other sentences take their places. So over a data set each sentence is met at
each place equally often, and within one sentence, told at ``squares`` places, content is a constant
(`clipbias.stats.places`). Image to text: an image's own caption stands at its place among captions at all places; only
where every image has one caption, since with several it would meet several places at once.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pandas as pd

from clipbias.errors import NotApplicable, UserError
from clipbias.probe.measure import mean_rows
from clipbias.probe.session import Session, TextKey
from clipbias.probe.spec import Probe
from clipbias.probe.tables import query_table
from clipbias.probe.transforms.placing import NEUTRAL, as_long, placed
from clipbias.results.record import QUERY_COLUMNS, Row
from clipbias.stats.intervals import METHODS, Interval
from clipbias.stats.places import place_effects
from clipbias.stats.ties import credit

log = logging.getLogger(__name__)

FILLS = ("neutral", "others", "pads")


def _texts(session: Session, told: int, at: np.ndarray, chosen: np.ndarray, fill: str, text: str) -> list[TextKey]:
    """Each caption with sentence ``told`` at its place ``at`` [M]; captions that are not ``chosen`` as they are."""
    captions, all_sentences = session.dataset.captions, session.sentences
    places = len(at)
    out: list[TextKey] = []
    tower = session.encoder.text_tower() if fill == "pads" else None
    donors = np.flatnonzero(chosen)
    for number, caption in enumerate(captions):
        if not chosen[number]:
            out.append((caption, None, 0))
            continue
        sentences = all_sentences[number]
        others = [s for k, s in enumerate(sentences) if k != told]
        if tower is not None:
            before = " ".join(others[: at[number]])
            out.append((sentences[told], None, len(tower.tokens.ids([before])[0])))
            continue
        donor = all_sentences[donors[(np.searchsorted(donors, number) + max(1, len(donors) // 2)) % len(donors)]]
        fillers = [as_long(donor[k % len(donor)] if fill == "others" else text, s) for k, s in enumerate(others)]
        out.append((" ".join(placed(sentences[told], int(at[number]), fillers)), None, 0))
    assert len(out) == places
    return out


def position(session: Session, probe: Probe) -> tuple[list[Row], pd.DataFrame]:
    """Rows of the conditions ``t2i`` and ``i2t``: ``place_recall@1`` (x: place), ``content_recall@1`` (x: sentence),
    ``place_effect`` (x: place; points freed of content, summing to 0) and ``place_slope`` (change a place).

    The queries of sentence s at place j are the condition ``s-at-j``. No I2T where images have several captions.

    Raises:
        UserError: a setting that is not known.
        NotApplicable: no caption has enough sentences.
    """
    known = probe.settings_like(places=4, squares=2, fill="neutral", text=NEUTRAL)
    places, squares, fill = known["places"], min(known["squares"], known["places"]), known["fill"]
    if fill not in FILLS:
        raise UserError(f"probe {probe.name}: settings.fill = {fill!r}; choose {', '.join(FILLS)}")
    if squares < 2:
        raise UserError(f"probe {probe.name}: settings.squares and settings.places must be at least 2")
    chosen = np.array([len(sentences) >= places for sentences in session.sentences])
    if not chosen.any():
        raise NotApplicable(f"{session.dataset.name}: no caption has {places} sentences")
    numbers = np.cumsum(chosen) - 1
    owner = session.dataset.caption_image
    one_each = len(np.unique(owner)) == len(owner)
    # The caption of each query: itself, or the one of the image.
    caption = {"t2i": np.arange(len(owner)), **({"i2t": np.argsort(owner)} if one_each else {})}
    if not one_each:
        log.warning("%s: image to text left out: an image has several captions", probe.name)
    tables: dict[str, list[pd.DataFrame]] = {direction: [] for direction in caption}
    for told in range(places):
        for square in range(squares):
            at = (told + numbers + square) % places
            rankings = session.rankings(_texts(session, told, at, chosen, fill, known["text"]))
            for direction, mine in caption.items():
                table = query_table(rankings[direction], session.clusters(direction)).assign(told=told, at=at[mine])
                tables[direction].append(table[chosen[mine]])
            session.progress(probe.name, told * squares + square + 1, places * squares)
    rows: list[Row] = []
    queries = []
    for order, (direction, parts) in enumerate(tables.items()):
        table = pd.concat(parts, ignore_index=True)
        table["hit"] = credit(table["better"].to_numpy(), table["equal"].to_numpy(), table["right"].to_numpy(), 1)
        names = (table["told"] + 1).astype(str) + "-at-" + (table["at"] + 1).astype(str)
        queries.append(table.assign(condition=names, direction=direction, eligible=True, affected=True))
        rows += _rows(probe.name, direction, order, table, places)
    return rows, pd.concat(queries, ignore_index=True)[list(QUERY_COLUMNS)]


def _rows(probe: str, direction: str, order: int, table: pd.DataFrame, places: int) -> list[Row]:
    hit, at, told, cluster = (table[name].to_numpy() for name in ("hit", "at", "told", "cluster"))
    rows: list[Row] = []
    for metric, factor in (("place_recall@1", at), ("content_recall@1", told)):
        for level in range(places):
            mine = factor == level
            rows += mean_rows(
                cluster[mine], hit[mine, None], probe=probe, condition=direction, order=order, metrics=[metric],
                xs=[float(level + 1)], credits=True,
            )  # fmt: skip
    found = place_effects(hit, table["query"].to_numpy() * places + told, at, cluster)
    like = replace(rows[0], n=len(hit), clusters=len(np.unique(cluster)), eligible=len(hit), affected=len(hit), ties=0)

    def row(metric: str, x: float | None, value: float, interval: Interval | None) -> Row:
        low, high = (interval.low, interval.high) if interval else (None, None)
        how = f"within sentences; {METHODS['mean']}" if interval else ""
        return replace(like, metric=metric, x=x, value=value, low=low, high=high, method=how)

    rows += [row("place_effect", j + 1.0, *effect) for j, effect in enumerate(found.effects)]
    return [*rows, row("place_slope", None, *found.slope)]
