"""All images of a data set looked at before anything is encoded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipbias.data.image_loaders import check_image
from clipbias.errors import UserError

if TYPE_CHECKING:
    from clipbias.data.dataset import RetrievalDataset


@dataclass(frozen=True)
class BadImage:
    """An image that cannot be read: its index in the data set, its name, and why."""

    index: int
    name: str
    reason: str


def find_bad_images(
    dataset: RetrievalDataset,
    indices: Iterable[int] | None = None,
    workers: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[BadImage]:
    """Every image that is missing, unreadable, too large or outside its folder.

    Args:
        dataset: whose images are decoded, each once and at reduced size where the format allows.
        indices: only these; default all.
        workers: threads (decoding releases Python's lock); default one a core.
        progress: called with ("images checked", done, total).
    """
    chosen = list(range(len(dataset.image_names)) if indices is None else indices)

    def look(index: int) -> BadImage | None:
        try:
            check_image(dataset.load_image, index)
        except UserError as error:
            return BadImage(index, dataset.image_names[index], str(error))
        return None

    bad = []
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        for done, found in enumerate(pool.map(look, chosen), 1):
            if found is not None:
                bad.append(found)
            if progress is not None and (done % 64 == 0 or done == len(chosen)):
                progress("images checked", done, len(chosen))
    return bad


def require_readable(
    dataset: RetrievalDataset,
    progress: Callable[[str, int, int], None] | None = None,
    indices: Iterable[int] | None = None,
) -> None:
    """Stop before any encoding when an image, or one of ``indices``, cannot be read.

    Raises:
        UserError: lists every bad image, one a line after the first.
    """
    bad = find_bad_images(dataset, indices, progress=progress)
    if bad:
        listed = "".join(f"\n  {one.reason}" for one in bad)
        raise UserError(
            f"{dataset.name}: {len(bad):,} of {len(dataset.image_names):,} images cannot be read; "
            f"fix them, or leave them and their captions out with --skip-bad:{listed}"
        )
