"""An encoder's identity: whatever changes a feature changes its fingerprint, and nothing else does."""

from __future__ import annotations

import json

import pytest
import torch
from openclip_folder import write_folder, write_siglip
from PIL import Image
from safetensors.torch import load_file, save_file

import clipbias


def _print(*arguments: object, **options: object) -> str:
    return clipbias.load_model(*arguments, **options).identity()["fingerprint"]


def _edit(folder, change):
    path = folder / "open_clip_config.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_it_is_plain_json_and_the_same_each_time(tmp_path):
    write_folder(tmp_path)
    one = clipbias.load_model(str(tmp_path)).identity()
    assert json.loads(json.dumps(one)) == one
    assert clipbias.load_model(str(tmp_path)).identity() == one
    assert one["images"]["mean"] == [0.5, 0.5, 0.5] and one["tokens"]["special_words"]


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["preprocess_cfg"].update(mean=[0.1, 0.5, 0.5]),
        lambda c: c["preprocess_cfg"].update(resize_mode="shortest"),
        lambda c: c["preprocess_cfg"].update(interpolation="bilinear"),
        lambda c: c["model_cfg"].update(quick_gelu=True),
        lambda c: c["model_cfg"]["text_cfg"].update(context_length=30),
    ],
)
def test_every_setting_of_a_folder_counts(tmp_path, change):
    write_folder(tmp_path)
    before = _print(str(tmp_path))
    _edit(tmp_path, change)
    assert _print(str(tmp_path)) != before


def test_weights_count_and_names_do_not(tmp_path):
    write_folder(tmp_path / "a")
    write_folder(tmp_path / "b")
    assert _print(str(tmp_path / "a")) == _print(f"openclip:local-dir:{tmp_path / 'b'}")
    state = load_file(tmp_path / "b" / "open_clip_model.safetensors")
    state["logit_scale"] += 1
    save_file(state, tmp_path / "b" / "open_clip_model.safetensors")
    assert _print(str(tmp_path / "a")) != _print(str(tmp_path / "b"))


def test_a_tokenizers_vocabulary_counts(tmp_path):
    texts = ["a dog sits on a bench", "a cat under a tree", "two birds over a lake", "an old car by the road"]
    write_siglip(tmp_path, texts, pad="</s>")
    before = clipbias.load_model(str(tmp_path))
    used = before.identity()
    before.tokenize(texts)
    assert before.identity() == used  # a call leaves nothing behind
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"][5][1] -= 1.0
    path.write_text(json.dumps(content))
    assert _print(str(tmp_path)) != used["fingerprint"]


def test_precision_and_options_count(tmp_path):
    write_folder(tmp_path)
    found = {
        _print(str(tmp_path), device="cpu"),
        _print(str(tmp_path), device="cpu", precision="bf16"),
        _print(str(tmp_path), device="cpu", activation="quickgelu"),
    }
    assert len(found) == 3


def test_paths_and_data_sets_are_read_by_one_rule(tmp_path):
    """A turned palette image: by path as from a data set, and not as the authors' order has it."""
    write_folder(tmp_path / "model")
    encoder = clipbias.load_model(str(tmp_path / "model"))
    folder = tmp_path / "data"
    folder.mkdir()
    noise = Image.effect_noise((40, 20), 90).convert("RGB").quantize(16)
    exif = Image.Exif()
    exif[0x0112] = 6
    noise.save(folder / "one.png", exif=exif)
    (folder / "captions.csv").write_text("image,caption\none.png,a turned picture\n")
    default = clipbias.load_dataset(str(folder / "captions.csv"))
    authors = clipbias.load_dataset(str(folder / "captions.csv"), upright=False)
    by_path = encoder.encode_images([folder / "one.png"])
    torch.testing.assert_close(encoder.encode_images([default.load_image(0)]), by_path)
    assert authors.load_image(0).mode == "P" and authors.load_image(0).size == (40, 20)
    with Image.open(folder / "one.png") as raw:
        torch.testing.assert_close(encoder.encode_images([authors.load_image(0)]), encoder.encode_images([raw.copy()]))
    assert (encoder.encode_images([authors.load_image(0)]) - by_path).abs().max() > 1e-3
