"""FG-CLIP 2 from its authors' layout: both text modes and NaFlex images, against the formulas; nothing of it runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hub_models import WORDS, write_fgclip2
from odd_inputs import odd_captions, odd_images
from PIL import Image
from torch.nn.functional import linear, normalize

import clipbias
from clipbias.errors import UserError

TEXTS = [*WORDS, "A Dog sits on a bench. " * 60, "", *odd_captions()]
TABLE = "text_model.embeddings.position_embedding"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fgclip2")
    return folder, *write_fgclip2(folder)


@pytest.mark.parametrize("context", [None, 64])
@torch.no_grad()
def test_texts_in_the_long_and_in_the_short_mode(written, context):
    from transformers import PreTrainedTokenizerFast

    folder, model, more = written
    encoder = clipbias.load_model(str(folder), device="cpu", **({} if context is None else {"context": context}))
    length = context or 196
    assert (encoder.family, encoder.context_length) == ("fgclip2", length)
    assert encoder.options["context"] == str(length) and encoder.options["lower"] == "true"
    # As the authors' README: lower case, padded and cut to the mode's length.
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    given = {"padding": "max_length", "truncation": True, "max_length": length, "return_tensors": "pt"}
    ids = tokenizer([text.lower() for text in TEXTS], **given).input_ids
    assert torch.equal(encoder.tokenize(TEXTS), ids)
    text = model.text_model
    rows = text.embeddings.position_embedding.weight
    if context is None:
        below = torch.arange(196)[:, None] < 20
        rows = more[f"{TABLE}_ori.weight"] * below + more[f"{TABLE}_res.weight"] * ~below
    hidden = text.encoder(inputs_embeds=text.embeddings.token_embedding(ids) + rows).last_hidden_state
    last = text.final_layer_norm(hidden)[:, -1]
    long = linear(last, more["longtext_head.weight"], more["longtext_head.bias"])
    want = normalize(text.head(last) if context else long, dim=-1)
    torch.testing.assert_close(encoder.encode_texts(TEXTS), want, atol=1e-5, rtol=0)
    assert not (folder / "ran").exists()


def _most(image: Image.Image) -> int:
    """The authors' rule: the smallest of the five that holds the image's own patches of 16 pixels."""
    own = (image.width // 16) * (image.height // 16)
    return min([most for most in (128, 256, 576, 784) if most >= own], default=1024)


@torch.no_grad()
def test_images_have_as_many_patches_as_their_size_says(written):
    from transformers import AutoImageProcessor

    folder, model, _ = written
    encoder = clipbias.load_model(str(folder), device="cpu")
    processor = AutoImageProcessor.from_pretrained(folder)
    draw = np.random.default_rng(0)
    sizes = ((256, 128), (256, 144), (256, 256), (272, 256), (400, 300), (448, 448), (640, 480), (1000, 40))
    large = [Image.fromarray(draw.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sizes]
    images = [*odd_images(), *large]
    assert {_most(image) for image in images} == {128, 256, 576, 784, 1024}
    for image, ours in zip(images, encoder.encode_images(images), strict=True):
        made = processor(images=image.convert("RGB"), max_num_patches=_most(image), return_tensors="pt")
        want = normalize(model.get_image_features(**made).pooler_output, dim=-1)[0]
        torch.testing.assert_close(ours, want, atol=1e-5, rtol=0, msg=str(image))


def test_what_is_not_whole_or_no_mode_is_refused(written, tmp_path):
    folder, *_ = written
    with pytest.raises(UserError, match="choose 196 or 64"):
        clipbias.load_model(str(folder), context=248)
    with pytest.raises(UserError, match="whole folder"):
        clipbias.load_model(str(folder / "model.safetensors"))
    with pytest.raises(UserError, match=r"needs a package|not available|no network"):
        clipbias.load_model("fgclip2-b16")
