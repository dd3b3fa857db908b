"""Transforms of words and places: each one's invariant or inverse."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from clipbias.probe.transforms import TRANSFORMS

WORD = st.text("abc.", min_size=1, max_size=4)
SENTENCE = st.lists(WORD, min_size=1, max_size=8).map(" ".join)
SENTENCES = st.lists(SENTENCE, min_size=1, max_size=7).map(tuple)
SEED = st.integers(0, 5)


def words(sentences):
    return [word for sentence in sentences for word in sentence.split()]


@settings(max_examples=100, deadline=None)
@given(SENTENCES, st.integers(1, 8), SEED)
def test_a_sample_is_a_part_of_the_caption_in_its_order(sentences, n, seed):
    out = TRANSFORMS["sample"](sentences, n=n, seed=seed)
    assert (out is None) == (len(sentences) <= n)
    if out is not None:
        rest = iter(sentences)
        assert len(out) == n and all(any(s == other for other in rest) for s in out)
        assert out == TRANSFORMS["sample"](sentences, n=n, seed=seed)


@settings(max_examples=100, deadline=None)
@given(SENTENCES, st.floats(0, 1), SEED)
def test_dropped_words_leave_the_others_in_order(sentences, p, seed):
    out = TRANSFORMS["drop_words"](sentences, p=p, seed=seed)
    if out is None:
        assert p > 0
        return
    rest = iter(words(sentences))
    assert all(any(w == other for other in rest) for w in words(out))
    assert p > 0 or out == sentences
    assert p < 1 or not out


def test_words_are_dropped_as_often_as_said():
    caption = (" ".join(f"w{i}" for i in range(4000)),)
    kept = len(words(TRANSFORMS["drop_words"](caption, p=0.3, seed=1)))
    assert abs(kept - 2800) < 4 * (4000 * 0.3 * 0.7) ** 0.5


@settings(max_examples=100, deadline=None)
@given(SENTENCES, st.integers(1, 4), SEED)
def test_shuffled_words_keep_every_sentence_and_its_runs(sentences, n, seed):
    out = TRANSFORMS["shuffle_words"](sentences, n=n, seed=seed)
    assert (out is None) == all(len(s.split()) <= n for s in sentences)
    for before, after in zip(sentences, out or (), strict=False):
        runs = [before.split()[i : i + n] for i in range(0, len(before.split()), n)]
        assert Counter(before.split()) == Counter(after.split())
        # All full runs are found again, each as a piece, whatever their order.
        text = f" {after} "
        assert all(f" {' '.join(run)} " in text for run in runs)
    assert out is None or len(out) == len(sentences)


@settings(max_examples=150, deadline=None)
@given(SENTENCES, st.integers(1, 8), st.integers(1, 8), SENTENCE)
def test_a_placed_sentence_stands_there_in_a_text_as_long(sentences, k, at, filler):
    out = TRANSFORMS["place"](sentences, k=k, at=at, text=filler)
    assert (out is None) == (len(sentences) < max(k, at))
    if out is None:
        return
    assert out[at - 1] == sentences[k - 1] and len(out) == len(sentences)
    assert len(words(out)) == len(words(sentences))
    assert set(words(out[: at - 1] + out[at:])) <= set(filler.split())
    # Taken out again from where it was put, it is the caption's sentence alone.
    assert TRANSFORMS["only"](out, k=at) == TRANSFORMS["only"](sentences, k=k) == (sentences[k - 1],)
    # Moved back to its own place, every filler lies over the sentence that it replaces.
    back = TRANSFORMS["place"](out, k=at, at=k, text=filler)
    assert back is not None and [len(s.split()) for s in back] == [len(s.split()) for s in sentences]


def _counting_session(count):
    """A session on scenes, and the texts that its encoder was given."""
    import clipbias
    from clipbias.data.build import without_images
    from clipbias.data.loading import load_dataset
    from clipbias.probe.session import Session

    encoder = clipbias.load_model("nano-clip")
    seen = []
    encode = encoder.encode_texts
    encoder.encode_texts = lambda texts, batch_size=None: (seen.extend(texts), encode(texts, batch_size))[1]
    return Session(encoder, without_images(load_dataset("scenes"), range(count, 1000))), seen


def test_the_robustness_suite_encodes_each_text_once_and_averages_its_draws(tmp_path):
    import numpy as np
    import pytest

    from clipbias.probe.run import run_probe
    from clipbias.probe.spec import find_probes
    from clipbias.rerun.check import check_folder
    from clipbias.results.folder import read_queries, read_rows
    from clipbias.results.queries import top1
    from clipbias.stats.intervals import proportion

    session, seen = _counting_session(12)
    for probe in find_probes("robustness"):
        folder = run_probe(session, probe, tmp_path)
        assert all(fault.startswith("data:") for fault in check_folder(folder).faults)  # it is a part of scenes
    assert len(seen) == len(set(seen)) > 12 * 15
    rows = {(r.condition, r.metric): r for r in read_rows(folder) if (r.direction, r.scope) == ("t2i", "eligible")}
    queries = read_queries(folder)
    assert set(queries["condition"]) == {"full", *(f"{c} ~{d}" for c in ("words", "trigrams") for d in range(1, 6))}
    draws = np.array([top1(queries, f"words ~{draw}") for draw in range(1, 6)])
    found = rows["words", "recall@1"]
    assert (found.value, found.low, found.high) == pytest.approx(tuple(proportion(draws.mean(axis=0), np.arange(12))))
    assert found.ties == 0 and len({tuple(d) for d in draws}) > 1
