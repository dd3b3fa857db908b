"""Models of sentence-transformers: ``st:NAME`` and local folders with a ``modules.json``.

A folder whose one module is a two-tower model of transformers (clip-ViT-B-32 and the like) is that model, and is read
as such, field by field. Any other names classes, functions and arguments for sentence-transformers to use (the code of
jina-clip, multimodal LLMs): that library gets it only where the user trusts it on the command line.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from clipbias.errors import UserError
from clipbias.models.checkpoint import state_fingerprint
from clipbias.models.encoder import Encoder
from clipbias.models.hub import commit_of, hub_folder, local_folder, quiet, split_revision
from clipbias.models.libraries.folder import Fields, checked, read_config, read_list
from clipbias.models.libraries.transformers import FILES, read_model
from clipbias.models.libraries.transformers_files import without_bars
from clipbias.models.wrapped import WrappedEncoder

if TYPE_CHECKING:
    from PIL import Image

_OWNER = "sentence-transformers"
_TOWERS, _AFTER = {"CLIPModel", "Transformer"}, {"Normalize"}
_MODALITY = {"method_output_name": "pooler_output"}
_METHODS = {name: {"method": f"get_{name}_features", **_MODALITY} for name in ("text", "image")}


class _Module(Fields):
    """One entry of ``modules.json``."""

    idx: int
    name: str
    path: str
    type: str


class _Tower(Fields):
    """``sentence_bert_config.json`` of a two-tower model."""

    max_seq_length: int | None = None
    do_lower_case: bool = False
    transformer_task: str = "feature-extraction"
    module_output_name: str = "sentence_embedding"
    modality_config: dict[str, dict[str, str]] = _METHODS


def load_sentence(
    name: str,
    source: str,
    device: torch.device,
    precision: str,
    revision: str | None = None,
    trust_remote_code: bool = False,
    context: int | str | None = None,
    prompt: str | None = None,
    prompt_name: str | None = None,
    image_prompt: str | None = None,
) -> Encoder:
    """The encoder of a model of sentence-transformers.

    Args:
        name: what the user called it.
        source: ``NAME``, ``OWNER/NAME[@REVISION]`` on the hub, or a folder.
        device, precision: where and how it computes.
        revision: of the hub's repository.
        trust_remote_code: let sentence-transformers do what the folder says, its code included.
        context: positions of a text; default: the model's own.
        prompt: text that is put before every text; "" for none.
        prompt_name: one of the model's own prompts; default: the one it names as its default.
        image_prompt: as ``prompt``, for images, where the model takes one.

    Raises:
        UserError: not available, or it asks for more than a two-tower model and is not trusted.
    """
    folder, commit = _folder(source, revision, trust_remote_code)
    prompt = _prompt(folder, prompt, prompt_name)
    reason = ""
    try:
        inside, tower = _two_towers(folder)
        if image_prompt is None:
            asked = tower.max_seq_length if context is None else context
            lower = True if tower.do_lower_case else None
            return read_model(name, inside, device, precision, commit, context=asked, lower=lower, prompt=prompt)
    except UserError as error:
        if not trust_remote_code:
            raise
        reason = str(error)
    if not trust_remote_code:
        raise UserError(f"{name}: a two-tower model takes no prompt for images (option image_prompt)")
    model = _trusted(folder, device, trust_remote_code, reason or name)
    if context is not None:
        model.max_seq_length = int(context)
    encoder = WrappedEncoder(_SentenceModel(model, prompt, image_prompt), name, device, precision)
    encoder.family = "sentence-transformers"
    given = {"prompt": prompt, "image_prompt": image_prompt, "revision": commit, "remote_code": "true"}
    encoder.options = {key: str(value) for key, value in given.items() if value}
    return encoder


def _folder(source: str, revision: str | None, code: bool) -> tuple[Path, str]:
    """Where the files lie, and the commit that they are of."""
    if (here := local_folder(source, revision)) is not None:
        return here, ""
    repository, pinned = split_revision(source)
    repository = repository if "/" in repository else f"{_OWNER}/{repository}"
    wanted = ["*"] if code else [pattern for file in FILES for pattern in (file, f"*/{file}")]
    folder = hub_folder(repository, [*wanted, "modules.json", "*sentence*_config.json"], revision or pinned)
    return folder, commit_of(folder)


def _prompt(folder: Path, prompt: str | None, prompt_name: str | None) -> str:
    """The prompt's text.

    Raises:
        UserError: the model has none of that name.
    """
    if prompt is not None:
        return prompt
    path = folder / "config_sentence_transformers.json"
    content = read_config(path) if path.is_file() else {}
    known = content.get("prompts")
    known = known if isinstance(known, dict) else {}
    wanted = content.get("default_prompt_name") if prompt_name is None else prompt_name
    if wanted is None:
        return ""
    if not isinstance(known.get(wanted), str):
        raise UserError(f"{folder}: no prompt is called {str(wanted)[:40]!r}; it has {', '.join(known) or 'none'}")
    return str(known[wanted])


def _two_towers(folder: Path) -> tuple[Path, _Tower]:
    """The folder of the one model of transformers that this folder stands for, and its settings.

    Raises:
        UserError: it names other classes or functions; the line says which, and what to do.
    """
    path = folder / "modules.json"
    modules = [checked(_Module, entry, path) for entry in read_list(path)]
    kinds = [module.type.rpartition(".")[2] for module in modules]
    strange = [module.type for module in modules if not module.type.startswith("sentence_transformers.")]
    if strange or not modules or kinds[0] not in _TOWERS or set(kinds[1:]) - _AFTER:
        named = ", ".join(strange or kinds)[:80] or "none"
        raise UserError(
            f"{path}: its modules ({named}) are more than one two-tower model; sentence-transformers would run what "
            "this folder names, which needs --trust-remote-code"
        )
    place = PurePosixPath(modules[0].path)
    if place.is_absolute() or ".." in place.parts:
        raise UserError(f"{path}: field path: {modules[0].path[:40]!r} leads out of the folder; refused")
    inside = folder / place
    settings = inside / "sentence_bert_config.json"
    tower = checked(_Tower, read_config(settings), settings) if settings.is_file() else _Tower()
    if tower.modality_config != _METHODS or tower.module_output_name != "sentence_embedding":
        raise UserError(
            f"{settings}: field modality_config: it names other functions than get_text_features and "
            "get_image_features; that needs --trust-remote-code"
        )
    return inside, tower


def _trusted(folder: Path, device: torch.device, trust_remote_code: bool, reason: str) -> Any:
    """The model as sentence-transformers reads it; ``reason``: why it must, for messages."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise UserError(f"{reason}; and it needs a package: pip install 'clipbias[st]'") from error
    try:
        with quiet(), without_bars():
            return SentenceTransformer(str(folder), device=str(device), trust_remote_code=trust_remote_code)
    except Exception as error:
        line = " ".join(str(error).split())[:200]
        raise UserError(f"{folder}: sentence-transformers failed ({type(error).__name__}: {line})") from error


