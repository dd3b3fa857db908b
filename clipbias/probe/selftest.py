"""Rigged encoders (`clipbias.probe.rigged`) and what every probe must say of them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from clipbias.data.dataset import RetrievalDataset
from clipbias.probe import claims as known
from clipbias.probe.claims import BAG, CHANCE, FIRST, SUMMARY, WEIGHTED, WHOLE, Claims
from clipbias.probe.kinds import KINDS
from clipbias.probe.known import covers, loses
from clipbias.probe.rigged import RiggedEncoder, rigged_data
from clipbias.probe.run import run_probe
from clipbias.probe.session import Session
from clipbias.probe.spec import Probe, find_probes
from clipbias.results.card import cards
from clipbias.results.folder import load_runs
from clipbias.results.record import Row

WHOLE_SEEN = ("monotone", "himo-docci", "needle", "pairs")
"""Probes of single cosines: the pictures are seen whole, so that a text can tell too little of them."""
SMALLER: dict[str, dict[str, Any]] = {
    "attention": {"captions": 60}, "influence": {"captions": 8}, "shapley": {"captions": 8},
    "text": {"captions": 60}, "needle": {"scenes": 60}, "pairs": {"scenes": 60}, "shift": {"shifts": [0, 10, 40]},
}  # fmt: skip


@dataclass(frozen=True)
class Check:
    """One thing that must hold, what was found, and whether it holds."""

    what: str
    found: str
    passed: bool


class Rig:
    """The rigged encoders on their data, each with one session for all probes."""

    def __init__(self) -> None:
        self.data = replace(rigged_data(), name="scenes", split="validation")
        self._sessions: dict[tuple[str, str, bool], Session] = {}

    def rows(self, kind: str, probe: Probe) -> list[Row]:
        """What ``probe`` says of the encoder ``kind``."""
        sees, grown = BAG if probe.name in WHOLE_SEEN else "", probe.name == "himo-docci"
        if (kind, sees, grown) not in self._sessions:
            encoder = RiggedEncoder(self.data, kind, sees)
            self._sessions[kind, sees, grown] = Session(encoder, _grown(self.data) if grown else self.data)
        return KINDS[probe.kind](self._sessions[kind, sees, grown], probe)[0]


def drawn_claims(rig: Rig) -> Claims:
    """The same for probes that draw, and for a design that meets some places only: intervals that cover the truth."""
    sentences = rig.data.sentences or ()
    twins = [sum(own[0] == other[0] for other in sentences) for own in sentences]
    found = 1 / np.array(twins)  # what a whole summary is worth to who reads nothing else

    def expected(kept: np.ndarray) -> float:
        return float((kept * found + (1 - kept) * CHANCE).mean())

    long = np.array([len(own) for own in sentences])
    words = np.array([len(own[0].split()) for own in sentences])
    told = "found as often as the summary is drawn"
    design = {
        kind: [
            covers("place_slope", row.value, "as where every sentence is told at every place", row.condition)
            for row in rig.rows(kind, replace(_probe("place"), settings={"places": 4, "squares": 4}))
            if row.metric == "place_slope"
        ]
        for kind in (FIRST, WEIGHTED)
    }
    return {
        "sampled": {
            SUMMARY: [covers("recall@1", expected(n / long), told, name) for n, name in ((2, "two"), (3, "three"))]
        },
        "word-dropout": {
            SUMMARY: [
                covers("recall@1", expected((1 - p) ** words), told, f"without-{100 * p:.0f}%") for p in (0.3, 0.5)
            ],
            FIRST: [loses("words are missed")], WHOLE: [loses("places move")],
        },
        "place": design,
    }  # fmt: skip


def _probe(name: str) -> Probe:
    (probe,) = find_probes(name)
    return replace(probe, settings={**probe.settings, **SMALLER.get(name, {})})


def _grown(data: RetrievalDataset) -> RetrievalDataset:
    """The first 40 pictures, three growing captions each."""
    few = list(data.sentences or ())[:40]
    return replace(
        data,
        captions=[" ".join(own[:k]) for own in few for k in (1, 3, len(own))],
        caption_image=np.repeat(np.arange(len(few)), 3),
        image_names=data.image_names[: len(few)],
        sentences=None,
        short_captions=None,
    )


def all_claims(rig: Rig) -> Claims:
    """Probe -> encoder -> what is known of it."""
    out: Claims = {}
    for part in (known.RETRIEVAL, known.KINDS, drawn_claims(rig)):
        for probe, kinds in part.items():
            for kind, claims in kinds.items():
                mine = out.setdefault(probe, {})
                mine[kind] = [*mine.get(kind, []), *claims]
    return out


def run_selftest(only: Sequence[str] = ()) -> list[Check]:
    """Ask every probe (or ``only`` some) of the rigged encoders and check what is known of each."""
    rig = Rig()
    checks = []
    for name, kinds in all_claims(rig).items():
        if only and name not in only:
            continue
        for kind, claims in kinds.items():
            rows = rig.rows(kind, _probe(name))
            for claim in claims:
                found = claim.check(rows)
                checks.append(Check(f"{name}, {kind}: {claim.what}", found.told, found.holds))
    return checks if only else [*checks, *_card_checks(rig.data)]


def _card_checks(data: RetrievalDataset) -> list[Check]:
    """The card's numbers put the encoders in their order."""
    scalar: dict[tuple[str, str], float] = {}
    for names, sees in ((("drop-first", "swap-1-4", "padding"), ""), (("needle",), BAG)):
        with tempfile.TemporaryDirectory() as folder:
            for kind in (FIRST, BAG, WHOLE):
                session = Session(RiggedEncoder(data, kind, sees), data)
                for name in names:
                    run_probe(session, _probe(name), Path(folder))
            scalar |= {(s.model, s.scalar): s.value for s in cards(load_runs([Path(folder)])).itertuples()}

    def below(name: str, small: str, large: str, by: float) -> Check:
        low, high = scalar[small, name], scalar[large, name]
        return Check(f"card, {name}: {small} below {large}", f"{low:.1f} against {high:.1f}", low <= high - by)

    return [
        below("padding change", FIRST, BAG, 10),
        below("swap drop", WHOLE, BAG, 5),
        below("first-sentence reliance", BAG, FIRST, 50),
        below("needle half-depth", FIRST, BAG, 4),
    ]
