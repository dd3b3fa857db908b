"""Commands killed at random moments, run twice at once, and run on a full disk: what is there at the end.

python benchmarks/kills.py --kills 20

Each command runs in a process of its own. It is killed (SIGKILL) at a moment drawn from the time that it takes, and run
again to its end: its files must have the bytes of an unbroken run, and no other file may be left, in its cache neither.
SIGTERM and SIGHUP must leave no temporary file either, and give their exit code. Two at once, with one cache, must end
with the same bytes as one. Where a file may not grow (RLIMIT_FSIZE), and on a file system that is full (a small tmpfs,
where it may be mounted), a command must end with code 2 in a line, leave no temporary file, and be whole when it is run
again with room. Times and dates in records are left out of the comparison.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from attack import import_everything  # noqa: E402
from PIL import Image  # noqa: E402
from tests_support import write_models  # noqa: E402

import clipbias.cli.app  # noqa: E402
from clipbias.data.download import Source, fetch  # noqa: E402
from clipbias.data.image_loaders import FileImages  # noqa: E402
from clipbias.data.pack import write_pack  # noqa: E402
from clipbias.data.unpack import unpack  # noqa: E402
from clipbias.data.user import open_user_data  # noqa: E402
from clipbias.errors import UserError  # noqa: E402

Action = Callable[[Path], int]
LINE = 1_000
"""Bytes at most of the line that says what went wrong."""


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


BODY = random.Random(0).randbytes(3_000_000)


class Server(BaseHTTPRequestHandler):
    """`BODY` in slow pieces, from where a client asks for it on."""

    def do_GET(self) -> None:
        """One connection."""
        asked, tag = self.headers.get("Range"), '"one"'
        start = int(asked[6:-1]) if asked and self.headers.get("If-Range") == tag else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")
        self.send_header("Content-Length", str(len(BODY) - start))
        self.send_header("ETag", tag)
        self.end_headers()
        with contextlib.suppress(OSError):  # its client was killed
            for place in range(start, len(BODY), 100_000):
                time.sleep(0.02)
                self.wfile.write(BODY[place : place + 100_000])

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def download(url: str) -> Action:
    """A file of 3 MB."""

    def run(folder: Path) -> int:
        try:
            fetch(Source(url, "x.bin", len(BODY), hashlib.sha256(BODY).hexdigest()), folder, lambda *_: None)
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
        clipbias.cli.app._answer_signals()
        code = action(folder)
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        os._exit(code)


def ended(pid: int) -> int:
    """The exit code of a process; negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


_CHANGING = {"created", "seconds", "seal", "samples_per_second", "waited_for_input", "command"}


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


def temporary(folder: Path) -> list[str]:
    """Temporary files in a folder and in its cache."""
    cache = folder.with_name(f"{folder.name}-cache")
    return [p.name for place in (folder, cache) for p in place.rglob("*") if ".tmp-" in p.name]


def said(folder: Path) -> str:
    """The end of what the processes of a folder wrote."""
    return " ".join(folder.with_name(f"{folder.name}.log").read_text()[-300:].split())


