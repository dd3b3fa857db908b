"""All pretrained tags of open_clip: preprocessing, activation and tokenizer as open_clip has them (no weights)."""

from __future__ import annotations

import open_clip
import pytest
import torch
from odd_inputs import odd_captions, odd_images
from open_clip.factory import get_model_config
from open_clip.pretrained import get_pretrained_cfg
from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict
from openclip_folder import SIGLIP, their_pixels, write_folder

import clipbias
from clipbias.errors import NotApplicable
from clipbias.models.libraries.openclip import _preprocessing, _quick_gelu, plan_model
from clipbias.models.libraries.openclip_config import arguments

TAGS = open_clip.list_pretrained()
# open_clip runs these with GELU and warns; the weights were trained with QuickGELU, which is used here.
OTHER_ACTIVATION = 28


def test_the_plan_of_every_tag_is_open_clips(caplog):
    images = odd_images()[::9]
    transforms: dict[object, object] = {}
    differing = []
    for model, tag in TAGS:
        plan = plan_model(f"{model}/{tag}")
        known, built = get_pretrained_cfg(model, tag), get_model_config(model)
        size = built["vision_cfg"].get("image_size", 224)
        want = PreprocessCfg(**(merge_preprocess_dict(PreprocessCfg(), known) | {"size": size}))
        found = _preprocessing(plan.preprocess, size)
        transforms.setdefault(found, want)
        assert transforms[found] == want or found == _preprocessing(plan.preprocess, size)
        assert (found.mean, found.std, found.fill) == (tuple(want.mean), tuple(want.std), want.fill_color)
        assert (found.resize, found.interpolation) == (want.resize_mode, want.interpolation)
        # The activation is that of the weights; where open_clip's configuration says otherwise it is warned of.
        caplog.clear()
        used = _quick_gelu("x", plan, "weights")
        assert used == bool(known.get("quick_gelu"))
        if used != bool(built.get("quick_gelu")):
            differing.append((model, tag))
            assert "activation" in caplog.text
            assert _quick_gelu("x", plan, "config") == bool(built.get("quick_gelu"))
        text = built["text_cfg"]
        checked = plan.model.text_cfg
        assert checked.context_length == text.get("context_length", 77)
        assert (checked.hf_tokenizer_name or "") == text.get("hf_tokenizer_name", "")
        assert arguments(plan.model)["text_cfg"].get("tokenizer_kwargs") == text.get("tokenizer_kwargs")
        assert {**arguments(plan.model), "custom_text": None} == {**_as_tuples(built), "custom_text": None}
    assert len(TAGS) >= 196 and len(differing) == OTHER_ACTIVATION
    for ours, theirs in transforms.items():
        reference = image_transform_v2(theirs, is_train=False)
        for image in images:
            torch.testing.assert_close(ours(image), reference(image), atol=1e-6, rtol=0)


def _as_tuples(value):
    if isinstance(value, dict):
        return {key: _as_tuples(item) for key, item in value.items()}
    return tuple(value) if isinstance(value, list) else value


COCA = {"embed_cls": True, "output_tokens": True, "context_length": 20}
DECODER = {"context_length": 20, "vocab_size": 49_408, "width": 64, "heads": 1, "layers": 1}
TOWERS = {
    "clip": {},
    "siglip": SIGLIP,
    "eos": {"pool_type": "eos", "eos_id": 49_407},
    "first": {"pool_type": "first", "no_causal_mask": True},
    "scaled": {"scale_heads": True},
    "normed": {"qk_norm": True},
    "identity": {"proj_type": "none", "width": 64},
}


@pytest.mark.parametrize("kind", TOWERS)
@torch.no_grad()
def test_text_towers_of_every_kind_compute_what_open_clip_does(tmp_path, kind):
    options = dict(TOWERS[kind])
    reference = write_folder(tmp_path, embed_dim=64 if kind == "identity" else 32, **options)
    encoder = clipbias.load_model(str(tmp_path))
    texts = odd_captions()
    ids = open_clip.get_tokenizer(f"local-dir:{tmp_path}")(texts)
    assert torch.equal(encoder.tokenize(texts), ids)
    want = reference.encode_text(ids, normalize=True)
    torch.testing.assert_close(encoder.encode_texts(texts), want, atol=1e-5, rtol=0)
    images = odd_images()
    pixels = their_pixels(images)
    torch.testing.assert_close(
        encoder.encode_images(images), reference.encode_image(pixels, normalize=True), atol=1e-5, rtol=0
    )


@torch.no_grad()
def test_cocas_class_token_is_what_open_clip_reads(tmp_path):
    reference = write_folder(
        tmp_path,
        decoder=DECODER,
        vision={"attentional_pool": True, "attn_pooler_heads": 1, "output_tokens": True},
        **COCA,
    )
    encoder = clipbias.load_model(str(tmp_path))
    texts = odd_captions()
    ids = open_clip.get_tokenizer(f"local-dir:{tmp_path}")(texts)
    assert torch.equal(encoder.tokenize(texts), ids) and not encoder.trims
    torch.testing.assert_close(encoder.encode_texts(texts), reference.encode_text(ids), atol=1e-5, rtol=0)
    images = odd_images()
    want = reference.encode_image(their_pixels(images))
    torch.testing.assert_close(encoder.encode_images(images), want, atol=1e-5, rtol=0)
    tower = encoder.text_tower()
    with pytest.raises(NotApplicable, match="class token"):
        tower.attention(ids[:2])
    assert tower.gradients(ids[:2], torch.eye(32)[:2]).shape == (2, 20)
