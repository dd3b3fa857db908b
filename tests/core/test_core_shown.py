"""What comes from files of anybody is shown as it is, whatever it means where it is shown."""

from __future__ import annotations

import ast
import csv
import io
import json
import re
import sys
from pathlib import Path

import matplotlib.cbook
import pandas as pd
import pytest
from hostile import MARKDOWN, MARKUP, TERMINAL, TEXTS, Plain, cells, harmless, latex_text, shown
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from tests_support import make_row, make_run

import clipbias.cli.app
from clipbias import names
from clipbias.finetune.export import model_card
from clipbias.report.tables import LATEX_COLUMNS, to_csv, to_latex, to_markdown
from clipbias.results.folder import run_folder, write_run
from clipbias.results.record import QUERY_COLUMNS

texts = st.one_of(
    st.sampled_from(TEXTS), st.text(), st.text(st.sampled_from("$\\_*[]()|<>&~`=-+@'\" a1\n\x1b"), max_size=9)
)


@given(texts)
def test_a_terminal_shows_one_harmless_line(text):
    found = names.for_terminal(text)
    assert found == shown(text) and harmless(found) and len(found.splitlines()) <= 1


@given(texts)
def test_a_figure_shows_the_text_and_no_mathematics(text):
    label = names.for_figure(text)
    # Matplotlib reads mathematics where dollar signs come in pairs, and else shows escaped ones as themselves.
    assert not matplotlib.cbook.is_math_text(label)
    assert label.replace(r"\$", "$").removeprefix(" ") == shown(text).removeprefix(" ") and not label.startswith("_")


@given(texts)
def test_markdown_shows_the_text_alone(text):
    table = to_markdown(pd.DataFrame({"a": ["x", "y"], "b": [text, "z"]}, dtype=object))
    assert cells(table) == ["a", "b", "x", shown(text).strip(" "), "y", "z"]
    # GitHub makes links of bare addresses too.
    assert not re.search(r"\bwww\.|https?://", names.for_markdown(text), re.IGNORECASE)


@given(texts)
def test_latex_shows_the_text_alone(text):
    made = names.for_latex(text)
    assert latex_text(made) == shown(text).replace("�", "?")
    measured = dict.fromkeys([name + end for name in LATEX_COLUMNS for end in ("", " low", " high")], 1.0)
    table = to_latex(
        pd.DataFrame({"data": ["d", "d"], "model": pd.Series([text, "x"], dtype=object), "protocol": "p", **measured})
    )
    assert table.count("\n") == 9 and table.count(r" \\") == 3


@given(texts)
@example("'=")
def test_a_spreadsheet_shows_texts_and_calculates_nothing(text):
    table = to_csv(pd.DataFrame({"a": [text, "x"], "b": ["y", "z"]}, dtype=object))
    (head, first, second) = list(csv.reader(io.StringIO(table), strict=True))
    assert head == ["a", "b"] and second == ["x", "z"]
    if first[0].lstrip(" ")[:1] in tuple("=+-@＝＋－＠\t\r"):
        assert re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?( to [+-]?[\d.]+(e[+-]?\d+)?)?|", first[0])
    assert "\x1b" not in table and "\x9b" not in table
    if harmless(text):
        assert names.from_csv(first[0]) == text


@given(
    st.recursive(
        texts | st.integers() | st.none(), lambda x: st.lists(x, max_size=2) | st.dictionaries(texts, x, max_size=2)
    )
)
def test_json_is_the_same_value_and_drives_no_terminal(value):
    text = names.for_json(value)
    assert json.loads(text) == value and harmless(text)


@given(texts)
def test_html_shows_the_text_alone(text):
    page = Plain()
    page.feed(f'<p title="{names.for_html(text)}">{names.for_html(text)}</p>')
    page.close()
    assert page.tags == [("p", {"title": shown(text)})] and page.text == shown(text)


@given(texts)
def test_a_model_card_stays_a_card(text):
    card = model_card(text, f"clipbias {text}", f"name = {json.dumps(text)}\nseed = 0\n", {"data": text, "base": text})
    kinds = [token.type for token in MARKDOWN.parse(card)]
    assert kinds.count("heading_open") == 1 and kinds.count("list_item_open") == 2 and kinds.count("code_block") == 2
    for token in MARKDOWN.parse(card):
        assert token.type != "html_block" and {c.type for c in token.children or ()} <= {"text", "text_special"}


def test_only_the_console_prints():
    folder = Path(clipbias.cli.app.__file__).parent
    found = [
        (path.name, node.lineno)
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and (
            getattr(node.func, "id", "") in ("print", "Console", "Table")
            or getattr(node.func, "attr", "") in ("echo", "secho")
        )
    ]
    # What remains says the version or that a signal came, and nothing from files.
    assert {name for name, _ in found} <= {"console.py", "app.py"}, found


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Run the command line in this process: its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(clipbias.cli.app, "_answer_signals", lambda: None)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["clipbias", *map(str, arguments)])
        code = 0
        try:
            clipbias.cli.app.main()
        except SystemExit as stop:
            code = stop.code or 0
        found = capsys.readouterr()
        assert harmless(found.out) and harmless(found.err), (arguments, found)
        assert "unexpected" not in found.err and "Traceback" not in found.err, found.err
        return code, found.out, found.err

    return run


