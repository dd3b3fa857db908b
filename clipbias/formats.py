"""JSON and TOML of anybody: a value, or one `UserError` that says where it stops being one."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from clipbias.errors import UserError
from clipbias.gate import read_text

_LONG_KEY = re.compile(r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){200}""")
# An escape of half a surrogate pair without the other half on its side.
_HALF = re.compile(r"\\u[dD](?:[89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..\\u[dD])[c-fC-F]..)")


def parse_json(text: str, where: object) -> object:
    """JSON from a text; ``where`` is named in errors.

    Raises:
        UserError: not JSON (line and column), nested too deeply, a number of thousands of digits, or as
            `require_whole_characters`.
    """
    require_whole_characters(text, where)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not JSON at {_at(text, error.pos)} ({error.msg})") from error
    except RecursionError as error:
        raise UserError(f"{where}: JSON nested too deeply") from error
    except ValueError as error:
        raise UserError(f"{where}: not JSON ({str(error)[:120]})") from error


def require_whole_characters(text: str, where: object) -> None:
    """Refuse JSON whose escapes make half a surrogate pair, which no UTF-8 file and no table could hold.

    Raises:
        UserError: there is one; says where and which.
    """
    # Behind an escaped backslash, a u is a letter.
    if "\\u" in text and (found := _HALF.search(text.replace("\\\\", "  "))):
        raise UserError(f"{where}: half a character at {_at(text, found.start())} ({found[0]}); not valid Unicode")


def _at(text: str, position: int) -> str:
    line = text.count("\n", 0, position) + 1
    column = f"column {position - text.rfind(chr(10), 0, position):,}"
    return f"line {line:,}, {column}" if "\n" in text.rstrip("\r\n") else column


def read_json(path: Path, kind: str = "json") -> object:
    """A whole JSON file; raises as `read_text` and `parse_json`."""
    return parse_json(read_text(path, kind), path)


def read_toml(path: Path, kind: str = "spec") -> dict[str, object]:
    """A whole TOML file; raises as `read_text` and `parse_toml`."""
    return parse_toml(read_text(path, kind), path)


def parse_toml(text: str, where: object) -> dict[str, object]:
    """TOML from a text; ``where`` is named in errors.

    Raises:
        UserError: no TOML, nested too deeply, or a number of thousands of digits.
    """
    try:
        # The parser takes time in the square of the parts of a dotted key.
        if _LONG_KEY.search(text):
            raise UserError(f"{where}: a key of 200 parts or more; refused")
        return tomllib.loads(text)
    except RecursionError as error:
        raise UserError(f"{where}: TOML nested too deeply") from error
    except ValueError as error:
        raise UserError(f"{where}: not TOML: {str(error)[:200]}") from error
