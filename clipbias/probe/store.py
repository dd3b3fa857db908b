"""Features kept on disk, so that a text or an image goes through a model once.

A shard is one safetensors file ``<store>/<space>/<name>.safetensors`` with ``keys`` (uint8 [N, 16]), ``features``
(float32 [N, D]) and a checksum; it is written whole or not at all and never changed. Several processes may share a
store: each adds shards of its own, and the same content twice does no harm. A space is a model in one precision, on one
kind of device, with one set of versions; a key is a digest of a text or of an image's bytes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clipbias.data.index import OWN
from clipbias.data.roots import cache_folder
from clipbias.errors import UserError
from clipbias.files import content_key
from clipbias.gate import require_file
from clipbias.provenance import versions

if TYPE_CHECKING:
    from torch import Tensor

    from clipbias.models.encoder import Encoder

LIMIT_VARIABLE = "CLIPBIAS_CACHE_GB"
DEFAULT_LIMIT = 20.0
KEY = 16
_LOG = logging.getLogger("clipbias")


def space_of(encoder: Encoder, kind: str) -> str:
    """The name of the space of an encoder's "images" or "texts"; "" where nothing vouches for its weights."""
    if not encoder.vouched:
        return ""
    facts = [encoder.identity()["fingerprint"], versions(), kind]
    name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '-', encoder.name)[-40:]}-{kind}-{name}"


def open_store() -> EmbeddingStore:
    """The store in the cache folder, of the size that ``CLIPBIAS_CACHE_GB`` allows (20 where it is not set).

    Raises:
        UserError: the limit is not a number.
    """
    try:
        limit = float(os.environ.get(LIMIT_VARIABLE) or DEFAULT_LIMIT)
    except ValueError as error:
        raise UserError(f"{LIMIT_VARIABLE}={os.environ[LIMIT_VARIABLE]}: not a number of gigabytes") from error
    return EmbeddingStore(cache_folder() / "embeddings", int(limit * 1e9))


@dataclass(frozen=True)
class Shard:
    """One file of a store, open: its keys as bytes, and its features, mapped from the file."""

    path: Path
    keys: list[bytes]
    features: Tensor


class EmbeddingStore:
    """The features of any number of spaces below ``folder``, at most ``limit`` bytes of them."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self._places: dict[str, dict[bytes, tuple[Tensor, int]]] = {}

    def features(self, space: str, keys: Sequence[bytes], compute: Callable[[list[int]], Tensor]) -> Tensor:
        """Features [N, D] of ``keys``; those that are not here are computed and kept.

        Args:
            space: as `space_of` names it.
            keys: [N] digests; the same one may come several times.
            compute: indices into ``keys`` -> their features [n, D], float32; called once, for what is missing.
        """
        known = self._known(space)
        missing = list({key: index for index, key in reversed(list(enumerate(keys))) if key not in known}.values())
        if missing:
            missing.sort()
            fresh = compute(missing).contiguous()
            self._write(space, [keys[i] for i in missing], fresh)
            for row, index in enumerate(missing):
                known[keys[index]] = (fresh, row)
        import torch

        if not keys:
            return torch.empty(0, 0)
        out = torch.empty(len(keys), known[keys[0]][0].shape[1])
        rows: dict[int, tuple[Tensor, list[int], list[int]]] = {}
        for index, key in enumerate(keys):
            source, row = known[key]
            _, targets, sources = rows.setdefault(id(source), (source, [], []))
            targets.append(index)
            sources.append(row)
        for source, targets, sources in rows.values():
            out[targets] = source[sources]
        return out

    def missing(self, space: str, keys: Sequence[bytes | None]) -> list[int]:
        """The indices of the keys that are not here; None is not."""
        known = self._known(space)
        return [index for index, key in enumerate(keys) if key is None or key not in known]

    def _known(self, space: str) -> dict[bytes, tuple[Tensor, int]]:
        if space not in self._places:
            places: dict[bytes, tuple[Tensor, int]] = {}
            for path in sorted((self.folder / space).glob(f"{OWN}*.safetensors")):
                try:
                    shard = read_shard(path)
                except UserError as error:
                    _LOG.warning("%s; left out, its content is computed again", error)
                    with suppress(OSError):
                        path.unlink()
                    continue
                places.update((key, (shard.features, row)) for row, key in enumerate(shard.keys))
                with suppress(OSError):
                    os.utime(path)  # the least recently used go first
            self._places[space] = places
        return self._places[space]

    def _write(self, space: str, keys: list[bytes], features: Tensor) -> None:
        """Keep a shard; a cache that cannot be written to is no reason to stop."""
        import numpy as np
        import torch

        from clipbias.models.checkpoint import write_tensors

        table = torch.from_numpy(np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, KEY).copy())
        path = self.folder / space / f"{OWN}{content_key(*keys).hex()}.safetensors"
        try:
            write_tensors(path, {"keys": table, "features": features}, {"checksum": _checksum(table, features)})
            self._trim(path)
        except (UserError, OSError) as error:
            _LOG.warning("features are not kept: %s", error)

    def _trim(self, newest: Path) -> None:
        """Remove the least recently used shards until the rest fit the limit."""
        files = []
        for path in shard_paths(self.folder):
            with suppress(FileNotFoundError):  # another process trims as well
                state = path.stat()
                files.append((path == newest, state.st_mtime, state.st_size, path))
        total = sum(size for *_, size, _ in files)
        for _, _, size, path in sorted(files):
            if total <= self.limit:
                break
            path.unlink(missing_ok=True)
            total -= size


def _checksum(keys: Tensor, features: Tensor) -> str:
    # Guards against damage, not against an enemy: 32 bits at the speed of memory.
    return f"{zlib.crc32(features.numpy().data, zlib.crc32(keys.numpy().data)):08x}"


def read_shard(path: Path) -> Shard:
    """A shard, checked.

    Raises:
        UserError: unreadable, of another shape, or damaged.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    require_file(path, "checkpoint")
    try:
        with safe_open(path, "pt") as file:
            keys, features = file.get_tensor("keys"), file.get_tensor("features")
            checksum = (file.metadata() or {}).get("checksum")
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable shard ({error})") from error
    if keys.dtype != torch.uint8 or features.dtype != torch.float32 or keys.shape != (len(features), KEY):
        raise UserError(f"{path}: not a shard of features")
    if checksum != _checksum(keys, features):
        raise UserError(f"{path}: damaged (its checksum is another)")
    raw = keys.numpy().tobytes()
    return Shard(path, [raw[i : i + KEY] for i in range(0, len(raw), KEY)], features)


def shard_paths(folder: Path) -> Iterator[Path]:
    """The shards of every space below a store's folder."""
    yield from sorted(folder.glob(f"*/{OWN}*.safetensors"))
