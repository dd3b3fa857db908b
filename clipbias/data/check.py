"""Whether what lies on disk is what the protocol used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from clipbias.data.dataset import RetrievalDataset
from clipbias.data.image_checks import find_bad_images
from clipbias.data.spec import DatasetSpec

_EXAMPLES = 5


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what was found, what the protocol has, and whether that is fine."""

    what: str
    found: str
    expected: str
    fine: bool
    examples: tuple[str, ...] = ()


def check_dataset(
    dataset: RetrievalDataset,
    spec: DatasetSpec,
    options: Mapping[str, object],
    images: bool = True,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Finding]:
    """Counts against the protocol, captions that are empty, doubled or damaged, and images that cannot be read.

    Args:
        dataset: what was read.
        spec: its record, with the protocol's counts.
        options: the reader's options that were used.
        images: decode every image.
        progress: as for `find_bad_images`.
    """
    expected = spec.expected(dataset.split, options)
    findings = []
    for what, found, place in (("images", len(dataset.image_names), 0), ("captions", len(dataset.captions), 1)):
        wanted = expected[place] if expected else None
        fine = wanted is None or found == wanted or (not spec.complete and found <= wanted)
        findings.append(Finding(what, f"{found:,}", f"{wanted:,}" if wanted is not None else "not stated", fine))
    captions = list(dataset.captions)
    empty = [i for i, text in enumerate(captions) if not text.strip()]
    findings.append(_caption_finding("empty captions", empty, dataset))
    counted = Counter(text for text in captions if text.strip())
    twice = [i for i, text in enumerate(captions) if counted[text] > 1]
    findings.append(_caption_finding("captions that occur twice", twice, dataset))
    # What a UTF-8 text looks like after it was read as Latin-1 or had letters replaced.
    damaged = [i for i, text in enumerate(captions) if any(mark in text for mark in ("\ufffd", "Ã©", "â€"))]
    findings.append(_caption_finding("captions with encoding errors", damaged, dataset, fault=True))
    without = np.setdiff1d(np.arange(len(dataset.image_names)), dataset.caption_image)
    names = tuple(dataset.image_names[i] for i in without[:_EXAMPLES])
    findings.append(Finding("images without a caption", f"{len(without):,}", "0", len(without) == 0, names))
    if images:
        bad = find_bad_images(dataset, progress=progress)
        reasons = tuple(one.reason for one in bad[:_EXAMPLES])
        findings.append(Finding("images that cannot be read", f"{len(bad):,}", "0", not bad, reasons))
    return findings


def _caption_finding(what: str, found: list[int], dataset: RetrievalDataset, fault: bool = False) -> Finding:
    """Odd captions, named; whether they matter is for the protocol's counts to say, unless they are a ``fault``."""
    examples = tuple(
        f"{dataset.image_names[dataset.caption_image[i]]}: {dataset.captions[i][:60]}" for i in found[:_EXAMPLES]
    )
    return Finding(what, f"{len(found):,}", "", not (found and fault), examples)
