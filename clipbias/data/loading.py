"""Data sets by name or by path."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

from clipbias.data.dataset import RetrievalDataset
from clipbias.data.roots import configured_root
from clipbias.data.spec import DatasetSpec, Loader
from clipbias.errors import UserError
from clipbias.registry import Registry

DATASETS: Registry[DatasetSpec | Loader] = Registry("data set", "clipbias.datasets")
for _name, _reference in {
    "scenes": "clipbias.data.scenes:SPEC",
    "docci": "clipbias.data.readers.docci:SPEC",
    "urban1k": "clipbias.data.readers.urban1k:SPEC",
    "dci": "clipbias.data.readers.dci:SPEC",
    "long-dci": "clipbias.data.readers.long_dci:SPEC",
    "coco": "clipbias.data.readers.coco:SPEC",
    "flickr30k-full": "clipbias.data.readers.flickr30k:FULL",
    "flickr30k-1k": "clipbias.data.readers.flickr30k:TEST_1K",
    "iiw": "clipbias.data.readers.iiw:SPEC",
    "sharegpt4v": "clipbias.data.readers.sharegpt4v:SPEC",
}.items():
    DATASETS.add(_name, _reference)


def register_dataset(name: str, **record: object) -> Callable[[Loader], Loader]:
    """Register a loader ``(root=None, split=None, **options) -> RetrievalDataset`` under ``name``.

    Args:
        name: what ``--data`` and `load_dataset` call it.
        record: further fields of `DatasetSpec` (title, licence, counts, ...).

    Raises:
        UserError: the name is taken.
    """

    def add(loader: Loader) -> Loader:
        DATASETS.add(name, DatasetSpec(loader, **record))  # type: ignore[arg-type]
        return loader

    return add


def dataset_spec(name: str) -> DatasetSpec:
    """The record of a registered data set.

    Raises:
        UserError: no data set has that name; near names are suggested.
    """
    entry = DATASETS[name]
    return entry if isinstance(entry, DatasetSpec) else DatasetSpec(entry)


def load_dataset(
    name: str, root: str | Path | None = None, split: str | None = None, skip_bad: bool = False, **options: object
) -> RetrievalDataset:
    """The data set of that name.

    Only the index is read; images are opened by ``load_image``.

    Args:
        name: a registered name (``clipbias data list``).
        root: the folder the data set lies in; default ``$CLIPBIAS_DATA/NAME``.
        split: which part; each data set has its own default.
        skip_bad: decode every image now and leave out those that cannot be read, with their captions.
        options: of the reader, e.g. ``first_five=True`` for coco.

    Raises:
        UserError: no such data set, split, folder or option; or the files are not what they should be.
    """
    load = dataset_spec(name).load
    _check_options(name, load, options)
    dataset = load(root=root, split=split, **options)
    if skip_bad:
        from clipbias.data.build import without_images
        from clipbias.data.images import find_bad_images

        dataset = without_images(dataset, [bad.index for bad in find_bad_images(dataset)])
    return dataset


def _check_options(name: str, load: Loader, options: dict[str, object]) -> None:
    parameters = inspect.signature(load).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    known = [p for p in parameters if p not in ("root", "split")]
    for option in options:
        if option not in parameters:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise UserError(f"the data set {name} has no option {option!r}; {takes}")


def default_dataset_name() -> str:
    """What is measured when no data set is named: DOCCI where its folder is configured, else scenes."""
    return "docci" if configured_root("docci") is not None else "scenes"
