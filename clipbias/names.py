"""Texts of anybody to what a destination can hold: one function a destination.

Models, data sets, probes, conditions and captions come from files of anybody. None becomes a path, drives a terminal,
or is markup where it is shown; what a reader sees is the text itself. `file_name`, `for_terminal`, `for_figure`,
`for_markdown`, `for_latex`, `for_csv` and `for_json` are all there are; HTML is escaped by `for_html`, and by the
template engine in the report's page.
"""

from __future__ import annotations

import hashlib
import html
import json
import math
import re
import unicodedata
from collections.abc import Mapping

_LONGEST = 80
_DIGEST = 10
_FINE = re.compile(r"[a-z0-9_][a-z0-9_.+-]*")
_PORTS = "0123456789¹²³"
_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$", "clock$"}
    | {f"{port}{number}" for port in ("com", "lpt") for number in _PORTS}
)


def file_name(text: str) -> str:
    """The one component of a path that stands for a name, on every file system.

    Lower-case ASCII letters, digits and ``._+-`` stay; everything else becomes a hyphen. A name that was changed ends
    in 10 hex digits of SHA-256 over the whole of it, so that distinct names have distinct files: also names that differ
    in case only (file systems that ignore it), look-alikes (a Cyrillic a), and other forms of one text (NFKC).

    ``~`` never stays, so no name can be chosen to be taken for a changed one.

    Returns:
        1 to 80 ASCII characters; never ``.``, ``..``, hidden, a separator, a device's name, or with a trailing dot.
    """
    if _FINE.fullmatch(text) and len(text) <= _LONGEST and _portable(text):
        return text
    plain = unicodedata.normalize("NFKC", text)
    plain = re.sub(r"[^A-Za-z0-9_.+-]+", "-", plain)
    plain = re.sub(r"\.{2,}", ".", plain).strip(".-")
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
    plain = plain[: _LONGEST - _DIGEST - 1].rstrip(".-") or "unnamed"
    if not _portable(plain):
        plain = f"_{plain}"[: _LONGEST - _DIGEST - 1]
    return f"{plain}~{digest}"


def _portable(name: str) -> bool:
    """Whether no system takes a name for a device, the parent folder, or another file."""
    return name.split(".")[0].lower() not in _DEVICES and ".." not in name and not name.endswith(".")


_UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def unprintable(text: str) -> bool:
    """Whether a text holds characters that drive a terminal or do not show: controls, directions, halves of pairs."""
    return bool(_UNPRINTABLE.search(text))


def for_terminal(text: object) -> str:
    """One line: white space becomes spaces; controls, escapes, hidden directions and halves of pairs become �."""
    found = str(text)
    if found.isascii() and found.isprintable():
        return found
    return "".join(map(_shown, found))


def _shown(character: str) -> str:
    if character.isspace():
        return " "
    return "�" if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co") else character


def for_figure(text: object) -> str:
    """A label of Matplotlib's: `for_terminal`; no dollar sign starts mathematics, no underscore hides it in legends."""
    found = for_terminal(text).replace("$", r"\$")
    return f" {found}" if found.startswith("_") else found


# An underscore inside a word is no emphasis, an ampersand before a space no entity.
_MARKDOWN = re.compile(r"[\\`*\[\]<>|~$]|(?<![^\W_])_|_(?![^\W_])|&(?=[#\w])|(?<=www)\.|:(?=//)", re.IGNORECASE)


def for_markdown(text: object) -> str:
    """A cell or phrase of GitHub's Markdown: no markup, link, image or HTML, and no way out of a cell."""
    return _MARKDOWN.sub(lambda found: "&lt;" if found[0] == "<" else "\\" + found[0], for_terminal(text))


_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "�": "?"}
# Behind a line's end, [ and * would be its arguments; two of < or > are one quotation mark.
_LATEX |= {character: f"\\{character}" for character in "&%$#_{}"} | {
    character: f"{{{character}}}" for character in "[]*<>"
}


def for_latex(text: object) -> str:
    """A cell or phrase of LaTeX: every character stands for itself."""
    return "".join(_LATEX.get(character, character) for character in for_terminal(text))


def for_html(text: object) -> str:
    """The content of an element, or of an attribute in quotes."""
    return html.escape(for_terminal(text), quote=True)


_DRIVES = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Categories of characters that drive a terminal, hide, or end a line."""
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")
_NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?"
_NUMBERS = re.compile(rf"{_NUMBER}( to {_NUMBER})?", re.ASCII)
"""A number, or an interval as tables write it: -1.5 to 2.0."""


def for_csv(value: object) -> object:
    """A cell: a text that a spreadsheet would take for a formula gets an apostrophe in front; numbers stay.

    Texts keep their line ends, which are the writer's to quote, and tabs; other controls and what does not
    show are as `for_terminal` has them.
    """
    if not isinstance(value, str):
        return value
    text = "".join(c if c in "\n\t" or unicodedata.category(c) not in _DRIVES else _shown(c) for c in value)
    bare = text.lstrip("'")  # a text that looks quoted already is quoted too, so that `from_csv` gives it back
    return f"'{text}" if bare.lstrip(" ").startswith(_FORMULA) and not _NUMBERS.fullmatch(bare) else text


def from_csv(text: str) -> str:
    """The text that `for_csv` made this cell of."""
    return text[1:] if text.startswith("'") and for_csv(text[1:]) == text else text


def for_json(value: object, indent: int | None = 1) -> str:
    """JSON for a terminal or a file: the same value, with what would drive a terminal written as an escape.

    An infinite number, such as the open end of an interval, is null: JSON has none.
    """
    text = json.dumps(_finite(value), ensure_ascii=False, indent=indent, allow_nan=False)
    return "".join(_escaped(c) if c != "\n" and unicodedata.category(c) in _DRIVES else c for c in text)


def _finite(value: object) -> object:
    """The value with null in the place of numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _escaped(character: str) -> str:
    return json.dumps(character)[1:-1]


def flat(record: Mapping[str, object]) -> dict[str, object]:
    """A record as a line of a table; the ``low`` of the record ``interval`` in it becomes ``interval_low``."""
    out: dict[str, object] = {}
    for key, value in record.items():
        if isinstance(value, dict):
            out |= {f"{key}_{name}": inner for name, inner in flat(value).items()}
        else:
            out[key] = value
    return out
