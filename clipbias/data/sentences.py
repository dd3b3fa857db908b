"""One sentence splitter for the whole suite."""

from __future__ import annotations

import re

from clipbias.data.dataset import RetrievalDataset

# A full stop glued to the next sentence ("stairs.The", 'stairs."#1"'): common in DOCCI, missed by splitters.
_GLUED = re.compile(r"(?<=[a-z0-9)][.!?])(?=[\"'(]?[A-Z][a-z])")


def split_sentences(text: str) -> list[str]:
    """The sentences of a caption, stripped; nothing but white space is lost.

    Lines are split first, then sentencex (MIT) splits each line.
    """
    import sentencex

    out = []
    for line in text.splitlines():
        for piece in _GLUED.split(line):
            out += [s.strip() for s in sentencex.segment("en", piece) if s.strip()]
    return out


def dataset_sentences(dataset: RetrievalDataset) -> list[tuple[str, ...]]:
    """The sentences of every caption: the data set's own where it knows them, else the splitter's."""
    if dataset.sentences is not None:
        return list(dataset.sentences)
    return [tuple(split_sentences(caption)) or (caption,) for caption in dataset.captions]
