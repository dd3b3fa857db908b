"""From facts to one HTML file: styles, scripts and data inline, allowed by their hashes and nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import Any

import clipbias
from clipbias.names import for_terminal, unprintable


@cache
def chart_library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, from the vl-convert-python package; the same bytes every time."""
    import vl_convert

    return (
        vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
        .replace("</script", "<\\/script")
        .replace("<!--", "<\\!--")
    )


def template_file(name: str) -> str:
    """A file beside the page's template."""
    return (files("clipbias.report") / "templates" / name).read_text("utf-8")


def hash_of(text: str) -> str:
    """A content policy's source expression for an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def policy(styles: list[str], scripts: list[str], extra: str = "") -> str:
    """The page's content policy: these styles and scripts, pictures in data URIs, nothing else."""
    return (
        f"default-src 'none'; img-src data:; style-src {' '.join(map(hash_of, styles))}{extra}; "
        f"script-src {' '.join(map(hash_of, scripts))}{extra}; base-uri 'none'; form-action 'none'"
    )


def script_data(value: object) -> str:
    """JSON that can stand in a script element: no character that HTML could take for markup."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").replace("\u2028", "\\u2028")


def data_link(text: str, kind: str) -> str:
    """A text as a data URI, to download."""
    return f"data:{kind};charset=utf-8;base64,{base64.b64encode(text.encode()).decode()}"


def _shown(value: object) -> object:
    """A text that the template shows; what no name may hold (controls, hidden directions) is a mark or a space."""
    return for_terminal(value) if type(value) is str and unprintable(value) else value


def render_page(context: dict[str, Any], facts: dict[str, Any]) -> str:
    """The page as one file.

    Args:
        context: what the template shows.
        facts: what the page's script works on.
    """
    from jinja2 import Environment, PackageLoader
    from markupsafe import Markup

    environment = Environment(loader=PackageLoader("clipbias.report", "templates"), autoescape=True, finalize=_shown)
    style, script, library = template_file("page.css"), template_file("page.js"), chart_library()
    inline = f"<script>{library}</script>\n<script>{script}</script>"
    return environment.get_template("index.html.jinja").render(
        **context,
        policy=policy([style], [library, script]),
        style=Markup(f"<style>{style}</style>"),
        scripts=Markup(inline),
        facts=Markup(script_data(facts)),
        version=clipbias.__version__,
    )
