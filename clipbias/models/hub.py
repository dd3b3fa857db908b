"""Files from the Hugging Face hub: from its cache where they are there, downloaded otherwise."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from clipbias.errors import UserError

_SECONDS = 5


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


def hub_file(repository: str, file: str, revision: str | None = None) -> Path:
    """One file of a repository ``OWNER/NAME``.

    Raises:
        UserError: it is not available; the line says why.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(repository, file, revision=revision)
    if isinstance(cached, str):
        return Path(cached)
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

    try:
        with quiet():
            return Path(
                snapshot_download(repository, revision=revision, allow_patterns=list(files), etag_timeout=_SECONDS)
            )
    except Exception as error:
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
    return f"{what} is not available: {words.get(kind, f'{kind}: ' + ' '.join(str(error).split())[:160])}"
