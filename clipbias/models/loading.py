"""From a name or a path to an `Encoder`."""

from __future__ import annotations

import hashlib
import inspect
import logging
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from clipbias.errors import UserError
from clipbias.models.build import build_clip
from clipbias.models.catalogue import MODELS
from clipbias.models.checkpoint import read_tensors, recognise, state_fingerprint
from clipbias.models.encoder import ClipEncoder, Encoder, check_precision
from clipbias.models.entry import PACKAGED, ModelEntry
from clipbias.models.families import families
from clipbias.models.hub import quiet
from clipbias.models.layouts import shape_of
from clipbias.models.libraries.openclip import LOCAL, PREFIX, load_openclip
from clipbias.models.libraries.openclip_config import CONFIG
from clipbias.models.preprocessing import clip_preprocessing
from clipbias.models.tokenizer import ClipTokens
from clipbias.models.wrapped import WrappedEncoder
from clipbias.registry import import_object

log = logging.getLogger(__name__)
WEIGHTS_VARIABLE = "CLIPBIAS_WEIGHTS"
_OPENCLIP_OPTIONS = ("activation",)


def load_model(
    name: str,
    weights: str | Path | None = None,
    device: str = "auto",
    precision: str = "fp32",
    **options: Any,
) -> Encoder:
    """The encoder of a registered name, a checkpoint, an open_clip model, or a user's own.

    Args:
        name: a name that `clipbias models` lists; the path of a checkpoint, whose family is recognised from its
            keys, or of an open_clip model folder; ``openclip:NAME/TAG`` or ``openclip:local-dir:FOLDER``; or
            ``module:function``, a function that returns a model (see `clipbias.models.wrapped.WrappedEncoder`).
        weights: a file to read instead of looking for the named one.
        device: "auto" (cuda, then mps, then cpu) or a torch device.
        precision: fp32, bf16 or fp16; on the CPU fp32 or bf16.
        options: the family's own, such as ``positions="saved"`` for debias or ``context=77`` for fgclip.

    Raises:
        UserError: an unknown name or option, weights that are not here, a file that is not what it should be.
    """
    where = choose_device(device)
    check_precision(precision, where)
    entry: object = None
    if name in MODELS:
        entry = MODELS[name]
    elif name.startswith(PREFIX):
        entry = ModelEntry("openclip", "", 0, 0, name)
    elif (Path(name) / CONFIG).is_file():
        _refuse(options, name, known=_OPENCLIP_OPTIONS)
        return load_openclip(checkpoint_name(Path(name)), f"{LOCAL}{name}", weights, where, precision, **options)
    elif not Path(weights or name).exists() and ":" in name:
        entry = _user_function(name)
    elif not Path(weights or name).exists():
        MODELS[name]  # raises, with the near names
    if entry is not None and not isinstance(entry, ModelEntry):
        _refuse(options, name)
        return _from_factory(entry, name, where, precision)
    if entry is not None and entry.family == "openclip":
        _refuse(options, name, known=_OPENCLIP_OPTIONS)
        return load_openclip(name, entry.source.removeprefix(PREFIX), weights, where, precision, **options)
    path = Path(weights or name) if entry is None else find_weights(name, entry, weights)
    label = checkpoint_name(Path(name)) if entry is None else name
    return _read_checkpoint(label, path, entry.family if entry else None, where, precision, options)


def _read_checkpoint(
    name: str, path: Path, family: str | None, device: torch.device, precision: str, options: dict[str, Any]
) -> ClipEncoder:
    """The encoder of a checkpoint of one of the families; ``family`` None: whichever it is."""
    state = read_tensors(path)
    found, reason = recognise(state, path)
    if family is None:
        log.info("%s is read as %s: %s", path, found, reason)
    elif found != family:
        raise UserError(f"{path}: expected a {family} checkpoint for {name}, found {found} ({reason})")
    reader = families()[found]
    _refuse(options, f"the {found} family", known=list(inspect.signature(reader.read).parameters)[1:])
    try:
        custom, used = reader.read(state, **options)
    except KeyError as error:
        raise UserError(f"{path}: not a whole {found} checkpoint: {error} is missing") from error
    except RuntimeError as error:
        raise UserError(f"{path}: its tensors do not fit together: {' '.join(str(error).split())[:200]}") from error
    try:
        shape = shape_of(custom)
        module = build_clip(shape, meta=True)
    except (UserError, RuntimeError, ValueError, ZeroDivisionError, AssertionError) as error:
        raise UserError(f"{path}: no {found} model has these shapes: {' '.join(str(error).split())[:200]}") from error
    # The causal mask is the module's only tensor that no checkpoint holds.
    module.text.attn_mask = None
    try:
        module.load_state_dict({k: v.float() for k, v in custom.items()}, assign=True)
    except RuntimeError as error:
        raise UserError(f"{path}: not a whole {found} checkpoint: {' '.join(str(error).split())[:300]}") from error
    module.text.attn_mask = torch.full((shape.context_length,) * 2, float("-inf")).triu(1)
    return ClipEncoder(
        name=name,
        family=found,
        module=module.to(device),
        transform=clip_preprocessing(shape.image_size, reader.SQUARE),
        tokens=ClipTokens(shape.context_length, getattr(reader, "CLEANING", "openai")),
        fingerprint=state_fingerprint(state, used),
        options=used,
        device=device,
        precision=precision,
    )


