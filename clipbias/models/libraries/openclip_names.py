"""Where open_clip's weights lie, read from its table without importing it, which takes seconds."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path


def weights_repository(source: str) -> str:
    """The hub's repository that ``NAME/TAG`` is downloaded from; "" where it is another place, or not known.

    Args:
        source: what stands behind ``openclip:``.
    """
    model, _, tag = source.rpartition("/")
    spec = find_spec("open_clip")
    if not model or spec is None or not spec.submodule_search_locations:
        return ""
    table = Path(spec.submodule_search_locations[0]) / "pretrained.py"
    if not table.is_file():
        return ""
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
    where = _items(found.get(_clean(tag))).get("hf_hub")
    return where.value.rpartition("/")[0] if isinstance(where, ast.Constant) and isinstance(where.value, str) else ""


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
