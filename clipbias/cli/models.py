"""`clipbias models`: the registered models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipbias.cli.console import print_table, say

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
        as_json: Annotated[bool, typer.Option("--json", help="JSON output.")] = False,
    ) -> None:
        """List the registered models, show one, or check any model in a minute (models check MODEL)."""
        if name == "check":
            from clipbias.cli.console import only_by_hand, pairs
            from clipbias.errors import UserError
            from clipbias.models.loading import load_model

            if model is None:
                raise UserError("name the model to check: clipbias models check nano-debias")
            if trust_remote_code:
                only_by_hand(context, "trust_remote_code")
            settings = pairs(model_option, "--model-option", ("name", "weights", "device", "precision"))
            settings |= {"revision": revision} if revision else {}
            _check(
                load_model(model, weights, device, precision, trust_remote_code=trust_remote_code, **settings), as_json
            )
            return
        from clipbias.cli.console import print_json
        from clipbias.models.catalogue import MODELS
        from clipbias.models.entry import PACKAGED

        chosen = {n: _facts(MODELS[n]) for n in ([name] if name else MODELS)}
        if as_json:
            print_json(chosen)
            return
        if name:
            for key, value in chosen[name].items():
                say(f"{key + ':':18} {value}")
            card = PACKAGED / f"{name}.md"
            if card.is_file():
                say("\n" + card.read_text("utf-8"))
            return
        keys = ("family", "backbone", "context length", "embedding size", "here", "source")
        columns = ("model", "family", "backbone", "context", "dim", "here", "weights from")
        print_table(columns, [(n, *(facts[key] for key in keys)) for n, facts in chosen.items()], width=140)
        say(
            "also: openclip:NAME/TAG, hf:OWNER/NAME, st:NAME, a path, or module:function; "
            "`clipbias models NAME` shows one in full"
        )


def _check(encoder: Encoder, as_json: bool) -> None:
    """Print the card of a model: what it is, and a line a check.

    Raises:
        CheckFailed: a check says no.
    """
    from dataclasses import asdict

    from clipbias.cli.console import print_json
    from clipbias.models.check import check_model, describe, require_checked

    head = describe(encoder)
    if not as_json:
        for key, value in head.items():
            say(f"{key + ':':22} {value}")
        say()
    findings = []
    for finding in check_model(encoder):
        findings.append(finding)
        if not as_json:
            say(f"{finding.verdict:14} {finding.check}: {finding.measured}")
    if as_json:
        print_json({**head, "checks": [asdict(finding) for finding in findings]})
    require_checked(findings)


def _facts(entry: ModelEntry | object) -> dict[str, str | int]:
    """What is known of a model without loading it."""
    from clipbias.models.entry import ModelEntry
    from clipbias.models.weights import local_weights

    if not isinstance(entry, ModelEntry):
        module, name = getattr(entry, "__module__", ""), getattr(entry, "__qualname__", repr(entry))
        unknown = {"backbone": "", "context length": "", "embedding size": "", "here": "yes"}
        return {
            "family": "user",
            **unknown,
            "source": f"{module}:{name}",
            "get it": "",
            "sha256": "",
            "revision": "",
            "note": "",
        }
    # Only open_clip knows where its files are, by trying.
    here = "?" if entry.family == "openclip" else "yes" if local_weights(entry, check=False) else "no"
    return {
        "family": entry.family,
        "backbone": entry.backbone,
        "context length": entry.context_length,
        "embedding size": entry.embed_dim,
        "here": here,
        "source": entry.source,
        "get it": entry.where,
        "sha256": entry.digest,
        "revision": entry.revision,
        "note": entry.note,
    }
