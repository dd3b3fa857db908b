"""transformers' CLIP and SigLIP as bases, and trained models as folders that transformers loads."""

from __future__ import annotations

import pytest
import torch
from hub_models import WORDS, write_hub_folder
from odd_inputs import odd_captions, odd_images
from torch.nn.functional import normalize
from typer.testing import CliRunner

import clipbias
from clipbias.cli.app import app
from clipbias.errors import UserError
from clipbias.finetune.export import write_layout
from clipbias.finetune.positions import stretch_positions
from clipbias.finetune.runs import trainable

TEXTS = [*WORDS, "A large red circle over a small blue square. " * 30, *odd_captions()]
LENGTHS = {"clip": (77, 248), "siglip": (64, 196)}


@torch.no_grad()
def library_features(folder, length):
    """transformers' own features of texts and images, by its own classes."""
    import transformers as t

    model = t.AutoModel.from_pretrained(folder).eval()
    tokenizer = t.AutoTokenizer.from_pretrained(folder)
    assert tokenizer.model_max_length == length
    ids = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=length, return_tensors="pt").input_ids
    assert ids.shape[1] == length == model.config.text_config.max_position_embeddings
    processor = t.AutoImageProcessor.from_pretrained(folder)
    made = [processor(images=image.convert("RGB"), return_tensors="pt").pixel_values for image in odd_images()]
    images = model.get_image_features(torch.cat(made)).pooler_output
    return type(model).__name__, normalize(model.get_text_features(ids).pooler_output), normalize(images)


@pytest.mark.parametrize("kind", LENGTHS)
def test_a_hub_model_is_trained_and_comes_back_as_its_own_kind_of_folder(kind, tmp_path, few_scenes):
    short, long = LENGTHS[kind]
    write_hub_folder(kind, tmp_path / "base", context=short)
    base = clipbias.load_model(str(tmp_path / "base"), device="cpu")
    torch.testing.assert_close(trainable(base).encode_texts(TEXTS), base.encode_texts(TEXTS), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        trainable(base).encode_images(odd_images()), base.encode_images(odd_images()), atol=1e-5, rtol=0
    )
    out = tmp_path / "run"
    quick = {"batch_size": 8, "steps": 2, "lr": 1e-3, "warmup": 1, "pca_dim": 3, "precision": "fp32", "validation": 0}
    arguments = ["finetune", "debias", "--base", str(tmp_path / "base"), "--no-evaluate", "--out", str(out)]
    settings = [part for name, value in quick.items() for part in ("--set", f"{name}={value}")]
    result = CliRunner().invoke(app, [*arguments, *settings])
    assert result.exit_code == 0, (result.exception, result.output)
    trained = clipbias.load_model(str(out / "model"), device="cpu")
    assert (trained.family, trained.context_length) == (kind, long)
    name, texts, images = library_features(out / "model", long)
    assert name == {"clip": "CLIPModel", "siglip": "SiglipModel"}[kind]
    torch.testing.assert_close(trained.encode_texts(TEXTS), texts, atol=1e-5, rtol=0)
    torch.testing.assert_close(trained.encode_images(odd_images()), images, atol=1e-5, rtol=0)
    # What was trained is what was written: the table, and weights of both towers.
    state = torch.load(out / "state.pt", weights_only=True)["model"]
    table = torch.cat([state["clip.text.positional_embedding"][:20], state["positional_embedding_res"][20:]])
    module = trainable(trained).module
    assert torch.equal(module.text.positional_embedding, table)
    first = stretch_positions(base.module.text_model.embeddings.position_embedding.weight.detach())
    assert torch.equal(table[:20], first[:20]) and not torch.equal(table[20:], first[20:])
    for key, value in module.state_dict().items():
        # On scenes only the tokens that occur are trained, and the state holds those alone.
        if key not in ("text.positional_embedding", "text.token_embedding.weight"):
            assert torch.equal(value, state[f"clip.{key}"].reshape(value.shape)), key
    with pytest.raises(UserError, match="export it as transformers" if kind == "siglip" else "must not end"):
        write_layout(trained, "longclip", tmp_path / "x.safetensors")


def test_any_clip_is_written_for_transformers(tmp_path):
    encoder = clipbias.load_model("nano-debias", device="cpu")
    folder = write_layout(encoder, "transformers", tmp_path / "hub")
    name, texts, images = library_features(folder, 248)
    assert name == "CLIPModel"
    # Its tokenizer neither fixes encoding errors nor unescapes entities, so those texts have other ids.
    again = clipbias.load_model(str(folder), device="cpu")
    torch.testing.assert_close(again.encode_texts(TEXTS), texts, atol=1e-5, rtol=0)
    plain = [row for row, text in enumerate(TEXTS) if text.isascii() and "&" not in text]
    assert len(plain) > 15
    torch.testing.assert_close(encoder.encode_texts([TEXTS[row] for row in plain]), texts[plain], atol=1e-5, rtol=0)
    # The library makes pixels with other rounding than open_clip; of the same pixels features are the same.
    made = [again.pixels(image)["pixel_values"] for image in odd_images()]
    own = normalize(encoder.module.encode_image(torch.stack(made)), dim=-1)
    torch.testing.assert_close(own, images, atol=1e-5, rtol=0)
    assert float((encoder.encode_images(odd_images()[:7]) * images[:7]).sum(1).min()) > 0.99


@pytest.mark.parametrize("kind", ["chinese_clip", "metaclip_2"])
def test_other_kinds_say_so(tmp_path, kind):
    write_hub_folder(kind, tmp_path)
    with pytest.raises(UserError, match="cannot be fine-tuned"):
        trainable(clipbias.load_model(str(tmp_path), device="cpu"))