def checkpoint_name(path: Path) -> str:
    """What a checkpoint is called: its file or folder, or the run that it lies in where that says nothing.

    ``runs/a/model.pt`` and ``runs/a/model/`` are "a"; ``runs/a/debias.pt`` is "debias".
    """
    parts = [part for part in Path(os.path.abspath(path)).parts[1:] if part]
    if path.is_file() or path.suffix in (".pt", ".pth", ".bin", ".safetensors"):
        parts[-1] = Path(parts[-1]).stem
    said = [part for part in parts if not _SAYS_NOTHING.fullmatch(part.lower())]
    return said[-1] if said else path.stem


_SAYS_NOTHING = re.compile(
    r"(open_clip_|pytorch_)?model|weights|state|best|last|latest|final|checkpoints?|epoch[_-]?\d*"
)


def _refuse(options: dict[str, Any], what: str, known: Sequence[str] = ()) -> None:
    for option in options:
        if option not in known:
            raise UserError(f"{what} has no option {option!r}; it takes {', '.join(known) or 'none'}")


def _from_factory(factory: object, name: str, device: torch.device, precision: str) -> Encoder:
    if not callable(factory):
        raise UserError(f"model {name}: a {type(factory).__name__} is no function that returns a model")
    model = factory()
    if isinstance(model, Encoder):
        return model
    return WrappedEncoder(model, name.replace(":", "-"), device, precision)


def _user_function(name: str) -> object:
    """What ``module:function`` names; modules beside the user come after the installed ones."""
    here = os.getcwd()
    sys.path.append(here)
    try:
        return import_object(name)
    finally:
        sys.path.remove(here)


def choose_device(device: str) -> torch.device:
    """The device of that name; "auto" is cuda, then mps, then cpu.

    Raises:
        UserError: no such device, or not on this machine.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"the device {device!r} is not to be had here; choose auto, cpu, cuda or mps") from error
    return found


def find_weights(name: str, entry: ModelEntry, weights: str | Path | None = None) -> Path:
    """The checkpoint file of a named model: given, packaged, in the user's folder, cached, or downloaded.

    Raises:
        UserError: it is nowhere; the message says where was looked and what to pass.
    """
    if weights is not None:
        if not Path(weights).exists():
            raise UserError(f"{weights}: no such weights file for {name}")
        return Path(weights)
    found = local_weights(entry)
    if found is not None:
        return found
    folder = os.environ.get(WEIGHTS_VARIABLE)
    names = [entry.file, *(other for other, _ in entry.others)]
    looked = [f"{folder} (for {' or '.join(names)})" if folder else f"the folder in {WEIGHTS_VARIABLE} (not set)"]
    if entry.source.startswith("hub:"):
        path_or_reason = _from_hub(entry)
        if isinstance(path_or_reason, Path):
            return _checked(path_or_reason, entry.sha256)
        looked.append(f"the Hugging Face cache and hub ({path_or_reason})")
    raise UserError(
        f"{name} needs {entry.where}, and it was not found in {' nor in '.join(looked)}; "
        f"get it and pass --weights FILE, or put it into a folder and name that in {WEIGHTS_VARIABLE}"
    )


def local_weights(entry: ModelEntry, check: bool = True) -> Path | None:
    """The file of a model where it is on this machine already.

    Args:
        entry: the model.
        check: compare its SHA-256 where that is known, which reads the whole file.

    Raises:
        UserError: the file is there and is another one.
    """
    if entry.source == "package":
        return PACKAGED / entry.file
    folder = os.environ.get(WEIGHTS_VARIABLE)
    for file, sha256 in ((entry.file, entry.sha256), *entry.others):
        # The hub calls many models' files the same: in a folder of many models they lie in one of their own.
        for place in (file, f"{entry.source.rpartition('/')[2]}/{file}"):
            if folder and file and (Path(folder) / place).is_file() and place != "model.safetensors":
                return _checked(Path(folder) / place, sha256 if check else "")
    if entry.source.startswith("hub:"):
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(entry.source.removeprefix("hub:"), entry.file)
        if isinstance(cached, str):
            return Path(cached)
    return None


def _from_hub(entry: ModelEntry) -> Path | str:
    """The downloaded file, or why it could not be had."""
    from huggingface_hub import hf_hub_download

    repository = entry.source.removeprefix("hub:")
    try:
        with quiet():
            return Path(hf_hub_download(repository, entry.file, etag_timeout=5))
    except Exception as error:
        # The hub client's errors are of many kinds and versions; the user needs one line of any of them.
        return type(error).__name__


def _checked(path: Path, sha256: str) -> Path:
    if sha256:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            raise UserError(f"{path}: its SHA-256 is {found}, not the {sha256} its authors' file has")
    return path
