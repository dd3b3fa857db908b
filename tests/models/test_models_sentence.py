"""Models of sentence-transformers: its own features where it is here, and nothing of a folder runs unasked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hub_models import WORDS, write_sentence_folder, write_vl_embedder
from odd_inputs import odd_captions, odd_images
from tripwire import tripwire

import clipbias
from clipbias.errors import UserError

TEXTS = [*WORDS, "a dog sits on a bench. " * 20, *odd_captions()]
EVIL = "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\nclass Evil: pass\n"
MINE = """
import pathlib
import numpy as np
import torch
from sentence_transformers.models import Module

pathlib.Path({marker!r}).touch()


class Mine(Module):
    max_seq_length = 12
    modalities = ["text", "image"]

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.eye(8))

    def preprocess(self, inputs, prompt=None, **more):
        rows = [
            [(prompt + i if prompt else i).count(c) + 0.1 for c in "aeioutsh"] if isinstance(i, str)
            else np.asarray(i.resize((4, 2)))[..., 0].ravel() + 1.0 for i in inputs
        ]
        return {{"rows": torch.tensor(np.array(rows), dtype=torch.float32)}}

    def forward(self, features, **more):
        return features | {{"sentence_embedding": features["rows"] @ self.weight}}

    def save(self, path, *more, **given): ...

    @classmethod
    def load(cls, path, **more):
        return cls()
"""


@pytest.mark.parametrize(("kind", "inside"), [("clip", ""), ("clip", "0_CLIPModel"), ("metaclip_2", "")])
def test_a_two_tower_model_is_what_sentence_transformers_computes(tmp_path, kind, inside):
    library = pytest.importorskip("sentence_transformers")
    write_sentence_folder(kind, tmp_path, inside)
    theirs = library.SentenceTransformer(str(tmp_path), device="cpu", trust_remote_code=False)
    encoder = clipbias.load_model(f"st:{tmp_path}", device="cpu")
    assert encoder.family == kind and clipbias.load_model(str(tmp_path), device="cpu").family == kind
    want = torch.nn.functional.normalize(torch.as_tensor(theirs.encode(TEXTS)), dim=-1)
    torch.testing.assert_close(encoder.encode_texts(TEXTS), want, atol=1e-5, rtol=0)
    images = [image.convert("RGB") for image in odd_images()]
    want = torch.nn.functional.normalize(torch.as_tensor(theirs.encode(images)), dim=-1)
    torch.testing.assert_close(encoder.encode_images(images), want, atol=1e-5, rtol=0)
    prompted = clipbias.load_model(f"st:{tmp_path}", device="cpu", prompt_name="query")
    want = torch.nn.functional.normalize(torch.as_tensor(theirs.encode(TEXTS, prompt_name="query")), dim=-1)
    torch.testing.assert_close(prompted.encode_texts(TEXTS), want, atol=1e-5, rtol=0)
    assert prompted.options["prompt"] == "an image of "
    assert prompted.identity()["fingerprint"] != encoder.identity()["fingerprint"]


def test_prompts_are_by_name_or_by_text(tmp_path):
    write_sentence_folder("clip", tmp_path)
    plain = clipbias.load_model(f"st:{tmp_path}", device="cpu")
    named = clipbias.load_model(f"st:{tmp_path}", device="cpu", prompt_name="query")
    given = clipbias.load_model(f"st:{tmp_path}", device="cpu", prompt="an image of ")
    assert torch.equal(named.encode_texts(WORDS), plain.encode_texts(["an image of " + text for text in WORDS]))
    assert torch.equal(named.encode_texts(WORDS), given.encode_texts(WORDS))
    with pytest.raises(UserError, match="query, passage"):
        clipbias.load_model(f"st:{tmp_path}", device="cpu", prompt_name="other")


def _edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(change(content) or content))


@pytest.mark.parametrize(
    ("file", "change", "word"),
    [
        ("modules.json", lambda c: c[0].update(type="evil.Evil"), "evil.Evil"),
        ("modules.json", lambda c: c.append({**c[0], "idx": 1, "name": "1", "type": "evil.Evil"}), "evil.Evil"),
        ("modules.json", lambda c: c[0].update(type="sentence_transformers.util.misc.import_from_string"), "modules"),
        ("modules.json", lambda c: c[0].update(type="sentence_transformers.models.Router"), "Router"),
        ("modules.json", lambda c: c[0].update(path="../other"), "path"),
        ("modules.json", lambda c: c[0].update(kwargs=["evil"]), "kwargs"),
        ("modules.json", lambda c: {"a": 1}, "list"),
        ("sentence_bert_config.json", lambda c: c.update(model_args={"trust_remote_code": True}), "model_args"),
        ("sentence_bert_config.json", lambda c: c.update(model_kwargs={"gguf_file": "x"}), "model_kwargs"),
        (
            "sentence_bert_config.json",
            lambda c: c["modality_config"]["text"].update(method="save_pretrained"),
            "modality_config",
        ),
        ("config.json", lambda c: c.update(auto_map={"AutoModel": "evil.Evil"}), "auto_map"),
        ("tokenizer_config.json", lambda c: c.update(auto_map={"AutoTokenizer": ["evil.Evil", None]}), "auto_map"),
    ],
)
def test_code_classes_and_arguments_of_a_folder_are_refused(tmp_path, file, change, word):
    write_sentence_folder("clip", tmp_path)
    (tmp_path / "evil.py").write_text(EVIL)
    _edit(tmp_path / file, change)
    for name in (f"st:{tmp_path}", str(tmp_path)):
        with tripwire() as tripped, pytest.raises(UserError, match=word):
            clipbias.load_model(name, device="cpu")
        assert tripped == [] and not (tmp_path / "ran").exists()


def _asked(content: dict[str, object], prompt: str = "") -> list[dict[str, object]]:
    """A conversation: a prompt is the system's word in it."""
    system = [{"role": "system", "content": [{"type": "text", "text": prompt}]}] if prompt else []
    return [*system, {"role": "user", "content": [content]}]


