"""Checkpoints: those read may come from anybody, so tensors only and nothing is executed; those written are whole."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from clipbias.errors import UserError
from clipbias.files import atomic_path
from clipbias.gate import require_file
from clipbias.models.families import families
from clipbias.models.torchscript import is_torchscript, read_torchscript

_MOST_TENSORS = 20_000  # the largest models of open_clip have under 2,000
_MOST_GROWN = 256 << 20
_IN_FOLDER = ("model.safetensors", "open_clip_model.safetensors")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The state dict in a ``.safetensors``, ``.pt`` or TorchScript file, without any ``module.`` prefix.

    A folder stands for the ``model.safetensors`` or ``open_clip_model.safetensors`` in it.

    Raises:
        UserError: not there, empty, cut short, or asking for more than tensors; the line names the file.
    """
    try:
        if path.is_dir():
            path = next((path / n for n in _IN_FOLDER if (path / n).is_file()), path / _IN_FOLDER[0])
        size = require_file(path, "checkpoint").st_size
        if size == 0:
            raise UserError(f"{path}: the file is empty")
        _stored(path)
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: object = load_file(path)
        elif is_torchscript(path):
            content = read_torchscript(path)
        else:
            # Mapped, so that what is not needed (an optimizer's state) is never read.
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except UserError:
        raise
    except pickle.UnpicklingError as error:
        # torch's own text advises to load it anyway; only what the file asked for is passed on.
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"it asks for {asked[1]}" if asked else "it is damaged or asks for more"
        raise UserError(f"{path}: refused, a checkpoint may hold tensors only and {what}") from error
    except Exception as error:
        # A damaged archive fails in as many ways as there are bytes to damage.
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]}"
        raise UserError(f"{path}: not a readable checkpoint ({reason})") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path}: expected a state dict, found {type(content).__name__}")
    state = {str(k).removeprefix("module."): v for k, v in content.items() if isinstance(v, Tensor)}
    _bounded(state, size, path)
    for key, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise UserError(f"{path}: {key} holds NaN or infinite values")
    return state


def _stored(path: Path) -> None:
    """Refuse an archive whose members are compressed: no library writes one, and a small one can fill memory.

    Raises:
        UserError: one is.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        # Code and notes in an archive may be compressed; what they become is bounded.
        grown = sum(max(0, member.file_size - member.compress_size) for member in members)
    if len(members) > 4 * _MOST_TENSORS or grown > _MOST_GROWN:
        raise UserError(
            f"{path}: {len(members):,} members that grow by {grown >> 20:,} MiB when unpacked; "
            "checkpoints are stored uncompressed; refused"
        )


def _bounded(state: Mapping[str, Tensor], size: int, path: Path) -> None:
    """Refuse tensors that would take far more memory than their file.

    Raises:
        UserError: too many, or larger than what is stored of them.
    """
    if len(state) > _MOST_TENSORS:
        raise UserError(f"{path}: {len(state):,} tensors (limit {_MOST_TENSORS:,}); refused")
    total = 0
    for key, value in state.items():
        if value.layout is not torch.strided or value.is_quantized:
            raise UserError(f"{path}: {key} is not a plain tensor; refused")
        needed = value.numel() * value.element_size()
        if needed > value.untyped_storage().nbytes():
            raise UserError(f"{path}: {key} has the shape {tuple(value.shape)}, but less is stored of it; refused")
        total += needed
    if total > 4 * size + _MOST_GROWN:
        raise UserError(f"{path}: its tensors ask for {total >> 20:,} MiB, the file has {size >> 20:,} MiB; refused")


def recognise(state: Mapping[str, Tensor], path: Path) -> tuple[str, str]:
    """The family of a state dict, and why.

    Raises:
        UserError: no family knows these keys.
    """
    for family, reader in families().items():
        reason = reader.recognise(state)
        if reason is not None:
            return family, reason
    some = ", ".join(list(state)[:3])
    hint = ""
    if any(key.startswith(("text_model.", "vision_model.")) for key in state):
        hint = "; these are transformers' names: pass the whole folder with its config.json, or hf:OWNER/NAME"
    raise UserError(f"{path}: no known family has these keys ({some}, ...); known: {', '.join(families())}{hint}")


def recognised_folder(folder: Path) -> bool:
    """Whether a folder holds a checkpoint of a family that needs no other file, judged by its tensors' names alone."""
    from safetensors import safe_open

    for file in _IN_FOLDER:
        if (folder / file).is_file() and not (folder / "open_clip_config.json").is_file():
            try:
                with safe_open(folder / file, framework="pt") as content:
                    names = dict.fromkeys(content.keys(), torch.empty(0))
            except Exception:  # whatever is wrong with it, reading it says it
                return True
            return any(reader.recognise(names) for reader in families().values() if not hasattr(reader, "MODEL_TYPE"))
    return False


def write_tensors(path: Path, content: Mapping[str, object], metadata: dict[str, str] | None = None) -> None:
    """Replace a file, whole or not at all, by tensors: as safetensors where it is called so, else with ``torch.save``.

    Args:
        path: the file.
        content: tensors by name; for ``torch.save`` anything.
        metadata: texts kept in a safetensors file.

    Raises:
        UserError: the folder cannot be written to or the disk is full.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with atomic_path(path, _size(content)) as temporary:
        try:
            if path.suffix == ".safetensors":
                save_file(dict(content), temporary, metadata)  # type: ignore[arg-type]
            else:
                with temporary.open("wb") as file:
                    torch.save(dict(content), file)
        except (SafetensorError, RuntimeError) as error:
            raise _system_error(error) from error


def _system_error(error: Exception) -> OSError:
    """What the system said of a write that failed: both libraries put words of their own before it."""
    before: BaseException | None = error
    while before is not None:
        if isinstance(before, OSError):
            return before
        before = before.__cause__ or before.__context__
    if (found := re.search(r"\(os error (\d+)\)", str(error))) is not None:
        return OSError(int(found[1]), os.strerror(int(found[1])))
    return OSError(" ".join(str(error).split())[:200])


def _size(content: object) -> int:
    """Bytes of all tensors in nested containers; of those that share memory, once."""
    found: dict[int, int] = {}

    def count(part: object) -> None:
        if isinstance(part, Tensor):
            storage = part.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
        for inner in part.values() if isinstance(part, Mapping) else part if isinstance(part, (list, tuple)) else ():
            count(inner)

    count(content)
    return sum(found.values())


def state_fingerprint(state: Mapping[str, Tensor], options: Mapping[str, str]) -> str:
    """SHA-256 (first 16 hex digits) over names, shapes, types and bytes of the tensors, and the options."""
    digest = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].contiguous()
        digest.update(f"{key}|{tuple(tensor.shape)}|{tensor.dtype}\n".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
    digest.update(repr(sorted(options.items())).encode())
    return digest.hexdigest()[:16]
