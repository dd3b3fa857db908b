"""The published numbers that ship: one schema, no repeats, sources that can be opened, names that exist."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from clipbias.cli.app import app
from clipbias.errors import UserError
from clipbias.models.catalogue import MODELS
from clipbias.results.published import chosen, conflicts, lines, read_published
from clipbias.results.published_page import page

ROOT = Path(__file__).parents[2]
NUMBERS = read_published()


def key(n):
    return tuple(v for k, v in asdict(n).items() if k not in ("value", "ran_by", "note"))


def test_no_number_is_there_twice():
    repeated = [k for k, count in Counter(map(key, NUMBERS)).items() if count > 1]
    assert not repeated
    papers = Counter((*key(replace(n, source=re.sub(r"v\d+$", "", n.source), place="")), n.value) for n in NUMBERS)
    assert not [k for k, count in papers.items() if count > 1]


def test_registered_names_exist_and_are_of_one_model_and_backbone():
    kinds: dict[str, set[tuple[str, str]]] = {}
    for n in NUMBERS:
        if n.registered:
            assert n.registered in MODELS
            kinds.setdefault(n.registered, set()).add((n.model, n.backbone))
    assert all(len(found) == 1 for found in kinds.values())


@pytest.mark.parametrize("n", [replace(NUMBERS[0], source=s) for s in sorted({n.source for n in NUMBERS})], ids=str)
def test_every_source_is_an_address_of_a_paper_a_file_or_an_issue(n):
    assert re.match(r"https://(arxiv\.org/abs/|github\.com/|huggingface\.co/)\S+$", n.source)
    assert n.cited


def test_recalls_rise_with_k():
    found = {(*key(replace(n, metric="")), n.metric): n.value for n in NUMBERS if n.metric.startswith("recall@")}
    for (*rest, metric), value in found.items():
        if metric in ("recall@5", "recall@10"):
            below = found.get((*rest, {"recall@5": "recall@1", "recall@10": "recall@5"}[metric]))
            assert below is None or below <= value


def test_facts_known_by_heart():
    """arXiv 2602.22419, Table 3 and the section on robustness; read by hand."""
    mine = chosen(NUMBERS, "docci", "debias-b16")
    table = {n.direction: n.value for n in mine if n.place == "Table 3"}
    assert table == {"t2i": 80.0, "i2t": 79.7}
    drops = {n.condition: n.value for n in chosen(NUMBERS, "docci", "longclip-b16") if n.unit == "points"}
    assert drops == {"drop-first": -17.1, "swap-1-4": -9.7}


def test_sources_that_differ_stand_side_by_side_with_their_protocols():
    groups = {(g[0].registered, g[0].dataset, g[0].direction): g for g in conflicts(NUMBERS) if not g[0].condition}
    l14 = groups["openai-l14", "docci", "t2i"]
    assert {n.value for n in l14} == {60.7, 63.0, 65.8}
    assert len({n.protocol for n in groups["longclip-b16", "dci", "t2i"]}) > 1
    for group in groups.values():
        assert len({(n.model, n.backbone, n.metric, n.direction) for n in group}) == 1
        assert max(n.value for n in group) - min(n.value for n in group) > 0.05


def test_the_page_in_the_docs_is_what_the_command_makes():
    assert (ROOT / "docs" / "published.md").read_text("utf-8") == page(NUMBERS)


def test_the_table_is_what_the_command_writes():
    text = (ROOT / "leaderboards" / "published.csv").read_text("utf-8")
    ours = list(csv.reader(io.StringIO(CliRunner().invoke(app, ["published", "--csv"]).stdout)))
    theirs = list(csv.reader(io.StringIO(text)))
    place = theirs[0].index("value")
    for a, b in zip(ours[1:], theirs[1:], strict=True):
        assert float(a.pop(place)) == float(b.pop(place)) and a == b


def test_lines_hold_both_directions_of_one_source_and_protocol():
    for line in lines(chosen(NUMBERS, "urban1k", "himo-clip")):
        assert line[0] == "urban1k" and line[3] and line[4]


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("value", "700", "700.0 percent"),
        ("value", "nan", "nan"),
        ("value", "much", "much"),
        ("direction", "sideways", "sideways"),
        ("unit", "furlongs", "furlongs"),
        ("source", "a friend", "a friend"),
        ("protocol", " ", "protocol is empty"),
    ],
)
def test_a_row_that_cannot_be_is_named(tmp_path, column, value, said):
    rows: list[dict[str, object]] = [asdict(n) for n in NUMBERS[:3]]
    rows[1][column] = value
    with (tmp_path / "p.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    with pytest.raises(UserError, match=said):
        read_published(tmp_path / "p.csv")


def test_the_command_prints_a_part_and_names_what_there_is():
    run = CliRunner().invoke(app, ["published", "--data", "urban1k", "--model", "longclip-b16"])
    assert run.exit_code == 0 and "79.5" in run.output and "arXiv 2602.22419v2, Table 3" in run.output
    assert "docci" not in run.output
    run = CliRunner().invoke(app, ["published", "--data", "nowhere"])
    assert isinstance(run.exception, UserError) and "urban1k" in str(run.exception)
