"""Hostile names through every command that prints or writes: what comes out is text, wherever it is shown."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import shutil
import tomllib
from dataclasses import fields
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
from hostile import MARKDOWN, Plain, cells, harmless, latex_text, shown
from PIL import Image
from tests_support import make_row, make_run, run_here

import clipbias.rerun.reproduce
import clipbias.results.published
from clipbias.finetune.measures import MEASURES
from clipbias.models.entry import PACKAGED
from clipbias.probe.spec import find_probes
from clipbias.report.tables import to_csv
from clipbias.results.folder import run_folder, write_run
from clipbias.results.published import Published
from clipbias.results.record import QUERY_COLUMNS
from clipbias.shipped import WORLD

NAMES = ["[red]x[/red]", "=cmd|'!A0", "<img src=x onerror=alert(1)>", r"$\input{x}_&%#$", "../../up", "[a](http://b.c)"]
"""Models: markup of Rich, a formula, HTML, LaTeX, a way out of a folder, Markdown."""
CONDITIONS = ["full", "drop-first", "@SUM(A1)", "</script><script>x", "[bold]b[/bold] | c", r"\end{tabular}"]
DATA = "<b>'d'</b>|$x$[/]"
LINE = "\x1b[2Jred \x9b31m \u202egnp[red]\rx\n| forged | <script>alert(2)</script> |"
"""What no name may hold and captions, paths and other people's words do."""


def write_results(root: Path, names: list[str]) -> list[Path]:
    """A run a name, in which everything that is a text is hostile."""
    folders = []
    for name in names:
        said = dict.fromkeys(("protocol", "title", "truncation", "interval", "command", "model_family"), LINE)
        run = make_run(
            **said, model=name, data=DATA, split=name, device=name, git_commit=name, model_fingerprint=name,
            model_options={name: LINE}, settings={"options": {name: LINE}}, versions={name: LINE, "clipbias": LINE},
        )  # fmt: skip
        rows = [
            make_row(condition=condition, order=order, direction=direction, metric=metric, scope=scope, method=LINE,
                     **({"baseline": "full", "delta": -0.1, "delta_low": -0.2, "delta_high": -0.05} if order else {}))
            for order, condition in enumerate(CONDITIONS)
            for direction in ("t2i", "i2t")
            for metric in ("recall@1", "recall@5", "recall@10")
            for scope in ("eligible", "all")
        ]  # fmt: skip
        good = NAMES.index(name) % 2
        lines = [
            [c, d, q, q, good * q, 0, 1, 0.5, 0.1, True, False]
            for c in CONDITIONS
            for d in ("t2i", "i2t")
            for q in (0, 1)
        ]
        folders.append(run_folder(root, run.model, run.data, run.probe, run.fingerprint, run.data_fingerprint))
        write_run(folders[-1], run, rows, pd.DataFrame(lines, columns=list(QUERY_COLUMNS)))
    return folders


def numbers(cell: str) -> bool:
    """Whether a cell is a number or an interval."""
    number = r"[+-]?([\d.]+(e[+-]?\d+)?|inf)"
    return re.fullmatch(rf"{number}( to {number})?", cell) is not None


def check_csv(text: str) -> None:
    """No cell is a formula, and no line a forged one."""
    rows = list(csv.reader(io.StringIO(text), strict=True))
    assert rows and {len(row) for row in rows} == {len(rows[0])}
    for cell in (cell for row in rows for cell in row):
        assert not cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r")) or numbers(cell), cell
        assert "\x1b" not in cell and "\x9b" not in cell, cell


def check_latex(text: str, names: list[str]) -> None:
    """A table of the columns it says, whose names stand for themselves."""
    lines = text.splitlines()
    rows = [line.removesuffix(r" \\") for line in lines if line.endswith(r" \\")][1:]
    assert len(lines) == len(rows) + 7, text
    assert sorted(latex_text(re.split(r" (?<!\\)& ", row)[0]) for row in rows) == sorted(names)


