"""How models, conditions and scalars are written where people read them; identifiers stay what they are in files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from clipbias.errors import UserError

# In the order of the report: what a recipe starts from comes before what it makes.
_NANO = {
    "clip": "nano CLIP",
    "longclip": "nano Long-CLIP",
    "drop": "nano + summary drop",
    "sample": "nano + sampling",
    "debias": "nano DeBias-CLIP",
}
_FAMILIES = {
    "openai": "CLIP",
    "openclip": "OpenCLIP",
    "siglip": "SigLIP",
    "siglip2": "SigLIP 2",
    "fgclip": "FG-CLIP",
    "longclip": "Long-CLIP",
    "debias": "DeBias-CLIP",
}
_REGISTERED = re.compile(rf"(?:nano-({'|'.join(_NANO)})|({'|'.join(_FAMILIES)})-([bl])(\d\d))(@[0-9a-f]+)?")

_CONDITIONS = {
    "full": "whole caption",
    "drop-first": "first sentence removed",
    "first-only": "first sentence alone",
    "first-2": "first two sentences",
    "swap-2": "first two swapped",
    "swap-1-4": "first sentence moved to fourth place",
    "fillers-0": "no filler sentences",
}


def model_name(model: str) -> str:
    """A registered model as people write it ("Long-CLIP B/16"); others by their own name."""
    found = _REGISTERED.fullmatch(model)
    if not found:
        return model
    nano, family, letter, patch, version = found.groups()
    name = _NANO[nano] if nano else f"{_FAMILIES[family]} {letter.upper()}/{patch}"
    return name + (version or "")


def condition_name(condition: str) -> str:
    """A condition of the shipped probes in words; others by their own name."""
    if numbered := re.fullmatch(r"(pad|fillers|without)-(\d+)", condition):
        kind, count = numbered[1], int(numbered[2])
        if kind == "without":
            return f"without sentence {count}"
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

    def place(model: str) -> tuple[int, int, str, str]:
        found = _REGISTERED.fullmatch(model)
        if not found:
            return (2, 0, "", model)
        if found[1]:
            return (0, list(_NANO).index(found[1]), "", model)
        return (1, list(_FAMILIES).index(found[2]), found[3] + found[4], model)

    return [*dict.fromkeys(order), *sorted(present - set(order), key=place)]
