"""Why a run may miss a published number: the usual causes in order, each a setting that can be tried or said."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace

from clipbias.data.loading import DATASETS, dataset_spec
from clipbias.models.encoder import Encoder
from clipbias.results.settings import Settings

Change = Callable[[Settings, Encoder], Settings | None]


@dataclass(frozen=True)
class Cause:
    """One usual cause: what it is called, the settings that test it (None: nothing to vary), and what is known."""

    name: str
    change: Change
    known: Callable[[Settings, Encoder], str]


def _takes(data: str, option: str) -> bool:
    return data in DATASETS and option in inspect.signature(dataset_spec(data).load).parameters


def _option(option: str, value: str, only: str = "") -> Change:
    """Another value of an option of the data set's reader, where it takes it."""

    def change(asked: Settings, encoder: Encoder) -> Settings | None:
        if (only and asked.data != only) or not _takes(asked.data, option) or asked.options.get(option) == value:
            return None
        return replace(asked, options={**asked.options, option: value})

    return change


def _protocol(data: str, other: str) -> Change:
    """Another protocol on the same files, where the run is of ``data``."""
    return lambda asked, encoder: replace(asked, data=other) if asked.data == data else None


def _context(asked: Settings, encoder: Encoder) -> Settings | None:
    """FG-CLIP's two modes; the context of other models is the length of their position table."""
    if encoder.family != "fgclip":
        return None
    other = "77" if encoder.context_length == 248 else "248"
    return replace(asked, model_options={**asked.model_options, "context": other})


def _half(asked: Settings, encoder: Encoder) -> Settings | None:
    """Mixed precision, as public evaluators run; the CPU has bf16 only."""
    if asked.precision != "fp32":
        return replace(asked, precision="fp32")
    return replace(asked, precision="fp16" if encoder.device.type == "cuda" else "bf16")


def _fixed(asked: Settings, encoder: Encoder) -> Settings | None:
    return None


def _image_size(asked: Settings, encoder: Encoder) -> str:
    images = encoder.identity()["images"]
    size, resize = images.get("size", "the model's own"), images.get("resize", "the model's own way")
    return f"images go in at {size}, resized: {resize}; weights of another resolution are another model"


def _padding(asked: Settings, encoder: Encoder) -> str:
    tokens = encoder.identity()["tokens"]
    return f"texts are padded to {tokens.get('length', encoder.context_length)} with {tokens.get('pad', 'its own pad')}"


CAUSES = (
    Cause("context length", _context, lambda a, e: f"{e.context_length} positions, fixed by the position table"),
    Cause("resolution", _fixed, _image_size),
    Cause("text padding", _fixed, _padding),
    Cause("EXIF and RGB order", _option("upright", "false"), lambda a, e: f"{a.data} is not read from image files"),
    Cause("joining of DCI captions: as LoTLIP", _protocol("dci", "dci-lotlip"), lambda a, e: "not DCI"),
    Cause("joining of DCI captions: as FG-CLIP", _protocol("dci", "dci-fgclip"), lambda a, e: "not DCI"),
    Cause("first five captions", _option("first_five", "true", "coco"), lambda a, e: "not COCO"),
    Cause("mixed precision", _half, lambda a, e: ""),
    Cause("normalisation", _fixed, lambda a, e: "features are always normalised before they are compared"),
)
"""In the order in which users of public code met them."""
