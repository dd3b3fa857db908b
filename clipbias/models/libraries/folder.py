"""Reading the configuration of a model folder: a list of known fields with types, everything else refused by name."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from clipbias.errors import UserError
from clipbias.formats import read_json
from clipbias.gate import require_file

_IN_LINE = 40  # characters of a stranger's value that a message shows


class Fields(BaseModel):
    """Fields of a configuration file: those declared, of the types declared, and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())


Known = TypeVar("Known", bound=Fields)


def read_config(path: Path) -> dict[str, Any]:
    """The JSON object in a configuration file.

    Raises:
        UserError: no regular file, too large, or no JSON object.
    """
    content = read_json(path, "config")
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def read_list(path: Path, most: int = 16) -> list[dict[str, Any]]:
    """The JSON list of objects in a configuration file.

    Raises:
        UserError: as `read_config`, or more than ``most``.
    """
    content = read_json(path, "config")
    if not isinstance(content, list) or len(content) > most or not all(isinstance(entry, dict) for entry in content):
        raise UserError(f"{path}: expected a JSON list of at most {most} objects")
    return content


def checked(fields: type[Known], content: Mapping[str, Any], where: object) -> Known:
    """``content`` as ``fields`` declares it.

    Raises:
        UserError: a field that is not declared, or a value of another type or out of its bounds; names the field.
    """
    try:
        # As JSON, where a list may stand for a tuple and an integer for a float, and nothing else is converted.
        return fields.model_validate_json(json.dumps(content))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            problem = "clipbias knows no such field, and passes nothing unknown on to a library"
        else:
            problem = f"{first['msg']}, found {str(first['input'])[:_IN_LINE]!r}"
        raise UserError(f"{where}: field {place[:120]}: {problem}; refused") from None


class SpecialToken(Fields):
    """A special token as tokenizers' files describe it."""

    content: str
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False
    single_word: bool = False
    special: bool = True


_OF_BASE = {"pad_token_id", "bos_token_id", "eos_token_id", "sep_token_id", "tie_word_embeddings", "is_encoder_decoder"}
# What decides ids in a tokenizer_config.json; files hold much more (templates, addresses, code), which is left out.
_IDS = (
    "add_bos_token", "add_eos_token", "add_prefix_space", "clean_up_tokenization_spaces", "do_basic_tokenize",
    "do_lower_case", "extra_ids", "keep_accents", "legacy", "model_max_length", "padding_side", "split_special_tokens",
    "src_lang", "strip_accents", "tgt_lang", "tokenize_chinese_chars", "trim_offsets", "truncation_side",
)  # fmt: skip
_TOKENS = ("bos_token", "cls_token", "eos_token", "mask_token", "pad_token", "sep_token", "unk_token")
_CLASSES = {
    "BertTokenizer", "CLIPTokenizer", "GemmaTokenizer", "MT5Tokenizer", "NllbTokenizer", "PreTrainedTokenizer",
    "RobertaTokenizer", "SiglipTokenizer", "Siglip2Tokenizer", "T5Tokenizer", "TokenizersBackend",
    "XLMRobertaTokenizer", "XLMTokenizer",
}  # fmt: skip
VOCABULARIES = (
    "tokenizer.json", "vocab.json", "merges.txt", "vocab.txt", "spiece.model", "tokenizer.model",
    "sentencepiece.bpe.model",
)  # fmt: skip


def without_code(content: Mapping[str, Any], where: object) -> None:
    """Refuse a file that names code to run.

    Raises:
        UserError: it has an ``auto_map``.
    """
    for field in ("auto_map", "custom_pipelines", "custom_generate"):
        if content.get(field):
            raise UserError(
                f"{where}: field {field}: it names Python code of its own folder, which clipbias does not run; refused"
            )


def transformers_config(content: Mapping[str, Any], where: object, kinds: Collection[str]) -> Any:
    """transformers' configuration object of one of the ``kinds``, from the fields its class declares.

    Raises:
        UserError: another kind, code to run, or a value that is not plain; names the field.
    """
    from transformers import CONFIG_MAPPING

    without_code(content, where)
    kind = content.get("model_type")
    if not isinstance(kind, str) or kind not in kinds:
        raise UserError(f"{where}: model_type {str(kind)[:_IN_LINE]!r} is not one of {', '.join(sorted(kinds))}")
    return _declared(CONFIG_MAPPING[kind], content, where)


