"""Where open_clip's weights lie, read from its table without importing it, which takes seconds."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path

from clipbias.errors import UserError
from clipbias.models.hub import require_repository, unreachable


def require_open_clip(source: str) -> None:
    """Refuse a model whose weights are neither here nor to be had now.

    Args:
        source: what stands behind ``openclip:``; nothing is said of one that open_clip does not know.

    Raises:
        UserError: it names no weights, or says what cannot be reached.
    """
    if "/" not in source:
        raise no_tag(source)
    if repository := weights_repository(source):
        require_repository(repository)
    elif address := weights_address(source):
        require_address(address)


def no_tag(model: str) -> UserError:
    """The error for a model without weights."""
    return UserError(f"openclip:{model} names no weights; write openclip:{model}/TAG, or pass --weights FILE")


def weights_repository(source: str) -> str:
    """The hub's repository that ``NAME/TAG`` is downloaded from; "" where it is another place, or not known."""
    return _text(_entry(source).get("hf_hub")).rpartition("/")[0]


def weights_address(source: str) -> str:
    """The address of a file that is not on the hub, from which ``NAME/TAG`` is downloaded; "" where there is none."""
    entry = _entry(source)
    return "" if _text(entry.get("hf_hub")) else _text(entry.get("url"))


def require_address(address: str) -> None:
    """Refuse a file that open_clip has not downloaded before while its host is out of reach.

    Raises:
        UserError: says so.
    """
    file = address.rpartition("/")[2]
    if not (Path("~/.cache/clip").expanduser() / file).is_file() and (reason := unreachable(address)):
        raise UserError(f"{file} is not available: {reason}, and open_clip has not downloaded it before")


def _entry(source: str) -> dict[str, ast.expr]:
    """What open_clip's table says of ``NAME/TAG``; nothing where it has none."""
    model, _, tag = source.rpartition("/")
    spec = find_spec("open_clip")
    if not model or spec is None or not spec.submodule_search_locations:
        return {}
    table = Path(spec.submodule_search_locations[0]) / "pretrained.py"
    if not table.is_file():
        return {}
    named = {
        target.id: node.value
        for node in ast.parse(table.read_text("utf-8")).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    # Names with -quickgelu are added from those without when open_clip is imported.
    models = _items(named.get("_PRETRAINED"))
    tags = models.get(model) or models.get(model.removesuffix("-quickgelu"))
    found = {
        _clean(key): value for key, value in _items(named.get(tags.id) if isinstance(tags, ast.Name) else tags).items()
    }
    return _items(found.get(_clean(tag)))


def _clean(tag: str) -> str:
    """As open_clip compares tags."""
    return tag.lower().replace("-", "_")


def _items(node: ast.expr | None) -> dict[str, ast.expr]:
    """Keys and values of ``{...}`` and of the named arguments of a call, ``dict(...)`` among them."""
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {
            key.value: value for key, value in pairs if isinstance(key, ast.Constant) and isinstance(key.value, str)
        }
    if isinstance(node, ast.Call):
        return {word.arg: word.value for word in node.keywords if word.arg}
    return {}


def _text(node: ast.expr | None) -> str:
    """The text that stands there, "" where something else does."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