def check_html(path: Path, out: Path, holds: list[str]) -> None:
    """No element, attribute or address but those of the template; the names are its text."""
    page = Plain()
    page.feed(path.read_text("utf-8"))
    page.close()
    assert not [attrs for _, attrs in page.tags if any(key.startswith("on") for key in attrs)]
    assert not {tag for tag, _ in page.tags} & {"b0", "iframe", "object", "base", "red"}
    assert {attrs["src"][:5] for _, attrs in page.tags if "src" in attrs} <= {"data:"}
    assert sum(tag == "script" for tag, _ in page.tags) == 3, path
    for tag, attrs in page.tags:
        to = attrs.get("href") or "#"
        assert re.match(r"https://|#|data:text/csv|data:application/x-tex", to) or (
            tag == "a" and (path.parent / to).resolve().is_relative_to(out.resolve()) and (path.parent / to).is_file()
        ), to
    for name in holds:
        assert name in page.text, name


@pytest.fixture
def here(tmp_path):
    """Run a command in an empty folder: its stdout. What is printed drives no terminal, what it writes stays in out."""
    (tmp_path / "work" / "deep").mkdir(parents=True)

    def run(*arguments, code=0, out="nowhere", **variables):
        before = {p for p in tmp_path.rglob("*") if p.is_file()}
        done = run_here(*arguments, cwd=tmp_path / "work" / "deep", **variables)
        assert done.returncode == code, (arguments, done.returncode, done.stderr)
        assert harmless(done.stdout) and harmless(done.stderr), arguments
        forged = re.search(r"^\s*\| forged", done.stdout + done.stderr, re.MULTILINE)
        assert not forged or "--csv" in arguments, (arguments, done.stdout)  # cells may have line ends
        assert "unexpected" not in done.stderr and "Traceback" not in done.stderr, done.stderr
        for path in {p for p in tmp_path.rglob("*") if p.is_file()} - before:
            assert path.is_relative_to(tmp_path / "work" / "deep" / out), path
            assert re.fullmatch(r"[\w.+~@-]+", path.name, re.ASCII), path
        return done.stdout

    run.root = tmp_path / "work" / "deep"
    return run


def test_results_are_text_in_the_terminal_and_for_programs(here):
    folders = write_results(here.root / "results", NAMES)
    told = {
        ("results", "list"): NAMES, ("card",): NAMES, ("leaderboard", "--results", "results"): NAMES,
        ("results", "show", folders[0]): [NAMES[0], *CONDITIONS],
        ("compare", NAMES[0], NAMES[1], "--queries", "2"): [NAMES[0], NAMES[1]],
    }  # fmt: skip
    for words, holds in told.items():
        out = here(*words)
        assert not [name for name in holds if name not in out], (words, out)
        check_csv(here(*words, "--csv"))
        assert json.loads(here(*words, "--json"), parse_constant=pytest.fail)
    here("results", "check", "results", code=1)
    check_csv(here("results", "check", "results", "--csv", code=1))
    assert set(NAMES) <= set(cells(here("leaderboard", "--results", "results", "--markdown")))
    check_latex(here("leaderboard", "--results", "results", "--latex"), NAMES)
    here("results", "rm", folders[0], "--yes")
    assert not folders[0].exists() and folders[1].exists()


def test_a_report_and_a_site_are_text_and_stay_in_their_folder(here):
    names = NAMES[1:5]
    write_results(here.root / "results", names)
    ends = [[name, NAMES[1], 50.0, None, 1, "50.0"] for name in names]
    table = pd.DataFrame(ends, columns=["recipe", "measure", "mean", "spread", "runs", "values"])
    (here.root / "results" / "ablation.csv").write_text(to_csv(table), "utf-8")
    out = here.root / "site"
    here("report", "--site", "site", "--format", "svg", out="site")
    check_html(out / "index.html", out, [*names, shown(LINE)])
    for page in [*(out / "models").iterdir(), *(out / "data").iterdir()]:
        check_html(page, out, [])
    assert len(list((out / "models").iterdir())) == len(names)
    for path in out.rglob("*.csv"):
        check_csv(path.read_text("utf-8"))
    check_latex((out / "figures" / "leaderboard.tex").read_text("utf-8"), names)
    for path in out.rglob("*.md"):
        assert set(names) <= set(cells(path.read_text("utf-8"))), path
    for path in out.rglob("*.svg"):
        for element in ElementTree.parse(path).iter():
            assert element.tag.rpartition("}")[2] not in ("script", "img", "a", "b", "foreignObject"), path
            assert not [key for key in element.attrib if key.startswith("on")], path
    assert list(pd.read_csv(out / "figures" / "ablation.csv")["recipe"].unique()) == [
        f"'{name}" if name.startswith("=") else name for name in names
    ]