class _SentenceModel:
    """A ``SentenceTransformer`` as `WrappedEncoder` takes it."""

    def __init__(self, net: Any, prompt: str, image_prompt: str | None) -> None:
        self._net, self._prompt, self._image_prompt = net.eval(), prompt, image_prompt
        self.fingerprint = state_fingerprint({k: v.cpu() for k, v in net.state_dict().items()}, {})
        self.context_length = int(net.max_seq_length or 0)

    def encode_texts(self, texts: list[str]) -> Any:
        return self._net.encode(texts, prompt=self._prompt, batch_size=len(texts), show_progress_bar=False)

    def encode_images(self, images: list[Image.Image]) -> Any:
        given = {} if self._image_prompt is None else {"prompt": self._image_prompt}
        return self._net.encode(images, batch_size=len(images), show_progress_bar=False, **given)

    def token_lengths(self, texts: Sequence[str]) -> np.ndarray:
        if "processing_kwargs" in inspect.signature(self._net[0].preprocess).parameters:
            # With all that a template puts around a text.
            given = {"prompt": self._prompt or None, "processing_kwargs": {"text": {"truncation": False}}}
            with quiet():
                masks = [self._net[0].preprocess([text], **given).get("attention_mask") for text in texts]
            if all(mask is not None for mask in masks):
                return np.array([int(mask.sum()) for mask in masks], dtype=np.int64)
        tokenizer = getattr(self._net, "tokenizer", None)
        if tokenizer is None:
            return np.zeros(len(texts), dtype=np.int64)
        found = tokenizer([self._prompt + text for text in texts], truncation=False, verbose=False)
        return np.array([len(ids) for ids in found["input_ids"]], dtype=np.int64)
