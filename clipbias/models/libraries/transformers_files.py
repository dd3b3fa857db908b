"""The parts of a transformers folder, read through lists of known fields."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

from clipbias.errors import UserError
from clipbias.models.checkpoint import read_tensors, state_fingerprint
from clipbias.models.families import family_of_type
from clipbias.models.layouts import State
from clipbias.models.libraries.folder import read_config, tokenizer_files, transformers_config, without_code

if TYPE_CHECKING:
    from PIL import Image

KINDS = ("aimv2", "align", "altclip", "chinese_clip", "clip", "groupvit", "metaclip_2", "siglip", "siglip2")
"""Kinds of models (``model_type``) whose classes have a feature for a text alone and for an image alone."""
_IMAGE_FIELDS = (
    "crop_size", "do_center_crop", "do_convert_rgb", "do_normalize", "do_rescale", "do_resize", "image_mean",
    "image_std", "include_top", "max_num_patches", "patch_size", "resample", "rescale_factor", "rescale_offset", "size",
)  # fmt: skip
_IMAGE_CLASSES = (
    "AlignImageProcessor", "CLIPImageProcessor", "ChineseCLIPImageProcessor", "EfficientNetImageProcessor",
    "Siglip2ImageProcessor", "SiglipImageProcessor", "ViTImageProcessor",
)  # fmt: skip
_MOST = {"layers": 256, "heads": 1024, "vocab": 4_000_000}
_MOST_OTHERS = 65_536


@dataclass(frozen=True)
class Parts:
    """A model, its tokenizer and its image processor.

    Attributes:
        kind: ``model_type``.
        family: the reader that turned its authors' files into this kind, or the kind.
        module, tokenizer, image_processor: transformers' objects.
        preprocessing: what decides pixels, as plain values.
        fingerprint: of the weights.
        options: of the family's reader, as they took effect.
        image_options: arguments of the image processor for one image.
    """

    kind: str
    family: str
    module: Any
    tokenizer: Any
    image_processor: Any
    preprocessing: Mapping[str, Any]
    fingerprint: str
    options: Mapping[str, str]
    image_options: Callable[[Image.Image], Mapping[str, Any]] = lambda image: {}


@contextmanager
def without_bars() -> Iterator[None]:
    """Without transformers' progress bars: reading weights is a line for each of them."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def read_folder(folder: Path, trust_remote_code: bool = False, context: int | str | None = None) -> Parts:
    """The parts of a folder; with ``trust_remote_code``, which only the user gives, by its own code.

    Args:
        folder: the folder.
        trust_remote_code: whether its code may run.
        context: for the reader, where one of `clipbias.models.families` reads this kind; None: its own default.

    Raises:
        UserError: a file is missing or refused, or the model has no feature functions.
    """
    content = read_config(folder / "config.json")
    kind = str(content.get("model_type", ""))[:60]
    if trust_remote_code:
        return _by_its_code(folder, kind, trust_remote_code)
    state = _tensors(folder)
    fingerprint = state_fingerprint(state, {})
    reader = family_of_type(kind)
    used: dict[str, str] = {}
    known: dict[str, Any] = {}
    if reader is not None:
        content, state, used = _read(reader, content, state, folder, {} if context is None else {"context": context})
        known = {"image_options": reader.image_options}
    config = transformers_config(content, folder / "config.json", KINDS)
    module = _module(config, state, folder)
    processor, fields = _image_processor(folder)
    if reader is not None:
        fields |= reader.IMAGES
    return Parts(config.model_type, kind, module, _tokenizer(folder), processor, fields, fingerprint, used, **known)


def _read(
    reader: ModuleType, content: Mapping[str, Any], state: State, folder: Path, options: Mapping[str, Any]
) -> tuple[dict[str, Any], State, dict[str, str]]:
    """A family's config.json and weights in those of the kind it is based on, and its options as they took effect."""
    try:
        state, used = reader.read(state, **options)
        content = reader.configured(content, used)
    except (KeyError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"{folder}: not a whole {reader.MODEL_TYPE} checkpoint: {reason} is missing or wrong"
        ) from error
    # The code that config.json names is the authors'; the reader stands for it, and none of it runs.
    return {k: v for k, v in content.items() if k != "auto_map"} | {"model_type": reader.BASE}, state, used


def _tensors(folder: Path) -> State:
    for file in ("model.safetensors", "pytorch_model.bin"):
        if (folder / file).is_file():
            return read_tensors(folder / file)
    shards = sorted(folder.glob("model-*.safetensors"))
    if not shards:
        raise UserError(f"{folder}: a model folder without weights (looked for model*.safetensors, pytorch_model.bin)")
    return {key: value for shard in shards for key, value in read_tensors(shard).items()}


