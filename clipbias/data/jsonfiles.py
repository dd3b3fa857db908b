"""JSON as data sets ship it: one object a line, and arrays too large for memory."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from clipbias.errors import UserError
from clipbias.formats import parse_json, require_whole_characters
from clipbias.gate import not_utf8, open_file, read_lines, size_limit

_CHUNK = 1 << 20


def text_lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines of a UTF-8 table that are not empty, without their ends, each with its place for messages.

    Raises:
        UserError: missing, or not UTF-8; names the line.
    """
    for number, raw in enumerate(read_lines(path, "table"), 1):
        if not raw.strip():
            continue
        try:
            yield raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n"), f"{path}, line {number:,}"
        except UnicodeDecodeError as error:
            raise not_utf8(path, error, number) from error


def read_json_lines(path: Path) -> Iterator[tuple[dict[str, object], str]]:
    """The objects of a file with one JSON object a line, each with its place for messages.

    Raises:
        UserError: as `text_lines`, or a line that is no JSON object; names the line.
    """
    for text, where in text_lines(path):
        entry = parse_json(text, where)
        if not isinstance(entry, dict):
            raise UserError(f"{where}: expected a JSON object, found {type(entry).__name__}")
        yield entry, where


def stream_json_array(path: Path) -> Iterator[tuple[object, int]]:
    """The elements of one top-level array, each with the share of the file read so far in bytes.

    Memory is set by the largest element (at most the limit of "line"), not by the file.

    Raises:
        UserError: missing, not UTF-8, not an array, broken or cut off; names the element.
    """
    count = 0
    try:
        with open_file(path, "table") as file:
            text = _Growing(file)
            if text.sign() != "[":
                raise UserError(f"{path}: expected a JSON array")
            text.place += 1
            if text.sign() == "]":
                return
            while True:
                text.sign()
                yield text.value(f"{path}: element {count:,}"), file.tell()
                count += 1
                sign = text.sign()
                text.place += 1
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


class _Growing:
    """The text of a JSON file from ``place`` on; what lies before is forgotten as more is read."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.decoder = json.JSONDecoder()
        self.utf8 = codecs.getincrementaldecoder("utf-8-sig")()
        self.buffer, self.place, self.ended = "", 0, False
        self.longest = size_limit("line")

    def more(self) -> None:
        # Doubling what is read for one element keeps large elements linear in their size.
        raw = self.file.read(max(_CHUNK, len(self.buffer) - self.place))
        self.ended = not raw
        self.buffer = self.buffer[self.place :] + self.utf8.decode(raw, final=self.ended)
        self.place = 0

    def sign(self) -> str:
        """The next character that is no white space, at ``place``; empty at the end."""
        while True:
            while self.place < len(self.buffer) and self.buffer[self.place] in " \t\r\n":
                self.place += 1
            if self.place < len(self.buffer) or self.ended:
                return self.buffer[self.place : self.place + 1]
            self.more()

    def value(self, where: str) -> object:
        """The value at ``place``, which moves behind it."""
        while True:
            try:
                element, end = self.decoder.raw_decode(self.buffer, self.place)
                # A number near the end of the buffer may go on: the 1 of a "1e+" is one, and so is its "1.".
                if end + 2 < len(self.buffer) or self.ended:
                    require_whole_characters(self.buffer[self.place : end], where)
                    self.place = end
                    return element
            except json.JSONDecodeError as error:
                if self.ended:
                    raise UserError(f"{where} is broken or cut off ({error.msg})") from error
                if len(self.buffer) - self.place > self.longest:
                    raise UserError(f"{where} is no JSON or larger than {self.longest:,} bytes") from error
            except ValueError as error:
                raise UserError(f"{where} is no JSON ({str(error)[:100]})") from error
            self.more()


def field(entry: object, key: str | int, where: str) -> object:
    """``entry[key]``.

    Raises:
        UserError: there is none; names the place.
    """
    try:
        return entry[key]  # type: ignore[index]
    except (KeyError, IndexError, TypeError) as error:
        raise UserError(f"{where}: no {key!r}; is this the file the data set's authors ship?") from error
