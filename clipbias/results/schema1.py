"""Runs of schema 1 (clipbias 1.0), read as today's."""

from __future__ import annotations

from typing import Any

from clipbias.results.settings import Settings


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
    return {**old, "identity": {}, "images_fingerprint": "", "settings": settings}
