"""The hub out of reach is noticed at once and said in words; what its cache has is found without a connection."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from clipbias.errors import UserError
from clipbias.models.hub import cached_file, hub_file, hub_folder, out_of_reach, require_repository
from clipbias.models.libraries.openclip_names import weights_address, weights_repository
from clipbias.models.suggest import require_model


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """No proxy, an empty cache, and a hub's address at which nobody listens."""
    for name in [name for name in os.environ if name.upper().endswith("_PROXY") or name.startswith("HF_")]:
        monkeypatch.delenv(name)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        # What the client read when it was imported, in this process maybe long ago.
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
        yield taken


def test_whether_the_hub_answers_is_whether_a_connection_is_taken(alone, monkeypatch):
    assert out_of_reach() == "no connection to 127.0.0.1"
    alone.listen()
    assert out_of_reach() == ""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert out_of_reach() == "HF_HUB_OFFLINE is set"


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_a_proxy_is_asked_in_the_place_of_the_hub(alone, monkeypatch, scheme):
    alone.listen()
    own = f"127.0.0.1:{alone.getsockname()[1]}"
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
    monkeypatch.setenv("https_proxy", f"{scheme}{own}")
    assert out_of_reach() == ""


def test_a_name_server_that_does_not_answer_is_not_waited_for(alone, monkeypatch):
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: time.sleep(30))
    began = time.monotonic()
    assert out_of_reach(0.2) == "no connection to 127.0.0.1"
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "ask",
    [
        lambda: hub_file("owner/name", "model.pt"),
        lambda: hub_folder("owner/name", ["*.json"]),
        lambda: require_repository("owner/name"),
        lambda: require_model("hf:owner/name@abc"),
        lambda: require_model("openclip:hf-hub:owner/name"),
        lambda: require_model("longclip-b16"),
    ],
)
def test_what_cannot_be_had_is_said_without_an_exceptions_name(alone, ask, monkeypatch):
    monkeypatch.delenv("CLIPBIAS_WEIGHTS", raising=False)
    with pytest.raises(UserError) as said:
        ask()
    assert "no connection to 127.0.0.1" in str(said.value) and "Error" not in str(said.value)


def test_what_the_cache_has_is_found_as_the_hubs_client_finds_it(alone, tmp_path):
    from huggingface_hub import constants

    repository = tmp_path / "hf/hub/models--owner--name"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "model.pt").write_bytes(b"weights")
    (repository / "refs").mkdir()
    (repository / "refs" / constants.DEFAULT_REVISION).write_text("0" * 40)
    assert cached_file("owner/name", "model.pt") == snapshot / "model.pt" == hub_file("owner/name", "model.pt")
    assert cached_file("owner/name", "other.pt") is None and cached_file("owner/other", "model.pt") is None
    require_repository("owner/name")
    require_model("hf:owner/name")


def test_the_cache_is_where_the_client_says_or_would_say(tmp_path):
    code = "from clipbias.models.hub import _cache_of; print(_cache_of('a/b'))"
    environment = {**os.environ, "HF_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("HF_HUB_CACHE", None)
    said = {
        subprocess.run(
            [sys.executable, "-c", first + code], env=environment, capture_output=True, text=True, check=True
        ).stdout.strip()
        for first in ("", "import huggingface_hub.constants; ")
    }
    assert said == {str(tmp_path / "hub" / "models--a--b")}


@pytest.mark.parametrize("address", ["http://127.0.0.1:99999", "http://127.0.0.1:port", f"http://{'a' * 70}.example"])
def test_an_address_that_cannot_be_is_said(alone, monkeypatch, address):
    monkeypatch.setenv("HF_ENDPOINT", address)
    assert f"{address.removeprefix('http://')} is no address to connect to (" in out_of_reach()


def test_where_open_clips_weights_lie_is_what_open_clip_says():
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained

    wanted = {f"{m}/{t}": get_pretrained_cfg(m, t).get("hf_hub", "").rpartition("/")[0] for m, t in list_pretrained()}
    assert len(wanted) > 100 and sum(map(bool, wanted.values())) > 100
    some = ["ViT-B-32/laion2b_s34b_b79k", "ViT-B-32/laion2b-s34b-b79k", *list(wanted)[::12]]
    wanted["ViT-B-32/laion2b-s34b-b79k"] = wanted["ViT-B-32/laion2b_s34b_b79k"]
    assert [weights_repository(source) for source in some] == [wanted[source] for source in some]
    assert [weights_repository(source) for source in ("ViT-B-32", "no/such", "ViT-B-32/no", "")] == [""] * 4


def test_missing_weights_of_open_clip_are_said_before_it_is_imported(alone):
    began = time.monotonic()
    with pytest.raises(UserError, match=r"laion/CLIP-ViT-B-32\S+ is not available: no connection to 127.0.0.1"):
        require_model("openclip:ViT-B-32/laion2b_s34b_b79k")
    with pytest.raises(UserError, match=r"timm/ViT-B-16-SigLIP is not available: no connection to 127.0.0.1"):
        require_model("siglip-b16")
    assert time.monotonic() - began < 3


TABLE = """
_M = dict(
    there=_pcfg(url="https://weights.example/of/m-there.pt"),
    both=_pcfg(hf_hub="owner/name/", url="https://weights.example/of/m-both.pt"),
)
_PRETRAINED = {"M": _M}
"""


def test_weights_at_an_address_are_said_to_be_out_of_reach_before_open_clip_is_imported(alone, monkeypatch, tmp_path):
    """Some versions of open_clip have weights that are not on the hub; here behind a proxy that nobody runs."""
    from clipbias.models.libraries.openclip import _of_tag

    (tmp_path / "pretrained.py").write_text(TABLE)
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr("clipbias.models.libraries.openclip_names.find_spec", lambda name: spec)
    assert (weights_address("M/there"), weights_address("M/both")) == ("https://weights.example/of/m-there.pt", "")
    assert (weights_repository("M/there"), weights_repository("M/both")) == ("", "owner/name")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", os.environ["HF_ENDPOINT"])
    wanted = "m-there.pt is not available: no connection to 127.0.0.1, and open_clip has not downloaded it before"
    began = time.monotonic()
    with pytest.raises(UserError, match=f"^{wanted}$"):
        require_model("openclip:M/there")
    assert time.monotonic() - began < 3
    known = {"url": weights_address("M/there")}
    monkeypatch.setattr("open_clip.pretrained.get_pretrained_cfg", lambda model, tag: known)
    with pytest.raises(UserError, match=f"^{wanted}$"):
        _of_tag("M", "there")
    (tmp_path / ".cache/clip").mkdir(parents=True)
    (tmp_path / ".cache/clip/m-there.pt").write_bytes(b"weights")
    require_model("openclip:M/there")
    assert _of_tag("M", "there") == tmp_path / ".cache/clip/m-there.pt"


def test_open_clip_without_a_tag_is_refused_before_it_is_imported():
    with pytest.raises(UserError, match="openclip:ViT-B-32 names no weights; write openclip:ViT-B-32/TAG"):
        require_model("openclip:ViT-B-32")
