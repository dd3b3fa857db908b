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


def test_the_docs_name_every_published_model_and_what_holds_it():
    from clipbias.models.catalogue import MODELS
    from clipbias.models.entry import ModelEntry

    entries = {name: MODELS[name] for name in MODELS}
    published = {
        name: entry
        for name, entry in entries.items()
        if isinstance(entry, ModelEntry) and entry.source != "package" and entry.family != "openclip"
    }
    lines = (Path(__file__).parents[2] / "docs" / "models.md").read_text("utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    told = {row[0].strip("`"): row[1:] for row in cells if len(row) == 5}
    assert told.keys() == published.keys()
    for name, (backbone, at, file, held) in told.items():
        entry = published[name]
        assert (backbone, file, held) == (entry.backbone, f"`{entry.file}`", entry.pinned), name
        assert (entry.hub or entry.address) in at, name
        pinned = entry.pinned != "not pinned" or entry.source == "local"
        assert ("not pinned" in entry.where) != pinned, name
