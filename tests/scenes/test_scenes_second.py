"""The second world: a summary that stands again, a corpus by a stated distribution."""

from __future__ import annotations

import re

import numpy as np
import pytest

from clipbias.data.loading import load_dataset
from clipbias.errors import UserError
from clipbias.scenes.v2 import BOILERPLATE, long_caption, sample_scene, short_caption, web_caption


def test_scenes_are_unlike_and_have_few_things():
    facts = [tuple(sample_scene("test", index).facts().items()) for index in range(1_000)]
    assert len(set(facts)) == 1_000
    assert {len(sample_scene("test", index).things) for index in range(100)} == {2, 3}
    with pytest.raises(IndexError):
        sample_scene("test", 1_000)


def test_sentences_state_the_facts_they_name_and_the_summary_stands_again():
    again = {"thing0.shape": 0, "thing0.colour": 0, "sky.colour": 0}
    for index in range(400):
        scene = sample_scene("validation", index)
        facts = scene.facts()
        first, *rest = long_caption(scene)
        assert 4 <= len(rest) <= 6 and set(again) < set(first.facts)
        for sentence in (first, *rest):
            for name in sentence.facts:
                if name.split(".")[-1] in ("shape", "colour", "size"):
                    assert facts[name] in sentence.text.lower(), (sentence, name)
        for name in again:
            again[name] += any(name in s.facts for s in rest)
    # 0.7 with four standard errors.
    assert all(0.6 < count / 400 < 0.8 for count in again.values())


def _expected_top1(scenes, sentences) -> float:
    """T2I R@1 of a reader of these sentences who guesses among the scenes that they fit."""
    known = [scene.facts() for scene in scenes]
    names = {name for facts in known for name in facts}
    column = {name: np.array([facts.get(name, "") for facts in known]) for name in names}
    total = 0.0
    for scene, facts in zip(scenes, known, strict=True):
        fits = np.ones(len(scenes), dtype=bool)
        for name in {name for sentence in sentences(long_caption(scene)) for name in sentence.facts}:
            fits &= column[name] == facts[name]
        total += 1 / fits.sum()
    return total / len(scenes)


def test_what_only_the_summary_says_is_small():
    scenes = [sample_scene("test", index) for index in range(1_000)]
    summary, details = (_expected_top1(scenes, part) for part in (lambda c: c[:1], lambda c: c[1:]))
    whole = _expected_top1(scenes, lambda c: c)
    without = _expected_top1(
        scenes,
        lambda c: [type(s)(s.text, tuple(f for f in s.facts if f not in c[0].facts)) for s in c[1:]],
    )
    print(f"expected T2I R@1 of an oracle: summary {summary:.1%}, details {details:.1%}, all {whole:.1%}")
    print(f"details without the facts that the summary states {without:.1%}")
    assert summary < 0.4 and details > 0.99 and whole > 0.99 and without > 0.95


def test_the_corpus_is_what_it_says():
    scenes = [sample_scene("train", index) for index in range(2_000)]
    bare = [web_caption(scene, 1, 0.0) for scene in scenes]
    led = [web_caption(scene, 1, 0.3) for scene in scenes]
    # Another dose changes what stands in front and nothing else.
    assert all(b.endswith(a) for a, b in zip(bare, led, strict=True))
    leads = [b[: len(b) - len(a)].split() for a, b in zip(bare, led, strict=True)]
    some = [words for words in leads if words]
    assert 0.26 < len(some) / len(leads) < 0.34 and 3.4 < sum(map(len, some)) / len(some) < 4.6
    assert all(word in BOILERPLATE for words in some for word in words)
    assert {*["this", "is", "a", "photo", "here", "is", "an", "image"]} <= set(BOILERPLATE)
    assert len({web_caption(scenes[0], variant) for variant in range(9)}) > 3


def test_the_data_set_has_long_captions_and_a_benchmark_of_short_ones():
    data, short = load_dataset("scenes-2"), load_dataset("scenes-2", split="short")
    assert data.protocol.startswith("scenes-2") and len(data.captions) == 1_000 and data.sentences is not None
    assert short.captions[5] == short_caption(sample_scene("short", 5)) and short.sentences is None
    assert data.load_image(3).size == (48, 48)
    assert all(len(re.findall(r"\.", text)) <= 2 for text in short.captions)
    with pytest.raises(UserError, match="choose one of train, validation, test, short"):
        load_dataset("scenes-2", split="x")
