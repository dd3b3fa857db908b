"""From a name or a path to an `Encoder`."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import torch

from clipbias.errors import UserError
from clipbias.models.build import build_clip, clip_transform
from clipbias.models.catalogue import MODELS, PACKAGED, ModelEntry
from clipbias.models.checkpoint import family_reader, read_tensors, recognise, state_fingerprint
from clipbias.models.encoder import DTYPES, Encoder
from clipbias.models.layouts import shape_of

log = logging.getLogger(__name__)
WEIGHTS_VARIABLE = "CLIPBIAS_WEIGHTS"


def load_model(
    name: str,
    weights: str | Path | None = None,
    device: str = "auto",
    precision: str = "fp32",
    **options: str,
) -> Encoder:
    """The encoder of a registered name, or of a checkpoint whose path is given as the name.

    Args:
        name: a name that `clipbias models` lists, or a path; a path's family is recognised from its keys.
        weights: a file to read instead of looking for the named one.
        device: "auto" (cuda, then mps, then cpu) or a torch device.
        precision: fp32, bf16 or fp16; on the CPU fp32 or bf16.
        options: the family's own, such as ``positions="saved"`` for debias.

    Raises:
        UserError: an unknown name or option, weights that are not here, a file that is not what it should be.
    """
    where = _device(device)
    if precision not in DTYPES or (precision == "fp16" and where.type == "cpu"):
        raise UserError(f"precision {precision!r} is not to be had on {where.type}; choose fp32 or bf16")
    family = None
    if name in MODELS:
        path = find_weights(name, MODELS[name], weights)
        family = MODELS[name].family
    else:
        path = Path(weights or name)
        if not path.exists():
            MODELS[name]  # raises, with the near names
    state = read_tensors(path)
    found, reason = recognise(state, path)
    if family is None:
        log.info("%s is read as %s: %s", path, found, reason)
    elif found != family:
        raise UserError(f"{path}: expected a {family} checkpoint for {name}, found {found} ({reason})")
    reader = family_reader(found)
    try:
        custom, used = reader.read(state, **options)
    except TypeError as error:
        raise UserError(f"the {found} family does not take these options: {', '.join(options)}") from error
    shape = shape_of(custom)
    module = build_clip(shape, meta=True)
    # The causal mask is the module's only tensor that no checkpoint holds.
    module.text.attn_mask = None
    try:
        module.load_state_dict({k: v.float() for k, v in custom.items()}, assign=True)
    except RuntimeError as error:
        raise UserError(f"{path}: not a whole {found} checkpoint: {' '.join(str(error).split())[:300]}") from error
    module.text.attn_mask = torch.full((shape.context_length,) * 2, float("-inf")).triu(1)
    return Encoder(
        name=name if name in MODELS else Path(name).stem,
        family=found,
        module=module.to(where),
        transform=clip_transform(shape.image_size, reader.SQUARE),
        image_size=shape.image_size,
        fingerprint=state_fingerprint(state, used),
        options=used,
        device=where,
        precision=precision,
    )


def _device(device: str) -> torch.device:
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise UserError(f"no device is called {device!r}; choose auto, cpu, cuda or mps") from error


def find_weights(name: str, entry: ModelEntry, weights: str | Path | None = None) -> Path:
    """The checkpoint file of a named model: given, packaged, in the user's folder, cached, or downloaded.

    Raises:
        UserError: it is nowhere; the message says where was looked and what to pass.
    """
    if weights is not None:
        if not Path(weights).is_file():
            raise UserError(f"{weights}: no such weights file for {name}")
        return Path(weights)
    if entry.source == "package":
        return PACKAGED / entry.file
    looked = []
    folder = os.environ.get(WEIGHTS_VARIABLE)
    if folder:
        path = Path(folder) / entry.file
        if path.is_file():
            return _checked(path, entry)
        looked.append(str(path))
    else:
        looked.append(f"the folder in {WEIGHTS_VARIABLE} (not set)")
    if entry.source.startswith("hub:"):
        path_or_reason = _from_hub(entry)
        if isinstance(path_or_reason, Path):
            return _checked(path_or_reason, entry)
        looked.append(f"the Hugging Face cache and hub ({path_or_reason})")
    raise UserError(
        f"{name} needs {entry.where}, and it was not found in {' nor in '.join(looked)}; "
        f"get it and pass --weights FILE, or put it into a folder and name that in {WEIGHTS_VARIABLE}"
    )


def _from_hub(entry: ModelEntry) -> Path | str:
    """The downloaded file, or why it could not be had."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    repository = entry.source.removeprefix("hub:")
    cached = try_to_load_from_cache(repository, entry.file)
    if isinstance(cached, str):
        return Path(cached)
    try:
        return Path(hf_hub_download(repository, entry.file, etag_timeout=5))
    except Exception as error:
        # The hub client's errors are of many kinds and versions; the user needs one line of any of them.
        return type(error).__name__


def _checked(path: Path, entry: ModelEntry) -> Path:
    if entry.sha256:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != entry.sha256:
            raise UserError(f"{path}: its SHA-256 is {found}, not the {entry.sha256} its authors' file has")
    return path
