"""What probes will cost on a data set: texts and images that a model has to encode."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clipbias.data.dataset import RetrievalDataset
from clipbias.data.sentences import sentences_of
from clipbias.probe.costs import applied, drawn, kind_texts, needs_images, passes_on_its_own
from clipbias.probe.spec import Probe


@dataclass(frozen=True)
class Cost:
    """The work of some probes for one model on one data set, at most: cached embeddings are not encoded again.

    Attributes:
        images: to encode.
        texts: to encode: the distinct ones of the retrieval probes, and what other kinds ask at most.
        apart: probes that pass texts through the model in their own way, not counted.
    """

    images: int
    texts: int
    apart: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        """By the kinds of `clipbias.progress.Work`."""
        return {"images": self.images, "texts": self.texts}

    def __str__(self) -> str:
        more = f", and what {', '.join(self.apart)} pass on their own" if self.apart else ""
        return f"at most {self.images:,} images and {self.texts:,} distinct texts per model{more}"


def cost(dataset: RetrievalDataset, probes: Sequence[Probe]) -> Cost:
    """The cost of ``probes`` on ``dataset``: each distinct text and each image once, as `Session` encodes them."""
    texts: set[tuple[Any, ...]] = set()
    sentences = dataset.caption_sentences
    long = [pair for probe in probes for pair in drawn(probe)]
    for caption, before in zip(dataset.captions, sentences, strict=True) if long else ():
        texts |= applied(long, caption, before)
    short = [pair for probe in probes for pair in drawn(probe, "short")]
    for text in (dataset.short_captions or ()) if short else ():
        texts |= applied(short, text, sentences_of(text))
    asked = sum(_asked(probe, sentences) for probe in probes if not probe.conditions and not passes_on_its_own(probe))
    images = len(dataset.image_names) if any(map(needs_images, probes)) else 0
    return Cost(images, len(texts) + asked, tuple(p.name for p in probes if passes_on_its_own(p)))


def _asked(probe: Probe, sentences: Sequence[tuple[str, ...]]) -> int:
    """Texts that a kind asks of all captions, at most: of its limit, those with most to ask."""
    lengths = Counter(len(own) for own in sentences)
    found = {length: kind_texts(probe, length) for length in lengths}
    each = sorted((one.texts for n, one in found.items() if one for _ in range(lengths[n])), reverse=True)
    limits = {one.captions for one in found.values() if one}
    return sum(each[: next(iter(limits), None)])
