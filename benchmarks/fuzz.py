"""Every reader of files, fed with valid files that were damaged: a value or one clear error, quickly, every time.

python benchmarks/fuzz.py --minutes 60

Inputs run in a child process with 8 GiB of address space and 60 s each, so that a crash or a hang is a finding and not
the end; 5 s of processor time are one, too. Each finding is kept with the file that makes it; the exit code is 1 if
there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import pyarrow  # noqa: E402, F401
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from tests_support import make_row, make_run  # noqa: E402

from clipbias.data.image_checks import find_bad_images  # noqa: E402
from clipbias.data.index import open_index, write_index  # noqa: E402
from clipbias.data.loading import load_dataset  # noqa: E402
from clipbias.data.pack import with_pack, write_pack  # noqa: E402
from clipbias.data.unpack import unpack  # noqa: E402
from clipbias.data.user import open_user_data  # noqa: E402
from clipbias.errors import UserError  # noqa: E402
from clipbias.finetune.recipe import read_recipe  # noqa: E402
from clipbias.finetune.recipes import DEBIAS  # noqa: E402
from clipbias.models.checkpoint import read_tensors  # noqa: E402
from clipbias.models.loading import load_model  # noqa: E402
from clipbias.models.tokenizer import ClipTokens  # noqa: E402, F401
from clipbias.probe.spec import parse_probe  # noqa: E402
from clipbias.probe.store import EmbeddingStore, read_shard, shard_paths  # noqa: E402
from clipbias.report.load import read_ablation  # noqa: E402
from clipbias.results.folder import load_runs, write_run  # noqa: E402
from clipbias.results.published import read_published  # noqa: E402
from clipbias.results.record import QUERY_COLUMNS  # noqa: E402

SECONDS, SLOW, MEMORY = 60, 5.0, 8 << 30
ROWS = [{"image": f"{i}.png", "caption": f"A dog {i}. It sits. “On” a bench."} for i in range(4)]


def pictures(folder: Path, names: list[str]) -> None:
    """Small images of every format."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (9, 11, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)


def lines(path: Path, rows: list[dict[str, object]]) -> None:
    """JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def whole(path: Path, value: object) -> None:
    """A JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), "utf-8")


def tables(folder: Path) -> None:
    """The same four captions in every format of users' tables."""
    pictures(folder, [row["image"] for row in ROWS])
    frame = pd.DataFrame(ROWS)
    frame.to_csv(folder / "x.csv", index=False)
    frame.to_csv(folder / "x.tsv", index=False, sep="\t")
    frame.to_parquet(folder / "x.parquet")
    lines(folder / "x.jsonl", ROWS)
    for row in ROWS:
        (folder / row["image"]).with_suffix(".txt").write_text(row["caption"])
    with tarfile.open(folder / "x.tar", "w") as tar:
        for path in sorted(p for p in folder.iterdir() if p.suffix in (".png", ".txt")):
            tar.add(path, path.name)


