"""What a run holds of each image, features apart: no text of every condition, no ranking that nobody asks for again."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.overrides import TorchFunctionMode

from clipbias.data.dataset import RetrievalDataset
from clipbias.models.wrapped import WrappedEncoder
from clipbias.probe import ranking
from clipbias.probe.ranking import LastRankings, Ranking, leaders
from clipbias.probe.run import run_probe
from clipbias.probe.session import Session
from clipbias.probe.spec import find_probes
from clipbias.probe.textrows import TextRows
from clipbias.results import queries


class Named:
    """A model that finds the image whose number a text names, but for one text in ten."""

    fingerprint = "named"

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        numbers = np.array([int("".join(filter(str.isdigit, text)) or "0") for text in texts])
        return circle(numbers + (numbers % 10 == 9))

    def encode_images(self, images: list[Image.Image]) -> np.ndarray:
        return circle(np.array([np.asarray(image)[0, 0] @ [0, 256, 1] for image in images]))


def circle(numbers: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(numbers / 1000), np.sin(numbers / 1000)], axis=1).astype(np.float32)


def picture(number: int) -> Image.Image:
    return Image.new("RGB", (1, 1), (0, number >> 8, number & 255))


def peak(images: int, folder: Path) -> int:
    """Bytes that Python and NumPy hold at most in a run of three conditions, beyond its data; tensors are apart."""
    names = [str(index) for index in range(images)]
    captions = [f"A star {index} is in the sky. It is red and round. Below is grass." for index in range(images)]
    data = RetrievalDataset(f"of {images}", "all", "", names, picture, captions, np.arange(images))
    assert len(data.caption_sentences) == images
    encoder = WrappedEncoder(Named(), "named", torch.device("cpu"), "fp32")
    (padding,) = find_probes("padding")
    probe = replace(padding, conditions=padding.conditions[:3])
    tracemalloc.start()
    try:
        run_probe(Session(encoder, data), probe, folder)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_run_of_three_conditions_holds_some_hundred_bytes_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "GROUP", 2**10)  # what is written at a time does not grow with the images
    peak(300, tmp_path)  # imports, and whatever else is made once
    few, many = 500, 1500
    each = (peak(many, tmp_path) - peak(few, tmp_path)) / (many - few)
    # 120 of it are ranks, 230 the texts of one condition. Texts of every condition would take 1,000.
    assert 200 < each < 700


def made(number: int) -> dict[str, Ranking]:
    part = np.full(100, number, dtype=np.int32)
    return {"t2i": Ranking(part, part, part, part, part)}


def test_the_rankings_asked_for_last_are_kept_as_far_as_they_fit() -> None:
    asked: list[int] = []

    def get(number: int) -> None:
        def make() -> dict[str, Ranking]:
            asked.append(number)
            return made(number)

        assert kept.get(np.array([number, 7]), make)["t2i"].better[0] == number

    kept = LastRankings(3 * 5 * 400)
    for number in (1, 2, 3, 1, 4, 1, 3, 4, 2):  # 4 puts out 2, which was not asked for since 1 and 3 were
        get(number)
    assert asked == [1, 2, 3, 4, 2]
    kept = LastRankings(1)
    for number in (5, 5, 6, 5):  # the last is kept, however large
        get(number)
    assert asked[5:] == [5, 6, 5]


TEXTS = st.tuples(st.text(max_size=3), st.sampled_from([None, 1, 5]), st.integers(0, 2))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(TEXTS, max_size=80), max_size=3))
def test_rows_of_texts_are_a_dictionarys(parts: list[list[tuple[str, int | None, int]]]) -> None:
    rows, known = TextRows(), dict[tuple[str, int | None, int], int]()
    for part in parts:
        for text in part:
            assert (text in rows) == (text in known)
            if text not in known:
                rows[text] = known[text] = len(known)
        assert [rows[text] for text in known] == list(known.values()) and len(rows) == len(known)
    with pytest.raises(KeyError):
        rows["none of these", None, 9]


class Same(tuple[str, None, int]):
    """A text whose hash is that of all others."""

    def __hash__(self) -> int:
        return 7


def test_texts_of_one_hash_are_told_apart() -> None:
    rows, texts = TextRows(), [Same((str(number), None, 0)) for number in range(300)]
    for number, text in enumerate(texts):
        rows[text] = number
    assert [rows[text] for text in texts] == list(range(300))
    with pytest.raises(ValueError, match="in order"):
        rows[texts[3]] = 300


class Watch(TorchFunctionMode):
    """How exact products of matrices may be while they are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if "matmul" in getattr(function, "__name__", ""):
            self.seen.append(torch.get_float32_matmul_precision())
        return function(*args, **(kwargs or {}))


def test_who_leads_is_never_left_to_tf32() -> None:
    features, own = torch.nn.functional.normalize(torch.randn(5, 3), dim=1), np.arange(5)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with Watch() as watch:
            found = leaders(features, features, own, own, own)
            ranking.rank_both(features, features, own)
    finally:
        torch.set_float32_matmul_precision(before)
    assert len(watch.seen) >= 2 and set(watch.seen) == {"highest"}
    assert (found != own).all() and (found >= 0).all()