NAMED = [text for text in MARKUP if text == text.strip()][::3]
SOME = TERMINAL + MARKUP[::4]


def write_named(root: Path) -> None:
    """A run a name, with which model, title and protocol are called, and one with a condition a name."""

    def write(conditions: list[str], **changes: str) -> None:
        run = make_run(**changes)
        lines = [[c, "t2i", q, q, 0, 0, 1, 0.5, 0.1, True, False] for c in conditions for q in range(3)]
        rows = [
            make_row(condition=condition, order=order, direction=direction, metric=metric, scope=scope)
            for order, condition in enumerate(conditions)
            for direction in ("t2i", "i2t")
            for metric in ("recall@1", "recall@5", "recall@10")
            for scope in ("eligible", "all")
        ]
        folder = run_folder(root, run.model, run.data, run.probe, run.fingerprint, run.data_fingerprint)
        write_run(folder, run, rows, pd.DataFrame(lines, columns=list(QUERY_COLUMNS)))

    for name in NAMED:
        write(["full"], model=name, title=name, protocol=name)
    write(["full", *NAMED], model="plain", data="$x$ [red]<b>|", data_fingerprint="2")


def test_commands_on_results_show_every_name_as_it_is(command, tmp_path):
    write_named(tmp_path / "results")
    code, out, err = command("report", "--format", "svg")
    assert code == 0, err
    code, out, _ = command("results", "list")
    assert code == 0 and all(name in out for name in NAMED)
    for arguments in (("card",), ("leaderboard", "--results", "results"), ("results", "check", "results")):
        assert command(*arguments)[0] in (0, 1)
    one = next((tmp_path / "results").rglob("run.json")).parent
    assert command("results", "show", one)[0] == 0
    assert command("compare", one, one)[0] in (0, 2)
    board = (tmp_path / "figures" / "leaderboard.md").read_text("utf-8")
    found = cells(board)
    assert {name for name in NAMED if name not in found} == set()
    page = Plain()
    page.feed((tmp_path / "figures" / "index.html").read_text("utf-8"))
    assert "img" not in {tag for tag, attrs in page.tags if "onerror" in attrs} and not [
        attrs for _, attrs in page.tags if any(name.startswith("on") for name in attrs)
    ]
    for row in csv.reader(io.StringIO((tmp_path / "figures" / "leaderboard.csv").read_text("utf-8"))):
        assert not [cell for cell in row if cell[:1] in "=@" and cell]
    for path in (tmp_path / "figures").rglob("*"):
        assert re.fullmatch(r"[\w.+~-]+", path.name, re.ASCII), path


def test_commands_on_data_show_every_caption_as_it_is(command, tmp_path):
    captions = [text for text in TEXTS if "\x00" not in text and "\ud800" not in text]
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    rows = [("a.png", f"{text} one. Two {text}. Three.") for text in captions]
    with open(tmp_path / "x.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("image", "caption"), *rows])
    for arguments in (
        ("data", "check", "x.csv"),
        ("data", "stats", "x.csv"),
        ("data", "show", "x.csv", "0"),
        ("data", "bias", "x.csv"),
    ):
        code, out, err = command(*arguments)
        assert code in (0, 1, 2) and (out or err), arguments
    code, out, _ = command("data", "show", "x.csv", "0")
    assert code == 0 and "[red]red[/red]" in out and r"$\evil$" in out


@pytest.mark.parametrize("text", SOME)
def test_errors_show_what_they_are_about_and_stay_one_line(command, text, tmp_path):
    quoted = json.dumps(text)
    spec = f"name = {quoted}\ntitle = {quoted}\nkind = {quoted}\n[[condition]]\nname = {quoted}\ntransforms = []\n"
    (tmp_path / "p.toml").write_text(spec, "utf-8", "surrogatepass")
    (tmp_path / "c.toml").write_text(f"[probe]\n{quoted} = 1\n", "utf-8", "surrogatepass")
    (tmp_path / "r.toml").write_text(f"name = {quoted}\nobjective = {quoted}\n", "utf-8", "surrogatepass")
    (tmp_path / "v.toml").write_text(f"[probe]\nlimit = {quoted}\n", "utf-8", "surrogatepass")
    for arguments in (
        ("probe", "./p.toml", "--model", "nano-clip"),
        ("--config", "c.toml", "models"),
        ("--config", "v.toml", "probe"),
        ("finetune", "debias", "--recipe", "r.toml", "--out", "o"),
        ("data", "check", "./" + text.replace("\x00", "").replace("\ud800", "")),
        ("report", "--results", text.replace("\x00", "").replace("\ud800", "") + "/none"),
    ):
        code, _, err = command(*arguments)
        assert code == 2 and err.strip(), arguments
