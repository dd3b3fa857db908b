"""open_clip's own models: what open_clip computes is what comes out, trimmed only where that is exact."""

from __future__ import annotations

import open_clip
import pytest
import torch
from openclip_folder import SIGLIP, write_folder
from PIL import Image

import clipbias

TEXTS = ["", "a dog", "a dog on the left of a very long bench under a tree " * 8]
CONFIGS = {"clip": {}, "siglip": SIGLIP}


@pytest.fixture(params=CONFIGS)
def folder(request, tmp_path):
    return tmp_path, write_folder(tmp_path, **CONFIGS[request.param])


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
