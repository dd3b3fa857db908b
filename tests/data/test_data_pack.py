"""Packs: the same pixels as decoding, resumed to the byte, refused where they do not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clipbias.data.dataset import RetrievalDataset
from clipbias.data.image_loaders import FileImages
from clipbias.data.loading import load_dataset
from clipbias.data.pack import CHUNK, read_pack, with_pack, write_pack
from clipbias.errors import UserError
from clipbias.models.preprocessing import Preprocessing

RULES = [
    Preprocessing((20, 20)),
    Preprocessing((24, 24), "squash", rgb="first"),
    Preprocessing((16, 28), "longest", "bilinear", mean=(0.5,) * 3, std=(0.5,) * 3, fill=127),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> RetrievalDataset:
    """More than one chunk of files of many modes and shapes."""
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    names = []
    for number in range(CHUNK + 7):
        width, height = generator.integers(1, 40, size=2)
        image = Image.fromarray(generator.integers(0, 256, size=(height, width, 3), dtype=np.uint8))
        image = image.convert(("RGB", "L", "P", "RGBA")[number % 4])
        names.append(f"{number}.png")
        image.save(folder / names[-1])
    count = len(names)
    captions = [str(i) for i in range(count)]
    return RetrievalDataset("files", "all", "generated", names, FileImages(folder, names), captions, np.arange(count))


def pack(dataset: RetrievalDataset, folder: Path, rule: Preprocessing) -> RetrievalDataset:
    write_pack(dataset, folder, rule.geometry(), rule.resized, *rule.size)
    return with_pack(dataset, folder, verify=True)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.resize)
def test_pixels_and_keys_are_those_of_the_files(files: RetrievalDataset, rule: Preprocessing, tmp_path: Path) -> None:
    packed = pack(files, tmp_path, rule)
    for index in range(len(files.image_names)):
        assert torch.equal(rule(packed.load_image(index)), rule(files.load_image(index)))
        assert packed.load_image.key(index) == files.load_image.key(index)  # type: ignore[attr-defined]


def test_an_interrupted_pack_resumes_to_the_same_bytes(files: RetrievalDataset, tmp_path: Path) -> None:
    rule = RULES[0]
    whole = pack(files, tmp_path / "whole", rule)

    read = []

    class Counted:
        """The files' loader; it notes what is read and, where it is told to, breaks once a chunk is done."""

        key = staticmethod(files.load_image.key)  # type: ignore[attr-defined]

        def __init__(self, breaks: int) -> None:
            self.breaks = breaks

        def __call__(self, index: int) -> Image.Image:
            read.append(index)
            if index == self.breaks:
                raise UserError("gone")
            return files.load_image(index)

    with pytest.raises(UserError, match="gone"):
        pack(replace(files, load_image=Counted(CHUNK + 3)), tmp_path / "cut", rule)
    assert len(read_pack(tmp_path / "cut").chunks) == 1
    with pytest.raises(UserError, match="unfinished"):
        with_pack(files, tmp_path / "cut")
    read.clear()
    pack(replace(files, load_image=Counted(-1)), tmp_path / "cut", rule)
    assert min(read) == CHUNK
    for name in ("pixels", "keys", "pack.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert whole.image_names == files.image_names


def test_a_pack_killed_in_its_first_chunk_is_finished_by_the_next(files: RetrievalDataset, tmp_path: Path) -> None:
    rule, made = RULES[0], []

    def killed(image: Image.Image) -> np.ndarray:
        made.append(image)
        if len(made) > 9:
            raise KeyboardInterrupt
        return rule.resized(image)

    with pytest.raises(KeyboardInterrupt):
        write_pack(files, tmp_path / "cut", rule.geometry(), killed, *rule.size, workers=1)
    assert (tmp_path / "cut" / "pixels").exists()
    for name in ("cut", "whole"):
        pack(files, tmp_path / name, rule)
    for name in ("pixels", "keys", "pack.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_full_disk_is_one_line_and_the_pack_goes_on_later(
    files: RetrievalDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = RULES[0]
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(UserError, match="No space left on device"):
            pack(files, tmp_path, rule)
    assert pack(files, tmp_path, rule).load_image(0).size == rule.size[::-1]


def test_a_pack_of_something_else_is_refused(files: RetrievalDataset, tmp_path: Path) -> None:
    packed = pack(files, tmp_path, RULES[0])
    with pytest.raises(UserError, match="resized by"):
        RULES[1](packed.load_image(0))
    with pytest.raises(UserError, match="another resizing"):
        pack(files, tmp_path, RULES[1])
    other = replace(files, image_names=[f"x{name}" for name in files.image_names])
    with pytest.raises(UserError, match="not those of"):
        with_pack(other, tmp_path)
    # Another mean and deviation is another model on the same pixels.
    assert replace(RULES[0], mean=(0.5,) * 3)(packed.load_image(0)).shape == (3, 20, 20)


def test_damage_is_found(files: RetrievalDataset, tmp_path: Path) -> None:
    pack(files, tmp_path, RULES[0])
    raw = bytearray((tmp_path / "pixels").read_bytes())
    raw[-1] ^= 1
    (tmp_path / "pixels").write_bytes(raw)
    with pytest.raises(UserError, match=f"images {CHUNK} and"):
        with_pack(files, tmp_path, verify=True)
    (tmp_path / "pixels").write_bytes(raw[:-1])
    with pytest.raises(UserError, match="expected"):
        with_pack(files, tmp_path)
    for content in ("[]", "{}", '{"images": -1}', "x"):
        (tmp_path / "pack.json").write_text(content)
        with pytest.raises(UserError):
            read_pack(tmp_path)


def test_a_link_is_not_written_through(files: RetrievalDataset, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("keep")
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "pixels").symlink_to(tmp_path / "mine")
    with pytest.raises(UserError):
        pack(files, tmp_path / "pack", RULES[0])
    assert (tmp_path / "mine").read_text() == "keep"


def test_too_small_a_disk_is_said_before(
    files: RetrievalDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1000})())
    with pytest.raises(UserError, match="GB more"):
        pack(files, tmp_path / "new", RULES[0])
    assert not (tmp_path / "new" / "pixels").exists()


def test_evaluation_reads_a_pack(tmp_path: Path) -> None:
    from clipbias.models.loading import load_model

    encoder = load_model("nano-clip")
    dataset = load_dataset("scenes", split="validation")
    rule = encoder.transform  # type: ignore[attr-defined]
    write_pack(dataset, tmp_path, rule.geometry(), rule.resized, *rule.size)
    packed = load_dataset("scenes", split="validation", pack=tmp_path)
    first = encoder.encode_images([dataset.load_image(i) for i in range(9)])
    assert torch.equal(first, encoder.encode_images([packed.load_image(i) for i in range(9)]))
