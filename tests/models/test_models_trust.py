"""Nothing in a model's folder runs: not through any library that reads it, and not by a keyword argument it names."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from hub_models import write_hub_folder
from openclip_folder import write_folder, write_siglip
from tripwire import tripwire

import clipbias
from clipbias.errors import UserError

ROOT = Path(clipbias.__file__).parent
EVIL = "import os, pathlib\npathlib.Path(__file__).with_name('ran').touch()\nclass Evil: pass\n"


def _edit(path: Path, change) -> None:
    content = json.loads(path.read_text()) if path.is_file() else {}
    change(content)
    path.write_text(json.dumps(content))


def _evil(folder: Path) -> Path:
    """Code of the folder, named by every field through which a library takes code."""
    (folder / "evil.py").write_text(EVIL)
    names = {kind: "evil.Evil" for kind in ("AutoConfig", "AutoModel", "AutoProcessor", "AutoImageProcessor")}
    for file in ("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json"):
        _edit(folder / file, lambda c: c.update(auto_map={**names, "AutoTokenizer": ["evil.Evil", None]}))
    return folder


def _refused(name: str, folder: Path, **options: object) -> str:
    with tripwire() as tripped, pytest.raises(UserError) as caught:
        clipbias.load_model(name, **options)
    assert tripped == []
    assert not (folder / "ran").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("text_cfg.tokenizer_kwargs", {"trust_remote_code": True}),
        ("text_cfg.tokenizer_kwargs", {"clean": "whitespace", "trust_remote_code": True}),
        ("text_cfg.tokenizer_kwargs", {"cache_dir": "/tmp"}),
        ("text_cfg.tokenizer_kwargs", {"gguf_file": "evil.gguf"}),
        ("text_cfg.tokenizer_mode", "other"),
        ("text_cfg.hf_tokenizer_name", "../evil"),
        ("text_cfg.hf_tokenizer_name", "/evil"),
        ("text_cfg.hf_model_name", "./evil"),
        ("text_cfg.hf_model_name", {"trust_remote_code": True}),
        ("text_cfg.unknown", 1),
        ("text_cfg.act_kwargs", {"inplace": True}),
        ("text_cfg.norm_kwargs", {"device": "cuda"}),
        ("text_cfg.context_length", 10**9),
        ("text_cfg.context_length", "77"),
        ("text_cfg.layers", 10**7),
        ("text_cfg.width", -1),
        ("vision_cfg.timm_model_name", "hf-hub:owner/evil"),
        ("vision_cfg.timm_model_name", "local-dir:evil"),
        ("vision_cfg.timm_model_name", "../evil"),
        ("vision_cfg.timm_kwargs", {"act_layer": "evil"}),
        ("vision_cfg.image_size", 16_000),
        ("vision_cfg.image_size", [16_000, 16_000]),
        ("text_cfg", "evil"),
        ("cast_dtype", "float16"),
        ("trust_remote_code", True),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_field_that_is_not_known_is_refused_by_its_name(tmp_path, section, value):
    write_siglip(tmp_path, ["a dog"], pad="</s>")
    _evil(tmp_path)

    def change(content):
        at = content["model_cfg"]
        *parts, last = section.split(".")
        for part in parts:
            at = at[part]
        at[last] = value

    _edit(tmp_path / "open_clip_config.json", change)
    line = _refused(str(tmp_path), tmp_path)
    assert section.rpartition(".")[2] in line and "open_clip_config.json" in line


@pytest.mark.parametrize("prefix", ["", "openclip:local-dir:"])
def test_a_tokenizer_with_code_of_its_own_is_refused(tmp_path, prefix):
    write_siglip(tmp_path, ["a dog"], pad="</s>")
    _evil(tmp_path)
    assert "auto_map" in _refused(f"{prefix}{tmp_path}", tmp_path)


def test_a_tokenizer_of_an_unknown_class_is_refused(tmp_path):
    write_siglip(tmp_path, ["a dog"], pad="</s>")
    # Starts programs by its own settings.
    _edit(tmp_path / "tokenizer_config.json", lambda c: c.update(tokenizer_class="BertJapaneseTokenizer"))
    assert "tokenizer_class" in _refused(str(tmp_path), tmp_path)


def test_what_decides_no_ids_never_reaches_the_library(tmp_path):
    write_siglip(tmp_path, ["a dog"], pad="</s>")
    plain = clipbias.load_model(str(tmp_path)).tokenize(["a dog"])
    _edit(
        tmp_path / "tokenizer_config.json",
        lambda c: c.update(vocab_file="/etc/passwd", gguf_file="x", chat_template="{{ x }}", _from_auto=True),
    )
    with tripwire() as tripped:
        found = clipbias.load_model(str(tmp_path)).tokenize(["a dog"])
    assert tripped == [] and found.equal(plain)


def test_a_folder_without_weights_is_refused(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "open_clip_model.safetensors").unlink()
    assert "without weights" in _refused(str(tmp_path), tmp_path)


def test_a_damaged_configuration_is_one_line(tmp_path):
    write_folder(tmp_path)
    for content in ("", "[]", "{", "[" * 100_000, "{}", '{"model_cfg": 1}', '{"model_cfg": {}}', "nul\0"):
        (tmp_path / "open_clip_config.json").write_text(content)
        _refused(str(tmp_path), tmp_path)


def _nodes() -> list[tuple[Path, ast.AST]]:
    """Everything in the package's source, by file."""
    files = sorted(ROOT.rglob("*.py"))
    return [(file.relative_to(ROOT), node) for file in files for node in ast.walk(ast.parse(file.read_text("utf-8")))]


