"""Each family's own file layout, against a forward pass written from the formulas."""

from __future__ import annotations

from functools import cache

import plain_clip as plain
import pytest
import torch
from every_class import debias_names, fgclip_state
from hub_clip import clip_tokenizer
from odd_inputs import odd_captions, odd_images
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torchvision.transforms import functional as tv

import clipbias

TEXTS = [
    "",
    "a dog",
    "Größe &amp; Ordnung — ein Café ☕️ 🐕‍🦺 日本語",
    "line one\nline   two\r\n\tthree",
    "word " * 400,
    "A large red circle under a blue sky. The circle is striped and stands at the back on the left. " * 4,
    *odd_captions(),
]


WHOLE = 6
OPENAI = SimpleTokenizer()
LARGER = [Image.effect_noise((400, 300), 80).convert("RGB"), Image.effect_noise((3, 90), 80).convert("CMYK")]


@cache
def images() -> list[Image.Image]:
    return [*odd_images(), *LARGER]


def reference_pixels(image: Image.Image, size: int, square: bool) -> torch.Tensor:
    """OpenAI's transform (or FG-CLIP's square one) spelled with torchvision's functions."""
    if square:
        image = image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
    else:
        image = tv.center_crop(tv.resize(image, size, tv.InterpolationMode.BICUBIC), [size, size]).convert("RGB")
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    return tv.normalize(tv.to_tensor(image), mean, std)


def reference_ids(text: str, context: int, hub: bool) -> list[int]:
    if hub:
        return clip_tokenizer()(text, padding="max_length", truncation=True, max_length=context).input_ids
    return OPENAI(text, context_length=context)[0].tolist()


def check(encoder, state, context: int, positions=None, projection=None, square: bool = False) -> None:
    """Ids equal, features within 1e-5, for texts and images of every kind."""
    ids = encoder.tokenize(TEXTS)
    assert ids.tolist() == [reference_ids(text, context, hub=square) for text in TEXTS]
    # Of some the reference reads the pads behind the end token too.
    rows = [row if n < WHOLE else row[: row.index(49_407) + 1] for n, row in enumerate(ids.tolist())]
    want = torch.stack([plain.text_feature(state, row, positions, projection) for row in rows])
    torch.testing.assert_close(encoder.encode_texts(TEXTS), want, atol=1e-5, rtol=0)
    alone = encoder.encode_texts(TEXTS[:WHOLE], batch_size=1)
    torch.testing.assert_close(alone, want[:WHOLE], atol=1e-5, rtol=0)
    seen = torch.stack([plain.image_feature(state, reference_pixels(image, 16, square)) for image in images()])
    torch.testing.assert_close(encoder.encode_images(images()), seen, atol=1e-5, rtol=0)
    assert encoder.context_length == context and encoder.embed_dim == 32


def test_openai_state_dict(tmp_path):
    state = plain.random_state()
    extra = {
        "input_resolution": torch.tensor(16),
        "context_length": torch.tensor(77),
        "vocab_size": torch.tensor(49_408),
    }
    torch.save(state | extra, tmp_path / "a.pt")
    encoder = clipbias.load_model(str(tmp_path / "a.pt"))
    assert (encoder.family, encoder.name) == ("openai", "a")
    check(encoder, state, 77)


def test_longclip_uses_the_base_table_below_20_and_the_other_from_there(tmp_path):
    state = plain.random_state(context=248)
    res = plain.random_state(context=248, seed=1)["positional_embedding"]
    torch.save(state | {"positional_embedding_res": res}, tmp_path / "l.pt")
    encoder = clipbias.load_model(str(tmp_path / "l.pt"))
    assert encoder.family == "longclip"
    check(encoder, state, 248, torch.cat([state["positional_embedding"][:20], res[20:]]))


def test_himoclip_is_long_clips_layout_in_half_precision(tmp_path):
    state = {key: value.half() for key, value in plain.random_state(context=248).items()}
    res = plain.random_state(context=248, seed=1)["positional_embedding"].half()
    torch.save(state | {"positional_embedding_res": res}, tmp_path / "himo.pt")
    encoder = clipbias.load_model("himoclip-l14", weights=tmp_path / "himo.pt", device="cpu")
    assert (encoder.name, encoder.family, encoder.options) == ("himoclip-l14", "longclip", {"activation": "quickgelu"})
    state = {key: value.float() for key, value in state.items()}
    check(encoder, state, 248, torch.cat([state["positional_embedding"][:20], res[20:].float()]))


