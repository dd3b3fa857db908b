"""A Sphinx extension: the directive ``clipbias-commands`` lists every command with its arguments and options.

Made from the commands themselves when the site is built.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def commands(group: Any, path: tuple[str, ...] = ("clipbias",)) -> Iterator[tuple[str, Any]]:
    """Every command and group below one, with the words that call it."""
    yield " ".join(path), group
    for name, inner in getattr(group, "commands", {}).items():
        if not inner.hidden:
            yield from commands(inner, (*path, name))


def markdown() -> str:
    """The reference, a section per command."""
    from typer.main import get_command

    from clipbias.cli.app import app

    return "\n\n".join(_section(words, command) for words, command in commands(get_command(app)))


def _section(words: str, command: Any) -> str:
    groups = [name for name, inner in getattr(command, "commands", {}).items() if not inner.hidden]
    usage = [f"<{p.name}>" for p in command.params if p.param_type_name == "argument"]
    lines = [f"## {words}", "", _told(command.help), ""]
    lines += ["```sh", " ".join([words, *usage, "COMMAND" if groups else "[OPTIONS]"]), "```", ""]
    if groups:
        lines += [f"Commands: {', '.join(f'`{name}`' for name in groups)}.", ""]
    rows = [_row(parameter) for parameter in command.params if not parameter.hidden]
    if rows:
        lines += ["| | | default |", "|---|---|---|", *rows]
    return "\n".join(lines)


def _told(text: str | None) -> str:
    """Help as Markdown: an option in it is code, as two hyphens of prose become a dash."""
    return re.sub(r"(?<![`\w-])--[a-z][\w-]*", r"`\g<0>`", text or "").strip()


def _row(parameter: Any) -> str:
    names = [*parameter.opts, *parameter.secondary_opts]
    shown = (
        ", ".join(f"`{name}`" for name in names) if parameter.param_type_name == "option" else f"`<{parameter.name}>`"
    )
    default = "" if parameter.default in (None, False, ()) or callable(parameter.default) else f"`{parameter.default}`"
    text = _told(parameter.help).replace("|", "\\|").replace("\n", " ")
    return f"| {shown} | {text} | {'required' if parameter.required else default} |"


class Commands(SphinxDirective):
    """The directive."""

    def run(self) -> list[nodes.Node]:
        """See `SphinxDirective`."""
        return self.parse_text_to_nodes(markdown(), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive("clipbias-commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
