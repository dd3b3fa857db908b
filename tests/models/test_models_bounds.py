"""Small files that ask for a large model, or for much memory, are refused before anything is allocated."""

from __future__ import annotations

import pickle
import zipfile

import plain_clip as plain
import pytest
import torch

import clipbias
from clipbias.errors import UserError
from clipbias.models.checkpoint import read_tensors


def test_a_view_larger_than_what_is_stored_is_refused(tmp_path):
    state = plain.random_state()
    state["positional_embedding"] = torch.zeros(1, 1).expand(4000, 128)
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"positional_embedding has the shape .* less is stored"):
        clipbias.load_model(str(tmp_path / "a.pt"))


def test_too_many_tensors_are_refused(tmp_path):
    one = torch.zeros(20_001)
    torch.save({f"t{i}": one[i] for i in range(20_001)}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"20,001 tensors|members"):
        read_tensors(tmp_path / "a.pt")


def test_one_storage_seen_many_times_is_refused(tmp_path):
    storage = torch.zeros(1 << 20)
    torch.save({f"t{i}": storage.view(1 << 10, 1 << 10) for i in range(200)}, tmp_path / "a.pt")
    with pytest.raises(UserError, match="its tensors ask for 800 MiB"):
        read_tensors(tmp_path / "a.pt")


def test_compressed_archives_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("clipbias.models.checkpoint._MOST_GROWN", 8 << 20)
    torch.save({"t": torch.zeros(1 << 24, dtype=torch.uint8)}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as old, zipfile.ZipFile(tmp_path / "a.pt", "w", 8) as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
    assert (tmp_path / "a.pt").stat().st_size < 1 << 20
    with pytest.raises(UserError, match="stored uncompressed"):
        read_tensors(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"positional_embedding": (5000, 128)}, "context length"),
        ({"visual.positional_embedding": (90_001, 128)}, "image"),
    ],
)
def test_sizes_that_no_model_has_are_refused(tmp_path, change, word):
    state = plain.random_state()
    for key, shape in change.items():
        state[key] = torch.zeros(shape)
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(UserError, match=f"{word}.*above the limit"):
        clipbias.load_model(str(tmp_path / "a.pt"))


def test_what_is_no_file_is_refused_at_once(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.pt")
    for path in (tmp_path / "pipe.pt", "/dev/zero"):
        with pytest.raises(UserError):
            clipbias.load_model(str(path))
    (tmp_path / "a.pt").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(UserError):
        clipbias.load_model(str(tmp_path / "a.pt"))
