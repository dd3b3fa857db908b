"""Images of a run are decoded while the tower computes, whatever the size of its batches."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from clipbias.data.dataset import RetrievalDataset
from clipbias.models.encoder import Encoder
from clipbias.models.loading import load_model
from clipbias.probe.session import Session

COUNT = 700


class Loads:
    """Pictures of one colour each; says when so many were asked for."""

    def __init__(self, enough: int) -> None:
        self.asked, self.enough, self.reached = 0, enough, threading.Event()

    def __call__(self, index: int) -> Image.Image:
        self.asked += 1
        if self.asked >= self.enough:
            self.reached.set()
        return Image.new("RGB", (48, 48), (index % 256, index // 3 % 256, 90))


def pictures(load: Loads) -> RetrievalDataset:
    names = [str(i) for i in range(COUNT)]
    return RetrievalDataset("pictures", "all", "colours", names, load, names, np.arange(COUNT))


@pytest.mark.parametrize("size", [100, 300])
def test_a_tower_does_not_hold_up_the_decoding(size: int) -> None:
    encoder, told = load_model("nano-clip", device="cpu"), list[tuple[str, int, int]]()
    load = Loads(size + size // 2)
    own, met = encoder.image_features, list[bool]()

    def waits(batch: dict[str, Tensor]) -> Tensor:
        """A tower that takes as long as others need to decode half of the next batch."""
        met.append(load.reached.wait(20))
        return own(batch)

    encoder.image_features = waits
    session = Session(encoder, pictures(load), progress=lambda *what: told.append(what), batch_size=size)
    features = session.images()
    assert all(met) and len(met) == -(-COUNT // size)
    assert told == [("images", min(done, COUNT), COUNT) for done in range(size, COUNT + size, size)]
    encoder.image_features = own
    torch.testing.assert_close(features, encoder.encode_images(list(map(load, range(COUNT)))), atol=1e-6, rtol=0)


def test_texts_that_are_left_with_the_same_tokens_get_the_same_feature(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, sizes = load_model("nano-clip", device="cpu"), list[int]()
    own = encoder.encode_token_ids

    def encode(ids: Tensor, batch_size: int | None = None) -> Tensor:
        sizes.append(len(ids))
        return own(ids, batch_size)

    monkeypatch.setattr(encoder, "encode_token_ids", encode)
    monkeypatch.setattr("clipbias.probe.session._TEXT_CHUNK", 3)
    texts = [
        f"{colour} star {more}" for more in ("", "one", "two") for colour in ("a red", "a green", "the blue", "no")
    ]
    session = Session(encoder, pictures(Loads(COUNT)))
    features, row, lengths = session.texts([(text, 3, 0) for text in texts])
    assert sizes == [3, 3]  # "no star" is left with two tokens, and "no star one" and "no star two" differ
    wanted = own(encoder.text_tower().tokens.pack([ids[:3] for ids in encoder.text_tower().tokens.ids(texts)], 0))
    torch.testing.assert_close(features[row], wanted, atol=1e-6, rtol=0)
    assert torch.equal(features[row[0]], features[row[4]]) and torch.equal(features[row[1]], features[row[9]])
    assert lengths.tolist() == [5, 5, 5, 4] + [5] * 8


def test_an_encoder_that_does_not_stream_is_given_a_few_hundred_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, sizes = load_model("nano-clip", device="cpu"), list[int]()
    own = encoder.encode_images

    def encode(images: Sequence[Image.Image], batch_size: int | None = None) -> Tensor:
        sizes.append(len(images))
        return own(images, batch_size)

    assert encoder.streams and not Encoder.streams
    monkeypatch.setattr(encoder, "streams", False)
    monkeypatch.setattr(encoder, "encode_images", encode)
    Session(encoder, pictures(Loads(COUNT))).images()
    assert sum(sizes) == COUNT and max(sizes) <= 256
