"""From a name or a path to an `Encoder`."""

from __future__ import annotations

import inspect
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from clipbias.errors import UserError
from clipbias.models.build import build_clip, require_size
from clipbias.models.catalogue import MODELS
from clipbias.models.checkpoint import read_tensors, recognise, recognised_folder, state_fingerprint
from clipbias.models.clip_encoder import ClipEncoder
from clipbias.models.encoder import Encoder, check_precision
from clipbias.models.entry import ModelEntry
from clipbias.models.families import families
from clipbias.models.layouts import shape_of
from clipbias.models.libraries import LIBRARIES, library_of_folder
from clipbias.models.preprocessing import clip_preprocessing
from clipbias.models.suggest import unknown_model
from clipbias.models.tokenizer import ClipTokens
from clipbias.models.weights import find_weights, library_source
from clipbias.models.wrapped import WrappedEncoder
from clipbias.registry import import_object

log = logging.getLogger(__name__)


def load_model(
    name: str,
    weights: str | Path | None = None,
    device: str = "auto",
    precision: str = "fp32",
    revision: str | None = None,
    trust_remote_code: bool = False,
    **options: Any,
) -> Encoder:
    """The encoder of a registered name, a checkpoint, a model of a library, or a user's own.

    Args:
        name: a name that `clipbias models` lists; the path of a checkpoint, whose family is recognised from its keys,
            or of a model folder; a library's model: ``openclip:NAME/TAG``, ``openclip:hf-hub:OWNER/NAME``,
            ``openclip:local-dir:FOLDER``, ``hf:OWNER/NAME``, ``st:NAME``; or ``module:function``, a function that
            returns a model (see `clipbias.models.wrapped.WrappedEncoder`).
        weights: a file to read instead of looking for the named one; preprocessing stays the name's.
        device: "auto" (cuda, then mps, then cpu) or a torch device.
        precision: fp32, bf16 or fp16; on the CPU fp32 or bf16.
        revision: of a repository on the Hugging Face hub: a commit, tag or branch.
        trust_remote_code: run the Python code of an ``hf:`` or ``st:`` repository. Nothing else can ask for it.
        options: the family's own, such as ``positions="saved"`` for debias or ``context=77`` for fgclip.

    Raises:
        UserError: an unknown name or option, weights that are not here, a file that is not what it should be.
    """
    if trust_remote_code is not True and trust_remote_code is not False:
        # A text comes out of an option or a record, and those are not the user's word on it.
        raise UserError(f"{name}: trust_remote_code is not an option of a model; give --trust-remote-code itself")
    where = choose_device(device)
    check_precision(precision, where)
    found = _resolved(name, weights)
    if isinstance(found, ModelEntry) and found.source.startswith(tuple(LIBRARIES)):
        found = (found.source.partition(":")[0] + ":", library_source(found))
    label = name if found else checkpoint_name(Path(name))
    if isinstance(found, tuple):
        prefix, source = found
        label = name if name.startswith(prefix) else checkpoint_name(Path(name))
        loader = _library(LIBRARIES[prefix])
        own = dict(weights=weights, revision=revision, trust_remote_code=trust_remote_code)
        given = {k: v for k, v in own.items() if v} | options
        _refuse(given, f"a {prefix}... model", known=_options(loader))
        return loader(name if name in MODELS else label, source, device=where, precision=precision, **given)
    if trust_remote_code:
        raise UserError(f"{name}: trust_remote_code is for hf: and st: models; nothing of this one is run")
    if found is not None and not isinstance(found, ModelEntry):
        _refuse(options | ({"revision": revision} if revision else {}), name)
        return _from_factory(found, name, where, precision)
    if revision and found is None:
        raise UserError(f"{name} is a file here and has no revisions")
    path = Path(weights or name) if found is None else find_weights(name, found, weights, revision)
    given = dict(found.options) if found else {}
    return _read_checkpoint(label, path, found.family if found else None, where, precision, given | options)


def _resolved(name: str, weights: str | Path | None) -> object:
    """An entry, a user's function, (prefix, source) of a library's model, or None for a checkpoint of a family.

    Raises:
        UserError: it is none of these; the line says what it could be.
    """
    if name in MODELS:
        return MODELS[name]
    for prefix in LIBRARIES:
        if name.startswith(prefix):
            return prefix, name.removeprefix(prefix)
    path = Path(name)
    # os.path says no of a name that is too long for a path, where Path raises.
    if os.path.isdir(path):
        return None if recognised_folder(path) else library_of_folder(path)
    if os.path.exists(path) or (weights is not None and os.path.exists(weights)):
        return None
    if ":" in name:
        return _user_function(name)
    raise unknown_model(name)


def _library(reference: str) -> Callable[..., Encoder]:
    loader = import_object(reference)
    assert callable(loader)
    return loader


def _options(loader: Callable[..., object]) -> list[str]:
    """The keyword arguments that a user may give."""
    return [
        name for name in inspect.signature(loader).parameters if name not in ("name", "source", "device", "precision")
    ]


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
    if hasattr(reader, "MODEL_TYPE"):
        raise UserError(f"{path}: a {found} checkpoint is read with what lies beside it; pass its whole folder")
    _refuse(options, f"the {found} family", known=list(inspect.signature(reader.read).parameters)[1:])
    try:
        custom, used = reader.read(state, **options)
    except KeyError as error:
        raise UserError(f"{path}: not a whole {found} checkpoint: {error} is missing") from error
    except RuntimeError as error:
        raise UserError(f"{path}: its tensors do not fit together: {' '.join(str(error).split())[:200]}") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    activation = used.pop("activation", "quickgelu")
    try:
        shape = shape_of(custom)
        require_size(shape)
        module = build_clip(shape, meta=True, quick_gelu=not activation.startswith("gelu"))
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
        options=used | {"activation": activation},
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


def _refuse(options: Mapping[str, Any], what: str, known: Sequence[str] = ()) -> None:
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
        if found.type == "meta":
            raise RuntimeError("it computes nothing")
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"the device {device!r} is not available here; choose auto, cpu, cuda or mps") from error
    return found