def test_smartclips_further_tensors_are_left_out_and_named(tmp_path):
    state = plain.random_state(context=248)
    res = plain.random_state(context=248, seed=1)["positional_embedding"]
    mask = {f"mask_net.resblocks.{i}.attn.in_proj_weight": torch.randn(3, 4) for i in range(3)}
    torch.save(state | {"positional_embedding_res": res} | mask, tmp_path / "smart.pt")
    encoder = clipbias.load_model(str(tmp_path / "smart.pt"))
    assert (encoder.family, encoder.options["left_out"]) == ("longclip", "mask_net")
    check(encoder, state, 248, torch.cat([state["positional_embedding"][:20], res[20:]]))


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("positions", ["official", "saved"])
def test_debias_reads_both_ways_and_says_which(tmp_path, prefix, positions):
    state = plain.random_state(context=248)
    res = plain.random_state(context=248, seed=1)["positional_embedding"]
    named = debias_names(state | {"positional_embedding_res": res})
    custom = {f"{prefix}{key}": value for key, value in named.items()}
    saved = {"epoch": 3, "name": "x", "state_dict": custom, "optimizer": {"state": {}}, "scaler": {}}
    torch.save(saved, tmp_path / "d.pt")
    encoder = clipbias.load_model(str(tmp_path / "d.pt"), positions=positions)
    want = {"positions": positions, "activation": "quickgelu"}
    assert (encoder.family, encoder.options) == ("debias", want)
    base = state["positional_embedding"]
    # The official loader overwrites the saved table with the base one before use.
    check(encoder, state, 248, base if positions == "official" else torch.cat([base[:20], res[20:]]))


@pytest.mark.parametrize("context", [None, 77])
def test_fgclip_in_its_long_and_its_short_mode(tmp_path, context):
    state = plain.random_state()
    files, more = fgclip_state(state)
    save_file(files, tmp_path / "model.safetensors")
    options = {} if context is None else {"context": context}
    encoder = clipbias.load_model(str(tmp_path), **options)
    want = {"context": str(context or 248), "activation": "quickgelu"}
    assert (encoder.family, encoder.options) == ("fgclip", want)
    if context == 77:
        check(encoder, state, 77, square=True)
    else:
        table = torch.cat([more["ori"][:20], more["res"][20:]])
        check(encoder, state, 248, table, more["filip"], square=True)


class _Record(nn.Module):
    """A module tree with the parameters of a state dict under their names."""

    def __init__(self, state: plain.State) -> None:
        super().__init__()
        children: dict[str, plain.State] = {}
        for key, value in state.items():
            head, _, rest = key.partition(".")
            if rest:
                children.setdefault(head, {})[rest] = value
            else:
                self.register_parameter(head, nn.Parameter(value, requires_grad=False))
        for name, part in children.items():
            self.add_module(name, _Record(part))

    def forward(self, x):
        return x


def test_openai_torchscript_archive_is_read_without_running_it(tmp_path):
    state = plain.random_state(vocabulary=49_408)
    torch.jit.save(torch.jit.script(_Record({k: v.half() for k, v in state.items()})), tmp_path / "ViT.pt")
    encoder = clipbias.load_model(str(tmp_path / "ViT.pt"))
    assert encoder.family == "openai"
    check(encoder, {k: v.half().float() for k, v in state.items()}, 77)


def test_the_readers_export_comes_back_as_the_same_features(tmp_path):
    from clipbias.models.layouts import to_longclip_layout

    state = plain.random_state(context=248)
    torch.save(state | {"positional_embedding_res": state["positional_embedding"] + 0.1}, tmp_path / "a.pt")
    encoder = clipbias.load_model(str(tmp_path / "a.pt"))
    positions = encoder.module.text.positional_embedding.detach()
    exported = to_longclip_layout(encoder.module, positions, positions)
    torch.save({k: v.clone() for k, v in exported.items()}, tmp_path / "b.pt")
    again = clipbias.load_model(str(tmp_path / "b.pt"))
    assert again.family == "longclip"
    assert torch.equal(again.encode_texts(TEXTS), encoder.encode_texts(TEXTS))
    assert torch.equal(again.encode_images(images()), encoder.encode_images(images()))


def test_bf16_is_near_fp32(tmp_path):
    torch.save(plain.random_state(), tmp_path / "a.pt")
    full, half = (clipbias.load_model(str(tmp_path / "a.pt"), precision=p) for p in ("fp32", "bf16"))
    cosine = (full.encode_texts(TEXTS) * half.encode_texts(TEXTS)).sum(1)
    assert half.encode_texts(TEXTS).dtype == torch.float32 and cosine.min() > 0.99
