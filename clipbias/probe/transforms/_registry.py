"""The registry of transforms, and the check of a call against a transform's annotations."""

from __future__ import annotations

from collections.abc import Callable

from clipbias.probe.parameters import checked_parameters
from clipbias.registry import Registry

Sentences = tuple[str, ...]
Transform = Callable[..., Sentences | None]

TRANSFORMS: Registry[Transform] = Registry("transform", "clipbias.transforms")


def register_transform(function: Transform) -> Transform:
    """Register a transform under its own name."""
    TRANSFORMS.add(function.__name__, function)
    return function


def check_call(name: str, parameters: dict[str, object]) -> Transform:
    """The transform of that name, if it takes these parameters.

    Raises:
        UserError: no such transform, or a parameter that is missing, not known, or not as its annotation says.
    """
    transform = TRANSFORMS[name]
    checked_parameters(transform, parameters, f"transform {name}", skip=1)
    return transform
