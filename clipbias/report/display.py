"""How models, conditions and scalars are written where people read them; identifiers stay what they are in files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from clipbias.errors import UserError
from clipbias.models.catalogue import title_of

_ORDER = (
    "nano-clip", "nano-longclip", "nano-drop", "nano-sample", "nano-debias", "openai", "openclip", "siglip", "siglip2",
    "fgclip", "fgclip2", "longclip", "smartclip", "himoclip", "debias",
)  # fmt: skip
"""Of the report: what a recipe starts from comes before what it makes; models of other names follow."""
_VERSION = re.compile(r"(.+?)(@[0-9a-f]+)?")

_CONDITIONS = {
    "full": "whole caption",
    "drop-first": "first sentence removed",
    "first-only": "first sentence alone",
    "first-2": "first two sentences",
    "swap-2": "first two swapped",
    "swap-1-4": "first sentence in fourth place",
    "fillers-0": "no filler sentences",
}


def model_name(model: str) -> str:
    """A registered model as people write it ("Long-CLIP B/16"); others by their own name."""
    name, version = _told(model)
    return title_of(name) + version


def _told(model: str) -> tuple[str, str]:
    """A name, and the head of a fingerprint that tells it from others of that name."""
    found = _VERSION.fullmatch(model)
    return (found[1], found[2] or "") if found else (model, "")


def condition_name(condition: str) -> str:
    """A condition of the shipped probes in words; others by their own name."""
    if numbered := re.fullmatch(r"(pad|fillers|without|shift)-(\d+)", condition):
        kind, count = numbered[1], int(numbered[2])
        if kind == "without":
            return f"without sentence {count}"
        if kind == "shift":
            return f"{count} pad{'s' if count != 1 else ''}"
        if condition not in _CONDITIONS:
            what = "padding" if kind == "pad" else "filler"
            return f"{count} {what} sentence{'s' if count != 1 else ''}"
    return _CONDITIONS.get(condition, condition)


def ordered(models: Iterable[str], order: Sequence[str] = ()) -> list[str]:
    """Models in the order of the report: those of ``order``, then registered ones as recipes build on each other.

    Raises:
        UserError: ``order`` names a model that is not there.
    """
    present = set(models)
    if unknown := [name for name in order if name not in present]:
        raise UserError(f"--order {unknown[0]}: not in these results; there are {', '.join(sorted(present))}")

    def place(model: str) -> tuple[int, str]:
        name = _told(model)[0]
        if title_of(name) == name:
            return len(_ORDER), model
        fits = [number for number, part in enumerate(_ORDER) if name == part or name.startswith(part + "-")]
        return fits[0] if fits else len(_ORDER) - 1, model

    return [*dict.fromkeys(order), *sorted(present - set(order), key=place)]
