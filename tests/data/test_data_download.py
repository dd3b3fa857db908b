"""Downloads against a server on loopback that misbehaves, and archives made to harm."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import itertools
import json
import os
import random
import socket
import socketserver
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from clipbias import gate
from clipbias.data import connection
from clipbias.data.download import FOLDER, TABLE, Source, fetch, sources
from clipbias.data.loading import DATASETS, dataset_spec, load_dataset
from clipbias.data.unpack import unpack
from clipbias.errors import UserError
from clipbias.files import atomic_path, own_folder, write_text

BODY = random.Random(0).randbytes(3_000_000)
SHA = hashlib.sha256(BODY).hexdigest()


@dataclass
class Site:
    """What a server has, how it fails, and what it was asked."""

    body: bytes = BODY
    cuts: list[int] = field(default_factory=list)  # the n-th connection ends after so many bytes
    ranges: bool = True
    etag: str = '"one"'
    answers: list[int] = field(default_factory=list)  # status codes before it serves
    pause: float = 0.0  # seconds between pieces of 100,000 bytes
    asked: list[str | None] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def site() -> Iterator[Site]:
    mine = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            mine.asked.append(asked)
            if mine.answers:
                self.send_error(mine.answers.pop(0))
                return
            start = 0
            if asked and mine.ranges and self.headers.get("If-Range") == mine.etag:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(mine.body) > 0:
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(mine.body) - 1}/{len(mine.body)}")
            self.send_header("Content-Length", str(len(mine.body) - start))
            self.send_header("ETag", mine.etag)
            self.end_headers()
            stop = start + mine.cuts.pop(0) if mine.cuts else len(mine.body)
            for place in range(start, stop, 100_000):
                time.sleep(mine.pause)
                try:
                    self.wfile.write(mine.body[place : min(place + 100_000, stop)])
                except OSError:  # killed
                    return
            if stop < len(mine.body):
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    mine.url = f"http://127.0.0.1:{server.server_port}/some/file.bin"
    yield mine
    server.shutdown()
    server.server_close()


@pytest.fixture
def raw_site() -> Iterator[tuple[list[bytes | float], str]]:
    """A server that answers every connection with given bytes and pauses, and then again the last of them for ever."""
    answer: list[bytes | float] = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65_536)
            with contextlib.suppress(OSError):
                for part in itertools.chain(answer, itertools.cycle(answer[-2:])):
                    time.sleep(part) if isinstance(part, float) else self.request.sendall(part)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield answer, f"http://127.0.0.1:{server.server_address[1]}/file.bin"
    server.shutdown()
    server.server_close()


def quiet(*_: object) -> None:
    pass


def get(source: Source, root: Path, attempts: int = 3) -> bool:
    return fetch(source, root, quiet, attempts=attempts, wait=0.0)


def left(root: Path) -> list[str]:
    return sorted(str(f.relative_to(root)) for f in root.rglob("*") if f.is_file() and f.suffix != ".lock")


def test_a_file_arrives_whole_and_is_not_fetched_twice(site, tmp_path):
    source = Source(site.url, "a/b.bin", len(BODY), SHA)
    assert get(source, tmp_path)
    assert (tmp_path / "a/b.bin").read_bytes() == BODY
    assert not get(source, tmp_path) and len(site.asked) == 1
    assert left(tmp_path) == [f"{FOLDER}/{source.key}.done", "a/b.bin"]
    assert json.loads((tmp_path / FOLDER / f"{source.key}.done").read_text())["sha256"] == SHA
    (tmp_path / "a/b.bin").unlink()
    assert get(source, tmp_path) and (tmp_path / "a/b.bin").read_bytes() == BODY


def test_a_cut_connection_goes_on_where_it_stopped(site, tmp_path):
    site.cuts = [1_100_000, 700_000]
    assert get(Source(site.url, "x", len(BODY), SHA), tmp_path)
    assert (tmp_path / "x").read_bytes() == BODY
    assert site.asked[0] is None and len(site.asked) == 3
    starts = [int(a.removeprefix("bytes=").removesuffix("-")) for a in site.asked[1:]]
    assert 0 < starts[0] < starts[1] <= 1_800_000


def test_the_same_command_goes_on_after_it_gave_up(site, tmp_path):
    site.cuts = [1_000_000, 0, 0, 0]
    source = Source(site.url, "x", sha256=SHA)
    with pytest.raises(UserError, match="3 times in a row; what has come is kept, the same command resumes"):
        get(source, tmp_path)
    assert not (tmp_path / "x").exists() and (tmp_path / FOLDER / f"{source.key}.part").stat().st_size > 0
    site.cuts = []
    assert get(source, tmp_path)
    assert (tmp_path / "x").read_bytes() == BODY and site.asked[-1] is not None


def test_a_server_that_ignores_ranges_starts_anew(site, tmp_path):
    site.cuts, site.ranges = [1_500_000], False
    assert get(Source(site.url, "x", sha256=SHA), tmp_path)
    assert (tmp_path / "x").read_bytes() == BODY


@pytest.mark.parametrize("tag", ['"two"', 'W/"one"'])
def test_parts_of_two_versions_are_never_joined(site, tmp_path, tag):
    site.cuts, site.etag = [1_500_000, 0, 0, 0], '"one"' if tag == '"two"' else tag
    with pytest.raises(UserError):
        get(Source(site.url, "x"), tmp_path)
    site.body, site.etag, site.cuts = b"other" * 400_000, tag, []
    assert get(Source(site.url, "x"), tmp_path)
    assert (tmp_path / "x").read_bytes() == site.body


def test_a_wrong_digest_leaves_nothing(site, tmp_path):
    source = Source(site.url, "x", sha256="0" * 64)
    with pytest.raises(UserError, match=f"SHA-256 is {SHA}, expected {'0' * 64}; removed"):
        get(source, tmp_path)
    assert left(tmp_path) == [f"{FOLDER}/{source.key}.part.json"] and not (tmp_path / "x").exists()


def test_a_wrong_size_is_refused_before_it_is_downloaded(site, tmp_path):
    with pytest.raises(UserError, match="3,000,000 bytes there, expected 2,999,999"):
        get(Source(site.url, "x", len(BODY) - 1), tmp_path)
    assert left(tmp_path) == []


def test_a_missing_file_is_said_at_once_and_a_busy_server_is_asked_again(site, tmp_path):
    site.answers = [404]
    with pytest.raises(UserError, match="the server answers 404"):
        get(Source(site.url, "x"), tmp_path)
    assert len(site.asked) == 1
    site.answers = [503, 429]
    assert get(Source(site.url, "x", sha256=SHA), tmp_path)
    site.answers = [503] * 9
    with pytest.raises(UserError, match="the server answers 503, 3 times"):
        get(Source(site.url, "y"), tmp_path)


def test_a_whole_part_that_was_not_yet_moved_is_used(site, tmp_path):
    source = Source(site.url, "x", len(BODY), SHA)
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / f"{source.key}.part").write_bytes(BODY)
    (tmp_path / FOLDER / f"{source.key}.part.json").write_text(json.dumps({"version": site.etag}))
    assert get(source, tmp_path) and site.asked == [f"bytes={len(BODY)}-"]


def test_two_processes_do_not_write_one_file(site, tmp_path):
    (tmp_path / FOLDER).mkdir()
    source = Source(site.url, "x")
    with (
        FileLock(tmp_path / FOLDER / f"{source.key}.lock"),
        pytest.raises(UserError, match="by another process"),
    ):
        get(source, tmp_path)
    assert site.asked == []


def test_killed_at_random_moments_a_download_is_whole_or_not_there(site, tmp_path):
    site.pause = 0.02
    command = (
        "import sys; from pathlib import Path; from clipbias.data.download import Source, fetch\n"
        "fetch(Source(sys.argv[1], 'x.bin', sha256=sys.argv[2]), Path(sys.argv[3]), lambda *_: None)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    chance = random.Random(5)
    for number in range(8):
        process = subprocess.Popen([sys.executable, "-c", command, site.url, SHA, str(tmp_path)], env=environment)
        while len(site.asked) <= number and process.poll() is None:
            time.sleep(0.01)
        time.sleep(chance.uniform(0.05, 0.4))
        process.kill()
        process.wait()
        if (tmp_path / "x.bin").exists():
            assert (tmp_path / "x.bin").read_bytes() == BODY
    site.pause = 0.0
    get(Source(site.url, "x.bin", sha256=SHA), tmp_path)
    assert (tmp_path / "x.bin").read_bytes() == BODY
    assert any(site.asked[1:]), "none of them went on where the one before was killed"


def test_files_of_one_name_do_not_take_each_others_place(site, tmp_path):
    """ImageInWords has three data.jsonl."""
    one, two = Source(site.url, "a/data.jsonl"), Source(site.url + "?b", "b/data.jsonl")
    assert get(one, tmp_path) and get(two, tmp_path)
    assert not get(one, tmp_path) and not get(two, tmp_path) and len(site.asked) == 2
    for name in DATASETS:
        files, _ = sources(name)
        assert len({file.key for file in files}) == len(files)


def test_nobody_there(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/x.bin"
        with pytest.raises(UserError, match="refused, 2 times in a row"):
            get(Source(url, "x"), tmp_path, attempts=2)


def make_zip(members: dict[str, bytes], links: dict[str, str] = {}) -> bytes:  # noqa: B006
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
        for name, target in links.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o120777 << 16
            packed.writestr(info, target)
    return out.getvalue()


def make_tar(members: dict[str, bytes], links: dict[str, str] = {}, kind: bytes = tarfile.SYMTYPE) -> bytes:  # noqa: B006
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as packed:
        for name, target in links.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            packed.addfile(info)
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_an_archive_is_fetched_unpacked_and_removed(site, tmp_path, make):
    site.body = make({"images/a.jpg": b"a", "images/deep/b.jpg": b"b" * 100_000, "c.json": b"{}"})
    source = Source(site.url, ".", unpack=True, only=("images/",))
    assert get(source, tmp_path) and not get(source, tmp_path)
    assert left(tmp_path) == [f"{FOLDER}/{source.key}.done", "images/a.jpg", "images/deep/b.jpg"]
    assert (tmp_path / "images/deep/b.jpg").read_bytes() == b"b" * 100_000


HOSTILE = {
    "parent": make_zip({"ok.txt": b"1", "../out.txt": b"x"}),
    "absolute": make_tar({"ok.txt": b"1", "/tmp/clipbias-out.txt": b"x"}),
    "backslashes": make_zip({"..\\out.txt": b"x"}),
    "drive": make_tar({"C:/out.txt": b"x"}),
    "control": make_tar({"a\x1b[2Jb": b"x"}),
    "zip link": make_zip({}, {"images": "/"}),
    "tar link": make_tar({"images/x": b"x"}, {"images": "../.."}),
    "hard link": make_tar({}, {"passwd": "/etc/passwd"}, tarfile.LNKTYPE),
    "device": make_tar({}, {"null": ""}, tarfile.CHRTYPE),
    "fifo": make_tar({}, {"pipe": ""}, tarfile.FIFOTYPE),
    "twice": make_tar({"a.txt": b"1", "./a.txt": b"2"}),
    "no archive": b"plain text",
    "empty": make_zip({}),
    "cut": make_tar({"a.bin": BODY})[:200_000],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_archives_are_refused_and_leave_nothing(tmp_path, kind):
    archive, folder = tmp_path / "evil", tmp_path / "data" / "set"
    archive.write_bytes(HOSTILE[kind])
    folder.mkdir(parents=True)
    with pytest.raises(UserError) as caught:
        unpack(archive, folder)
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")) == ["data", "data/set", "evil"]


def test_a_member_larger_than_it_says_is_refused(tmp_path):
    packed = bytearray(make_zip({"a.bin": bytes(1_000_000)}))
    small = (1000).to_bytes(4, "little")
    for header, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = packed.index(header) + offset
        packed[place : place + 4] = small
    (tmp_path / "bomb.zip").write_bytes(packed)
    with pytest.raises(UserError):
        unpack(tmp_path / "bomb.zip", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_member_that_does_not_fit_on_the_disk_is_refused(tmp_path):
    info = tarfile.TarInfo("huge.bin")
    info.size = 1 << 60
    (tmp_path / "huge.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(UserError, match=r"when unpacked \(the limit"):
        unpack(tmp_path / "huge.tar", tmp_path / "out")
    with pytest.raises(UserError, match="does not fit on the disk"):
        unpack(tmp_path / "huge.tar", tmp_path / "out", most=1 << 61)


def test_nothing_is_written_through_a_link_that_was_there(tmp_path):
    outside, folder = tmp_path / "outside", tmp_path / "set"
    outside.mkdir()
    folder.mkdir()
    (folder / "images").symlink_to(outside)
    (tmp_path / "a.zip").write_bytes(make_zip({"images/x.jpg": b"x"}))
    with pytest.raises(UserError, match="leads out"):
        unpack(tmp_path / "a.zip", folder)
    assert list(outside.iterdir()) == []


@given(st.binary(max_size=400), st.integers(0, 400), st.booleans())
def test_damaged_archives_never_raise_anything_else(tmp_path_factory, noise, place, as_zip):
    root = tmp_path_factory.mktemp("fuzz")
    good = (make_zip if as_zip else make_tar)({"a/b.txt": b"hello" * 50, "c": b""})
    place = min(place, len(good))
    (root / "x").write_bytes(good[:place] + noise + good[place + len(noise) :])
    try:
        count = unpack(root / "x", root / "out")
    except UserError:
        count = 0
    assert len([f for f in (root / "out").rglob("*") if f.is_file()]) == count
    assert sorted(p.name for p in root.iterdir()) in (["out", "x"], ["x"])


def test_the_table_names_every_data_set_with_files_or_steps():
    for name in DATASETS:
        files, steps = sources(name)
        assert files or steps, name
        for file in files:
            assert file.url.startswith("https://") and file.name and (not file.sha256 or len(file.sha256) == 64)
            assert file.unpack or file.to != "."
        if dataset_spec(name).needs_root and not files:
            assert "clipbias data get" in steps
    with pytest.raises(UserError, match="no source is known"):
        sources("nowhere", TABLE)


def test_a_byte_now_and_then_is_not_waited_for(raw_site, tmp_path, monkeypatch):
    answer, url = raw_site
    monkeypatch.setattr(connection, "WINDOW", 0.3)
    answer += [b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x", 0.02]
    began = time.monotonic()
    with pytest.raises(UserError, match=r"bytes in 0 seconds, 2 times in a row"):
        get(Source(url, "x"), tmp_path, attempts=2)
    assert time.monotonic() - began < 5


def test_headers_that_never_end_are_not_waited_for(raw_site, tmp_path, monkeypatch):
    answer, url = raw_site
    monkeypatch.setattr(connection, "CONNECT", 0.4)
    answer += [b"HTTP/1.1 200 OK\r\nX: ", b"x", 0.05]
    began = time.monotonic()
    with pytest.raises(UserError, match="2 times in a row"):
        get(Source(url, "x"), tmp_path, attempts=2)
    assert time.monotonic() - began < 5


def test_a_body_without_end_is_cut_at_the_limit(raw_site, tmp_path, monkeypatch):
    answer, url = raw_site
    monkeypatch.setenv("CLIPBIAS_LIMIT_ARCHIVE_BYTES", "3MB")
    answer += [b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 100_000, 0.0]
    with pytest.raises(UserError, match="more bytes than stated or allowed"):
        get(Source(url, "x"), tmp_path)
    assert not [name for name in left(tmp_path) if name.endswith(".part")]


@pytest.mark.parametrize("headers", ["", 'ETag: "two"\r\n', 'ETag: W/"one"\r\n'])
def test_a_server_that_ignores_if_range_puts_no_second_version_behind_the_first(raw_site, site, tmp_path, headers):
    answer, url = raw_site
    body = BODY[::-1]
    site.cuts = [1_000_000]
    first = Source(site.url, "x")
    with pytest.raises(UserError):
        site.answers = []
        get(first, tmp_path, attempts=1)
    second = Source(url, "x")
    for file in (tmp_path / FOLDER).iterdir():
        file.rename(file.with_name(file.name.replace(first.key, second.key)))
    have = (tmp_path / FOLDER / f"{second.key}.part").stat().st_size
    assert have
    head = f"HTTP/1.1 206 Partial\r\nContent-Range: bytes {have}-{len(body) - 1}/{len(body)}\r\n{headers}"
    answer += [f"{head}Content-Length: {len(body) - have}\r\n\r\n".encode(), body[have:], 9.0]
    with pytest.raises(UserError):
        get(second, tmp_path, attempts=1)
    assert not (tmp_path / "x").exists() and not (tmp_path / FOLDER / f"{second.key}.part").exists()


@pytest.mark.parametrize(
    "url", ["http://example.org/x", "ftp://127.0.0.1/x", "file:///etc/passwd", "http://10.0.0.1/x"]
)
def test_only_https_is_opened(tmp_path, url):
    with pytest.raises(UserError, match="only https"):
        get(Source(url, "x"), tmp_path)


@pytest.mark.parametrize(
    "to, message",
    [("http://localhost:1/x", "not among"), ("file:///etc/passwd", "is not allowed"), ("https://evil.org", "not am")],
)
def test_redirects_stay_within_the_stated_hosts(raw_site, tmp_path, to, message):
    answer, url = raw_site
    answer += [f"HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode(), 9.0, b""]
    with pytest.raises(UserError, match=message):
        get(Source(url, "x", hosts=(".hf.co",)), tmp_path)


def test_hosts_are_compared_by_whole_names():
    connection.check_url("https://cdn.hf.co/x", (".hf.co",))
    connection.check_url("https://hf.co/x", (".hf.co",))
    for host in ("evilhf.co", "hf.co.evil.org", "hf.co@evil.org"):
        with pytest.raises(UserError, match="not among"):
            connection.check_url(f"https://{host}/x", (".hf.co",))


def header(name: str = "a.bin", size: int = 0, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.type = kind
    raw = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    raw[124:136] = (b"\xff" + size.to_bytes(11, "big", signed=True)) if size < 0 else b"%011o\0" % size
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


END = b"\0" * 1024
HOSTILE_TARS = {
    "negative size": header(size=-512) + END,
    "negative size behind a member": header(size=512) + b"x" * 512 + header("b.bin", -1536) + END,
    "negative extended header": header(size=-512, kind=tarfile.XHDTYPE) + END,
    "large extended header": header(size=1 << 33, kind=tarfile.XHDTYPE) + b"1" * 4096,
    "large name": header(size=1 << 30, kind=tarfile.GNUTYPE_LONGNAME) + b"1" * 4096,
    "chain of extended headers": (header(size=512, kind=tarfile.XHDTYPE) + b"12 a=aaaaaa\n".ljust(512, b"\0")) * 3000,
    "size that is none": header(size=512, kind=tarfile.XHDTYPE)
    + b"16 size=-100000\n".ljust(512, b"\0")
    + header()
    + END,
    "sparse": header(size=512, kind=tarfile.GNUTYPE_SPARSE) + b"x" * 512 + END,
    "cut": header(size=1024) + b"x" * 100,
}


@pytest.mark.parametrize("kind", HOSTILE_TARS)
@pytest.mark.parametrize("compressed", [False, True])
def test_malformed_tars_end_at_once_in_one_line(tmp_path, kind, compressed):
    raw = HOSTILE_TARS[kind]
    (tmp_path / "x.tar").write_bytes(gzip.compress(raw) if compressed else raw)
    began = time.monotonic()
    with pytest.raises(UserError, match=r"x\.tar: [^\n]*$"):
        unpack(tmp_path / "x.tar", tmp_path / "out")
    with pytest.raises(UserError, match=r"x\.tar: [^\n]*$"):
        load_dataset(str(tmp_path / "x.tar"))
    assert time.monotonic() - began < 5 and not list((tmp_path / "out").iterdir())


def test_a_bomb_of_honest_size_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(30):
            archive.writestr(f"passed over/{number}", bytes(1_000_000))
        archive.writestr("taken.bin", b"x")
    with pytest.raises(UserError, match="more than 20,000,000 bytes when unpacked"):
        unpack(tmp_path / "bomb.zip", tmp_path / "out", ["taken"], most=20_000_000)
    assert unpack(tmp_path / "bomb.zip", tmp_path / "out", ["taken"], most=40_000_000) == 1


def test_a_zip_whose_directory_is_huge_is_not_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(gate, "_LARGEST_DIRECTORY", 1000)
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for number in range(100):
            archive.writestr(f"{number}", b"")
    with pytest.raises(UserError, match="its directory has"):
        unpack(tmp_path / "many.zip", tmp_path / "out")


def test_what_a_killed_call_left_is_removed_by_the_next(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a", b"x")
    script = (
        "import os, sys, pathlib\nfrom clipbias.files import atomic_path, own_folder\n"
        "root = pathlib.Path(sys.argv[1])\n"
        "with own_folder(root, 'unpacked') as one, atomic_path(root / 'b') as two:\n"
        "    (one / 'x').write_text('x')\n    os._exit(9)\n"
    )
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run([sys.executable, "-c", script, str(out)], check=False)
    assert len(list(out.iterdir())) == 2
    unpack(tmp_path / "x.zip", out)
    write_text(out / "b", "y")
    assert sorted(f.name for f in out.iterdir()) == ["a", "b"]
    with own_folder(out, "unpacked"), own_folder(out, "unpacked"), atomic_path(out / "b"), atomic_path(out / "b"):
        assert len(list(out.iterdir())) == 6  # those of living processes stay
