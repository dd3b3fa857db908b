"""What probes will cost: distinct texts and images that a model has to encode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clipbias.data.dataset import RetrievalDataset
from clipbias.data.sentences import dataset_sentences, split_sentences
from clipbias.probe.spec import Probe


@dataclass(frozen=True)
class Cost:
    """The work of some probes for one model on one data set, at most: cached embeddings are not encoded again.

    Attributes:
        images: to encode.
        texts: distinct ones of the retrieval probes, to encode.
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
        return f"at most {self.images:,} images and {self.texts:,} distinct texts to encode per model{more}"


def cost(dataset: RetrievalDataset, probes: Sequence[Probe]) -> Cost:
    """The cost of ``probes`` on ``dataset``: each distinct text and each image once, as `Session` encodes them."""
    texts: set[tuple[str, int | None, int]] = set()
    sentences = dataset_sentences(dataset)
    short = [] if dataset.short_captions is None else list(dataset.short_captions)
    short_sentences = [tuple(split_sentences(text)) or (text,) for text in short]
    for condition in (condition for probe in probes for condition in probe.conditions):
        if condition.captions == "short":
            pairs = zip(short, short_sentences, strict=True)
        else:
            pairs = zip(dataset.captions, sentences, strict=True)
        for caption, before in pairs:
            out = condition.apply(before)
            text = caption if out is None or out == before else " ".join(out)
            texts.add((text, condition.first_tokens, condition.token_padding))
    return Cost(len(dataset.image_names), len(texts), tuple(p.name for p in probes if not p.conditions))