def archives(folder: Path) -> None:
    """The same files as .zip, .tar and .tar.gz."""
    pictures(folder, ["a.png", "b/c.png"])
    with zipfile.ZipFile(folder / "x.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("a.png", "b/c.png"):
            file.write(folder / name, name)
    for suffix, mode in ((".tar", "w"), (".tar.gz", "w:gz")):
        with tarfile.open(folder / f"x{suffix}", mode) as tar:
            tar.add(folder / "a.png", "a.png")
            tar.add(folder / "b", "b")


def readers(folder: Path) -> None:
    """Miniature annotation files in their authors' layouts."""
    split = [{"split": "test", "image_file": f"{i}.png", "description": "A. B.", "example_id": i} for i in range(3)]
    lines(folder / "docci/docci_descriptions.jsonlines", split)
    notes = [{"image_id": 7, "id": k, "caption": f"seven {k}"} for k in range(5)]
    whole(folder / "coco/annotations/captions_val2017.json",
          {"images": [{"id": 7, "file_name": "7.jpg"}], "annotations": notes})  # fmt: skip
    entries = [{"filename": f"{i}.jpg", "split": "test", "sentences": [{"raw": f"{i} {k}"} for k in range(5)]}
               for i in range(2)]  # fmt: skip
    whole(folder / "flickr30k-1k/dataset_flickr30k.json", {"images": entries, "dataset": "flickr30k"})
    dci = folder / "dci/densely_captioned_images"
    for i in (1, 2):
        note = {"image": f"sa_{i}.jpg", "short_caption": "A.", "extra_caption": "B. C.", "mask_data": {"a": 1}}
        whole(dci / f"annotations/{i:06d}-data.json", note)
    whole(dci / "splits.json", {"train": ["000001-data.json"], "valid": [], "test": ["000002-data.json"]})
    lines(folder / "iiw/datasets/IIW-400/data.jsonl", [{"image/key": "k1", "IIW": "A. B.", "IIW-P5B": "x"}])
    talk = [{"image": f"sam/images/{i}.jpg", "conversations": [{"value": "?"}, {"value": f"C\n{i}."}]}
            for i in range(1_003)]  # fmt: skip
    whole(folder / "sharegpt4v/share-captioner_coco_lcs_sam_1246k_1107.json", talk)
    pictures(folder / "urban1k/Urban1k/image", ["1.jpg", "2.jpg"])
    for i in (1, 2):
        (folder / f"urban1k/Urban1k/caption/{i}.txt").parent.mkdir(exist_ok=True)
        (folder / f"urban1k/Urban1k/caption/{i}.txt").write_text("Two - first.\nMore.")


def results(folder: Path) -> None:
    """One run folder, an ablation table and a copy of the published numbers."""
    cells = [["full", "t2i", query, 0, 0, 0, 1, 0.5, 0.1, True, False] for query in range(20)]
    write_run(folder / "run", make_run(), [make_row()], pd.DataFrame(cells, columns=list(QUERY_COLUMNS)))
    shutil.copy(ROOT / "leaderboards/published.csv", folder / "published.csv")
    (folder / "ablation.csv").write_text("recipe,measure,mean,values\ndebias,R@1,1.5,1 2\ndrop,R@1,2.5,2 3\n")


def settings(folder: Path) -> None:
    """Probe specs as they ship, and a recipe."""
    for name in ("padding", "needle", "text", "swap", "reliance", "paper"):
        shutil.copy(ROOT / f"probes/{name}.toml", folder / f"{name}.spec.toml")
    (folder / "recipe.toml").write_text(DEBIAS.to_toml())


def stored(folder: Path) -> None:
    """What clipbias keeps itself: an index, a shard of features, a pack."""
    write_index(folder / "x.arrow", [(f"{i}.png", f"Caption {i}.") for i in range(50)])
    keys = [bytes([i]) * 16 for i in range(3)]
    EmbeddingStore(folder / "store", 1 << 30).features("space", keys, lambda rows: torch.ones(len(rows), 4))
    tables(folder / "data")
    data = open_user_data(str(folder / "data/x.csv"))
    write_pack(data, folder / "pack", {"side": 4}, lambda image: np.asarray(image.resize((4, 4))), 4, 4)


def checkpoints(folder: Path) -> None:
    """A plain .pt, a .safetensors and model folders of both libraries."""
    from hub_models import write_hub_folder
    from openclip_folder import write_folder
    from safetensors.torch import save_file

    state = {"a.weight": torch.ones(3, 4), "b": torch.zeros(2)}
    torch.save(state, folder / "x.pt")
    save_file(state, folder / "x.safetensors")
    write_folder(folder / "open")
    write_hub_folder("siglip", folder / "hub")


@dataclass(frozen=True)
class Target:
    """Files below a folder that ``build`` makes, and what reads one of them; ``fits`` says which it reads."""

    name: str
    build: Callable[[Path], None]
    fits: str
    read: Callable[[Path, Path], object]


def _reader(folder: Path, path: Path) -> object:
    name = path.relative_to(folder).parts[0]
    return load_dataset(name, root=folder / name)


def _pack(folder: Path, path: Path) -> object:
    data = with_pack(open_user_data(str(folder / "data/x.csv")), folder / "pack", verify=True)
    return [data.load_image(i) for i in range(4)]


def _results(folder: Path, path: Path) -> object:
    damaged: list[str] = []
    found = load_runs([folder / "run"], damaged)
    if damaged:
        raise UserError(damaged[0])
    return [(one.rows, one.queries) for one in found]


def _captions(folder: Path, path: Path) -> object:
    data = open_user_data(str(path))
    return find_bad_images(data, workers=1)


def _folder(name: str) -> Callable[[Path, Path], object]:
    return lambda folder, path: load_model(str(folder / name), device="cpu")


TARGETS = (
    Target("tables", tables, r"x\.(csv|tsv|jsonl|parquet|tar)", _captions),
    Target("images", tables, r".*\.(png|txt)", lambda folder, path: _captions(folder, folder)),
    Target("archives", archives, r"x\..*", lambda folder, path: unpack(path, folder / "out")),
    Target("data sets", readers, r".*\.(json|jsonl|jsonlines|txt)", _reader),
    Target("results", results, r"run/.*", _results),
    Target("published", results, r"published.csv", lambda folder, path: read_published(path)),
    Target("ablation", results, r"ablation.csv", lambda folder, path: read_ablation(path)),
    Target("specs", settings, r".*spec\.toml", lambda folder, path: parse_probe(path.read_text("utf-8", "replace"))),
    Target("recipes", settings, r"recipe\.toml", lambda folder, path: read_recipe(path, DEBIAS)),
    Target("index", stored, r"x\.arrow", lambda folder, path: open_index(path)),
    Target("features", stored, r"store/.*", lambda folder, path: list(map(read_shard, shard_paths(folder / "store")))),
    Target("pack", stored, r"pack/.*", _pack),
    Target("checkpoints", checkpoints, r"x\.(pt|safetensors)", lambda folder, path: read_tensors(path)),
    Target("open_clip folders", checkpoints, r"open/.*\.json", _folder("open")),
    Target("open_clip weights", checkpoints, r"open/.*\.safetensors", _folder("open")),
    Target("transformers folders", checkpoints, r"hub/.*", _folder("hub")),
)

ODD = [
    *(b"\0", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\r", b"\n\n", b'"', b"'", b",", b"\t", b"{", b"[", b"}", b"]"),
    *(b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"-1", b"0", b"9" * 30, b"9" * 5000, b"4294967296", b"1.5"),
    *(b"[" * 3000, b'{"a":' * 3000, b"../../x", b"/etc/passwd", b"C:\\x", b"\x1b[2J", b"\xe2\x80\xae", b"\\ud800"),
    *(b"$\\evil$", b"[red]", b"<script>", b"=cmd()", b"a" * 70_000, b"", b"module:function", b"\\u0000"),
]
_TOKEN = re.compile(rb'"(?:[^"\\\n]|\\.)*"|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|true|false|null|\w+')


def mutated(raw: bytes, draw: random.Random) -> bytes:
    """Valid bytes with one to four changes: bits, pieces, words, lengths."""
    out = bytearray(raw)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        at, size = draw.randrange(len(out) + 1), draw.choice((1, 1, 2, 4, 8, 30, 300))
        kind = draw.randrange(9)
        if kind == 0 and out:
            out[at % len(out)] ^= 1 << draw.randrange(8)
        elif kind == 1:
            out[at : at + size] = draw.randbytes(size)
        elif kind == 2:
            del out[at : at + draw.choice((size, len(out)))]
        elif kind == 3:
            other = draw.randrange(len(out) + 1)
            out[at:at] = out[other : other + size]
        elif kind == 4:
            out[at:at] = draw.choice(ODD)
        elif kind == 5:
            number = draw.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1))
            out[at : at + 8] = number.to_bytes(8, draw.choice(("little", "big")))
        else:  # a word, number or text of a text format
            words = list(_TOKEN.finditer(bytes(out[:200_000])))
            if words:
                one, other = draw.choice(words), draw.choice(words)
                new = draw.choice(ODD) if kind < 8 else other[0]
                if one[0].startswith(b'"') and not new.startswith(b'"') and draw.random() < 0.6:
                    new = b'"' + new + b'"'
                out[one.start() : one.end()] = new
    return bytes(out)


