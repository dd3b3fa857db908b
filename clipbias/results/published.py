"""Published numbers: what papers, READMEs and users reported, each with its source.

They are kept in ``leaderboards/published.csv``, apart from measured results, and only ever stand beside them.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from itertools import groupby
from pathlib import Path

from clipbias.errors import UserError
from clipbias.gate import read_text
from clipbias.names import from_csv, unprintable
from clipbias.shipped import shipped

UNITS = {"percent": " %", "points": " points", "cosine": "", "correlation": ""}
_ROUNDING = {"percent": 0.0501, "points": 0.0501, "cosine": 0.000501, "correlation": 0.00501}
DIRECTIONS = ("t2i", "i2t", "")
_SOURCE = re.compile(
    r"https://(arxiv\.org/abs/\d{4}\.\d{5}(v\d+)?|github\.com/[\w.-]+/[\w.-]+/(blob/[^\s()<>|]+|issues/\d+)"
    r"|huggingface\.co/[\w.-]+/[\w.-]+/blob/[^\s()<>|]+)"
)


@dataclass(frozen=True)
class Published:
    """One published number.

    Attributes:
        model, backbone: as the source calls them, in this project's spelling; "" where it does not say.
        registered: the name that clipbias loads the same weights by, or "".
        dataset, protocol: the data set, and which captions of it were used how.
        direction: "t2i", "i2t", or "" where the source does not say or there is none.
        metric: "recall@1", ... as in result rows, or the source's own.
        condition: what was done to the captions: "" (nothing), "drop-first", "swap-1-4", "shuffle", ...
        unit: "percent", "points" (difference to the whole captions), "cosine" or "correlation".
        value: as printed.
        source, place: an address that a reader can open, and the table or section there.
        ran_by: who ran it.
        note: what a reader should know.
    """

    model: str
    backbone: str
    registered: str
    dataset: str
    protocol: str
    direction: str
    metric: str
    condition: str
    unit: str
    value: float
    source: str
    place: str
    ran_by: str
    note: str

    @property
    def shown(self) -> str:
        """The value with its unit."""
        return f"{self.value:g}{UNITS[self.unit]}"

    @property
    def cited(self) -> str:
        """The source in short: "arXiv 2602.22419v2, Table 3"."""
        address = self.source.removeprefix("https://").removeprefix("arxiv.org/abs/")
        if "arxiv.org" in self.source:
            return f"arXiv {address}, {self.place}"
        if not self.source.startswith("https://"):
            return f"{self.source}, {self.place}"
        site, owner, name = address.split("/")[:3]
        return f"{owner}/{name}{' model card' if site.startswith('hugging') else ''}, {self.place}"


def read_published(path: Path | None = None) -> tuple[Published, ...]:
    """All published numbers, of the table that ships with clipbias or of ``path``.

    Raises:
        UserError: not such a table; the line says which row.
    """
    path = path or shipped("leaderboards") / "published.csv"
    names = [field.name for field in fields(Published)]
    out = []
    try:
        table = csv.DictReader(io.StringIO(read_text(path, "rows"), newline=""), strict=True)
        if table.fieldnames != names:
            raise UserError(f"{path}: columns {str(table.fieldnames)[:200]}; expected {', '.join(names)}")
        for cells in table:
            if None in cells or None in cells.values():
                raise UserError(f"{path}, line {table.line_num}: not {len(names)} cells")
            row = {name: from_csv(cell) for name, cell in cells.items()}
            value = float(row.pop("value"))
            _check(row, value, f"{path}, line {table.line_num}")
            out.append(Published(value=value, **row))
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path}: not a table of published numbers: {str(error)[:200]}") from error
    return tuple(out)


def _check(row: dict[str, str], value: float, where: str) -> None:
    """Refuse a row that says something that cannot be.

    Raises:
        UserError: which.
    """
    low, high = {"percent": (0, 100), "points": (-100, 100)}.get(row["unit"], (-1, 1))
    if row["unit"] not in UNITS or row["direction"] not in DIRECTIONS:
        raise UserError(f"{where}: unit {row['unit']!r}, direction {row['direction']!r}")
    if not (math.isfinite(value) and low <= value <= high):
        raise UserError(f"{where}: {value} {row['unit']}")
    if not _SOURCE.fullmatch(row["source"]):
        raise UserError(f"{where}: the source {row['source']!r} is not an address of a paper, a file or an issue")
    if odd := [name for name, cell in row.items() if unprintable(cell)]:
        raise UserError(f"{where}: {odd[0]} holds control characters")
    if not re.fullmatch(r"[\w.:/@+-]*", row["registered"], re.ASCII):
        raise UserError(f"{where}: {row['registered']!r} is no registered model's name")
    for name in ("model", "dataset", "protocol", "metric", "place", "ran_by"):
        if not row[name].strip():
            raise UserError(f"{where}: {name} is empty")


def chosen(numbers: Iterable[Published], data: str = "", model: str = "") -> list[Published]:
    """The numbers of a data set and a model; a model goes by its registered name or as its authors call it."""
    return [n for n in numbers if (not data or n.dataset == data) and (not model or model in (n.registered, n.model))]


def conflicts(numbers: Iterable[Published]) -> list[list[Published]]:
    """Groups of numbers on the same weights, data set, direction and measure that differ by more than rounding.

    The protocols may differ: they are a reason, and stand beside the numbers.
    """

    def differ(group: list[Published]) -> bool:
        values = [n.value for n in group]
        return max(values) - min(values) > _ROUNDING[group[0].unit]

    def measured(n: Published) -> tuple[str, ...]:
        return n.dataset, n.model, n.backbone, n.metric, n.condition, n.direction, n.unit

    known = sorted((n for n in numbers if n.backbone and "re-implemented" not in n.model), key=measured)
    groups = [list(group) for _, group in groupby(known, key=measured)]
    return [sorted(g, key=lambda n: -n.value) for g in groups if differ(g)]


def lines(numbers: Iterable[Published]) -> list[tuple[str, ...]]:
    """T2I and I2T R@1 on whole captions, a line a model, protocol and source.

    Returns:
        (data set, model, backbone, T2I, I2T, protocol, source, who ran it); numbers as printed, "" where not reported.
    """
    table: dict[tuple[str, ...], dict[str, str]] = {}
    for n in numbers:
        if (n.metric, n.condition) == ("recall@1", "") and n.direction:
            name = n.registered or n.model
            key = (n.dataset, name, n.backbone, n.protocol, n.cited, n.ran_by)
            table.setdefault(key, {})[n.direction] = f"{n.value:.1f}"
    return [
        (key[0], key[1], key[2], cells.get("t2i", ""), cells.get("i2t", ""), *key[3:]) for key, cells in table.items()
    ]
