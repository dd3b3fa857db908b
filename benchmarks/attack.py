"""An attack on the command line: hostile files and values in every place that takes one, each in a process of its own.

python benchmarks/attack.py                  # all of it
python benchmarks/attack.py --part 2/4       # the second quarter of the cases
python benchmarks/attack.py --only ablation  # the cases whose name has this

Processes are forked from one that has imported everything, so that a case costs what its command does.

A case is held where the command ends by itself, in no more than `ROOM` above what the imports take, with the code 0, 1
or 2, without "unexpected" and without a file outside its folder; where it refuses (2), within 5 s of processor time,
and where it does its work after all, as a report that leaves a damaged file out, within 20 s. The exit code is 1
where more than one in a hundred is not held, or any hangs, is killed or writes elsewhere.
"""

from __future__ import annotations

import argparse
import glob
import importlib
import json
import os
import pkgutil
import random
import resource
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import cycle
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import torch  # noqa: E402
from hostile import TEXTS  # noqa: E402
from hub_models import write_hub_folder  # noqa: E402
from openclip_folder import write_folder  # noqa: E402
from PIL import Image  # noqa: E402
from tests_support import make_run, write_models  # noqa: E402

import clipbias.cli.app  # noqa: E402
from clipbias.models.loading import load_model  # noqa: E402
from clipbias.probe.transforms import TRANSFORMS  # noqa: E402

SECONDS, WORK, WALL, ROOM = 5.0, 20.0, 60, 1 << 30
Case = tuple[str, Callable[[], None], list[str]]
"""A name, what makes the files in the current folder, and the arguments."""


def sparse(path: Path) -> None:
    """12 GiB that take no room."""
    with path.open("wb") as file:
        file.truncate(12 << 30)


def unix_socket(path: Path) -> None:
    """A socket at a path that may be too long for one."""
    here = os.getcwd()
    os.chdir(path.parent)
    socket.socket(socket.AF_UNIX).bind(path.name)
    os.chdir(here)


OBJECTS: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "socket": unix_socket,
    "zeros": lambda path: path.symlink_to("/dev/zero"),
    "terminal": lambda path: path.symlink_to("/dev/tty"),
    "memory": lambda path: path.symlink_to("/proc/self/mem"),
    "loop": lambda path: path.symlink_to(path.name),
    "dangling": lambda path: path.symlink_to("nowhere"),
    "folder": lambda path: path.mkdir(),
    "sparse": sparse,
    "empty": lambda path: path.write_bytes(b""),
    "noise": lambda path: path.write_bytes(random.Random(0).randbytes(3000)),
    "nul": lambda path: path.write_bytes(bytes(1 << 20)),
    "deep": lambda path: path.write_bytes(b'{"a":' * 100_000),
    "brackets": lambda path: path.write_bytes(b"a = " + b"[" * 100_000),
    "digits": lambda path: path.write_bytes(b'{"a": ' + b"9" * 100_000 + b"}"),
    "utf-16": lambda path: path.write_bytes("image,caption\na.png,A.\n".encode("utf-16")),
    "latin": lambda path: path.write_bytes(b'image,caption\na.png,"caf\xe9"\n'),
    "line": lambda path: path.write_bytes(b'"' + b"a" * (40 << 20)),
    "quotes": lambda path: path.write_bytes(b'"' * 1_000_001),
    "zip": lambda path: path.write_bytes(b"PK\x03\x04" + bytes(100)),
    "gzip": lambda path: path.write_bytes(b"\x1f\x8b\x08" + bytes(100)),
    "png": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\x7f\xff\xff\xff\x7f\xff\xff\xff\x08\2\0\0\0"),
    "tensors": lambda path: path.write_bytes((1 << 40).to_bytes(8, "little") + b"{}"),
    "null": lambda path: path.write_bytes(b"null"),
    "list": lambda path: path.write_bytes(b"[]"),
}


def _pictures() -> None:
    Image.new("RGB", (8, 8)).save("a.png")
    Path("a.txt").write_text("A dog. It sits. On a bench.")


def _copy(name: str) -> Callable[[], None]:
    return lambda: shutil.copytree(MADE / name, name, symlinks=True) and None


def _trained() -> None:
    shutil.copytree(MADE / "trained", ".", dirs_exist_ok=True)


