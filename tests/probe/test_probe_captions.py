"""What transforms keep of captions as people write them: line breaks, quotes, odd spaces, glued sentences."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipbias.data.sentences import split_sentences
from clipbias.probe.transforms import TRANSFORMS

CAPTIONS = (
    "A low-angle view of a lighthouse on a rocky shore. Its lamp room is red; the tower below is white. Gulls circle "
    "above it, and two of them sit on the railing.The sea behind is flat and grey. It is an overcast day.",
    'An indoor shot of a shop window with the words "OPEN 9 a.m. - 5 p.m." in blue neon. Below the sign stands a '
    "wooden chair.\n\nTo the left, a bicycle leans against the wall. Its basket holds three loaves of bread.",
    "A close-up of a cat's face. The left eye is green, the right one is blue. Its fur is orange with white stripes. "
    "Behind the cat is a shelf of books. One of them reads \u201cA History of Tea, Vol. 2\u201d. Indoor, daytime.",
    "A street in the rain.\u00a0Umbrellas in red, black and yellow fill the pavement. A tram with the number 7 waits.\n"
    "Its windows are fogged. Mr. Jones's bakery is on the corner! Is it closed? The door says so.",
    "Two boats on a lake. Two boats on a lake. The nearer one is about 2.5 m long and green.",
    "Ein Caf\u00e9 mit f\u00fcnf Tischen. \u540d\u524d\u306e\u306a\u3044\u732b\u304c\u3044\u308b\u3002 "
    "The floor is tiled ... "
    "in black and white. A dog (a spaniel?) sleeps under the counter.",
    "A single sentence without an end",
    "A table is set for four.  The plates are white, with thin gold rims .  In the centre stands a vase of tulips. "
    "Some petals have fallen: three on the cloth, one on a fork. The photo is taken from above.",
)  # fmt: skip
SENTENCES = [tuple(split_sentences(caption)) for caption in CAPTIONS]
CAPTION = st.sampled_from(SENTENCES)
FILLER = "This is a photo."


def keeps_every_sentence(sentences, seed, i, j):
    """Reordering and padding; what they add is filler alone."""
    for name, parameters in (
        ("reverse", {}), ("rotate", {"by": i}), ("permute", {"seed": seed}), ("swap", {"i": i, "j": j}),
    ):  # fmt: skip
        out = TRANSFORMS[name](sentences, **parameters)
        assert out is None or Counter(out) == Counter(sentences), name
    for where in ("before", "between", "after"):
        out = TRANSFORMS["pad"](sentences, text=FILLER, n=i, where=where)
        assert Counter(out) == Counter(sentences) + Counter({FILLER: i})
        assert tuple(s for s in out if s != FILLER) == tuple(s for s in sentences if s != FILLER)
    out = TRANSFORMS["sample"](sentences, n=i, seed=seed)
    assert out is None or (len(out) == i and not Counter(out) - Counter(sentences))


@settings(max_examples=150, deadline=None)
@given(CAPTION, st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 6))
def test_reordering_padding_and_sampling_keep_sentences(sentences, seed, i, j):
    keeps_every_sentence(sentences, seed, i, j)


@pytest.mark.parametrize(("caption", "sentences"), list(zip(CAPTIONS, SENTENCES, strict=True)))
def test_splitting_loses_nothing_but_white_space(caption, sentences):
    assert "".join("".join(sentences).split()) == "".join(caption.split())
    assert all(sentence and sentence == sentence.strip() for sentence in sentences)
