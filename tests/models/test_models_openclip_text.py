"""open_clip's towers around text models of transformers: features, attention, gradients through the one interface."""

from __future__ import annotations

import huggingface_hub
import pytest
import torch
from hub_models import WORDS
from odd_inputs import odd_captions, odd_images
from openclip_folder import their_pixels, write_hub_text

import clipbias
from clipbias.errors import NotApplicable

TEXTS = [*WORDS, *odd_captions()]


@pytest.fixture(params=["cls_pooler", "cls_last_hidden_state_pooler", "mean_pooler"])
def pair(request, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    module = write_hub_text(tmp_path / "model", tmp_path / "cache", request.param)
    return request.param, clipbias.load_model(str(tmp_path / "model"), device="cpu"), module, tmp_path / "model"


@torch.no_grad()
def test_ids_and_features_are_open_clips(pair):
    from open_clip.tokenizer import HFTokenizer

    _, encoder, module, folder = pair
    ids = HFTokenizer(str(folder), context_length=24, trust_remote_code=False)(TEXTS)
    assert torch.equal(encoder.tokenize(TEXTS), ids)
    want = module.encode_text(ids, normalize=True)
    torch.testing.assert_close(encoder.encode_texts(TEXTS), want, atol=1e-5, rtol=0)
    images = odd_images()
    want = module.encode_image(their_pixels(images), normalize=True)
    torch.testing.assert_close(encoder.encode_images(images), want, atol=1e-5, rtol=0)


def test_attention_is_the_librarys_row_of_the_class_token(pair):
    pooler, encoder, module, _ = pair
    tower = encoder.text_tower()
    ids = encoder.tokenize(WORDS[:2])
    torch.testing.assert_close(tower.features(ids), encoder.encode_texts(WORDS[:2]))
    if pooler == "mean_pooler":
        with pytest.raises(NotApplicable, match="no one position"):
            tower.attention(ids)
        return
    found = tower.attention(ids)
    module.text.transformer.set_attn_implementation("eager")
    output = module.text.transformer(ids, (ids != 1).long(), output_attentions=True)
    assert found.query.tolist() == [0, 0]
    for layer, weights in enumerate(output.attentions):
        torch.testing.assert_close(found.weights[:, layer], weights[:, :, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(found.rollout.sum(-1), torch.ones(2))


def test_gradients_are_central_differences(pair):
    _, encoder, module, _ = pair
    ids = encoder.tokenize(WORDS[:1])
    image = encoder.encode_images(odd_images()[:1])
    found = encoder.text_tower().gradients(ids, image)[0]
    table, place, step = module.text.transformer.get_input_embeddings(), encoder.tokens.text_start, 1e-4
    module.double()
    cosines = []
    for factor in (1 + step, 1 - step):
        scale = torch.ones(1, ids.shape[1], 1, dtype=torch.double)
        scale[0, place] = factor
        handle = table.register_forward_hook(lambda m, i, out, scale=scale: out * scale)
        with torch.no_grad():
            cosines.append(float(module.encode_text(ids, normalize=True)[0] @ image[0].double()))
        handle.remove()
    assert float(found[place]) == pytest.approx((cosines[0] - cosines[1]) / (2 * step), abs=5e-4)