@torch.no_grad()
def test_a_language_model_that_sees_is_asked_in_its_own_template(tmp_path):
    library = pytest.importorskip("sentence_transformers")
    model, processor = write_vl_embedder(tmp_path)
    with pytest.raises(UserError, match=r"Transformer, Pooling, Normalize.*trust-remote-code"):
        clipbias.load_model(f"st:{tmp_path}", device="cpu")

    def feature(content: dict[str, object], prompt: str = "", **image: object) -> tuple[torch.Tensor, int]:
        """By transformers alone: the last token's state, and how many tokens there would be."""
        text = processor.apply_chat_template(_asked(content, prompt), tokenize=False)
        given = processor(text=[text], return_tensors="pt", **image)
        length = given["input_ids"].shape[1]
        return torch.nn.functional.normalize(model(**given).last_hidden_state[0, -1], dim=-1), length

    for prompt_name, prompt in ((None, ""), ("query", "find a red bird")):
        encoder = clipbias.load_model(f"st:{tmp_path}", device="cpu", trust_remote_code=True, prompt_name=prompt_name)
        want, lengths = zip(*(feature({"type": "text", "text": text}, prompt) for text in TEXTS), strict=True)
        found, fits = encoder.encode_texts(TEXTS), torch.tensor(lengths) <= 128
        torch.testing.assert_close(found[fits], torch.stack(want)[fits], atol=1e-5, rtol=0)
        # What is cut is so by sentence-transformers, which puts the template's end back.
        cut = [text for text, whole in zip(TEXTS, fits, strict=True) if not whole]
        theirs = library.SentenceTransformer(str(tmp_path), device="cpu", trust_remote_code=False)
        by_them = torch.as_tensor(theirs.encode(cut, prompt=prompt))
        torch.testing.assert_close(found[~fits], by_them, atol=1e-5, rtol=0)
        assert encoder.token_lengths(TEXTS).tolist() == list(lengths) and encoder.context_length == 128
        assert len(cut) >= 2 and encoder.options.get("prompt", "") == prompt
    images = [image.convert("RGB") for image in odd_images()]
    want = torch.stack([feature({"type": "image"}, images=[image])[0] for image in images])
    torch.testing.assert_close(encoder.encode_images(images), want, atol=1e-5, rtol=0)


def test_only_a_trusted_folder_runs_its_own_modules(tmp_path):
    pytest.importorskip("sentence_transformers")
    folder, marker = tmp_path / "mine", tmp_path / "ran"
    folder.mkdir()
    (folder / "custom_st.py").write_text(MINE.format(marker=str(marker)))
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "custom_st.Mine"}]))
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": {"q": "hat: "}}))
    with pytest.raises(UserError, match="trust-remote-code"):
        clipbias.load_model(f"st:{folder}", device="cpu")
    assert not marker.exists()
    encoder = clipbias.load_model(f"st:{folder}", device="cpu", trust_remote_code=True, prompt_name="q")
    assert marker.exists()
    rows = np.array([[("hat: " + text).count(c) + 0.1 for c in "aeioutsh"] for text in WORDS])
    want = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.encode_texts(WORDS).numpy(), want, atol=1e-6)
    assert encoder.encode_images(odd_images()[:3]).shape == (3, 8)
    assert encoder.family == "sentence-transformers" and encoder.options == {"prompt": "hat: ", "remote_code": "true"}
    assert encoder.context_length == 12
