"""Files that are not what they should be, weights that are elsewhere, and models of one's own."""

from __future__ import annotations

import os
import pickle
import zipfile

import numpy as np
import plain_clip as plain
import pytest
import torch

import clipbias
from clipbias.errors import UserError
from clipbias.models.catalogue import MODELS
from clipbias.models.entry import ModelEntry
from clipbias.models.weights import find_weights


@pytest.fixture
def small() -> plain.State:
    return plain.random_state(layers=1)


class _Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)


def test_a_pickle_that_asks_for_more_is_refused_by_name_and_not_run(tmp_path, monkeypatch, small):
    monkeypatch.chdir(tmp_path)
    torch.save(small | {"bomb": _Bomb()}, "bomb.pt")
    with pytest.raises(UserError, match=r"bomb\.pt: refused.*system") as caught:
        clipbias.load_model("bomb.pt")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "exploded").exists()


def test_a_torchscript_archive_that_asks_for_more_is_refused_by_name_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("bomb.pt", "w") as archive:
        archive.writestr("m/code/__torch__.py", "")
        archive.writestr("m/data.pkl", pickle.dumps(_Bomb()))
    with pytest.raises(UserError, match=r"bomb\.pt: refused.*system"):
        clipbias.load_model("bomb.pt")
    assert not (tmp_path / "exploded").exists()


