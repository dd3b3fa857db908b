"""Numbers never outlive the images they were made from."""

from __future__ import annotations

import os
import time

import pytest
from PIL import Image

import clipbias
from clipbias.data import digests
from clipbias.data.build import without_images
from clipbias.data.image_loaders import FileImages
from clipbias.errors import UserError


def write_set(folder, colours, name="val.csv"):
    folder.mkdir(exist_ok=True)
    for number, colour in enumerate(colours):
        Image.new("RGB", (8, 8), colour).save(folder / f"{number}.png")
    rows = "".join(f"{n}.png,picture {n} of some things. And more.\n" for n in range(len(colours)))
    (folder / name).write_text("image,caption\n" + rows)
    return folder / name


def age(folder):
    """Two hours older: an image that has just changed is read again each time."""
    for file in folder.rglob("*.png"):
        os.utime(file, (time.time() - 7200,) * 2)


def fingerprint(path):
    return clipbias.load_dataset(str(path)).fingerprint


def test_the_fingerprint_covers_the_bytes_of_the_images(tmp_path):
    one = write_set(tmp_path / "one", ["red", "green", "blue"])
    other = write_set(tmp_path / "other", ["red", "green", "white"])
    before = fingerprint(one)
    assert fingerprint(one) == before != fingerprint(other)
    Image.new("RGB", (8, 8), "white").save(one.parent / "2.png")
    assert fingerprint(one) == fingerprint(other)
    (one.parent / "2.png").unlink()
    assert fingerprint(one) not in (before, fingerprint(other))


def test_a_change_that_keeps_size_and_time_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(digests, "_SETTLED", -1.0)  # records at once
    path = write_set(tmp_path / "set", ["red", "green"])
    image = path.parent / "1.png"
    before, state, raw = fingerprint(path), image.stat(), image.read_bytes()
    image.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    os.utime(image, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert image.stat().st_size == state.st_size and image.stat().st_mtime_ns == state.st_mtime_ns
    assert fingerprint(path) != before


def test_an_image_is_read_once_and_a_damaged_table_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(digests, "_SETTLED", -1.0)
    path = write_set(tmp_path / "set", ["red", "green", "blue"])
    read = []
    monkeypatch.setattr(digests, "file_digest", lambda p, real=digests.file_digest: (read.append(p), real(p))[1])
    before = fingerprint(path)
    assert len(read) == 3
    assert fingerprint(path) == before and len(read) == 3
    [table] = (digests.cache_folder() / "digests").iterdir()
    raw = bytearray(table.read_bytes())
    raw[len(raw) // 2] ^= 1
    table.write_bytes(raw)
    assert fingerprint(path) == before and len(read) == 6
    table.write_bytes(b"")
    assert fingerprint(path) == before and len(read) == 9


def test_an_image_that_has_just_changed_is_not_recorded(tmp_path):
    path = write_set(tmp_path / "set", ["red"])
    fingerprint(path)
    assert not (digests.cache_folder() / "digests").exists()


def test_a_part_of_a_data_set_and_loaders_without_keys(tmp_path):
    path = write_set(tmp_path / "set", ["red", "green", "blue"])
    whole = clipbias.load_dataset(str(path))
    part = without_images(whole, [1])
    assert part.image_keys == [whole.image_keys[0], whole.image_keys[2]]
    files = FileImages(path.parent, ["0.png"])
    colours = ["red"]

    def load(index):
        return Image.new("RGB", (4, 4), colours[index])

    def bare():
        return type(whole)("mine", "all", "", ["a"], load, ["x y."], whole.caption_image[:1]).fingerprint

    before = bare()
    colours[0] = "blue"
    assert bare() != before and files.key(0) == files.keys()[0]


@pytest.mark.parametrize("size", [(1, 2_000_000), (60_000, 1), (30_000, 100), (1, 300)])
def test_a_thin_image_is_refused_by_name_before_it_is_decoded(tmp_path, size):
    path = write_set(tmp_path / "set", ["red", "green"])
    Image.new("1", size).save(path.parent / "1.png")
    dataset = clipbias.load_dataset(str(path))
    with pytest.raises(UserError, match=r"1\.png: .* pixels are refused.*CLIPBIAS_LIMIT_(SIDE|RATIO)"):
        dataset.load_image(1)
    assert clipbias.load_dataset(str(path), skip_bad=True).skipped == ("1.png",)