@dataclass
class Counts:
    """Of one target."""

    read: int = 0
    refused: int = 0
    slowest: float = 0.0


class Hang(BaseException):
    """An input took longer than `SECONDS`."""


def _alarm(*_: object) -> None:
    raise Hang


def one_input(target: Target, folder: Path, path: Path, raw: bytes) -> tuple[str, str, float]:
    """What became of an input: ("read" or "refused" or a finding, its details, seconds)."""
    path.write_bytes(raw)
    began = time.process_time()
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        target.read(folder, path)
        found, details = "read", ""
    except UserError as error:
        text = str(error)
        found, details = ("refused", "") if len(text) < 20_000 else ("a message of 20,000 characters", text[:300])
    except Hang:
        found, details = f"longer than {SECONDS} s", traceback.format_exc()
    except BaseException as error:
        ours = [f for f in traceback.extract_tb(error.__traceback__) if "/clipbias/" in f.filename]
        where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
        found, details = f"{type(error).__name__} at {where}", traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    seconds = time.process_time() - began
    if seconds > SLOW and found in ("read", "refused"):
        found, details = f"slower than {SLOW} s", f"{seconds:.1f} s"
    return found, details, seconds


def child(target: Target, seed: int, until: float, place: Path, counts: Counts) -> None:
    """Fuzz one target for a while; findings and counts go to ``place``."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, _alarm)
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    draw = random.Random(seed)
    folder = place / "work"
    files = sorted(
        p for p in folder.rglob("*") if p.is_file() and re.fullmatch(target.fits, p.relative_to(folder).as_posix())
    )
    clean = {path: path.read_bytes() for path in files}
    while time.monotonic() < until:
        path = draw.choice(files)
        raw = mutated(clean[path], draw)
        (place / "last.bin").write_bytes(raw)
        (place / "last.txt").write_text(path.relative_to(folder).as_posix())
        found, details, seconds = one_input(target, folder, path, raw)
        path.write_bytes(clean[path])
        counts.slowest = max(counts.slowest, seconds)
        if found in ("read", "refused"):
            setattr(counts, found, getattr(counts, found) + 1)
        else:
            keep(place, target.name, found, details, raw, path.name)
        (place / "counts.json").write_text(json.dumps(asdict(counts)))


def keep(place: Path, target: str, found: str, details: str, raw: bytes, name: str) -> None:
    """Keep one input of each kind of finding."""
    folder = place / "findings" / re.sub(r"[^\w.-]+", "_", f"{target}-{found}")
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "details.txt").exists():
        (folder / f"input-{name}").write_bytes(raw)
        (folder / "details.txt").write_text(details)
    with (folder / "count").open("a") as file:
        file.write("x")


def main() -> int:
    """Fuzz every target in turn until the time is over, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="targets whose name holds this")
    parser.add_argument("--out", type=Path, default=None, help="where findings are kept; default a new folder")
    given = parser.parse_args()
    torch.set_num_threads(1)
    place = given.out or Path(tempfile.mkdtemp(prefix="clipbias-fuzz-"))
    until = time.monotonic() + 60 * given.minutes
    totals = {target.name: Counts() for target in TARGETS if given.only in target.name}
    turn = 0
    while time.monotonic() < until:
        for target in [t for t in TARGETS if t.name in totals]:
            turn += 1
            here = place / target.name.replace(" ", "-")
            here.mkdir(parents=True, exist_ok=True)
            os.environ["CLIPBIAS_CACHE"] = str(here / "cache")
            if not (here / "work").exists():
                (here / "work").mkdir()
                target.build(here / "work")
            part = min(until, time.monotonic() + min(30, 60 * given.minutes / len(totals)))
            pid = os.fork()
            if pid == 0:
                child(target, given.seed * 1_000_003 + turn, part, here, replace(totals[target.name]))
                os._exit(0)
            _, status = os.waitpid(pid, 0)
            if (here / "counts.json").exists():
                totals[target.name] = Counts(**json.loads((here / "counts.json").read_text()))
            if status:
                raw = (here / "last.bin").read_bytes()
                ended = f"killed by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "ended"
                keep(here, target.name, ended, "", raw, Path((here / "last.txt").read_text()).name)
                shutil.rmtree(here / "work")
            shutil.rmtree(here / "cache", ignore_errors=True)
            if time.monotonic() >= until:
                break
    print(f"{'reader':22}{'read':>9}{'refused':>9}{'slowest':>9}")
    for name, counts in totals.items():
        print(f"{name:22}{counts.read:9,}{counts.refused:9,}{counts.slowest:8.2f}s")
    found = Counter({p.parent.name: len(p.read_text()) for p in sorted(place.rglob("findings/*/count"))})
    for name, count in found.most_common():
        print(f"finding, {count} times: {name}")
    print(f"{len(found)} kinds of findings in {place}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
