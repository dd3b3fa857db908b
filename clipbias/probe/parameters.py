"""Parameters from a file against a function's annotations: the annotation is the rule.

``n: Count`` says type and range; `checked_parameters` refuses what does not fit, in one line that says which and why.
Nothing is converted: a 2.0, a "2" or a true is no whole number.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from clipbias.errors import UserError

Count = Annotated[int, Field(ge=0, le=1000)]
"""How many: 0 to 1,000."""
Positive = Annotated[int, Field(ge=1, le=1000)]
"""How many: 1 to 1,000."""
Place = Annotated[int, Field(ge=1, le=1000)]
"""A sentence's place, from 1."""
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
"""Of a random stream."""
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
"""A probability or share."""
Filler = Annotated[str, Field(min_length=1, max_length=2000)]
"""A text that is put into captions."""


@cache
def _model(function: Callable[..., object], skip: int) -> type[BaseModel]:
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {
        name: (hints.get(name, Any), ... if p.default is p.empty else p.default)
        for name, p in list(inspect.signature(function).parameters.items())[skip:]
        if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    }
    return create_model(
        getattr(function, "__name__", "parameters"), __config__=ConfigDict(strict=True, extra="forbid"), **fields
    )


def checked_parameters(function: Callable[..., object], given: Mapping[str, object], where: str, skip: int = 0) -> None:
    """Refuse parameters that a function's annotations do not allow.

    Args:
        function: whose parameters; those without an annotation take anything.
        given: by name.
        where: begins the message.
        skip: parameters at the beginning that are not given.

    Raises:
        UserError: one is missing, not known, of another type or out of range.
    """
    try:
        _model(function, skip).model_validate(dict(given))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        name = ".".join(map(str, first["loc"]))
        if first["type"] == "missing":
            raise UserError(f"{where}: {name} is missing") from error
        if first["type"] == "extra_forbidden":
            known = ", ".join(_model(function, skip).model_fields) or "none"
            raise UserError(f"{where}: no parameter {name!r}; it takes {known}") from error
        raise UserError(f"{where}: {name} = {str(first['input'])[:60]!r}: {first['msg']}") from error
