"""A weights file is read once for its SHA-256; the digest is remembered by its size and time of change."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from clipbias.models import weights


def test_a_digest_is_remembered_until_the_file_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "cache_folder", lambda: tmp_path / "cache")
    reads: list[Path] = []
    real = hashlib.file_digest

    def counted(file, name):
        reads.append(Path(file.name))
        return real(file, name)

    monkeypatch.setattr(weights.hashlib, "file_digest", counted)
    file = tmp_path / "model.pt"
    file.write_bytes(b"one")
    for _ in range(3):
        assert weights.file_digest(file) == hashlib.sha256(b"one").hexdigest()
    assert reads == [file]
    # The same size and another time of change; then another size.
    file.write_bytes(b"two")
    os.utime(file, ns=(1, 1))
    assert weights.file_digest(file) == hashlib.sha256(b"two").hexdigest()
    file.write_bytes(b"longer")
    os.utime(file, ns=(1, 1))
    assert weights.file_digest(file) == hashlib.sha256(b"longer").hexdigest()
    assert reads == [file] * 3
    # Another path is another file, and a memory that is damaged costs only time.
    (tmp_path / "other.pt").write_bytes(b"longer")
    assert weights.file_digest(tmp_path / "other.pt") == hashlib.sha256(b"longer").hexdigest()
    for damage in ("{", "[]", '{"x": 1}'):
        (tmp_path / "cache" / "digests.json").write_text(damage)
        assert weights.file_digest(file) == hashlib.sha256(b"longer").hexdigest()


def test_a_file_that_is_not_its_authors_is_refused(tmp_path, monkeypatch):
    from clipbias.errors import UserError
    from clipbias.models.entry import ModelEntry

    monkeypatch.setattr(weights, "cache_folder", lambda: tmp_path / "cache")
    file = tmp_path / "a.pt"
    file.write_bytes(b"one")
    entry = ModelEntry("longclip", "", 248, 512, "hub:a/b", "a.pt", sha256=hashlib.sha256(b"two").hexdigest())
    with pytest.raises(UserError, match="its SHA-256 is"):
        weights.checked(file, entry)