def test_data_and_their_captions_are_text(here):
    names = ["=cmd.png", "[red]x.png", "<img onerror=x>.png", "$x_1.png"]
    for name in names:
        Image.new("RGB", (8, 8)).save(here.root / name)
    folder = here.root / "<b>=[red]|$x$"
    folder.mkdir()
    table = folder / "=[bold]data.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        rows = [(name, f"{name} is one. {LINE} is two. {caption} is three.") for name in names for caption in NAMES]
        csv.writer(file).writerows([("image", "caption"), *rows])
    at = ("--root", ".")
    shown_ = here("data", "show", table, "1", *at, "--out", "new", out="new")
    assert names[1] in shown_ and NAMES[0] in shown_ and shown(LINE)[:12] in shown_
    for command in ("check", "sentences", "bias"):
        here("data", command, table, *at)
        check_csv(here("data", command, table, *at, "--csv"))
        json.loads(here("data", command, table, *at, "--json"), parse_constant=pytest.fail)
    Path(here.root / names[0]).write_bytes(b"no image")
    assert "[bold]data" in here("data", "check", table, *at, code=1)
    here("doctor", "--no-online", CLIPBIAS_DATA=str(folder), CLIPBIAS_WEIGHTS=str(here.root / "[red]no[/red]"))
    check_csv(here("data", "list", "--csv", CLIPBIAS_DATA=str(folder)))


@pytest.mark.parametrize("text", [*NAMES, LINE.translate({10: " ", 0x202E: ""})])
def test_what_is_refused_is_named_as_text(here, text):
    (here.root / "list.txt").write_text(text, "utf-8")
    for words in (
        ("probe", text, "--model", "nano-clip"),
        ("probe", "padding", "--model", text),
        ("probe", "padding", "--models", "list.txt", "--data", text),
        ("probe", "padding", "--model", "nano-clip", "--model-option", text.replace("=", "")),
        ("probe", "padding", "--model", "nano-clip", "--option", f"{text.replace('=', '')}=1"),
        ("models", text),
        ("data", "show", text, "0"),
        ("data", "check", "scenes", "--option", f"{text.replace('=', '')}={text}"),
        ("results", "show", text),
        ("compare", text, text),
        ("published", "--data", text),
        ("leaderboard", "--columns", text),
        ("finetune", "ablation", "--recipes", text),
        ("finetune", "debias", "--set", f"no{text}"),
        ("finetune", "export", text, "--out", "x.safetensors"),
        (text,),
        ("report", f"--{text}"),
    ):
        here(*words, code=2)


def test_published_numbers_are_text(here, monkeypatch, tmp_path):
    said = {field.name: NAMES[number % 4] for number, field in enumerate(fields(Published))}
    said |= {"direction": "t2i", "metric": "recall@1", "condition": "", "unit": "percent", "registered": ""}
    said |= {"source": "https://arxiv.org/abs/2602.22419v2", "protocol": NAMES[2], "note": NAMES[5]}
    numbers = [{**said, "value": value} for value in ("50.0", "40.0")]
    write_published(tmp_path / "published.csv", numbers)
    monkeypatch.setattr(clipbias.results.published, "shipped", lambda folder: tmp_path)
    assert NAMES[0] in here("published")
    check_csv(here("published", "--csv"))
    tokens = MARKDOWN.parse(here("published", "--markdown"))
    assert not [token for token in tokens if token.type == "html_block"]
    inner = [child for token in tokens for child in token.children or ()]
    assert "html_inline" not in {child.type for child in inner}
    links = {child.attrs["href"] for child in inner if child.type == "link_open"}
    assert links == {"leaderboards.md", "https://arxiv.org/abs/2602.22419v2"}

    for field, text in {"note": LINE, "registered": "a`b", "source": f"https://github.com/a/b/blob/{NAMES[5]}"}.items():
        write_published(tmp_path / "published.csv", [{**numbers[0], field: text}])
        here("published", code=2)


