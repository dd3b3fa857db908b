"""Results of schema 1 (clipbias 1.0), read as today's; what they did not record is empty, never guessed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clipbias.results.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

QUERY_COLUMNS = ("condition", "direction", "query", "cluster", "rank", "cosine", "margin", "eligible", "affected")
METHOD = "schema 1: percentile bootstrap over images; ties count against the model"
"""What `Row.method` says of rows of schema 1: their values and ranks follow the rule of ties of that time."""


def upgraded_run(old: dict[str, Any]) -> dict[str, Any]:
    """A record of schema 1 with the fields that schema 2 added; what was not recorded is empty, never guessed.

    Schema 1 did not record weights, options as given, preprocessing or tokenizer: `settings` is what its command said,
    and `identity` is empty.
    """
    try:
        settings = Settings(
            probe=old["probe"],
            model=old["model"],
            data=old["data"],
            split=old["split"],
            device=old["device"],
            precision=old["precision"],
            seed=old["seed"],
        ).record()
    except KeyError:
        settings = {}  # the check of the fields says which is missing
    return {**old, "identity": {}, "settings": settings, "files": {}, "seal": ""}


def upgraded_row(old: dict[str, Any]) -> dict[str, Any]:
    """A row of schema 1 with the fields of schema 2."""
    new = {key: value for key, value in old.items() if key != "p_mcnemar"}
    value, delta = old.get("value"), old.get("delta")
    base = value - delta if isinstance(value, int | float) and isinstance(delta, int | float) else None
    return {
        **new,
        "method": METHOD,
        "base": base,
        "p": old.get("p_mcnemar"),
        "clusters": None,
        "ties": None,
    }


def upgraded_queries(old: pd.DataFrame) -> pd.DataFrame:
    """A per-query table of schema 1 with the columns of schema 2.

    Candidates that equal the best positive were counted as better, and cannot be told from these any more.
    """
    new = old.assign(better=old["rank"] - 1, equal=0, right=1)
    new.attrs["ties"] = METHOD
    return new
