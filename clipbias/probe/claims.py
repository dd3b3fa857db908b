"""What is known of every probe on each rigged encoder: probe -> encoder -> claims."""

from __future__ import annotations

import numpy as np

from clipbias.probe.known import Claim, above, equal, is_, loses, same
from clipbias.probe.rigged import CAPTIONS, DECAY, FIRST_WORDS

Claims = dict[str, dict[str, list[Claim]]]

CHANCE = 1 / CAPTIONS
FIRST, WEIGHTED, BAG, SUMMARY, WHOLE = "first words", "weighted", "no order", "summary", "everything"


def chance(what: str, *conditions: str) -> Claim:
    """Nothing is read: every picture is equally near."""
    return is_("recall@1", CHANCE, what, *conditions)


def numbered(stem: str, first: int, last: int) -> list[str]:
    """The conditions ``stem``-first .. ``stem``-last."""
    return [f"{stem}-{k}" for k in range(first, last + 1)]


_CUT = ["tokens-10", "tokens-20", "tokens-40", "tokens-75", "tokens-120"]
_FAR = ["shift-10", "shift-20", "shift-40", "shift-80", "shift-160"]
_ORDER = "order changes nothing"
RETRIEVAL: Claims = {
    "drop-first": {
        FIRST: [loses("the first sentence is missed")], WEIGHTED: [loses("the first sentence is missed")],
        SUMMARY: [chance("nothing is left", "drop-first")],
        BAG: [above("recall@1", 0.9, "the rest identifies", "drop-first")],
    },
    "first-only": {
        FIRST: [same("the first sentence is all")], SUMMARY: [same("the first sentence is all")],
        BAG: [loses("one sentence is not enough")], WEIGHTED: [loses("one sentence is not enough")],
    },
    "swap-1-4": {
        FIRST: [loses("moved away")], WHOLE: [loses("moved away")],
        BAG: [same(_ORDER)], SUMMARY: [same(_ORDER)],
    },
    "summary-last": {
        FIRST: [loses("moved away")], WEIGHTED: [loses("moved away")], WHOLE: [loses("moved away")],
        BAG: [same(_ORDER)], SUMMARY: [same(_ORDER)],
    },
    "swap": {
        FIRST: [loses("moved away", "swap-2"), same("the first is all", "first-only")],
        BAG: [same(_ORDER, "swap-2")], SUMMARY: [same("one sentence is read, wherever it stands")],
    },
    "permute": {
        FIRST: [loses("reversed", "reverse")], WHOLE: [loses("order is read")],
        BAG: [same(_ORDER)], SUMMARY: [same(_ORDER)],
    },
    "shuffled-sentences": {
        FIRST: [loses("moved away")], WEIGHTED: [loses("moved away")], WHOLE: [loses("order is read")],
        BAG: [same(_ORDER)], SUMMARY: [same(_ORDER)],
    },
    "shuffled-words": {
        FIRST: [loses("words move beyond what is read", "words")], WHOLE: [loses("order is read")],
        BAG: [same(_ORDER)],
    },
    "padding": {
        FIRST: [
            loses("pushed out", *numbered("pad", 1, 5)),
            equal("recall@1", "nothing but padding is read", *numbered("pad", 2, 5)),
        ],
        WEIGHTED: [loses("pushed down", "pad-5")],
        BAG: [equal("recall@1", "how much of it does not matter", *numbered("pad", 1, 5))],
        SUMMARY: [same("padding is not read")],
    },
    "padding-variants": {
        FIRST: [same("behind what is read", "between", "after"), loses("pushed out", "before", "other-words")],
        BAG: [equal("recall@1", "its place does not matter", "before", "between", "after")],
        SUMMARY: [same("padding is not read")],
    },
    "token-padding": {
        FIRST: [chance("pushed out", *_FAR)], WEIGHTED: [same("pads only scale the feature")],
        BAG: [same("pads are not read")], SUMMARY: [same("pads are not read")],
    },
    "truncate-tokens": {
        FIRST: [same("cut behind what is read", *_CUT), loses("cut", "tokens-5")],
        SUMMARY: [same("cut behind what is read", *_CUT[1:]), chance("cut", "tokens-5", "tokens-10")],
        BAG: [loses("cut", "tokens-5", "tokens-10")],
    },
    "truncate-sentences": {
        FIRST: [same("cut behind what is read")], SUMMARY: [same("cut behind what is read")],
        BAG: [loses("cut", "first-1", "first-2")],
    },
    "leave-one-out": {
        FIRST: [same("not read", *numbered("without", 2, 8)), loses("missed", "without-1")],
        SUMMARY: [same("not read", *numbered("without", 2, 8)), chance("missed", "without-1")],
    },
    "one-sentence": {
        FIRST: [same("all that is read", "only-1")],
        SUMMARY: [same("all that is read", "only-1"), chance("not read", *numbered("only", 2, 6))],
        BAG: [loses("one is not enough", *numbered("only", 1, 6))],
    },
    "short": {
        FIRST: [same("all that is read")], SUMMARY: [same("all that is read")], BAG: [loses("one is not enough")],
    },
}  # fmt: skip
"""Probes that change captions and rank."""

