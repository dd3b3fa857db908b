"""One model on one data set: every distinct text and every image is encoded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from clipbias.data.dataset import RetrievalDataset
from clipbias.data.image_checks import require_readable
from clipbias.data.image_loaders import LazyImages, SomeImages
from clipbias.data.sentences import sentences_of
from clipbias.errors import UserError
from clipbias.files import content_key
from clipbias.models.encoder import Encoder
from clipbias.probe.distributed import counter
from clipbias.probe.ranking import LastRankings, Ranking, leaders, rank_both
from clipbias.probe.store import EmbeddingStore, space_of
from clipbias.probe.textrows import TextRows
from clipbias.progress import CACHED, Progress

_IMAGE_PART = 256  # images given at a time to an encoder that does not stream them
_TEXT_CHUNK = 4096  # enough that batches of like length stay full
_IMAGE_CHUNK = 2048  # images in one shard of the store: what is lost when a run is killed


TextKey = tuple[str, int | None, int]
"""A text and its form: how many of its tokens are kept (None: all), and how many pads stand before it."""


class Placed(NamedTuple):
    """One text a caption, encoded; the texts themselves need not be held on.

    Attributes:
        features, row, lengths: as `Session.texts` gives them.
        numbers: of the texts [M], int32: equal texts have equal numbers.
    """

    features: Tensor
    row: np.ndarray
    lengths: np.ndarray
    numbers: np.ndarray


def _silent(what: str, done: int, total: int) -> None:
    """The progress callback of a run that nobody watches."""


class Session:
    """One model on one data set; every distinct text and every image is encoded once.

    With a ``store`` they are encoded once for all sessions that use it.
    """

    def __init__(
        self,
        encoder: Encoder,
        dataset: RetrievalDataset,
        seed: int = 0,
        progress: Progress = _silent,
        store: EmbeddingStore | None = None,
        batch_size: int | None = None,
    ) -> None:
        self.batch_size = batch_size
        self.store = store
        self.encoder = encoder
        self.dataset = dataset
        self.seed = seed
        self.progress = progress
        self.sentences = dataset.caption_sentences
        self._rows = TextRows()
        self._features = torch.empty(0, 0)
        self._lengths = np.empty(0, dtype=np.int64)
        self._images: Tensor | None = None
        self._rankings = LastRankings()

    def images(self) -> Tensor:
        """Image features [N, D]; nothing is encoded before every image that has to be was seen to be readable.

        Raises:
            UserError: names every image that cannot be read.
        """
        if self._images is None:
            keys = self.dataset.image_keys if self.store is not None else []
            space = space_of(self.encoder, "images")
            if self.store is None or not space or not any(keys):
                # Where images are made and not read, making them is the check.
                if hasattr(self.dataset.load_image, "check"):
                    require_readable(self.dataset, self.progress)
                self._images = self._encode_images(range(len(self.dataset.image_names)))
            else:
                self._images = self._stored_images(self.store, space, keys)
        return self._images

    def _stored_images(self, store: EmbeddingStore, space: str, keys: Sequence[bytes | None]) -> Tensor:
        missing = store.missing(space, keys)
        self._told_cached("images", len(keys) - len(missing), len(keys))
        if missing and hasattr(self.dataset.load_image, "check"):
            require_readable(self.dataset, self.progress, missing)
        known = [key for key in keys if key is not None]
        if len(known) < len(keys):  # readable now, and was not when its key was made
            raise UserError(f"{self.dataset.name}: an image changed while it was read; run again")
        for start in range(0, len(missing), _IMAGE_CHUNK):
            part = missing[start : start + _IMAGE_CHUNK]

            def encode(rows: list[int], part: list[int] = part) -> Tensor:
                chosen = [part[row] for row in rows]
                features = self._encode_images(chosen)
                # Looked at again before it is kept: an image may have been replaced since its key was taken.
                if SomeImages(self.dataset.load_image, chosen).keys() != [keys[i] for i in chosen]:
                    raise UserError(f"{self.dataset.name}: an image changed while it was read; run again")
                return features

            store.features(space, [known[i] for i in part], encode)
        return store.features(space, known, self._encode_images)

    def _encode_images(self, indices: Sequence[int]) -> Tensor:
        load, parts = self.dataset.load_image, []
        if self.encoder.streams:

            def told(done: int) -> None:
                self.progress("images", done, len(indices))

            return self.encoder.encode_images(LazyImages(load, indices, told), self.batch_size)
        for start in range(0, len(indices), _IMAGE_PART):
            part = indices[start : start + _IMAGE_PART]
            parts.append(self.encoder.encode_images(LazyImages(load, part), self.batch_size))
            self.progress("images", start + len(part), len(indices))
        return torch.cat(parts)

    def texts(self, texts: Sequence[TextKey]) -> tuple[Tensor, np.ndarray, np.ndarray]:
        """Distinct features [U, D], the row of each text [M], and the uncut token count of each text [M]."""
        new = [t for t in dict.fromkeys(texts) if t not in self._rows]
        for form in dict.fromkeys(key[1:] for key in new):
            keys = [key for key in new if key[1:] == form]
            features, lengths = self._encode([text for text, *_ in keys], *form)
            self._features = torch.cat([self._features, features]) if len(self._features) else features
            self._lengths = np.concatenate([self._lengths, lengths])
            for key in keys:
                self._rows[key] = len(self._rows)
        rows, inverse = np.unique([self._rows[t] for t in texts], return_inverse=True)
        return self._features[rows], inverse, self._lengths[rows][inverse]

    def captions(self, kind: str) -> tuple[Sequence[str], Sequence[tuple[str, ...]]]:
        """The captions [M] and their sentences: "long" ones, or "short" ones where the data set has them.

        Raises:
            UserError: it has none.
        """
        if kind == "long":
            return self.dataset.captions, self.sentences
        if self.dataset.short_captions is None:
            raise UserError(f"{self.dataset.name} has no short captions; leave out the probes that ask for them")
        short = [self.dataset.short_captions[int(i)] for i in self.dataset.caption_image]
        return short, list(map(sentences_of, short))

    def clusters(self, direction: str) -> np.ndarray:
        """The image that each query of a direction belongs to."""
        return self.dataset.caption_image if direction == "t2i" else np.arange(len(self.dataset.image_names))

    def _encode(self, texts: list[str], first_tokens: int | None, padding: int) -> tuple[Tensor, np.ndarray]:
        """Features and uncut token counts of texts of one form.

        Raises:
            NotApplicable: ids are to be changed and the model does not take ids, or has no place for so many pads.
        """
        if first_tokens is None and not padding:
            features = self._stored_texts(texts, "", lambda part: self.encoder.encode_texts(part, self.batch_size))
            return features, self.encoder.token_lengths(texts)
        tower = self.encoder.text_tower()
        tokens = tower.tokens
        tokens.pack([], padding)  # too many pads are refused before anything is encoded

        def encode(part: list[str]) -> Tensor:
            return tower.features(tokens.pack([ids[:first_tokens] for ids in tokens.ids(part)], padding))

        # Texts that are left with the same ids get the same feature: from two batches it could differ in its last bits,
        # which would part what is equal.
        kept = [tuple(ids[:first_tokens]) for ids in tokens.ids(texts)]
        first: dict[tuple[int, ...], str] = {}
        for ids, text in zip(kept, texts, strict=True):
            first.setdefault(ids, text)
        features = self._stored_texts(list(first.values()), f"first {first_tokens}, pads {padding}", encode)
        row = {ids: number for number, ids in enumerate(first)}
        special = tokens.context_length - tokens.room
        return features[torch.tensor([row[ids] for ids in kept])], np.array(
            [len(ids) + padding + special for ids in kept]
        )

    def _stored_texts(self, texts: list[str], form: str, encode: Callable[[list[str]], Tensor]) -> Tensor:
        space = space_of(self.encoder, "texts")
        if self.store is None or not space:
            return self._watched_texts(texts, encode)
        keys = [content_key(form.encode(), text.encode("utf-8", "surrogatepass")) for text in texts]
        self._told_cached("texts", len(keys) - len(self.store.missing(space, keys)), len(keys))
        return self.store.features(space, keys, lambda rows: self._watched_texts([texts[r] for r in rows], encode))

    def _told_cached(self, kind: str, cached: int, total: int) -> None:
        """Say what need not be encoded, so that it is not waited for."""
        if cached:
            self.progress(f"{CACHED}{kind}", cached, total)

    def _watched_texts(self, texts: list[str], encode: Callable[[list[str]], Tensor]) -> Tensor:
        """Features of texts, part by part, so that progress is seen."""
        parts = []
        for start in range(0, len(texts), _TEXT_CHUNK):
            parts.append(encode(texts[start : start + _TEXT_CHUNK]))
            self.progress("texts", min(start + _TEXT_CHUNK, len(texts)), len(texts))
        return torch.cat(parts) if len(parts) != 1 else parts[0]

    def placed(self, texts: Sequence[TextKey]) -> Placed:
        """One text a caption, encoded."""
        self.images()  # first, so that a bad image stops the run before anything is encoded
        found = self.texts(texts)
        return Placed(*found, np.fromiter((self._rows[text] for text in texts), np.int32, len(texts)))

    def retrieved(self, told: Placed) -> tuple[dict[str, Ranking], np.ndarray]:
        """Both directions' ranks of one text a caption; the image [M] that is first, -1 where that is the caption's own
        (`leaders`)."""
        images, owner = self.images(), self.dataset.caption_image
        found = self._rankings.get(told.numbers, lambda: self.ranked(told.features, images, told.row))
        missed = np.flatnonzero(found["t2i"].better > 0)
        first = leaders(told.features, images, owner, told.row, missed, self.encoder.device)
        return found, first

    def rankings(self, texts: Sequence[TextKey]) -> dict[str, Ranking]:
        """Both directions' ranks of one text a caption."""
        told = self.placed(texts)
        return self._rankings.get(told.numbers, lambda: self.ranked(told.features, self.images(), told.row))

    def ranked(self, texts: Tensor, images: Tensor, row: np.ndarray | None = None) -> dict[str, Ranking]:
        """Ranks of features of the data set's captions (`rank_both`), on the encoder's device, by all processes."""
        encoder, owner = self.encoder, self.dataset.caption_image
        return rank_both(texts, images, owner, row, device=encoder.device, count=counter(encoder))
