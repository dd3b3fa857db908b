"""Features on disk: encoded once, never wrong, never in the way."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

import clipbias
from clipbias.cli.app import app
from clipbias.data.build import without_images
from clipbias.data.loading import load_dataset
from clipbias.errors import UserError
from clipbias.files import content_key
from clipbias.models.wrapped import WrappedEncoder
from clipbias.probe.run import run_probe
from clipbias.probe.session import Session
from clipbias.probe.spec import find_probes
from clipbias.probe.store import EmbeddingStore, read_shard, shard_paths, space_of
from clipbias.results.folder import read_queries

BIG = 1 << 40


def value(key: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(key), dtype=torch.uint8).float()


class Counting:
    """Computes features from keys, and counts how often each was asked for."""

    def __init__(self) -> None:
        self.asked: Counter[bytes] = Counter()

    def of(self, keys: list[bytes]):
        def compute(indices: list[int]) -> torch.Tensor:
            self.asked.update(keys[i] for i in indices)
            return torch.stack([value(keys[i]) for i in indices])

        return compute


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 20), max_size=12), max_size=5))
def test_each_content_is_computed_once_whatever_is_asked(tmp_path_factory, rounds):
    folder = tmp_path_factory.mktemp("store")
    counting, store = Counting(), EmbeddingStore(folder, BIG)
    for number, asked in enumerate(rounds):
        keys = [content_key(bytes([k])) for k in asked]
        if number % 2 == 0:  # as a process that starts with what is on disk
            store = EmbeddingStore(folder, BIG)
        found = store.features("s", keys, counting.of(keys))
        assert len(found) == len(keys)
        for row, key in zip(found, keys, strict=True):
            assert torch.equal(row, value(key))
    assert not counting.asked or max(counting.asked.values()) == 1
    assert not list(folder.rglob("*.part"))


def fill(folder: Path, names: str, space: str = "s", limit: int = BIG) -> None:
    keys = [content_key(name.encode()) for name in names]
    EmbeddingStore(folder, limit).features(space, keys, Counting().of(keys))


@pytest.mark.parametrize("damage", ["flip", "cut", "noise", "empty", "folder"])
def test_a_damaged_shard_is_said_removed_and_computed_again(tmp_path, caplog, damage):
    fill(tmp_path, "abc")
    (path,) = shard_paths(tmp_path)
    raw = bytearray(path.read_bytes())
    raw[-3] ^= 1
    content = {"flip": bytes(raw), "cut": bytes(raw[:-40]), "noise": os.urandom(500), "empty": b""}
    path.unlink()
    path.mkdir() if damage == "folder" else path.write_bytes(content[damage])
    keys, counting = [content_key(b"a")], Counting()
    logging.getLogger("clipbias").propagate = True
    found = EmbeddingStore(tmp_path, BIG).features("s", keys, counting.of(keys))
    assert torch.equal(found[0], value(keys[0])) and counting.asked[keys[0]] == 1
    assert "computed again" in caplog.text


def test_the_least_recently_used_go_first_and_the_newest_stays(tmp_path):
    for number, names in enumerate(("abc", "def", "ghi")):
        fill(tmp_path, names, f"s{number}")
        (path,) = (tmp_path / f"s{number}").iterdir()
        os.utime(path, (number, number))
    size = path.stat().st_size
    fill(tmp_path, "abc", "s0")  # used again: now the youngest
    fill(tmp_path, "jkl", "s3", limit=3 * size)
    assert sorted(p.parent.name for p in shard_paths(tmp_path)) == ["s0", "s2", "s3"]
    fill(tmp_path, "mno", "s4", limit=1)
    assert [p.parent.name for p in shard_paths(tmp_path)] == ["s4"] or not list(shard_paths(tmp_path))


def test_a_folder_that_cannot_be_written_is_no_reason_to_stop(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    logging.getLogger("clipbias").propagate = True
    keys = [content_key(b"a")]
    found = EmbeddingStore(tmp_path / "file" / "store", BIG).features("s", keys, Counting().of(keys))
    assert torch.equal(found[0], value(keys[0])) and "features are not kept" in caplog.text


def _worker(folder: Path, start: int, out: Path) -> None:
    for k in range(start, start + 30):
        keys = [content_key(bytes([j])) for j in range(k, k + 5)]
        found = EmbeddingStore(folder, BIG).features("s", keys, Counting().of(keys))
        assert all(torch.equal(row, value(key)) for row, key in zip(found, keys, strict=True))
    out.write_text("fine")


def test_processes_share_a_store(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [
        context.Process(target=_worker, args=(tmp_path / "store", start, tmp_path / f"{n}"))
        for n, start in enumerate((0, 10, 20, 20))
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [(tmp_path / f"{n}").read_text() for n in range(4)] == ["fine"] * 4
    for path in shard_paths(tmp_path / "store"):
        assert all(torch.equal(row, value(key)) for row, key in zip(*_pairs(path), strict=True))


def _pairs(path: Path):
    shard = read_shard(path)
    return shard.features, shard.keys


class Watched:
    """A model that counts what it encodes."""

    fingerprint = "watched-1"

    def __init__(self) -> None:
        self.texts: Counter[str] = Counter()
        self.images = 0

    def encode_texts(self, texts):
        self.texts.update(texts)
        return np.array([[len(t), sum(map(ord, t)) % 97, 1] for t in texts], dtype=np.float32)

    def encode_images(self, images):
        self.images += len(images)
        return np.array([[*image.resize((1, 1)).getpixel((0, 0))] for image in images], dtype=np.float32) + 1


def watched(name: str = "w") -> tuple[Watched, WrappedEncoder]:
    model = Watched()
    encoder = WrappedEncoder(model, name, torch.device("cpu"), "fp32")
    model.images, model.texts = 0, Counter()
    return model, encoder


def pictures(folder: Path, count: int = 6) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.new("RGB", (9, 7), (40 * i, 10, 5)).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"First {i}. Second. Third. Fourth {i}. Fifth.")
    return folder


def test_a_second_run_encodes_nothing_and_finds_the_same(tmp_path):
    folder = pictures(tmp_path / "data")
    probes = find_probes("paper")
    tables = []
    for number in range(2):
        model, encoder = watched()
        session = Session(encoder, load_dataset(str(folder)), store=EmbeddingStore(tmp_path / "store", BIG))
        tables.append([read_queries(run_probe(session, p, tmp_path / f"results{number}")) for p in probes])
        assert max(model.texts.values(), default=0) <= 1
        assert (model.images, bool(model.texts)) == ((6, True) if number == 0 else (0, False))
    assert all(one.equals(two) for one, two in zip(*tables, strict=True))
    bare = Session(watched()[1], load_dataset(str(folder)))
    assert read_queries(run_probe(bare, probes[0], tmp_path / "bare")).equals(tables[0][0])


def test_images_are_known_by_their_content_not_by_their_name(tmp_path):
    store = EmbeddingStore(tmp_path / "store", BIG)
    folder = pictures(tmp_path / "data")
    model, encoder = watched()
    before = Session(encoder, load_dataset(str(folder)), store=store).images()
    state = (folder / "3.png").stat()
    Image.new("RGB", (9, 7), (1, 200, 9)).save(folder / "3.png")
    os.utime(folder / "3.png", ns=(state.st_atime_ns, state.st_mtime_ns))
    (folder / "4.png").rename(folder / "9.png")
    (folder / "4.txt").rename(folder / "9.txt")
    after = Session(encoder, load_dataset(str(folder)), store=store).images()
    assert model.images == 7
    assert torch.equal(after[[0, 1, 2, 4, 5]], before[[0, 1, 2, 5, 4]]) and not torch.equal(after[3], before[3])
    turned = Session(encoder, load_dataset(str(folder), upright=False), store=store).images()
    assert model.images == 13 and torch.equal(turned, after)


def test_a_bad_image_stops_the_run_before_anything_is_encoded(tmp_path):
    folder = pictures(tmp_path / "data")
    for store in (None, EmbeddingStore(tmp_path / "store", BIG)):
        (folder / "2.png").write_bytes(b"no image")
        (folder / "4.png").write_bytes(b"")
        model, encoder = watched()
        with pytest.raises(UserError, match=r"2 of 6 images cannot be read(.|\n)*2\.png(.|\n)*4\.png"):
            run_probe(Session(encoder, load_dataset(str(folder)), store=store), find_probes("padding")[0], tmp_path)
        assert not model.images and not model.texts
        dataset = load_dataset(str(folder))
        (folder / "1.png").unlink()  # between listing and reading
        with pytest.raises(UserError, match=r"3 of 6(.|\n)*1\.png: missing"):
            Session(encoder, dataset, store=store).images()
        pictures(folder)


def test_a_model_that_nothing_vouches_for_is_not_kept(tmp_path):
    model, encoder = watched()
    model.fingerprint = ""
    encoder = WrappedEncoder(model, "w", torch.device("cpu"), "fp32")
    assert space_of(encoder, "images") == "" and encoder.fingerprint
    store = EmbeddingStore(tmp_path / "store", BIG)
    session = Session(encoder, load_dataset(str(pictures(tmp_path / "data"))), store=store)
    session.images()
    session.texts([("a", None, 0)])
    assert not list(shard_paths(tmp_path / "store"))


def test_spaces_differ_by_what_changes_features():
    encoder = clipbias.load_model("nano-clip")
    names = {space_of(encoder, kind) for kind in ("images", "texts")}
    encoder.precision = "bf16"
    names.add(space_of(encoder, "images"))
    encoder.fingerprint = "other"
    names.add(space_of(encoder, "images"))
    encoder.name = "../../outside"
    names.add(space_of(encoder, "images"))
    assert len(names) == 5 and not any("/" in name or ".." in name for name in names)


def test_nano_models_give_the_same_with_and_without_a_store(tmp_path):
    dataset = without_images(load_dataset("scenes"), range(16, 1000))
    encoder = clipbias.load_model("nano-debias")
    store = EmbeddingStore(tmp_path / "store", BIG)
    for probe in (*find_probes("paper"), *find_probes("token-padding")):
        first = read_queries(run_probe(Session(encoder, dataset), probe, tmp_path / "a"))
        kept = read_queries(run_probe(Session(encoder, dataset, store=store), probe, tmp_path / "b"))
        again = read_queries(run_probe(Session(encoder, dataset, store=store), probe, tmp_path / "c"))
        assert first["better"].equals(kept["better"]) and kept.equals(again)
        np.testing.assert_allclose(first["cosine"], kept["cosine"], atol=1e-6)


def test_the_cache_command(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPBIAS_CACHE", str(tmp_path))
    run = CliRunner()
    fill(tmp_path / "embeddings", "abc", "one")
    fill(tmp_path / "embeddings", "def", "two")
    info = run.invoke(app, ["cache", "info"])
    assert info.exit_code == 0 and "one" in info.output and str(tmp_path) in info.output
    assert "2 files read, 0 damaged" in run.invoke(app, ["cache", "verify"]).output
    path = next(iter(shard_paths(tmp_path / "embeddings")))
    path.write_bytes(path.read_bytes()[:-1])
    verified = run.invoke(app, ["cache", "verify"])
    assert "1 damaged" in verified.output and verified.exit_code == 1 and not path.exists()
    path.mkdir()  # not a file of clipbias
    verified = run.invoke(app, ["cache", "verify"])
    assert verified.exit_code == 1 and f"{path}: cannot be removed" in verified.output and path.is_dir()
    path.rmdir()
    assert run.invoke(app, ["cache", "clear"]).exit_code == 0 and not list(shard_paths(tmp_path / "embeddings"))
    monkeypatch.setenv("CLIPBIAS_CACHE_GB", "much")
    assert isinstance(run.invoke(app, ["cache", "info"]).exception, UserError)
