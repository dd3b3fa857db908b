"""Which feature row a text has, without the text: a few bytes each, where a dictionary of texts takes hundreds."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    from clipbias.probe.session import TextKey


class TextRows:
    """Text -> the number of its row; rows are given in order, from 0, and never taken back.

    An open-addressed table of row numbers, with 96 bits of each text to tell it by: among a hundred million texts two
    are taken for one with a chance of 1e-13. The bits are Python's own hash, keyed anew in each process, and a CRC.
    """

    def __init__(self) -> None:
        self._codes = array("q")
        self._checks = array("I")
        self._table = _free(64)

    def __len__(self) -> int:
        return len(self._codes)

    def __contains__(self, key: TextKey) -> bool:
        return self._found(key)[0] >= 0

    def __getitem__(self, key: TextKey) -> int:
        row, _ = self._found(key)
        if row < 0:
            raise KeyError(key)
        return row

    def __setitem__(self, key: TextKey, row: int) -> None:
        known, place = self._found(key)
        if known >= 0 or row != len(self):
            raise ValueError(f"row {row}: rows are given in order, each to a new text")
        self._table[place] = row
        self._codes.append(hash(key))
        self._checks.append(_check(key))
        if 3 * len(self) > 2 * len(self._table):
            self._grow()

    def _found(self, key: TextKey) -> tuple[int, int]:
        """The text's row, -1 where it has none, and its place in the table."""
        code, table, codes = hash(key), self._table, self._codes
        last = len(table) - 1
        place = code & last
        while (row := table[place]) >= 0:
            if codes[row] == code and self._checks[row] == _check(key):
                break
            place = place + 1 & last
        return row, place

    def _grow(self) -> None:
        """A table of twice the size."""
        table = self._table = _free(2 * len(self._table))
        last = len(table) - 1
        for row, code in enumerate(self._codes):
            place = code & last
            while table[place] >= 0:
                place = place + 1 & last
            table[place] = row


def _free(size: int) -> array[int]:
    return array("i", [-1]) * size


def _check(key: TextKey) -> int:
    return crc32(key[0].encode("utf-8", "surrogatepass"))
