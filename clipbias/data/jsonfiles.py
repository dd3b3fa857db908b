"""JSON as data sets ship it: whole files, one object a line, and arrays too large for memory."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path

from clipbias import gate
from clipbias.errors import UserError
from clipbias.gate import not_utf8, open_file, read_lines, size_limit

_CHUNK = 1 << 20


def read_json(path: Path) -> object:
    """A whole JSON file.

    Raises:
        UserError: missing, not UTF-8, or not JSON (names line and column).
    """
    return gate.read_json(path)


def read_json_lines(path: Path) -> Iterator[tuple[dict[str, object], str]]:
    """The objects of a file with one JSON object a line, each with its place for messages.

    Raises:
        UserError: missing, not UTF-8, or a line that is no JSON object; names the line.
    """
    for number, raw in enumerate(read_lines(path, "table"), 1):
        if not raw.strip():
            continue
        where = f"{path}, line {number:,}"
        try:
            entry = json.loads(raw.decode("utf-8-sig" if number == 1 else "utf-8"))
        except UnicodeDecodeError as error:
            raise not_utf8(path, error, number) from error
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where}: not JSON ({error})") from error
        if not isinstance(entry, dict):
            raise UserError(f"{where}: expected a JSON object, found {type(entry).__name__}")
        yield entry, where


def stream_json_array(path: Path) -> Iterator[tuple[object, int]]:
    """The elements of one top-level array, each with the share of the file read so far in bytes.

    Memory is set by the largest element (at most the limit of "line"), not by the file.

    Raises:
        UserError: missing, not UTF-8, not an array, broken or cut off; names the element.
    """
    decoder = json.JSONDecoder()
    text_decoder = codecs.getincrementaldecoder("utf-8-sig")()
    buffer, place, count, ended = "", 0, 0, False
    longest = size_limit("line")
    try:
        with open_file(path, "table") as file:

            def more() -> None:
                nonlocal buffer, place, ended
                # Doubling what is read for one element keeps large elements linear in their size.
                raw = file.read(max(_CHUNK, len(buffer) - place))
                ended = not raw
                buffer = buffer[place:] + text_decoder.decode(raw, final=ended)
                place = 0

            def next_sign() -> str:
                nonlocal place
                while True:
                    while place < len(buffer) and buffer[place] in " \t\r\n":
                        place += 1
                    if place < len(buffer) or ended:
                        return buffer[place : place + 1]
                    more()

            if next_sign() != "[":
                raise UserError(f"{path}: expected a JSON array")
            place += 1
            if next_sign() == "]":
                return
            while True:
                next_sign()
                while True:
                    try:
                        element, end = decoder.raw_decode(buffer, place)
                        # A number or word that touches the end of the buffer may go on.
                        if end < len(buffer) or ended:
                            break
                    except json.JSONDecodeError as error:
                        if ended:
                            raise UserError(f"{path}: element {count:,} is broken or cut off ({error.msg})") from error
                        if len(buffer) - place > longest:
                            raise UserError(
                                f"{path}: element {count:,} is no JSON or larger than {longest:,} bytes"
                            ) from error
                    more()
                place = end
                yield element, file.tell()
                count += 1
                sign = next_sign()
                place += 1
                if sign == "]":
                    return
                if sign != ",":
                    raise UserError(f"{path}: the array is cut off or broken after element {count - 1:,}")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text near element {count:,}; convert the file to UTF-8") from error
    except RecursionError as error:
        raise UserError(f"{path}: element {count:,} is nested too deeply to be a data set's row") from error


def field(entry: object, key: str | int, where: str) -> object:
    """``entry[key]``.

    Raises:
        UserError: there is none; names the place.
    """
    try:
        return entry[key]  # type: ignore[index]
    except (KeyError, IndexError, TypeError) as error:
        raise UserError(f"{where}: no {key!r}; is this the file the data set's authors ship?") from error