def _declared(kind: Any, content: Mapping[str, Any], where: object) -> Any:
    """A configuration object of class ``kind``: only its own declared fields, and parts in their own classes."""
    import inspect

    from transformers import PretrainedConfig

    # What the base class takes decides how models run (kernels, quantisation, code), not what they are.
    base = set(inspect.signature(PretrainedConfig.__init__).parameters) - _OF_BASE
    given: dict[str, Any] = {}
    for field in set(inspect.signature(kind.__init__).parameters) - base - {"self", "kwargs"}:
        value = content.get(field)
        part = kind.sub_configs.get(field)
        if value is None:
            continue
        if part is not None and isinstance(value, dict):
            given[field] = _declared(part, value, f"{where}: {field}") if hasattr(part, "sub_configs") else None
        elif _plain(value):
            given[field] = value
        else:
            raise UserError(f"{where}: field {field}: expected a number, a text, a flag or a list of them; refused")
    try:
        return kind(**given)
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{where}: no configuration of {kind.__name__}: {reason}") from error


def _plain(value: object) -> bool:
    return isinstance(value, bool | int | float | str) or (
        isinstance(value, list) and len(value) < 4096 and all(isinstance(v, bool | int | float | str) for v in value)
    )


def _token(value: object, where: str) -> object:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if key != "__type"}
        return {"__type": "AddedToken", **checked(SpecialToken, kept, where).model_dump()}
    raise UserError(f"{where}: expected a text or an object; refused")


def _tokenizer_settings(path: Path) -> dict[str, Any]:
    """The fields of a ``tokenizer_config.json`` that decide ids."""
    content = read_config(path)
    without_code(content, path)
    kept: dict[str, Any] = {}
    for field in _IDS:
        value = content.get(field)
        known: Any = int | float if field == "model_max_length" else bool | int | float | str
        if isinstance(value, known):
            kept[field] = value
        elif value is not None:
            raise UserError(f"{path}: field {field}: expected a text, a number or a flag; refused")
    for field in _TOKENS:
        if field in content:
            kept[field] = _token(content[field], f"{path}: field {field}")
    for field in ("additional_special_tokens", "extra_special_tokens"):
        if isinstance(content.get(field), list):
            kept[field] = [_token(token, f"{path}: field {field}") for token in content[field]]
    added = content.get("added_tokens_decoder")
    if isinstance(added, dict):
        kept["added_tokens_decoder"] = {
            str(int(number)) if str(number).isdigit() else "": checked(
                SpecialToken, token if isinstance(token, dict) else {}, f"{path}: added_tokens_decoder"
            ).model_dump()
            for number, token in added.items()
        }
        kept["added_tokens_decoder"].pop("", None)
    name = content.get("tokenizer_class")
    if name is not None:
        if not isinstance(name, str) or name.removesuffix("Fast") not in _CLASSES:
            raise UserError(
                f"{path}: field tokenizer_class: {str(name)[:_IN_LINE]!r} is not one of {', '.join(sorted(_CLASSES))}; "
                "refused"
            )
        kept["tokenizer_class"] = name
    return kept


@contextmanager
def tokenizer_files(folder: Path) -> Iterator[Path]:
    """A private copy of a folder's tokenizer that holds its vocabulary and the settings that decide ids, no more.

    Libraries read a whole folder and follow what its files say; of this one they can read nothing else.

    Raises:
        UserError: the folder asks for code or for an unknown class of tokenizers, or has no tokenizer.
    """
    with TemporaryDirectory(prefix="clipbias-") as name:
        copy = Path(name)
        for file in VOCABULARIES:
            source = folder / file
            if source.is_file():
                require_file(source, "vocabulary")
                (copy / file).symlink_to(source.resolve())
        if not any(copy.iterdir()):
            raise UserError(f"{folder}: no tokenizer there (looked for {', '.join(VOCABULARIES)})")
        settings: dict[str, Any] = {}
        if (folder / "special_tokens_map.json").is_file():
            tokens = read_config(folder / "special_tokens_map.json")
            where = folder / "special_tokens_map.json"
            settings |= {k: _token(tokens[k], f"{where}: field {k}") for k in _TOKENS if k in tokens}
        if (folder / "tokenizer_config.json").is_file():
            settings |= _tokenizer_settings(folder / "tokenizer_config.json")
        (copy / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
        if (folder / "config.json").is_file():
            content = read_config(folder / "config.json")
            kind = content.get("model_type")
            # Only to tell the library which of its own tokenizers a folder without tokenizer_class means.
            if isinstance(kind, str) and kind.replace("_", "").replace("-", "").isalnum():
                (copy / "config.json").write_text(json.dumps({"model_type": kind}), encoding="utf-8")
        yield copy
