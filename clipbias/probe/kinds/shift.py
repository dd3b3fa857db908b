"""Shift curve: retrieval against the number of tokens before the text, by what they are.

Pad ids move a text and say nothing; neutral words say nothing of the image; words that captions never use say something
strange. A monotone (isotonic) fit says what a steady fall explains; what it leaves points to an artefact, such as
places where training texts happened to begin. Page's test asks whether there is a trend at all.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression

from clipbias.errors import NotApplicable
from clipbias.probe.counting import DIRECTIONS
from clipbias.probe.measure import mean_rows, no_queries
from clipbias.probe.session import Session, TextKey
from clipbias.probe.spec import Probe
from clipbias.results.record import Row
from clipbias.stats.intervals import METHODS, resampled
from clipbias.stats.ties import credit
from clipbias.stats.trend import page

log = logging.getLogger(__name__)
NEUTRAL = "this is a photo of what one can see here"
UNSEEN = "quorum tariff audit statute clause docket ledger fiscal verdict treaty"


def prefix(session: Session, words: str, tokens: int) -> tuple[str, int]:
    """The fewest of ``words``, repeated, that take at least so many tokens, and how many they take.

    A model that does not say how many tokens a text has is given so many words.
    """
    if not tokens:
        return "", 0
    cycle = words.split()
    line = [cycle[k % len(cycle)] for k in range(tokens)]  # a word has at least one token
    lengths = session.encoder.token_lengths(["", *(" ".join(line[: k + 1]) for k in range(tokens))])
    taken = lengths[1:] - lengths[0] if lengths.any() else np.arange(1, tokens + 1)
    enough = int(np.argmax(taken >= tokens))
    return " ".join(line[: enough + 1]), int(taken[enough])


def fall(means: np.ndarray) -> np.ndarray:
    """From each row of ``means`` [R, K], by growing shift: the first value of its falling fit minus the last [R]."""
    fits = [isotonic_regression(line, increasing=False).x for line in means]
    return np.array([fit[0] - fit[-1] for fit in fits])


def unevenness(means: np.ndarray) -> np.ndarray:
    """The largest distance [R] of each row of ``means`` [R, K] from its falling fit."""
    return np.array([np.abs(line - isotonic_regression(line, increasing=False).x).max() for line in means])


def shift(session: Session, probe: Probe) -> tuple[list[Row], pd.DataFrame]:
    """Rows, one condition a filler and direction (``pads-t2i``, ...): ``shift_recall@1`` and ``isotonic_recall@1``
    (x: tokens), ``shift_fall`` of the fit, ``shift_unevenness`` around it, ``shift_trend`` (z, p of Page's test).

    A caption is its first ``settings.sentences`` sentences, as in the padding probe.
    """
    known = probe.settings_like(shifts=[0, 10, 20, 40, 80, 160], sentences=2, neutral=NEUTRAL, unseen=UNSEEN)
    shifts = sorted(set(known["shifts"]) | {0})
    texts = [" ".join(s[: known["sentences"]]) for s in session.sentences]
    rows: list[Row] = []
    for order, fill in enumerate(("pads", "neutral", "unseen")):
        hits: dict[str, list[np.ndarray]] = {direction: [] for direction in DIRECTIONS}
        at: list[float] = []
        for tokens in shifts:
            if fill == "pads":
                keys: list[TextKey] = [(text, None, tokens) for text in texts]
            else:
                words, tokens = prefix(session, known[fill], tokens)
                keys = [(f"{words} {text}".strip(), None, 0) for text in texts]
            try:
                rankings = session.rankings(keys)
            except NotApplicable as error:
                if not tokens:
                    raise
                # No room for so many pads, or no ids to put them into.
                log.warning("%s: left out %s of %d tokens or more: %s", probe.name, fill, tokens, error)
                break
            at.append(float(tokens))
            for direction in DIRECTIONS:
                hits[direction].append(credit(*rankings[direction].counts, 1))
        for side, direction in enumerate(DIRECTIONS if len(at) > 1 else ()):
            table = np.column_stack(hits[direction])
            cluster = session.clusters(direction)
            rows += curve_rows(probe.name, f"{fill}-{direction}", 2 * order + side, at, table, cluster, session.seed)
        session.progress(probe.name, order + 1, 3)
    return rows, no_queries()


def curve_rows(
    probe: str, condition: str, order: int, at: list[float], hits: np.ndarray, cluster: np.ndarray, seed: int
) -> list[Row]:
    """The rows of one curve ``hits`` [Q, K] at shifts ``at`` [K]."""
    rows = mean_rows(
        cluster, hits, probe=probe, condition=condition, order=order, metrics=["shift_recall@1"] * len(at), xs=at,
        credits=True,
    )  # fmt: skip
    like = replace(rows[0], low=None, high=None, method="", x=None, ties=0)
    fit = isotonic_regression(hits.mean(axis=0), increasing=False).x
    rows += [replace(like, metric="isotonic_recall@1", x=x, value=float(v)) for x, v in zip(at, fit, strict=True)]
    if len(at) < 3:
        return rows
    for metric, statistic in (("shift_fall", fall), ("shift_unevenness", unevenness)):
        found = resampled(statistic, hits, cluster, seed)
        rows.append(
            replace(like, metric=metric, value=found.value, low=found.low, high=found.high, method=METHODS["resampled"])
        )
    trend = page(hits, cluster)
    if trend is not None:
        rows.append(replace(like, metric="shift_trend", value=trend.z, p=trend.p, method="z of Page's test"))
    return rows
