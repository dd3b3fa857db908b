"""What clipbias itself can say of a run's weights and data: those that ship, and the counts of published protocols."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from clipbias.data.loading import DATASETS, dataset_spec, load_dataset
from clipbias.errors import UserError
from clipbias.models.catalogue import MODELS
from clipbias.models.entry import ModelEntry
from clipbias.models.loading import load_model
from clipbias.results.record import Run

Found = tuple[list[str], list[str]]
"""Faults, and what could not be checked; a line each."""


@lru_cache(maxsize=16)
def _packaged(name: str, options: tuple[tuple[str, str], ...]) -> str:
    given: dict[str, Any] = dict(options)
    return load_model(name, device="cpu", **given).fingerprint


@lru_cache(maxsize=4)
def _made(name: str, split: str) -> tuple[str, int, int]:
    dataset = load_dataset(name, split=split or None)
    return dataset.fingerprint, len(dataset.image_names), len(dataset.captions)


def known_weights(run: Run) -> Found:
    """The weights' fingerprint against the file that ships, for models that ship with clipbias."""
    name = str(run.settings.get("model") or run.model)
    entry: object = MODELS[name] if name in MODELS else None  # noqa: SIM401  # a registry has no get
    if not isinstance(entry, ModelEntry) or entry.source != "package" or run.settings.get("weights"):
        return [], [f"the weights of {name} do not ship with clipbias: their fingerprint is taken as it stands"]
    options = run.settings.get("model_options") or {}
    try:
        expected = _packaged(name, tuple(sorted(options.items())))
    except UserError as error:
        return [f"model options: {error}"], []
    if run.model_fingerprint != expected:
        return [f"model: the weights are not {name}'s as it ships ({run.model_fingerprint}, not {expected})"], []
    return [], []


def known_data(run: Run) -> Found:
    """Captions against those that clipbias makes; counts against the protocol of registered data sets."""
    if run.data not in DATASETS:
        return [], [f"{run.data} is not a registered data set: its fingerprint is taken as it stands"]
    spec = dataset_spec(run.data)
    if not spec.needs_root:
        try:
            fingerprint, images, captions = _made(run.data, run.split)
        except UserError as error:
            return [f"split: {error}"], []
        faults = []
        if run.schema != 1 and run.data_fingerprint != fingerprint:  # schema 1 left the images out
            faults.append(f"data: not {run.data} as clipbias makes it ({run.data_fingerprint}, not {fingerprint})")
        if (run.images, run.captions) != (images, captions):
            faults.append(f"data: {run.images} images and {run.captions} captions, not {images} and {captions}")
        return faults, []
    expected = spec.expected(run.split, run.settings.get("options") or {})
    if expected and (run.images + run.skipped, run.captions) != expected and not run.skipped:
        return [f"data: {run.images} images and {run.captions} captions; the protocol has {expected}"], []
    said = "its images and captions are not here: their fingerprint is taken as it stands"
    return [], [f"{run.data}: {said}" + (f"; {run.skipped} images were skipped" if run.skipped else "")]
