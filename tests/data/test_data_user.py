"""Users' own data, hostile data, and the check."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import clipbias
from clipbias.data.check import check_dataset
from clipbias.data.image_checks import find_bad_images, require_readable
from clipbias.data.loading import load_dataset
from clipbias.data.sentences import split_sentences
from clipbias.data.spec import DatasetSpec
from clipbias.errors import UserError


def png(shade: int = 0, **arguments) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (8, 6), (shade, 10, 20)).save(data, "PNG", **arguments)
    return data.getvalue()


@pytest.fixture
def folder(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(png(50 * i))
        (tmp_path / f"{i}.txt").write_text(f"Caption {i}.\n", encoding="utf-8")
    return tmp_path


def shades(dataset) -> list[int]:
    return [dataset.load_image(i).getpixel((0, 0))[0] for i in range(len(dataset.image_names))]


def test_a_folder_of_images_with_texts_beside_them(folder):
    (folder / "sub").mkdir()
    (folder / "sub/x.JPG").write_bytes(png(200))
    (folder / "sub/x.txt").write_text("Below.")
    dataset = load_dataset(str(folder))
    assert dataset.captions == ["Caption 0.", "Caption 1.", "Caption 2.", "Below."] and shades(dataset) == [
        0,
        50,
        100,
        200,
    ]
    (folder / "2.txt").unlink()
    with pytest.raises(UserError, match=r"1 of 4 images have no \.txt beside them, 2\.png first"):
        load_dataset(str(folder))


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_a_table_with_several_captions_an_image(folder, kind):
    rows = [("0.png", 'He said "a, b".'), ("1.png", "One\tline"), ("0.png", "Zwei – 2.")]
    file = folder / f"table.{kind}"
    if kind == "jsonl":
        file.write_text("".join(json.dumps({"img": a, "text": b, "n": 1}) + "\n" for a, b in rows))
    elif kind == "parquet":
        pq.write_table(pa.table({"img": [a for a, _ in rows], "text": [b for _, b in rows]}), file)
    else:
        import csv

        with file.open("w", newline="", encoding="utf-8") as out:
            csv.writer(out, delimiter="," if kind == "csv" else "\t").writerows([("img", "text"), *rows])
    dataset = load_dataset(str(file))
    assert dataset.captions == [b for _, b in rows] and dataset.caption_image.tolist() == [0, 1, 0]
    assert shades(dataset) == [0, 50]


def test_a_list_of_captions_in_one_field_and_columns_by_name(folder):
    (folder / "t.jsonl").write_text(json.dumps({"where": "1.png", "says": ["a", "b"]}) + "\n")
    dataset = load_dataset(str(folder / "t.jsonl"), image_column="where", caption_column="says")
    assert dataset.captions == ["a", "b"] and dataset.caption_image.tolist() == [0, 0]
    with pytest.raises(UserError, match="no image column; it has where, says"):
        load_dataset(str(folder / "t.jsonl"))
    with pytest.raises(UserError, match="no column 'what'"):
        load_dataset(str(folder / "t.jsonl"), image_column="what")


def shard(path: Path, files: dict[str, bytes], links: dict[str, str] | None = None) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)


def test_webdataset_shards(tmp_path):
    shard(
        tmp_path / "000.tar",
        {"a.png": png(10), "a.txt": b"A.", "d/b.seg.x": b"", "d/b.png": png(20), "d/b.json": b'{"caption": "B."}'},
    )
    shard(tmp_path / "001.tar", {"a.txt": "Ä.".encode(), "a.png": png(30)}, links={"c.png": "/etc/passwd"})
    dataset = load_dataset(str(tmp_path))
    assert dataset.captions == ["A.", "B.", "Ä."] and shades(dataset) == [10, 20, 30]
    assert find_bad_images(dataset) == []
    assert load_dataset(str(tmp_path / "001.tar")).captions == ["Ä."]
    shard(tmp_path / "002.tar", {"x.png": png()})
    with pytest.raises(UserError, match=r"x\.png has no \.txt or \.json"):
        load_dataset(str(tmp_path))


def test_a_folder_saved_by_the_datasets_library(tmp_path):
    library = pytest.importorskip("datasets")
    pictures = [Image.open(io.BytesIO(png(shade))) for shade in (10, 20)]
    saved = {"image": pictures, "caption": [["A.", "Ä."], ["B."]]}
    library.Dataset.from_dict(saved).save_to_disk(str(tmp_path / "saved"))
    dataset = load_dataset(str(tmp_path / "saved"))
    assert dataset.captions == ["A.", "Ä.", "B."] and dataset.caption_image.tolist() == [0, 0, 1]
    assert shades(dataset) == [10, 20] and find_bad_images(dataset) == []
    assert None not in dataset.image_keys and len(set(dataset.image_keys)) == 2
    library.Dataset.from_dict(saved | {"image": [1, 2]}).save_to_disk(str(tmp_path / "numbers"))
    with pytest.raises(UserError, match="the column 'image' holds no images"):
        load_dataset(str(tmp_path / "numbers"))


def test_what_is_not_there_or_not_known_is_said(tmp_path, monkeypatch):
    # Without a network the library would try for half a minute; the error is the same kind of line.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "x.doc").write_text("")
    for path, message in (
        ("./nowhere", "no such file or folder"),
        (str(tmp_path / "x.doc"), "not recognised"),
        ("hf:nobody/x", "hf:"),
    ):
        with pytest.raises(UserError, match=message):
            load_dataset(path)


def table(folder: Path, image: str) -> str:
    (folder / "t.jsonl").write_text(json.dumps({"image": image, "caption": "x"}) + "\n")
    return str(folder / "t.jsonl")


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/passwd", "a/../../b.png", "C:\\x.png", "a\0b.png", "", "..", 5, None]
)
def test_names_that_lead_out_are_refused(folder, name):
    with pytest.raises(UserError) as caught:
        load_dataset(table(folder, name))
    assert "\n" not in str(caught.value) and "\0" not in str(caught.value) and "t.jsonl, line 1" in str(caught.value)


def test_a_link_out_of_the_folder_is_not_followed(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "secret.png"
    outside.write_bytes(png(77))
    os.symlink(outside, folder / "link.png")
    dataset = load_dataset(table(folder, "link.png"))
    with pytest.raises(UserError, match="link that leads out"):
        dataset.load_image(0)
    assert shades(load_dataset(table(folder, "link.png"), follow_links=True)) == [77]


def bomb() -> bytes:
    """A PNG of a few bytes whose header says 40,000 x 40,000 pixels."""
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_every_bad_image_is_named_before_anything_is_encoded_and_can_be_left_out(folder):
    (folder / "0.png").write_bytes(bomb())
    (folder / "1.png").write_bytes(png()[:45])
    for name in ("3", "4"):
        (folder / f"{name}.txt").write_text(name)
    (folder / "3.png").write_bytes(b"not an image")
    (folder / "4.png").write_bytes(png(4))
    dataset = load_dataset(str(folder))
    with pytest.raises(UserError) as caught:
        require_readable(dataset)
    message = str(caught.value)
    assert "3 of 5 images cannot be read" in message and "--skip-bad" in message
    for name, reason in (
        ("0.png", "1,600,000,000|1600000000|40,000"),
        ("1.png", "unreadable"),
        ("3.png", "not an image"),
    ):
        assert name in message and any(part in message for part in reason.split("|"))
    kept = load_dataset(str(folder), skip_bad=True)
    assert (
        kept.captions == ["Caption 2.", "4"]
        and len(kept.skipped) == 3
        and "3 unreadable images left out" in kept.protocol
    )


def test_exif_orientation_is_applied_unless_asked_otherwise(folder):
    image = Image.new("RGB", (8, 6))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(folder / "0.png", exif=exif)
    assert load_dataset(str(folder)).load_image(0).size == (6, 8)
    assert load_dataset(str(folder), upright=False).load_image(0).size == (8, 6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe broken", "not UTF-8"),
        (b"nul \x00 byte", "NUL byte"),
        (b"x" * 1_000_000, "1,000,000 characters"),
    ],
)
def test_captions_that_are_no_captions_are_refused(folder, content, message):
    (folder / "0.txt").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        load_dataset(str(folder))
    assert "0.txt" in str(caught.value) and "\n" not in str(caught.value)


def test_the_check_says_what_differs(folder):
    (folder / "1.txt").write_text("Caption 0.")
    (folder / "2.txt").write_text("CafÃ©")
    (folder / "0.png").write_bytes(b"")
    found = {
        one.what: one
        for one in check_dataset(load_dataset(str(folder)), DatasetSpec(load_dataset, counts={"all": (4, 3)}), {})
    }
    assert not found["images"].fine and found["captions"].fine
    assert found["captions that occur twice"].found == "2"
    assert not found["captions with encoding errors"].fine
    assert not found["images that cannot be read"].fine and "0.png" in found["images that cannot be read"].examples[0]


def test_a_registered_data_set_is_found_by_its_name(folder):
    from clipbias.data.loading import DATASETS

    if "mine-for-a-test" not in DATASETS:

        @clipbias.register_dataset("mine-for-a-test", title="Mine")
        def mine(root=None, split=None):
            return load_dataset("scenes", split="validation")

    assert len(load_dataset("mine-for-a-test").captions) == 1_000
    with pytest.raises(UserError, match="registered twice"):
        clipbias.register_dataset("mine-for-a-test")(lambda root=None, split=None: None)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_splitting_loses_nothing_but_white_space(text):
    sentences = split_sentences(text)
    assert "".join("".join(sentences).split()) == "".join(text.split())
    assert all(s == s.strip() and s for s in sentences)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A wall.There is a cat.", ["A wall.", "There is a cat."]),
        ("It is 3.5 m. tall, e.g. a dog.", ["It is 3.5 m. tall, e.g. a dog."]),
        ('A sign says "STOP." It is red.', ['A sign says "STOP."', "It is red."]),
        ("First line\nSecond line. Third.", ["First line", "Second line.", "Third."]),
        ("Wait... then go.", ["Wait... then go."]),
        ("The U.S. flag hangs. A man waits.", ["The U.S. flag hangs.", "A man waits."]),
        ("St. Mary's church. It is old.", ["St. Mary's church.", "It is old."]),
        ("", []),
    ],
)
def test_captions_quirks(text, expected):
    assert split_sentences(text) == expected
