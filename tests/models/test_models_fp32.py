"""fp32 is fp32 whatever a user has set, by PyTorch's newer way, by the older, or by both; and stays set afterwards."""

from __future__ import annotations

import sys
from operator import attrgetter
from pathlib import Path

import pytest
import torch
from hub_models import write_hub_folder
from processes import script, start

import clipbias
from clipbias.models.fp32 import full_fp32
from clipbias.models.wrapped import WrappedEncoder

NEWER = pytest.mark.skipif(
    not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="PyTorch has the newer way since 2.9"
)
OLDER_SET = (
    "",
    "torch.backends.cuda.matmul.allow_tf32 = True",
    "torch.backends.cudnn.allow_tf32 = False",
    "torch.set_float32_matmul_precision('medium')",
)
NEWER_SET = (
    "torch.backends.fp32_precision = 'tf32'",
    "torch.backends.cuda.matmul.fp32_precision = 'tf32'",
    "torch.backends.cudnn.fp32_precision = 'tf32'",
    "torch.backends.cudnn.conv.fp32_precision = 'ieee'",
    "torch.backends.mkldnn.matmul.fp32_precision = 'bf16'",
    "torch.backends.cudnn.allow_tf32 = False; torch.backends.cuda.matmul.fp32_precision = 'tf32'",
    "torch.set_float32_matmul_precision('high'); torch.backends.fp32_precision = 'ieee'",
)
OPERATIONS = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn")
NEW = [f"{name}.fp32_precision" for name in OPERATIONS]
OLD = ["cuda.matmul.allow_tf32", "cudnn.allow_tf32"]


def shown() -> dict[str, object]:
    """What each setting says when it is read; where two are mixed, that it cannot be."""
    found: dict[str, object] = {}
    for name in [*NEW, *OLD, "fp32_precision", "cudnn.fp32_precision", "cudnn.deterministic"]:
        try:
            found[name] = attrgetter(name)(torch.backends)
        except (AttributeError, RuntimeError) as error:
            found[name] = type(error)
    try:
        found["matmul"] = torch.get_float32_matmul_precision()
    except RuntimeError as error:
        found["matmul"] = type(error)
    return found


def is_full() -> bool:
    """Whether every operation computes in fp32 now, and what is read by the older way agrees."""
    found = shown()
    new = {found[name] for name in NEW}
    return new in ({"ieee"}, {AttributeError}) and not any(found[name] for name in OLD) and found["matmul"] == "highest"


def kept(setting: str) -> None:
    """In a process of its own: what is mixed cannot be read, and so not put back."""
    exec(setting)
    torch.backends.cudnn.deterministic = True
    before = shown()
    with full_fp32():
        assert is_full()
        with full_fp32():
            assert is_full() and torch.backends.cudnn.deterministic
        assert is_full()
    assert shown() == before, (before, shown())
    features = clipbias.load_model("nano-clip", device="cpu").encode_texts(["a dog"])
    assert shown() == before and features.isfinite().all()


@pytest.mark.parametrize("setting", [*OLDER_SET, *(pytest.param(one, marks=NEWER) for one in NEWER_SET)])
def test_what_is_set_outside_neither_matters_nor_changes(setting: str, tmp_path: Path) -> None:
    code, _, errors = start(tmp_path, script, __file__, "kept", setting).finish()
    assert code == 0, errors[-3000:]


@NEWER
def test_what_follows_the_setting_for_all_still_follows_it(tmp_path: Path) -> None:
    code, _, errors = start(tmp_path, script, __file__, "followed").finish()
    assert code == 0, errors[-3000:]


def followed() -> None:
    torch.backends.fp32_precision = "tf32"
    with full_fp32():
        pass
    torch.backends.fp32_precision = "ieee"
    assert torch.backends.cuda.matmul.fp32_precision == torch.backends.cudnn.conv.fp32_precision == "ieee"


def test_without_the_newer_way_the_older_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipbias.models.fp32._PLACES", {})
    before = shown()
    with full_fp32():
        assert not torch.backends.cuda.matmul.allow_tf32 and not torch.backends.cudnn.allow_tf32
    assert shown()["matmul"] == before["matmul"] and shown()["cudnn.allow_tf32"] == before["cudnn.allow_tf32"]


class Mine:
    """A user's own model, which notes how it was called."""

    context_length = 77

    def __init__(self) -> None:
        self.full: list[bool] = []

    def encode_texts(self, texts: list[str]) -> torch.Tensor:
        self.full.append(is_full())
        return torch.ones(len(texts), 4)

    encode_images = encode_texts


def test_a_users_own_model_computes_in_it() -> None:
    model = Mine()
    WrappedEncoder(model, "mine", torch.device("cpu"), "fp32").encode_texts(["a dog"])
    assert model.full and all(model.full)


@pytest.mark.parametrize("kind", ["nano-clip", "transformers"])
def test_attention_and_gradients_are_computed_in_it(kind: str, tmp_path: Path) -> None:
    if kind == "transformers":
        write_hub_folder("clip", tmp_path)
    encoder = clipbias.load_model(kind if kind == "nano-clip" else str(tmp_path), device="cpu")
    tower, full = encoder.text_tower(), []
    ids = tower.tokens(["a dog", "a cat on a mat"])
    images = torch.eye(encoder.embed_dim)[:2]
    (table,) = [part for name, part in encoder.module.named_modules() if name.endswith("token_embedding")]
    table.register_forward_hook(lambda *_: full.append(is_full()))
    tower.attention(ids)
    asked = len(full)
    tower.gradients(ids, images)
    assert 0 < asked < len(full) and all(full)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