def _module(config: Any, state: State, folder: Path) -> Any:
    """The model of a configuration with the weights of ``state``; nothing is left at random."""
    from transformers import MODEL_MAPPING

    _bounded(config, folder)
    kind: Any = MODEL_MAPPING[type(config)]
    try:
        with torch.device("meta"):
            # Without memory: a small file must not ask for a large model.
            wanted = sum(tensor.numel() for tensor in kind(config).state_dict().values())
        given = sum(tensor.numel() for tensor in state.values())
        if wanted > given + 4_000_000:
            raise UserError(f"{folder}: its config.json asks for {wanted:,} numbers, its weights hold {given:,}")
        module, found = kind.from_pretrained(
            None, config=config, state_dict=state, attn_implementation="sdpa", dtype=torch.float32,
            output_loading_info=True, trust_remote_code=False,
        )  # fmt: skip
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{folder}: not the weights of its config.json ({type(error).__name__}: {reason})") from error
    missing = sorted(key for key in found["missing_keys"] if not key.endswith("position_ids"))
    if missing or found["mismatched_keys"]:
        what = ", ".join(map(str, missing or found["mismatched_keys"]))[:200]
        raise UserError(f"{folder}: not the whole weights of its config.json: missing or of another shape: {what}")
    return module


def _bounded(config: Any, folder: Path) -> None:
    """Refuse sizes that no model has, before anything is built of them.

    Raises:
        UserError: names the field.
    """
    for field, value in config.to_dict().items():
        if isinstance(value, dict):
            continue
        most = next((limit for word, limit in _MOST.items() if word in field), _MOST_OTHERS)
        # Ids of special tokens are as large as vocabularies.
        most = _MOST["vocab"] if field.endswith("_id") else most
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) > most:
            raise UserError(f"{folder / 'config.json'}: field {field}: {value} is above the limit of {most}; refused")
    for part in getattr(config, "sub_configs", {}):
        _bounded(getattr(config, part), folder)


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    with tokenizer_files(folder) as files:
        try:
            return AutoTokenizer.from_pretrained(str(files), trust_remote_code=False, local_files_only=True)
        except Exception as error:
            reason = " ".join(str(error).split())[:160]
            raise UserError(f"{folder}: its tokenizer cannot be read ({type(error).__name__}: {reason})") from error


def _image_processor(folder: Path) -> tuple[Any, dict[str, Any]]:
    """The image processor of a folder, and the fields that decide pixels."""
    import transformers

    processors: Any = transformers.AutoImageProcessor
    path = folder / "preprocessor_config.json"
    if not path.is_file() and (folder / "processor_config.json").is_file():
        # Where newer versions keep everything that a processor has.
        path = folder / "processor_config.json"
    content = read_config(path)
    without_code(content, path)
    if isinstance(content.get("image_processor"), dict):
        content = content["image_processor"]
        without_code(content, path)
    name = str(content.get("image_processor_type") or content.get("feature_extractor_type") or "")
    name = name.replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast")
    if name not in _IMAGE_CLASSES:
        raise UserError(
            f"{path}: image_processor_type {name[:60]!r} is not one of {', '.join(_IMAGE_CLASSES)}; refused"
        )
    kept = {field: content[field] for field in _IMAGE_FIELDS if content.get(field) is not None}
    for field, value in kept.items():
        if not _small(value):
            raise UserError(f"{path}: field {field}: expected a number, a flag, or a few of them up to 4096; refused")
    with TemporaryDirectory(prefix="clipbias-") as copy:
        fields = json.dumps({**kept, "image_processor_type": name})
        (Path(copy) / "preprocessor_config.json").write_text(fields, encoding="utf-8")
        try:
            made = processors.from_pretrained(copy, trust_remote_code=False, local_files_only=True)
        except Exception as error:
            reason = " ".join(str(error).split())[:160]
            raise UserError(f"{path}: no image processor can be made of it ({reason})") from error
    return made, {**kept, "class": type(made).__name__}


def _small(value: object) -> bool:
    if isinstance(value, dict):
        return len(value) <= 4 and all(isinstance(v, int) and 0 < v <= 4096 for v in value.values())
    if isinstance(value, list):
        return len(value) <= 4 and all(isinstance(v, int | float) for v in value)
    return isinstance(value, bool | int | float) and value <= 4096


def _by_its_code(folder: Path, kind: str, trust_remote_code: bool) -> Parts:
    """The parts of a folder whose own Python code the user has asked to run."""
    import transformers
    from transformers import AutoModel, AutoTokenizer

    processors: Any = transformers.AutoImageProcessor

    try:
        module = AutoModel.from_pretrained(folder, trust_remote_code=trust_remote_code, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
        processor = processors.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{folder}: its code failed ({type(error).__name__}: {reason})") from error
    for function in ("get_text_features", "get_image_features"):
        if not callable(getattr(module, function, None)):
            raise UserError(f"{folder}: a {type(module).__name__} has no {function}()")
    fields = json.loads(processor.to_json_string())
    return Parts(kind, kind, module, tokenizer, processor, fields, state_fingerprint(module.state_dict(), {}), {})
