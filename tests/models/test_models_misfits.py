"""Folders whose files do not fit together, or ask for what no model has, are refused in a line as they are loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hub_models import write_hub_folder
from openclip_folder import write_folder

import clipbias
from clipbias.errors import UserError

TRIES = {
    "siglip": [
        ("config.json", "model_type", "", "model_type"),
        ("config.json", "text_config.num_attention_heads", -1, "fit together"),
        ("preprocessor_config.json", "do_resize", 0, "fit together"),
        ("preprocessor_config.json", "do_normalize", [], "fit together"),
        ("preprocessor_config.json", "image_mean", [0.5, 0.5], "fit together"),
        ("preprocessor_config.json", "size", 0, "fit together"),
        ("tokenizer_config.json", "model_max_length", "", "model_max_length"),
        ("tokenizer_config.json", "unk_token", "", "fit together"),
    ],
    "altclip": [
        ("preprocessor_config.json", "crop_size", 7, "fit together"),
        ("preprocessor_config.json", "crop_size", {"height": 24, "width": 3}, "fit together"),
    ],
    "open_clip": [
        ("open_clip_config.json", "model_cfg.vision_cfg.head_width", 7, "builds no model"),
        ("open_clip_config.json", "model_cfg.text_cfg.heads", 3, "builds no model"),
    ],
}
CASES = [(kind, *case) for kind, cases in TRIES.items() for case in cases]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("misfits")
    for kind in TRIES:
        write_folder(root / kind) if kind == "open_clip" else write_hub_folder(kind, root / kind)
    return root


@pytest.fixture
def edited(folders, request):
    """The folder of a case with one field changed, for as long as the test takes."""
    kind, file, field, value = request.param
    path: Path = folders / kind / file
    whole = path.read_text()
    content = part = json.loads(whole)
    *parts, last = field.split(".")
    for name in parts:
        part = part[name]
    part[last] = value
    path.write_text(json.dumps(content))
    yield folders / kind
    path.write_text(whole)


@pytest.mark.parametrize(
    ("edited", "word"), [(case[:-1], case[-1]) for case in CASES], indirect=["edited"], ids=lambda v: str(v)[:60]
)
def test_what_does_not_fit_is_refused_in_a_line(edited, word):
    with pytest.raises(UserError, match=word) as refused:
        clipbias.load_model(str(edited), device="cpu")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", TRIES)
def test_as_they_were_written_they_load(folders, kind):
    assert clipbias.load_model(str(folders / kind), device="cpu").encode_texts(["a dog"]).shape[0] == 1
