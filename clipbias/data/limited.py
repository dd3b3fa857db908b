"""The first images of a data set, under a name of its own, for a first look."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clipbias.data.dataset import RetrievalDataset
from clipbias.data.image_loaders import SomeImages
from clipbias.errors import UserError


def limited(dataset: RetrievalDataset, limit: int) -> RetrievalDataset:
    """The first ``limit`` images with their captions.

    It is called ``NAME[:LIMIT]`` and says so in its protocol, so that nothing puts its numbers beside those of the
    whole set: recall among fewer candidates is higher. Its fingerprints differ by themselves.

    Raises:
        UserError: no positive number.
    """
    if limit < 1:
        raise UserError(f"limit {limit}: give a positive number of images")
    count = len(dataset.image_names)
    if limit >= count:
        return dataset
    kept = range(limit)
    captions = np.flatnonzero(dataset.caption_image < limit).tolist()
    short = dataset.short_captions
    return replace(
        dataset,
        name=f"{dataset.name}[:{limit}]",
        protocol=f"{dataset.protocol}; only the first {limit:,} images (--limit), not comparable with the whole set",
        image_names=[dataset.image_names[i] for i in kept],
        load_image=SomeImages(dataset.load_image, kept),
        captions=[dataset.captions[i] for i in captions],
        caption_image=dataset.caption_image[captions],
        sentences=None if dataset.sentences is None else [dataset.sentences[i] for i in captions],
        told_wrong=None if dataset.told_wrong is None else [dataset.told_wrong[i] for i in captions],
        short_captions=None if short is None else [short[i] for i in kept],
    )