def _cached() -> None:
    shutil.copytree(MADE / "cache", "../cache")


TRAIN = [
    "finetune", "debias", "--no-evaluate", "--data", "x.csv", "--out", "run", "--set=steps=1", "--set=batch_size=4",
    "--set=pca_dim=2", "--set=validation=4",
]  # fmt: skip
FEW = ["probe", "drop-first", "--model", "nano-clip", "--limit", "8"]


PLACES: dict[str, tuple[Callable[[], None], str, list[str]]] = {
    **{f"data .{s}": (_pictures, f"x.{s}", ["data", "check", f"x.{s}"])
       for s in ("csv", "tsv", "jsonl", "parquet", "tar")},
    "image": (_pictures, "a.png", ["data", "check", "."]),
    "caption": (_pictures, "a.txt", ["data", "check", "."]),
    "spec": (_pictures, "p.toml", ["probe", "./p.toml", "--model", "nano-clip", "--dry-run"]),
    "recipe": (_pictures, "r.toml", ["finetune", "debias", "--recipe", "r.toml", "--out", "o", "--data", "./no.csv"]),
    "configuration": (_pictures, "c.toml", ["--config", "c.toml", "models"]),
    **{f"model .{s}": (_pictures, f"m.{s}", ["models", "check", f"./m.{s}"]) for s in ("pt", "safetensors")},
    **{f"open_clip {n}": (_copy("open"), f"open/{n}", ["models", "check", "./open"])
       for n in ("open_clip_config.json", "open_clip_model.safetensors")},
    **{f"hub {n}": (_copy("hub"), f"hub/{n}", ["models", "check", "./hub"])
       for n in ("config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json",
                 "model.safetensors")},
    **{f"results {n}": (_copy("results"), f"results/{n}", ["report", "--results", "results", "--examples", "0"])
       for n in ("run.json", "rows.jsonl", "queries.parquet", "ablation.csv")},
    **{f"compare {n}": (_copy("results"), f"results/{n}", ["compare", "results", "results"])
       for n in ("run.json", "rows.jsonl", "queries.parquet")},
    **{f"training {n}": (_trained, f"run/{n}", [*TRAIN, "--resume"])
       for n in ("recipe.toml", "metrics.jsonl", "state.pt")},
    "export": (_trained, "run/model.pt", ["finetune", "export", "run/model.pt", "--out", "e.safetensors"]),
    "cached, verified": (_cached, "../cache/*/*/*.safetensors", ["cache", "verify"]),
    "cached, read": (_cached, "../cache/*/*/*.safetensors", FEW),
    "models": (_pictures, "l.txt", [*FEW[:2], "--models", "l.txt", "--limit", "8", "--dry-run"]),
    "data list": (_pictures, "l.txt", [*FEW[:4], "--data-list", "l.txt", "--dry-run"]),
    "rerun run.json": (_copy("results"), "results/run.json", ["rerun", "results"]),
    "docci": (_pictures, "docci_descriptions.jsonlines", ["data", "check", "docci", "--root", "."]),
    "sharegpt4v": (_pictures, "x.json", ["data", "check", "sharegpt4v", "--root", ".", "--option", "file=x.json"]),
    "pack": (_pictures, "pack.json", ["data", "check", ".", "--option", "pack=."]),
    "weights": (_pictures, "w.pt", ["probe", "swap", "--limit=8", "--model", "openai-b16", "--weights", "w.pt"]),
}  # fmt: skip


def files() -> Iterator[Case]:
    """Every object in every place."""
    for place, (prepare, name, arguments) in PLACES.items():
        for kind, make in OBJECTS.items():

            def both(
                prepare: Callable[[], None] = prepare, name: str = name, make: Callable[[Path], object] = make
            ) -> None:
                prepare()
                path = Path(next(iter(sorted(glob.glob(name))), name))
                if path.is_file() or path.is_symlink():
                    path.unlink()
                make(path.absolute())

            yield f"{place}: {kind}", both, arguments


VALUES = ["-1", "0", "true", '"2"', "1.5", "[]", "10000000", "1e400", "nan", '"\\u202e"', "{}", "9" * 400]