_FREE = is_("place_effect", 0, "places are alike")
_FLAT = is_("shift_fall", 0, "a shift by pads costs nothing", "pads-t2i", "pads-i2t")
_ALL_FIRST = [is_(name, 1, f"all {name}") for name in ("first_sentence_influence", "first_sentence_gradient")]
_MIDDLE = [f"self_cosine_{where}" for where in ("start", "middle", "end")]
KINDS: Claims = {
    "place": {BAG: [_FREE], SUMMARY: [_FREE, is_("content_recall@1", CHANCE, "details are not read", least=2)]},
    "place-others": {BAG: [_FREE], FIRST: [above("place_recall@1", 0.05, "the first place is read", "t2i", most=1)]},
    "place-pads": {
        WEIGHTED: [_FREE], BAG: [_FREE], SUMMARY: [_FREE],
        FIRST: [is_("place_recall@1", CHANCE, "nothing is read behind a sentence of pads", "t2i", least=3)],
    },
    "reliance": {
        FIRST: [above("excess_loss", 0.3, "lost beyond what the sentence tells", "late-fusion")],
        SUMMARY: [is_("excess_loss", 0, "lost for what the sentence tells alone", "late-fusion")],
    },
    "shapley": {SUMMARY: [is_("shapley_by_sentence", 0, "details bring nothing", least=2)]},
    "shift": {
        FIRST: [
            is_("shift_recall@1", CHANCE, "nothing is read behind pads", "pads-t2i", least=10),
            above("shift_fall", 0.2, "pushed out", "neutral-t2i", "unseen-t2i"),
        ],
        WEIGHTED: [_FLAT], BAG: [_FLAT], SUMMARY: [is_("shift_fall", 0, "fillers are not read")],
    },
    "text": {
        FIRST: [
            is_(_MIDDLE[2], 1, "behind what is read", "inserted", "removed"),
            is_(_MIDDLE[1], 1, "behind what is read", "inserted", "removed"),
        ],
        WEIGHTED: [is_("sentence_r2", 1, "a weighted sum of its sentences")],
        SUMMARY: [is_(name, 1, "foreign text is not read", "inserted") for name in _MIDDLE],
    },
    "monotone": {
        FIRST: [is_("himo@2", 0, "does not rise"), is_("himo@3", 0, "does not rise")],
        SUMMARY: [is_("himo@2", 0, "does not rise"), is_("himo@all", 0, "does not change")],
        BAG: [above("himo@2", 0.9, "rises with what is told")],
    },
    "himo-docci": {
        FIRST: [is_("himo@all", 0, "does not change")], SUMMARY: [is_("himo@all", 0, "does not change")],
        BAG: [above("himo@all", 0.9, "rises with what is told")],
    },
    "needle": {
        FIRST: [
            above("needle_accuracy", 0.6, "read in the first place", "fillers-0", most=1),
            is_("needle_accuracy", 0.5, "a tie behind", "fillers-0", least=2),
            is_("needle_half_depth", 1.5, "half way to the second place", "fillers-0"),
            is_("needle_accuracy", 0.5, "pushed out by fillers", "fillers-3"),
        ],
        BAG: [above("needle_accuracy", 0.8, "read wherever it stands")],
        SUMMARY: [is_("needle_accuracy", 0.5, "never read"), is_("needle_half_depth", 0, "never read")],
    },
    "pairs": {
        FIRST: [is_("pair_accuracy", 0.5, "not reached", "replaced", "negated")],
        BAG: [
            is_("pair_accuracy", 0.5, "the same words", "swapped"), above("pair_accuracy", 0.8, "read", "replaced"),
        ],
        SUMMARY: [is_("pair_accuracy", 0.5, "not read", "replaced", "negated")],
    },
    "attention": {
        FIRST: [
            is_("effective_positions", FIRST_WORDS, "as many as are read"),
            is_("first_20_attention", 1, "all of it there"),
        ],
        WEIGHTED: [is_("log_slope", float(np.log(DECAY)), "the decay of the weights")],
        SUMMARY: [is_("first_sentence_attention", 1, "all on the first sentence")],
    },
    "influence": {FIRST: _ALL_FIRST, SUMMARY: _ALL_FIRST},
}  # fmt: skip
"""Probes with a kind of their own."""
