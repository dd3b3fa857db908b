"""Tensors out of a TorchScript archive without running anything from it.

OpenAI ships its models as TorchScript: a zip with code, a pickle of the module tree and raw tensor data.
Only the tree and the data are read here, by an unpickler that knows the few constructors such a tree needs;
modules become inert records. Whatever else a file asks for is refused by name.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clipbias.errors import UserError

_STORAGES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_MAX_TREE = 64 << 20  # bytes of the pickle; OpenAI's largest has under 1 MB


class _Module:
    """What is left of a scripted module: its attributes."""

    def __init__(self, *_: object) -> None:
        self.attributes: dict[str, object] = {}

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            self.attributes = {str(k): v for k, v in state.items()}


def _plain(value: object, *_: object) -> object:
    """The first argument: TorchScript's typed lists and tags are only annotations here."""
    return value


class _Tree(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{root}/data.pkl")))
        self._archive, self._root = archive, root
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> object:
        if module.split(".")[0] == "__torch__":
            return _Module
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch.jit._pickle" and name.startswith(("build_", "restore_type_tag")):
            return _plain
        raise pickle.UnpicklingError(f"{module}.{name}")

    def persistent_load(self, reference: Any) -> Tensor:
        kind, dtype, key, _, _ = reference
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not str(key).isalnum():
            raise pickle.UnpicklingError(f"a reference to {kind!r}")
        if key not in self._storages:
            raw = bytearray(self._archive.read(f"{self._root}/data/{key}"))
            self._storages[key] = torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype)
        return self._storages[key]


def _rebuild(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Tensor:
    # torch checks that the view stays inside its storage; it may still be far larger than that (a stride of 0).
    if any(not isinstance(n, int) for n in size) or math.prod(size) > storage.numel():
        raise pickle.UnpicklingError(f"a tensor of shape {tuple(size)}, of which less is stored")
    return torch.as_strided(storage, size, stride, offset)


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive: a zip with a ``code`` folder."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.split("/")[1:2] == ["code"] for name in archive.namelist())


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """The parameters and buffers of the module in a TorchScript archive, by their dotted names.

    Raises:
        UserError: damaged, or asking for more than modules and tensors; the line names what.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            root = archive.namelist()[0].split("/")[0]
            if archive.getinfo(f"{root}/data.pkl").file_size > _MAX_TREE:
                raise UserError(f"{path}: its module tree is larger than {_MAX_TREE >> 20} MiB; refused")
            tree = _Tree(archive, root).load()
    except pickle.UnpicklingError as error:
        raise UserError(f"{path}: refused, this TorchScript archive asks for {error}") from error
    if not isinstance(tree, _Module):
        raise UserError(f"{path}: expected a scripted module, found {type(tree).__name__}")
    return _flat(tree, "", set())


def _flat(module: _Module, prefix: str, above: set[int]) -> dict[str, Tensor]:
    if id(module) in above:
        raise UserError(f"the scripted module {prefix or 'at the top'} holds itself; refused")
    out: dict[str, Tensor] = {}
    for name, value in module.attributes.items():
        if isinstance(value, Tensor):
            out[prefix + name] = value
        elif isinstance(value, _Module):
            out |= _flat(value, f"{prefix}{name}.", above | {id(module)})
    return out
