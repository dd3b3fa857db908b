"""From recorded settings back to a session: the model and the data as they were asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from clipbias.data.dataset import RetrievalDataset
from clipbias.data.limited import limited
from clipbias.data.loading import DATASETS, load_dataset
from clipbias.errors import UserError
from clipbias.models.encoder import Encoder
from clipbias.models.loading import load_model
from clipbias.probe.spec import Probe, find_probes, reference
from clipbias.results.settings import RESERVED, Settings


def open_encoder(settings: Settings, trust_remote_code: bool = False) -> Encoder:
    """The model that the settings name; ``trust_remote_code`` is the user's word, and never a record's.

    Args:
        settings: as recorded, or as just asked for.
        trust_remote_code: run the code of the model's repository; only where the user said so just now.

    Raises:
        UserError: as `load_model`.
    """
    # A record may come from anybody: it cannot ask for code to be run (`load_model` wants a Python bool for that).
    options: dict[str, Any] = dict(settings.model_options)
    if own := options.keys() & set(RESERVED["model_options"]):
        raise UserError(f"{settings.model}: the record gives {', '.join(sorted(own))} as a model option; refused")
    encoder = load_model(
        settings.model,
        settings.weights or None,
        settings.device,
        settings.precision,
        settings.revision or None,
        trust_remote_code,
        **options,
    )
    if settings.compile:
        encoder.compile()
    return encoder


def open_dataset(settings: Settings) -> RetrievalDataset:
    """The data set that the settings name.

    Raises:
        UserError: as `load_dataset`.
    """
    dataset = load_dataset(
        settings.data,
        root=settings.root or None,
        split=settings.split or None,
        skip_bad=settings.skip_bad,
        **settings.options,
    )
    return limited(dataset, settings.limit) if settings.limit else dataset


def wanted_probes(names: Sequence[str]) -> list[tuple[str, Probe]]:
    """(what asks for it, probe) for each probe that the names stand for, each once.

    Raises:
        UserError: no such probe.
    """
    found = {probe.name: (reference(name, probe), probe) for name in names for probe in find_probes(name)}
    return list(found.values())


def data_settings(name: str, **given: Any) -> tuple[Settings, RetrievalDataset]:
    """Settings that name a data set, and the set; its default split is written out.

    Raises:
        UserError: as `load_dataset`.
    """
    asked = Settings(probe="", model="", data=name, **given)
    dataset = open_dataset(asked)
    return (replace(asked, split=dataset.split) if name in DATASETS else asked), dataset
