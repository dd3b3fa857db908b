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


def sentences_of(text: str) -> tuple[str, ...]:
    """The sentences of a caption as probes take them: one at least, if an empty one."""
    return tuple(split_sentences(text)) or (text,)


def caption_sentences(dataset: RetrievalDataset, caption: int) -> tuple[str, ...]:
    """The sentences of one caption, where those of all (`RetrievalDataset.caption_sentences`) are not needed."""
    known = dataset.sentences
    return sentences_of(dataset.captions[caption]) if known is None else tuple(known[caption])
