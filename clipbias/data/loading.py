"""Data sets by name or by path."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from clipbias.data.dataset import RetrievalDataset
from clipbias.data.readers import reader_specs
from clipbias.data.roots import configured_root
from clipbias.data.spec import DatasetSpec, Loader
from clipbias.data.user import is_user_data, open_user_data
from clipbias.errors import UserError
from clipbias.registry import Registry
from clipbias.shipped import WORLD

DATASETS: Registry[DatasetSpec | Loader] = Registry("data set", "clipbias.datasets")
DATASETS.add("scenes", "clipbias.data.scenes:SPEC")
DATASETS.add("scenes-2", "clipbias.data.scenes:SECOND_SPEC")
for _name, _spec in reader_specs().items():
    DATASETS.add(_name, _spec)


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
    name: str,
    root: str | Path | None = None,
    split: str | None = None,
    skip_bad: bool = False,
    pack: str | Path | None = None,
    **options: object,
) -> RetrievalDataset:
    """The data set of that name, or users' own data at that path.

    Only the index is read; images are opened by ``load_image``.

    Args:
        name: a registered name (``clipbias data list``), or a path to a folder, a CSV, TSV, JSONL or Parquet
            file, WebDataset shards, or ``hf:NAME``; write ``./NAME`` for a folder with a registered name.
        root: the folder the data set lies in; default ``$CLIPBIAS_DATA/NAME``. For a table: the folder that
            its image names start from.
        split: which part; each data set has its own default.
        skip_bad: decode every image now and leave out those that cannot be read, with their captions.
        pack: a folder that `clipbias data pack` made of the same data set; images are read from it.
        options: of the reader, e.g. ``first_five=True`` for coco.

    Raises:
        UserError: no such data set, split, folder or option; or the files are not what they should be.
    """
    if not name:
        raise UserError("an empty name of a data set; see `clipbias data list`, or name a path")
    if name not in DATASETS and is_user_data(name):
        spec = DatasetSpec(partial(open_user_data, name))
    else:
        spec = dataset_spec(name)
    dataset = spec.load(root=root, split=split, **_checked_options(name, spec.load, options))
    if spec.family:
        said = f"{dataset.protocol}; not comparable with other protocols on {spec.family}'s images"
        dataset = replace(dataset, protocol=said)
    if skip_bad:
        from clipbias.data.build import without_images
        from clipbias.data.image_checks import find_bad_images

        dataset = without_images(dataset, [bad.index for bad in find_bad_images(dataset)])
    if pack is not None:
        from clipbias.data.pack import with_pack

        dataset = with_pack(dataset, Path(pack))
    return dataset


def _checked_options(name: str, load: Loader, options: dict[str, object]) -> dict[str, object]:
    """The options, refused where the reader does not take them; "true" and "false" as the switches they name."""
    parameters = inspect.signature(load).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return options
    known = [p for p in parameters if p not in ("root", "split")]
    out = {}
    for option, value in options.items():
        if option not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise UserError(f"the data set {name} has no option {option!r}; {takes}")
        if isinstance(parameters[option].default, bool) and not isinstance(value, bool):
            if str(value).lower() not in ("true", "false"):
                raise UserError(f"the data set {name}: {option}={value} must be true or false")
            value = str(value).lower() == "true"
        out[option] = value
    return out


def not_comparable(name: str) -> list[str]:
    """The registered data sets on the same images as ``name``: other protocols, whose numbers are not comparable."""
    family = dataset_spec(name).family if name in DATASETS else ""
    return [other for other in DATASETS if family and other != name and dataset_spec(other).family == family]


def default_dataset_name() -> str:
    """What is measured when no data set is named: DOCCI where its folder is configured, else scenes-2."""
    return "docci" if configured_root("docci") is not None else WORLD