# Functions of libraries that run code of a folder where trust_remote_code allows it.
_READERS = {"from_pretrained", "from_config", "HFTokenizer", "load_dataset", "SentenceTransformer"}
_OPEN_CLIP_READERS = {"create_model_and_transforms", "create_model", "create_model_from_pretrained", "get_tokenizer"}
_OURS = {"load_dataset"}  # clipbias has a function of this name too; datasets' is called as datasets.load_dataset


def test_every_call_that_could_run_remote_code_says_no():
    nodes = _nodes()
    calls = [(file, node) for file, node in nodes if isinstance(node, ast.Call)]
    seen = 0
    for file, call in calls:
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        if "trust_remote_code" in given:
            value = given["trust_remote_code"]
            # A name stands for what the command line says; nothing else may decide it.
            assert (isinstance(value, ast.Constant) and value.value is False) or isinstance(value, ast.Name), file
        if name in _READERS and (name not in _OURS or isinstance(call.func, ast.Attribute)):
            if isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") == "clipbias":
                continue
            if getattr(getattr(call.func, "value", None), "attr", "") == "Embedding":
                continue  # torch's, of a tensor
            assert "trust_remote_code" in given, f"{file}:{call.lineno} {name}"
            seen += 1
    assert seen >= 2
    for file, call in calls:
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if name == "load" and getattr(getattr(call.func, "value", None), "id", "") == "torch":
            given = {k.arg: k.value for k in call.keywords}
            assert getattr(given.get("weights_only"), "value", None) is True, f"{file}:{call.lineno}"
        if isinstance(call.func, ast.Name):
            assert name not in {"exec", "eval", "compile", "__import__"}, f"{file}:{call.lineno}"
        # open_clip reads a folder's settings itself there; pydantic has a function of the same name.
        if getattr(getattr(call.func, "value", None), "id", "") == "open_clip":
            assert name not in _OPEN_CLIP_READERS, f"{file}:{call.lineno}"
    for file, node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("open_clip"):
            assert not _OPEN_CLIP_READERS & {alias.name for alias in node.names}, file


def test_only_the_command_line_itself_can_ask_for_remote_code(tmp_path, monkeypatch, capsys):
    from clipbias.cli.app import main

    write_hub_folder("clip", tmp_path / "model")
    _evil(tmp_path / "model")
    with pytest.raises(UserError, match="not an option of a model"):
        clipbias.load_model(str(tmp_path / "model"), trust_remote_code="true")
    config = tmp_path / "clipbias.toml"
    config.write_text("[probe]\ntrust_remote_code = true\n")
    run = ["probe", "padding", "--model", str(tmp_path / "model"), "--data", "scenes"]
    with tripwire() as tripped:
        for start in (["--config", str(config), *run], [*run, "--model-option", "trust_remote_code=true"], run):
            monkeypatch.setattr("sys.argv", ["clipbias", *start])
            with pytest.raises(SystemExit) as left:
                main()
            assert left.value.code == 2
        monkeypatch.setenv("CLIPBIAS_PROBE_TRUST_REMOTE_CODE", "1")
        with pytest.raises(SystemExit) as left:
            main()
        assert left.value.code == 2
    assert tripped == [] and not (tmp_path / "model" / "ran").exists()
    assert "auto_map" in capsys.readouterr().err


def test_a_record_of_others_cannot_ask_for_remote_code(tmp_path):
    from clipbias.probe.asked import open_encoder
    from clipbias.results.settings import Settings

    write_hub_folder("clip", tmp_path)
    _evil(tmp_path)
    asked = Settings(probe="padding", data="scenes", model=str(tmp_path), model_options={"trust_remote_code": "true"})
    with tripwire() as tripped, pytest.raises(UserError, match="trust_remote_code"):
        open_encoder(asked)
    assert tripped == [] and not (tmp_path / "ran").exists()