def _truncated(path, state):
    torch.save(state, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _changed(**changes):
    def write(path, state):
        out = dict(state)
        for key, change in changes.items():
            key = key.replace("__", ".")
            if change is None:
                del out[key]
            else:
                out[key] = change(out[key])
        torch.save(out, path)

    return write


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path, state: path.write_bytes(b""), "the file is empty"),
        (lambda path, state: path.write_bytes(b"no checkpoint at all"), "refused|not a readable checkpoint"),
        (_truncated, "refused|not a readable checkpoint"),
        (lambda path, state: torch.save([1, 2], path), "expected a state dict, found list"),
        (lambda path, state: torch.save({"a": torch.zeros(1)}, path), "no known family has these keys"),
        (_changed(ln_final__weight=None), "ln_final.weight"),
        (_changed(transformer__resblocks__0__mlp__c_fc__bias=lambda t: t[:3]), "c_fc.bias"),
        (_changed(text_projection=lambda t: t * torch.nan), "text_projection holds NaN"),
        (_changed(visual__conv1__weight=lambda t: t[:, :, 0, 0]), "shape"),
        (_changed(positional_embedding=lambda t: t[0]), "shape|size"),
    ],
)
def test_a_broken_file_is_one_line_that_names_it(tmp_path, small, write, message):
    path = tmp_path / "broken.pt"
    write(path, small)
    with pytest.raises(UserError, match=message) as caught:
        clipbias.load_model(str(path))
    assert "broken.pt" in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_of_another_family_is_named_with_both(tmp_path, small):
    torch.save(small, tmp_path / "a.pt")
    with pytest.raises(UserError, match="expected a longclip checkpoint for longclip-b16, found openai"):
        clipbias.load_model("longclip-b16", weights=tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "openai-b61"}, "did you mean openai-b16"),
        ({"name": "nano-clip", "precision": "fp16"}, "fp16 needs a GPU"),
        ({"name": "nano-clip", "precision": "int3"}, "no precision is called 'int3'"),
        ({"name": "nano-clip", "device": "abacus"}, "device 'abacus'"),
        ({"name": "nano-clip", "positions": "saved"}, "no option 'positions'"),
        ({"name": "debias-b16"}, "published at drive.google.com"),
        ({"name": "nano-clip", "weights": "nowhere.pt"}, "no such weights file"),
        ({"name": "openclip:ViT-B-61/openai"}, "open_clip has no model"),
        ({"name": "openclip:ViT-B-16/nothing"}, "no weights 'nothing'"),
        ({"name": "openclip:local-dir:nowhere"}, "no open_clip_config.json"),
        ({"name": "no_such_module:load"}, "cannot import"),
    ],
)
def test_a_wrong_wish_is_answered_in_one_line(monkeypatch, tmp_path, arguments, message):
    monkeypatch.delenv("CLIPBIAS_WEIGHTS", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        clipbias.load_model(**arguments)
    assert "\n" not in str(caught.value)


def test_weights_are_found_in_the_users_folder_and_checked(tmp_path, monkeypatch, small):
    import hashlib

    monkeypatch.setenv("CLIPBIAS_WEIGHTS", str(tmp_path))
    torch.save(small, tmp_path / "mine.pt")
    digest = hashlib.sha256((tmp_path / "mine.pt").read_bytes()).hexdigest()
    entry = ModelEntry("openai", "", 77, 32, "local", "mine.pt", sha256=digest)
    assert find_weights("mine", entry) == tmp_path / "mine.pt"
    assert find_weights("mine", entry, tmp_path / "mine.pt") == tmp_path / "mine.pt"
    other = ModelEntry("openai", "", 77, 32, "local", "mine.pt", sha256="0" * 64)
    with pytest.raises(UserError, match=r"mine\.pt: its SHA-256 is"):
        find_weights("mine", other)


def test_the_fingerprint_follows_weights_and_options(tmp_path, small):
    torch.save(small, tmp_path / "a.pt")
    torch.save(dict(reversed(small.items())), tmp_path / "same.pt")
    torch.save(small | {"logit_scale": torch.tensor(4.5)}, tmp_path / "other.pt")
    a, same, other = (clipbias.load_model(str(tmp_path / n)).fingerprint for n in ("a.pt", "same.pt", "other.pt"))
    assert a == same != other


class _Bag:
    """A model of a user's own: counts letters; images by their mean colour."""

    def encode_texts(self, texts):
        return np.array([[text.count(c) + 1 for c in "abc"] for text in texts], dtype=np.float64)

    def encode_images(self, images):
        return torch.stack([torch.tensor(np.asarray(i)).float().mean((0, 1)) for i in images])


def test_a_registered_model_is_used_like_any_other(tmp_path):
    from clipbias.data.build import without_images
    from clipbias.data.loading import load_dataset
    from clipbias.probe.run import run_probe
    from clipbias.probe.session import Session
    from clipbias.probe.spec import find_probes
    from clipbias.results.folder import read_rows, read_run

    name = "letters-for-a-test"
    if name not in MODELS:
        clipbias.register_model(name)(_Bag)
    encoder = clipbias.load_model(name)
    features = encoder.encode_texts(["aab", ""])
    torch.testing.assert_close(features, torch.nn.functional.normalize(torch.tensor([[3.0, 2, 1], [1, 1, 1]]), dim=1))
    assert encoder.encode_texts([]).shape == (0, 3)
    dataset = without_images(load_dataset("scenes"), range(20, 1000))
    folder = run_probe(Session(encoder, dataset), find_probes("drop-first")[0], tmp_path)
    assert read_run(folder).model_family == "user" and read_run(folder).context_length == 0
    assert {row.truncated for row in read_rows(folder)} == {0.0}


def test_a_model_beside_the_user_is_found_by_module_and_function(tmp_path, monkeypatch):
    (tmp_path / "my_model_for_a_test.py").write_text(
        "import numpy as np\n"
        "class M:\n"
        "    context_length = 8\n"
        "    fingerprint = 'v1'\n"
        "    def token_lengths(self, texts): return [len(t.split()) for t in texts]\n"
        "    def encode_texts(self, texts): return np.ones((len(texts), 4))\n"
        "    def encode_images(self, images): return np.ones((len(images), 4))\n"
        "class Bad(M):\n"
        "    def encode_texts(self, texts): return np.ones(4)\n"
        "def nothing(): return object()\n"
    )
    monkeypatch.chdir(tmp_path)
    encoder = clipbias.load_model("my_model_for_a_test:M")
    assert (encoder.fingerprint, encoder.context_length, encoder.embed_dim) == ("v1", 8, 4)
    assert encoder.token_lengths(["a b c"]).tolist() == [3]
    with pytest.raises(UserError, match="has no encode_token_ids"):
        encoder.encode_token_ids(torch.zeros(1, 8, dtype=torch.long))
    with pytest.raises(UserError, match=r"features of shape \(4,\); expected \(2, D\)"):
        clipbias.load_model("my_model_for_a_test:Bad")
    with pytest.raises(UserError, match="without encode_texts"):
        clipbias.load_model("my_model_for_a_test:nothing")