def specs() -> Iterator[Case]:
    """Parameters of transforms and settings of kinds."""
    import inspect

    def write(text: str) -> Callable[[], None]:
        return lambda: Path("p.toml").write_text(text, "utf-8") and None

    run = ["probe", "./p.toml", "--model", "nano-clip", "--limit", "8"]
    for name in TRANSFORMS:
        for parameter in list(inspect.signature(TRANSFORMS[name]).parameters)[1:]:
            for value in VALUES:
                step = f'{{name = "{name}", {parameter} = {value}}}'
                head = 'name = "p"\ntitle = "t"\nkind = "retrieval"\nbaseline = "full"\n[[condition]]\nname = "full"\n'
                text = f'{head}[[condition]]\nname = "x"\ntransforms = [{step}]\n'
                yield f"{name} {parameter} = {value[:12]}", write(text), run
    for name in ("needle", "position", "shift", "text", "monotone", "pairs", "attention", "influence", "shapley"):
        shipped = (ROOT / "probes" / f"{name}.toml").read_text("utf-8").partition("[settings]")[0]
        for setting in (
            "captions",
            "scenes",
            "places",
            "filler",
            "fillers",
            "shifts",
            "steps",
            "orders",
            "fill",
            "file",
        ):
            for value in VALUES[::3]:
                text = f"{shipped}\n[settings]\n{setting} = {value}\n"
                yield f"{name} settings {setting} = {value[:12]}", write(text), run


def options() -> Iterator[Case]:
    """Hostile texts as values of options and fields of records."""
    nothing = _pictures
    for text in [t.replace("\0", "").replace("\ud800", "") for t in TEXTS] + ["", "x" * 300, "-1", "1e9"]:
        yield f"--data {text[:20]!r}", nothing, ["data", "check", "--", text]
        yield f"--model {text[:20]!r}", nothing, ["models", "check", "--", text]
        yield (
            f"--set {text[:20]!r}",
            nothing,
            ["finetune", "debias", "--out", "o", "--set", f"name={text}", "--set", "seed=-1"],
        )
        yield f"--seed {text[:20]!r}", nothing, [*FEW, f"--seed={text}"]
        yield f"--device {text[:20]!r}", nothing, [*FEW, f"--device={text}"]
        # A path out of the case's folder is where its user wants the files, and no attack may make them there.
        if not text.startswith(("/", "..", "~")):
            yield f"--out {text[:20]!r}", nothing, [*FEW, f"--out={text}"]
    for text in ("a/b", "$x$", "con", "x" * 300, "", "a\nb"):
        yield (
            f"report --out {text[:20]!r}",
            _copy("results"),
            ["report", "--results", "results", f"--out={text}", "--examples", "0"],
        )
    readers = cycle(
        (["results", "show", "results"], ["results", "check", "results"], ["leaderboard", "--results", "results"],
         ["rerun", "results"], ["card", "--results", "results"], ["results", "build", "results", "--out", "boards"],
         ["compare", "results", "results"])
    )  # fmt: skip
    for field in asdict(make_run()):
        for value in (None, "", -1, 1e400, [], {"a": 1}, "\x1b[2J", "../../x", "x" * 5000, True):

            def change(field: str = field, value: object = value) -> None:
                _copy("results")()
                path = Path("results/run.json")
                path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))

            reader = next(readers)
            yield f"run.json {field} = {str(value)[:12]!r}, {reader[0]} {reader[1]}", change, reader


MADE = Path()