def write_published(path: Path, numbers: list[dict[str, str]]) -> None:
    """A table of published numbers, with no cell made harmless."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Published)])
        writer.writeheader()
        writer.writerows(numbers)


SHOWN = "=[red]$x$_1 <b>|`c`"
"""A name of one's own folders and files."""


@pytest.fixture
def own(here):
    """Arguments that name a model and data of one's own, the names and captions hostile."""
    (here.root / SHOWN).mkdir()
    shutil.copy(PACKAGED / "nano-debias.pt", here.root / SHOWN / "model.pt")
    table = here.root / SHOWN / "@[b](c)<i>data.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "caption"))
        for number in range(12):
            name = f"{number}=[red]$x_{number}.png"
            Image.new("RGB", (8, 8), (20 * number, 0, 0)).save(here.root / SHOWN / name)
            writer.writerow((name, f"Picture {number} is {LINE}. =1+1 is two. [/x] is three. <b>{number}</b> is four."))
    return (str(Path(SHOWN) / "model.pt"), str(Path(SHOWN) / table.name))


def check_markdown(text: str) -> None:
    """Headings, lists, code and text alone: no markup that a name has brought."""
    tokens = MARKDOWN.parse(text)
    assert not [token for token in tokens if token.type in ("html_block", "fence", "hr", "table_open")]
    inner = {child.type for token in tokens for child in token.children or ()}
    assert inner <= {"text", "text_special", "softbreak"}, inner


def test_a_probe_is_text_to_its_end_and_so_is_what_reads_its_results(here, own):
    model, data = own
    kept = {"CLIPBIAS_CACHE": str(here.root / "made" / SHOWN)}
    results = Path("made/results")
    probe = ("probe", "drop-first", "--model", model, "--data", data, "--device", "cpu", "--out", results)
    assert SHOWN in here(*probe, out="made", **kept)
    (run,) = [path.parent for path in (here.root / results).rglob("run.json")]
    check_csv(here(*probe, "--csv", out="made", **kept))
    json.loads(here(*probe, "--json", out="made", **kept), parse_constant=pytest.fail)
    for words in (("results", "check", results), ("rerun", run), ("cache", "info")):
        here(*words, out="made", **kept)
        # A weight file's digest is kept once the file is no longer young: by any of these.
        check_csv(here(*words, "--csv", out="made", **kept))
        json.loads(here(*words, "--json", out="made", **kept), parse_constant=pytest.fail)
    here("results", "build", results, "--out", "made/boards", "--name", SHOWN, out="made")
    boards = [*(here.root / "made" / "boards").iterdir()]
    assert sorted(path.suffix[1:] for path in boards) == ["csv", "csv", "md", "md"]
    for path in boards:
        if path.suffix == ".csv":
            check_csv(path.read_text("utf-8"))
        else:
            assert [cell for cell in cells(path.read_text("utf-8")) if SHOWN in cell], path
    record = json.loads((run / "run.json").read_text("utf-8"))
    forged = {"versions": {LINE: LINE}, "data_fingerprint": LINE, "identity": {"weights": LINE, LINE: "0"}}
    (run / "run.json").write_text(json.dumps(record | forged), "utf-8")
    assert shown(LINE)[:12] in here("rerun", run, code=1, out="made", **kept)
    check_csv(here("rerun", run, "--csv", code=1, out="made", **kept))
    shard = next((here.root / "made" / SHOWN).rglob("*.safetensors"))
    odd = shard.parent.with_name("[red]x$=") / shard.name
    odd.parent.mkdir()
    odd.write_bytes(b"no shard")
    assert odd.parent.name in here("cache", "info", out="made", **kept)
    assert odd.parent.name in here("cache", "verify", code=1, out="made", **kept)
    here("cache", "clear", out="made", **kept)
    assert not shard.exists()


