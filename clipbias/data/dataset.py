"""The contract of a data set: images, captions, and which caption belongs to which image."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Item:
    """One image of a data set with its captions."""

    name: str
    image: Image.Image
    captions: Sequence[str]

    def __repr__(self) -> str:
        return f"<{self.name}, {len(self.captions)} captions>"

    def _repr_png_(self) -> bytes:
        """The image."""
        from io import BytesIO

        out = BytesIO()
        self.image.convert("RGB").save(out, "PNG")
        return out.getvalue()

    def _repr_html_(self) -> str:
        """Image and captions."""
        from base64 import b64encode

        from clipbias.names import for_html

        picture = b64encode(self._repr_png_()).decode()
        lines = "".join(f"<p>{for_html(caption)}</p>" for caption in self.captions)
        return f'<img alt="{for_html(self.name)}" src="data:image/png;base64,{picture}">{lines}'


@dataclass(frozen=True, repr=False)
class RetrievalDataset:
    """N images and M captions; nothing heavy is read before ``load_image`` is called.

    Attributes:
        name: the registered name, or the path the user gave.
        split: which part of it.
        protocol: in words, what was counted as an image and as a caption; printed with every result.
        image_names: N names, unique; relative paths where there are files.
        load_image: index in 0..N-1 -> PIL image, upright and RGB-convertible.
        captions: M texts.
        caption_image: int64 [M], the image of each caption.
        sentences: M tuples of sentences where the data set knows them; else the splitter decides.
        short_captions: N short captions, where the data set has them.
        told_wrong: M entries (k, text): sentence k (from 0) of the caption, a fact told wrong; None: none known.
        skipped: names left out because they could not be read (``skip_bad``).
    """

    name: str
    split: str
    protocol: str
    image_names: Sequence[str]
    load_image: Callable[[int], Image.Image]
    captions: Sequence[str]
    caption_image: np.ndarray
    sentences: Sequence[tuple[str, ...]] | None = None
    short_captions: Sequence[str] | None = None
    skipped: Sequence[str] = field(default=())
    told_wrong: Sequence[tuple[int, str] | None] | None = None

    def __post_init__(self) -> None:
        if len(self.caption_image) != len(self.captions):
            raise ValueError(f"{self.name}: {len(self.captions)} captions but {len(self.caption_image)} image indices")
        if len(self.captions) and not (
            int(self.caption_image.min()) >= 0 and int(self.caption_image.max()) < len(self.image_names)
        ):
            raise ValueError(f"{self.name}: a caption points at an image that is not there")

    @cached_property
    def image_keys(self) -> list[bytes | None]:
        """N digests of what the images are made from, taken once; None where it cannot be read or is not known."""
        from clipbias.data.image_loaders import image_keys

        return image_keys(self.load_image, len(self.image_names))

    @cached_property
    def caption_sentences(self) -> Sequence[tuple[str, ...]]:
        """M tuples: the data set's own ``sentences`` where it knows them, else the splitter's, made once."""
        from clipbias.data.sentences import sentences_of

        return self.sentences if self.sentences is not None else list(map(sentences_of, self.captions))

    def __len__(self) -> int:
        """Images."""
        return len(self.image_names)

    def __repr__(self) -> str:
        return f"<{self.name}, split {self.split}: {len(self.image_names):,} images, {len(self.captions):,} captions>"

    def __getitem__(self, index: int) -> Item:
        """Image ``index`` (from 0, negative from the end) with its captions; notebooks show both."""
        count = len(self)
        if not -count <= index < count:
            raise IndexError(f"{self.name} has the images 0 to {count - 1}, not {index}")
        place = index % count
        captions = [self.captions[i] for i in np.flatnonzero(self.caption_image == place).tolist()]
        return Item(self.image_names[place], self.load_image(place), captions)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (first 16 hex digits) over image names, captions, their pairing, facts, and the images' content.

        The content is the files' bytes; of a loader that does not say what its images are made from, their pixels.
        """
        from clipbias.data.digests import content_digests

        digest = hashlib.sha256()
        for part in (self.image_names, self.captions, map(str, self.caption_image.tolist())):
            for text in part:
                raw = text.encode("utf-8", "surrogatepass")
                digest.update(len(raw).to_bytes(8, "big") + raw)
            digest.update(b"\xff" * 8)
        # Of the built-in scenes it follows from their names and is made on demand.
        for entry in self.told_wrong if isinstance(self.told_wrong, (list, tuple)) else ():
            digest.update(repr(entry).encode("utf-8", "surrogatepass"))
        known = hasattr(self.load_image, "key") or hasattr(self.load_image, "keys")
        keys = self.image_keys if known else content_digests(len(self.image_names), self.load_image)
        for key in keys:
            digest.update(b"unreadable" if key is None else key)
        return digest.hexdigest()[:16]
