"""`clipbias models`: the registered models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipbias.cli.console import AsCsv, AsJson, print_table, say

if TYPE_CHECKING:
    from clipbias.models.encoder import Encoder
    from clipbias.models.entry import ModelEntry


def register(app: typer.Typer) -> None:
    """Add the subcommand."""

    @app.command()
    def models(
        context: typer.Context,
        name: Annotated[str | None, typer.Argument(help="One model, shown in full; or: check MODEL.")] = None,
        model: Annotated[str | None, typer.Argument(help="After check: the model to check.")] = None,
        weights: Annotated[Path | None, typer.Option(help="For check: the model's checkpoint file.")] = None,
        model_option: Annotated[list[str] | None, typer.Option(help="For check: an option, name=value.")] = None,
        revision: Annotated[str | None, typer.Option(help="For check: commit or tag of a hub repository.")] = None,
        trust_remote_code: Annotated[
            bool, typer.Option("--trust-remote-code", help="For check: run the code of an hf: or st: repository.")
        ] = False,
        device: Annotated[str, typer.Option(help="For check: auto, cpu, cuda, mps.")] = "auto",
        precision: Annotated[str, typer.Option(help="For check: fp32, bf16 or fp16.")] = "fp32",
        as_json: AsJson = False,
        as_csv: AsCsv = False,
    ) -> None:
        """List models, show one, or check one (models check MODEL).

        A check takes about a minute.
        """
        if name == "check":
            from clipbias.cli.console import only_by_hand, pairs
            from clipbias.errors import UserError
            from clipbias.models.loading import load_model
            from clipbias.results.settings import RESERVED

            if model is None:
                raise UserError("name the model to check: clipbias models check nano-debias")
            if trust_remote_code:
                only_by_hand(context, "trust_remote_code")
            settings = pairs(model_option, "--model-option", RESERVED["model_options"])
            settings |= {"revision": revision} if revision else {}
            encoder = load_model(model, weights, device, precision, trust_remote_code=trust_remote_code, **settings)
            _check(encoder, as_json, as_csv)
            return
        from clipbias.cli.console import note, printed
        from clipbias.models.catalogue import MODELS

        records = [_facts(n, MODELS[n]) for n in ([name] if name else MODELS)]
        if printed(records, as_json, as_csv):
            return
        if name:
            _print_one(records[0])
            return
        _print_table(records)
        note("also: openclip:NAME/TAG, hf:OWNER/NAME, st:NAME, a path, or module:function")
        note("`clipbias models NAME` shows one in full")


HERE = {True: "yes", False: "no", None: "?"}


def _print_one(facts: dict[str, object]) -> None:
    """All that is known of a model, and its card where it is packaged with one."""
    from clipbias.models.entry import PACKAGED

    for key, value in facts.items():
        shown = HERE[value] if key == "available" else value  # type: ignore[index]
        say(f"{key.replace('_', ' ') + ':':18} {shown}")
    card = PACKAGED / f"{facts['name']}.md"
    if card.is_file():
        say("\n" + card.read_text("utf-8"))


def _print_table(records: list[dict[str, object]]) -> None:
    keys = ("name", "family", "backbone", "context_length", "embedding_size", "available", "source")
    columns = ("model", "family", "backbone", "context", "dim", "here", "weights from")
    rows = [[HERE[one[k]] if k == "available" else one[k] for k in keys] for one in records]  # type: ignore[index]
    print_table(columns, rows, width=140)


def _check(encoder: Encoder, as_json: bool, as_csv: bool) -> None:
    """Print the card of a model: what it is, and a line a check.

    Raises:
        CheckFailed: a check says no.
    """
    from dataclasses import asdict

    from clipbias.cli.console import printed
    from clipbias.models.check import check_model, describe, require_checked

    head, silent = describe(encoder), as_json or as_csv
    if not silent:
        for key, value in head.items():
            say(f"{key + ':':22} {value}")
        say()
    findings = []
    for finding in check_model(encoder):
        findings.append(finding)
        if not silent:
            say(f"{finding.verdict:14} {finding.check}: {finding.measured}")
    records = [asdict(finding) for finding in findings]
    facts = {key.replace(" ", "_"): value for key, value in head.items()}
    printed(records, as_json, as_csv, whole={**facts, "checks": records})
    require_checked(findings)


def _facts(name: str, entry: ModelEntry | object) -> dict[str, object]:
    """What is known of a model without loading it."""
    from clipbias.models.entry import ModelEntry
    from clipbias.models.weights import local_weights

    if not isinstance(entry, ModelEntry):
        where = f"{getattr(entry, '__module__', '')}:{getattr(entry, '__qualname__', repr(entry))}"
        user = ModelEntry("user", "", 0, 0, where)
        return {**_record(name, user, available=True), "context_length": None, "embedding_size": None}
    # Only open_clip knows where its files are, by trying.
    here = None if entry.family == "openclip" else local_weights(entry, check=False) is not None
    return _record(name, entry, here)


def _record(name: str, entry: ModelEntry, available: bool | None) -> dict[str, object]:
    return {
        "name": name,
        "family": entry.family,
        "backbone": entry.backbone,
        "context_length": entry.context_length,
        "embedding_size": entry.embed_dim,
        "available": available,
        "source": entry.source,
        "where": entry.where,
        "sha256": entry.digest,
        "revision": entry.revision,
        "note": entry.note,
    }