def test_a_training_is_text_to_its_end_and_so_is_what_is_exported(here, own):
    model, data = own
    run, name = here.root / "made" / ("run" * 80), f"{SHOWN} \\ \x1b[31m\x7f\U0001f600 {NAMES[5]}"
    settings = {"steps": 1, "batch_size": 4, "pca_dim": 2, "precision": "fp32", "validation": 4, "name": name}
    words = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    train = ("finetune", "debias", "--base", model, "--data", data, "--no-evaluate", "--out", run, *words)
    here(*train, "--keep-every", "1", out="made")
    here(*train, "--keep-every", "1", "--resume", out="made")
    assert tomllib.loads((run / "recipe.toml").read_text("utf-8"))["name"] == name
    cards = [run / "model.md", *(run / "checkpoints").glob("*.md")]
    assert len(cards) == 2
    for card in cards:
        text = card.read_text("utf-8")
        assert harmless(text)
        check_markdown(text)
        assert shlex.join(("--base", model, "--data", data)) in text
    for layout, suffix in {
        "longclip": ".pt",
        "safetensors": ".safetensors",
        "openclip": "",
        "transformers": "",
    }.items():
        out = f"made/{layout}{suffix}"
        here("finetune", "export", run / "model.pt", "--to", layout, "--out", out, out="made")
        assert (here.root / out).exists()


def test_a_training_that_is_evaluated_is_text(here, own, few_scenes, monkeypatch):
    (drop,) = find_probes("drop-first")
    monkeypatch.setattr("clipbias.probe.spec.find_probes", lambda suite: [drop])
    model, data = own
    words = ("--set", "steps=1", "--set", "batch_size=4", "--set", "pca_dim=2", "--set", "validation=4")
    out = here("finetune", "debias", "--base", model, "--data", data, *words, "--out", f"made/{SHOWN}", out="made")
    assert f"before ({model}) and after (made/{SHOWN}/model.pt)" in out and "drop-first" in out


def test_an_ablation_is_text(here, own, monkeypatch):
    for module in ("ablation", "measures"):
        monkeypatch.setattr(f"clipbias.finetune.{module}.MEASURES", MEASURES[:2])
    model, data = own
    table = here.root / "made" / SHOWN / "table.csv"
    out = here(
        "finetune", "ablation", "--base", model, "--data", data, "--test", data, "--recipes", "none", "--seeds", "0",
        "--device", "cpu", "--out", "made/runs", "--table", table, out="made",
    )  # fmt: skip
    assert SHOWN in out
    check_csv(table.read_text("utf-8"))
    title, protocol, *people = table.with_suffix(".md").read_text("utf-8").split("\n", 2)
    assert "R@1" in title and Path(data).name in "".join(
        child.content for token in MARKDOWN.parse(protocol) for child in token.children or ()
    )
    check_markdown(protocol)
    assert cells("".join(people))


def test_a_demo_beside_results_of_others_is_text(here, few_scenes, monkeypatch):
    monkeypatch.setattr("clipbias.cli.demo.DEMO_MODELS", ("nano-clip",))
    monkeypatch.setattr("clipbias.cli.demo.DEMO_PROBES", ("first-only",))
    results, out = here.root / SHOWN / "results", here.root / SHOWN / "made"
    write_results(results, NAMES[:2])
    assert str(out / "index.html") in here("demo", "--results", results, "--out", out, "--device", "cpu", out=SHOWN)
    check_html(out / "index.html", out, [*NAMES[:2], shown(LINE)])


def test_published_numbers_beside_measured_ones_are_text(here, few_scenes, monkeypatch):
    said = dict.fromkeys(("model", "backbone", "protocol", "place", "ran_by", "note"), LINE)
    numbers = [
        Published(
            **said, registered="nano-clip", dataset=WORLD, direction=direction, metric="recall@1", condition="",
            unit="percent", value=value, source=f"https://github.com/a/{NAMES[0]}/issues/1",
        )
        for direction, value in (("t2i", 200.0), ("i2t", -1.0))
    ]  # fmt: skip
    monkeypatch.setattr(clipbias.rerun.reproduce, "leaderboard_numbers", lambda: numbers)
    reproduce = ("reproduce", "nano-clip", "--no-causes", "--device", "cpu", "--out", f"made/{SHOWN}")
    assert shown(LINE)[:12] in here(*reproduce, code=1, out="made")
    check_csv(here(*reproduce, "--csv", code=1))
    json.loads(here(*reproduce, "--json", code=1), parse_constant=pytest.fail)