@dataclass
class Trial:
    """One command: ``again`` finishes what ``action`` began; ``wanted`` are the files of an unbroken run."""

    action: Action
    again: Action
    place: Path
    seconds: float = 0.0
    wanted: dict[str, bytes] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def whole(self) -> bool:
        """The unbroken run."""
        folder = self.place / "whole"
        folder.mkdir(parents=True)
        began = time.monotonic()
        code = ended(started(self.action, folder))
        self.seconds, self.wanted = time.monotonic() - began, content(folder)
        if code:
            self.wrong.append(f"the unbroken run ended with {code}: {said(folder)}")
        return code == 0

    def finished(self, folder: Path, when: str) -> None:
        """Run to the end what was broken, and compare."""
        if (code := ended(started(self.again, folder))) != 0:
            self.wrong.append(f"{when}: {code}: {said(folder)}")
        elif names := differing(content(folder), self.wanted) + temporary(folder):
            self.wrong.append(f"{when}: {', '.join(names)[:300]}")

    def broken(self, number: signal.Signals, moment: float) -> bool:
        """Send a signal after so many seconds, and run again; whether it came before the end."""
        folder = self.place / f"{number.name}-{moment:.4f}"
        folder.mkdir()
        pid = started(self.action, folder)
        time.sleep(moment)
        os.kill(pid, number)
        code, when = ended(pid), f"{number.name} at {moment:.2f} s of {self.seconds:.2f}"
        if number != signal.SIGKILL and code not in (0, -number):
            if code != 128 + number:
                self.wrong.append(f"{when}: code {code}: {said(folder)}")
            if names := temporary(folder):
                self.wrong.append(f"{when}: left {names}")
        self.finished(folder, when)
        shutil.rmtree(folder)
        return code != 0

    def two(self) -> None:
        """Two at once."""
        folder = self.place / "two"
        folder.mkdir()
        codes = [ended(pid) for pid in [started(self.action, folder), started(self.action, folder)]]
        names = differing(content(folder), self.wanted) + temporary(folder)
        if sorted(codes) not in ([0, 0], [0, 2]) or names:
            self.wrong.append(f"two at once: codes {codes}, differing {names}")

    def cramped(self, folder: Path, where: str, largest: int = 0) -> None:
        """A run without room."""
        folder.mkdir()
        code, names = ended(started(self.action, folder, largest)), temporary(folder)
        if code != 2 or names or "unexpected" in said(folder):
            self.wrong.append(f"{where}: code {code}, left {names}: {said(folder)}")

    def full(self) -> bool:
        """A file system that is full; whether one may be mounted."""
        disk = self.place / "disk"
        disk.mkdir()
        size = max(16_384, sum(map(len, self.wanted.values())) // 2)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "clipbias-kills", str(disk)]
        if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
            return False
        try:
            self.cramped(disk / "full", f"a full file system of {size:,} bytes")
            subprocess.run(["mount", "-o", "remount,size=256m", str(disk)], check=True)
            self.finished(disk / "full", "with room on the file system")
        finally:
            subprocess.run(["umount", str(disk)], check=True)
        return True


def trial(action: Action, again: Action, place: Path, kills: int, draw: random.Random) -> list[str]:
    """All that went wrong with one command."""
    one = Trial(action, again, place)
    if not one.whole():
        return one.wrong
    cut = sum(one.broken(signal.SIGKILL, draw.uniform(0, one.seconds)) for _ in range(kills))
    told = sum(
        one.broken(number, draw.uniform(0, one.seconds))
        for number in (signal.SIGTERM, signal.SIGHUP)
        for _ in range(max(1, kills // 10))
    )
    one.two()
    largest = max(map(len, one.wanted.values())) // 2
    if largest >= LINE:  # the log is a file too
        one.cramped(place / "short", f"files of at most {largest:,} bytes", largest)
    mounted = one.full()
    print(
        f"  {one.seconds:.1f} s unbroken, {len(one.wanted)} files; killed in time {cut} of {kills}, ended by SIGTERM "
        f"or SIGHUP in time {told}; {'full file system too' if mounted else 'no file system could be mounted'}; "
        f"wrong {len(one.wrong)}",
        flush=True,
    )
    return one.wrong


def main() -> int:
    """Print what went wrong; exit code 1 where anything did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    clipbias.cli.app._answer_signals()  # a mounted file system goes with this process
    torch.set_num_threads(1)
    place = Path(tempfile.mkdtemp(prefix="clipbias-kills-"))
    pictures = place / "pictures"
    pictures.mkdir()
    for number in range(700):
        Image.new("RGB", (16, 12), (number % 256, 9, 9)).save(pictures / f"{number:03d}.png")
        (pictures / f"{number:03d}.txt").write_text(f"Picture {number}. It is plain.")
    archive = Path(shutil.make_archive(str(place / "archive"), "gztar", pictures))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    results = place / "made"
    write_models(results, "m")
    train = ("finetune", "debias", "--no-evaluate", "--out", "run", "--set", "steps=3", "--set", "batch_size=8")
    import_everything()
    actions: dict[str, tuple[Action, Action]] = {
        "pack": (pack(pictures), pack(pictures)),
        "download": (download(f"http://127.0.0.1:{server.server_port}/x.bin"),) * 2,
        "unpack": (unpacked(archive), unpacked(archive)),
        "report": (command("report", "--results", str(results), "--out", "figures", "--examples", "0"),) * 2,
        "probe": (command("probe", "drop-first", "--model", "nano-clip", "--limit", "20"),) * 2,
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
