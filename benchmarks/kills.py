"""Commands killed at random moments, run twice at once, and run on a full disk: what is there at the end.

python benchmarks/kills.py --kills 20

Each command runs in a process of its own. It is killed (SIGKILL) at a moment drawn from the time that it takes, and run
again to its end: its files must have the bytes of an unbroken run, and no other file may be left. Two at once must end
with the same bytes as one. Where a file may not grow (RLIMIT_FSIZE, as a full disk for a writer), a command must end
with code 2 and leave no temporary file. Times and dates in records are left out of the comparison.
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
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

import clipbias.cli.app  # noqa: E402
from clipbias.data.image_loaders import FileImages  # noqa: E402
from clipbias.data.pack import write_pack  # noqa: E402
from clipbias.data.unpack import unpack  # noqa: E402
from clipbias.data.user import open_user_data  # noqa: E402
from clipbias.errors import UserError  # noqa: E402

Action = Callable[[Path], int]


def command(*arguments: str) -> Action:
    """A command line, run below a folder; its exit code."""

    def run(folder: Path) -> int:
        os.chdir(folder)
        os.environ["CLIPBIAS_CACHE"] = str(folder.with_name(f"{folder.name}-cache"))
        sys.argv = ["clipbias", "--quiet", *arguments]
        try:
            clipbias.cli.app.main()
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    return run


def pack(source: Path) -> Action:
    """A pack of 700 images, three chunks."""

    def run(folder: Path) -> int:
        data = open_user_data(str(source))
        assert isinstance(data.load_image, FileImages)
        try:
            write_pack(
                data, folder / "pack", {"side": 8}, lambda image: np.asarray(image.resize((8, 8))), 8, 8, workers=1
            )
        except UserError as error:
            print(f"clipbias: {error}", file=sys.stderr)
            return 2
        return 0

    return run


def unpacked(archive: Path) -> Action:
    """An archive as a download leaves it, unpacked."""

    def run(folder: Path) -> int:
        try:
            unpack(archive, folder / "data")
        except UserError as error:
            print(f"clipbias: {error}", file=sys.stderr)
            return 2
        return 0

    return run


def started(action: Action, folder: Path, largest: int = 0) -> int:
    """The process that runs an action."""
    pid = os.fork()
    if pid:
        return pid
    with open(folder.with_name(f"{folder.name}.log"), "a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    if largest:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    code = 70
    try:
        code = action(folder)
    finally:
        os._exit(code)


def ended(pid: int) -> int:
    """The exit code of a process; negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


_CHANGING = {"created", "seconds", "seal", "samples_per_second", "command"}


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, without what says when and how fast it was made."""
    out = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        raw = path.read_bytes()
        if path.suffix in (".json", ".jsonl"):
            lines = [raw] if path.suffix == ".json" else raw.splitlines()
            values = [json.loads(line) for line in lines]
            kept = [
                {k: v for k, v in one.items() if k not in _CHANGING} if isinstance(one, dict) else one for one in values
            ]
            raw = json.dumps(kept, sort_keys=True).encode()
        elif path.suffix == ".md":
            raw = re.sub(rb"- training time: .*\n", b"", raw)
        out[path.relative_to(folder).as_posix()] = raw
    return out


def differing(found: dict[str, bytes], wanted: dict[str, bytes]) -> list[str]:
    """Names of files that are missing, other or too many."""
    return sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))


def trial(action: Action, again: Action, place: Path, kills: int, draw: random.Random) -> list[str]:
    """All that went wrong with one command."""
    whole = place / "whole"
    whole.mkdir(parents=True)
    began = time.monotonic()
    if (code := ended(started(action, whole))) != 0:
        return [f"the unbroken run ended with {code}: {(place / 'whole.log').read_text()[-500:]}"]
    seconds = time.monotonic() - began
    wanted, wrong, cut = content(whole), [], 0
    for number in range(kills):
        folder = place / f"kill-{number}"
        folder.mkdir()
        pid = started(action, folder)
        moment = draw.uniform(0, seconds)
        time.sleep(moment)
        os.kill(pid, signal.SIGKILL)
        cut += ended(pid) == -signal.SIGKILL
        if (code := ended(started(again, folder))) != 0:
            wrong.append(
                f"after a kill at {moment:.2f} s: {code}: {folder.with_name(f'{folder.name}.log').read_text()[-300:]}"
            )
        elif names := differing(content(folder), wanted):
            wrong.append(f"after a kill at {moment:.2f} s: {', '.join(names)[:300]}")
        shutil.rmtree(folder)
        shutil.rmtree(place / f"kill-{number}-cache", ignore_errors=True)
    two = place / "two"
    two.mkdir()
    codes = [ended(pid) for pid in [started(action, two), started(action, two)]]
    if sorted(codes) not in ([0, 0], [0, 2]) or (names := differing(content(two), wanted)):
        wrong.append(f"two at once: codes {codes}, differing {names}")
    full = place / "full"
    full.mkdir()
    code = ended(started(action, full, largest=600))
    left = [p.name for p in full.rglob("*") if ".tmp-" in p.name]
    if code != 2 or left:
        wrong.append(f"files of at most 600 bytes: code {code}, left {left}")
    print(
        f"  {seconds:.1f} s unbroken, {len(wanted)} files; killed in time {cut} of {kills}; wrong {len(wrong)}",
        flush=True,
    )
    return wrong


def main() -> int:
    """Print what went wrong; exit code 1 where anything did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    torch.set_num_threads(1)
    place = Path(tempfile.mkdtemp(prefix="clipbias-kills-"))
    pictures = place / "pictures"
    pictures.mkdir()
    for number in range(700):
        Image.new("RGB", (16, 12), (number % 256, 9, 9)).save(pictures / f"{number:03d}.png")
        (pictures / f"{number:03d}.txt").write_text(f"Picture {number}. It is plain.")
    archive = Path(shutil.make_archive(str(place / "archive"), "gztar", pictures))
    results = str(ROOT / "leaderboards" / "results")
    train = ("finetune", "debias", "--no-evaluate", "--out", "run", "--set", "steps=3", "--set", "batch_size=8")
    actions: dict[str, tuple[Action, Action]] = {
        "pack": (pack(pictures), pack(pictures)),
        "unpack": (unpacked(archive), unpacked(archive)),
        "report": (command("report", "--results", results, "--out", "figures", "--examples", "0"),) * 2,
        "probe": (command("probe", "drop-first", "--model", "nano-clip", "--limit", "40"),) * 2,
        "finetune": (command(*train), command(*train, "--resume")),
    }
    failed = 0
    for name, (action, again) in actions.items():
        if given.only in name:
            print(name, flush=True)
            for line in trial(action, again, place / name, given.kills, random.Random(given.seed)):
                failed += 1
                print(f"  {line}", flush=True)
    shutil.rmtree(place)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