def import_everything() -> None:
    """All of clipbias, so that a forked command need not."""
    for module in pkgutil.walk_packages(clipbias.__path__, "clipbias."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def made(folder: Path) -> None:
    """What cases start from: models, results."""
    global MADE
    MADE = folder
    folder.mkdir()
    write_folder(folder / "open")
    write_hub_folder("siglip", folder / "hub")
    write_models(folder / "all", "m")
    one = next((folder / "all").rglob("run.json")).parent
    shutil.copytree(one, folder / "results")
    (folder / "results/ablation.csv").write_text("recipe,measure,mean,values\ndebias,R@1,1.5,1 2\n")
    import_everything()
    (folder / "trained").mkdir()
    rows = [f"{n}.png,Picture {n} is red. It is plain. It is small." for n in range(12)]
    (folder / "trained/x.csv").write_text("\n".join(("image,caption", *rows)))
    for number in range(12):
        Image.new("RGB", (8, 8), (20 * number, 0, 0)).save(folder / "trained" / f"{number}.png")
    (folder / "probed").mkdir()
    for arguments, place in ((TRAIN, folder / "trained"), (FEW, folder / "probed")):
        pid = os.fork()
        if pid == 0:
            _child(place, lambda: None, arguments)
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
            raise RuntimeError(f"clipbias {' '.join(arguments)} failed in {place}")
    for name in ("open", "hub"):
        load_model(str(folder / name), device="cpu").encode_texts(["a dog"])


def outcome(case: Case, place: Path) -> tuple[str, str, float]:
    """What became of a case, what was said, and the seconds of processor time."""
    _, prepare, arguments = case
    folder = place / "outer" / "case"
    shutil.rmtree(place / "outer", ignore_errors=True)
    folder.mkdir(parents=True)
    pid = os.fork()
    if pid == 0:
        _child(folder, prepare, arguments)
    began = time.monotonic()
    while True:
        done, status, used = os.wait4(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() - began > WALL:
            os.kill(pid, signal.SIGKILL)
            os.wait4(pid, 0)
            return "hangs", "", 0.0
        time.sleep(0.01)
    said = (place / "outer" / "log").read_bytes().decode("utf-8", "replace")
    others = {p.name for p in (place / "outer").iterdir()} - {"case", "log", "cache"}
    code, seconds = os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime
    if others:
        return "writes elsewhere", str(others), seconds
    if code < 0:
        return "killed", said, seconds
    if code not in (0, 1, 2) or "clipbias: unexpected" in said or "Traceback" in said:
        return "unexpected", said, seconds
    if seconds > (SECONDS if code == 2 else WORK):
        return "slow", f"{seconds:.1f} s: {said}", seconds
    return ("refused" if code == 2 else "answered"), said, seconds


def _child(folder: Path, prepare: Callable[[], None], arguments: list[str]) -> None:
    code = 70
    try:
        os.chdir(folder)
        prepare()
        log = os.open("../log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ["CLIPBIAS_CACHE"] = str(folder.parent / "cache")
        os.environ["HF_HUB_OFFLINE"] = "1"
        os.environ["HOME"] = str(folder)  # what ~ stands for
        size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, size + ROOM))
        sys.argv = ["clipbias", "--quiet", *arguments]
        clipbias.cli.app.main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def main() -> int:
    """Run the cases, print the counts and every case that is not held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", default="1/1", help="which of how many parts of the cases")
    parser.add_argument("--only", default="", help="part of a case's name")
    parser.add_argument("--minutes", type=float, default=600)
    given = parser.parse_args()
    part, parts = map(int, given.part.split("/"))
    torch.set_num_threads(1)
    place = Path(tempfile.mkdtemp(prefix="clipbias-attack-"))
    made(place / "made")
    cases = [*files(), *specs(), *options()]
    random.Random(0).shuffle(cases)
    until = time.monotonic() + 60 * given.minutes
    counts: Counter[str] = Counter()
    spent: Counter[str] = Counter()
    mine = [case for case in cases[part - 1 :: parts] if given.only in case[0]]
    for case in mine:
        if time.monotonic() > until:
            break
        found, said, seconds = outcome(case, place)
        counts[found] += 1
        spent[case[0].split(":")[0].split(" = ")[0].split(" '")[0]] += seconds
        if found not in ("refused", "answered"):
            print(f"{found}: {case[0]}: {' '.join(said.split())[-300:]}", flush=True)
    shutil.rmtree(place)
    print(
        f"{counts.total():,} of {len(mine):,} cases: " + ", ".join(f"{n:,} {what}" for what, n in counts.most_common())
    )
    costly = ", ".join(f"{name} {seconds:.0f}" for name, seconds in spent.most_common(5))
    print(f"{spent.total():,.0f} s of processor time, most of it: {costly}")
    lost = counts["hangs"] + counts["killed"] + counts["writes elsewhere"]
    return 1 if lost or 100 * (counts["unexpected"] + counts["slow"]) > counts.total() else 0


if __name__ == "__main__":
    sys.exit(main())
