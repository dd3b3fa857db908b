"""Files from the Hugging Face hub: from its cache where they are there, downloaded otherwise."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from clipbias.errors import UserError

_SECONDS = 5
_PATIENCE = 1.5
"""Seconds for a connection to the hub: its client would try for half a minute before it says that there is none."""


@contextmanager
def quiet() -> Iterator[None]:
    """Without log lines below critical: the hub's client tells of every retry, the user needs the outcome."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def split_revision(repository: str) -> tuple[str, str | None]:
    """``OWNER/NAME@REVISION`` to its two parts; None without a revision."""
    name, _, revision = repository.partition("@")
    return name, revision or None


def local_folder(source: str, revision: str | None) -> Path | None:
    """The folder that a model's source names, None where it is none here.

    Raises:
        UserError: a folder, and a revision of it.
    """
    if not Path(source).is_dir():
        return None
    if revision:
        raise UserError(f"{source} is a folder here and has no revisions")
    return Path(source)


def commit_of(folder: Path) -> str:
    """The commit that a folder of the hub's cache holds; "" for any other."""
    return folder.name if folder.parent.name == "snapshots" else ""


def out_of_reach(patience: float = _PATIENCE) -> str:
    """Why the hub cannot be reached, in words; "" where it can. ``patience``: as `unreachable` takes it."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return "HF_HUB_OFFLINE is set"
    return unreachable(os.environ.get("HF_ENDPOINT") or "https://huggingface.co", patience)


def unreachable(address: str, patience: float = _PATIENCE) -> str:
    """Why an address cannot be reached, in words; "" where its host, or the proxy before it, takes a connection.

    Args:
        address: with its scheme.
        patience: seconds; a name server that does not answer is not waited for longer.
    """
    import socket
    from threading import Thread

    endpoint, proxies = urlsplit(address), getproxies()
    proxy = proxies.get(endpoint.scheme) or proxies.get("all")
    # A proxy may be written without its scheme.
    target = urlsplit(proxy if proxy is None or "://" in proxy else f"http://{proxy}") if proxy else endpoint
    answered: list[bool] = []
    unusable: list[Exception] = []

    def ask() -> None:
        try:
            port = target.port or (443 if target.scheme == "https" else 80)
            socket.create_connection((target.hostname or "", port), timeout=patience).close()
            answered.append(True)
        except OSError:
            pass
        except Exception as error:  # a port or name that no connection can have; a thread would lose it
            unusable.append(error)

    asking = Thread(target=ask, daemon=True)
    asking.start()
    asking.join(patience)
    if unusable:
        return f"{target.netloc} is no address to connect to ({unusable[0]})"
    return "" if answered else f"no connection to {target.hostname}"


def _cache_of(repository: str) -> Path:
    """Where the hub's client keeps what it has of a repository; asked without importing it."""
    client = sys.modules.get("huggingface_hub.constants")
    if client is not None:
        return Path(client.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    cache = Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()
    return cache / f"models--{repository.replace('/', '--')}"


def require_repository(repository: str) -> None:
    """Refuse a repository of which nothing is here while the hub is out of reach.

    Raises:
        UserError: says so.
    """
    if not _cache_of(repository).is_dir() and (reason := out_of_reach()):
        raise UserError(_not_here(repository, reason))


def _not_here(what: str, reason: str) -> str:
    return f"{what} is not available: {reason}, and it is not in the Hugging Face cache"


def cached_file(repository: str, file: str, revision: str | None = None) -> Path | None:
    """A file of a repository where the hub's cache has it; the hub's client is imported only if it has any of it."""
    place = _cache_of(repository)
    if not place.is_dir():
        return None
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(repository, file, cache_dir=place.parent, revision=revision)
    return Path(cached) if isinstance(cached, str) else None


def hub_file(repository: str, file: str, revision: str | None = None) -> Path:
    """One file of a repository ``OWNER/NAME``.

    Raises:
        UserError: it is not available; the line says why.
    """
    cached = cached_file(repository, file, revision)
    if cached is not None:
        return cached
    if reason := out_of_reach():
        raise UserError(_not_here(f"{file} of {repository}", reason))
    from huggingface_hub import hf_hub_download

    try:
        with quiet():
            return Path(hf_hub_download(repository, file, revision=revision, etag_timeout=_SECONDS))
    except Exception as error:
        raise UserError(_reason(f"{file} of {repository}", error)) from error


def hub_folder(repository: str, files: Sequence[str], revision: str | None = None) -> Path:
    """A folder that holds those of ``files`` (names or patterns) that a repository has.

    Raises:
        UserError: it is not available; the line says why.
    """
    from huggingface_hub import snapshot_download

    reason = out_of_reach()
    try:
        with quiet():
            return Path(
                snapshot_download(
                    repository,
                    revision=revision,
                    allow_patterns=list(files),
                    etag_timeout=_SECONDS,
                    local_files_only=bool(reason),
                )
            )
    except Exception as error:
        if reason:
            raise UserError(_not_here(repository, reason)) from error
        raise UserError(_reason(repository, error)) from error


def _reason(what: str, error: Exception) -> str:
    """One line for any of the hub client's errors, which are of many kinds and versions."""
    kind = type(error).__name__
    words = {
        "LocalEntryNotFoundError": "no network, and not in the Hugging Face cache",
        "OfflineModeIsEnabled": "HF_HUB_OFFLINE is set, and it is not in the Hugging Face cache",
        "RepositoryNotFoundError": "the hub knows no such repository, or it needs a login",
        "RevisionNotFoundError": "the repository has no such revision",
        "EntryNotFoundError": "the repository has no such file",
        "RemoteEntryNotFoundError": "the repository has no such file",
        "GatedRepoError": "its owner asks for a login and consent",
    }
    told = words.get(kind) or f"the hub's client says: {' '.join(str(error).split())[:160]}"
    return f"{what} is not available: {told}"
