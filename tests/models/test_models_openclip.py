"""open_clip's own models: what open_clip computes is what comes out, trimmed only where that is exact."""

from __future__ import annotations

import json

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import clipbias

TEXTS = ["", "a dog", "a dog on the left of a very long bench under a tree " * 8]
CONFIGS = {
    "clip": {},
    "siglip": {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
}


@pytest.fixture(params=CONFIGS)
def folder(request, tmp_path):
    text = {"context_length": 40, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2, **CONFIGS[request.param]}
    model = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
        "text_cfg": text,
        "custom_text": True,
    }
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": preprocess}))
    torch.manual_seed(0)
    reference = open_clip.CustomTextCLIP(32, model["vision_cfg"], text)
    with torch.no_grad():
        reference.text.positional_embedding.normal_()
    save_file(reference.state_dict(), tmp_path / "open_clip_model.safetensors")
    return tmp_path, reference.eval()


@torch.no_grad()
def test_features_are_open_clips_own(folder):
    path, reference = folder
    encoder = clipbias.load_model(f"openclip:local-dir:{path}")
    ids = open_clip.SimpleTokenizer(context_length=40)(TEXTS)
    assert torch.equal(encoder.tokenize(TEXTS), ids)
    torch.testing.assert_close(
        encoder.encode_texts(TEXTS), reference.encode_text(ids, normalize=True), atol=1e-5, rtol=0
    )
    image = Image.effect_noise((50, 20), 90).convert("RGB")
    pixels = open_clip.image_transform(32, is_train=False, mean=[0.5] * 3, std=[0.5] * 3, resize_mode="squash")(image)
    want = reference.encode_image(pixels[None], normalize=True)
    torch.testing.assert_close(encoder.encode_images([image]), want, atol=1e-5, rtol=0)
    assert (encoder.family, encoder.context_length, encoder.embed_dim) == ("openclip", 40, 32)


def test_a_tower_that_sees_its_padding_is_never_trimmed(folder):
    path, reference = folder
    encoder = clipbias.load_model(f"openclip:local-dir:{path}")
    causal = reference.text.attn_mask is not None
    ids = encoder.tokenize(["a dog"])
    other = ids.clone()
    other[0, -1] = 320
    same = torch.allclose(encoder.encode_token_ids(ids), encoder.encode_token_ids(other), atol=1e-6)
    assert same == causal
