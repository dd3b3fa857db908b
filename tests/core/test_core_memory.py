"""Files that ask for much, read with 4 GiB above what the imports take: one line each, soon, and nothing is killed."""

from __future__ import annotations

import json
import resource
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import processes

GIB = 1 << 30
SECONDS = 5.0


def png(path: Path, width: int, height: int) -> None:
    """A valid head and one piece of nothing, compressed."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1 << 24), 9)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b""))


def safetensors(path: Path, shape: list[int], says: int) -> None:
    head = json.dumps({"t": {"dtype": "F32", "shape": shape, "data_offsets": [0, says]}}).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + bytes(64))


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, file.open("a/data.pkl", "w") as member:
        for _ in range(256):
            member.write(bytes(1 << 20))


def cases(folder: Path) -> dict[str, Callable[[], object]]:
    """What reads each file, by name; the files are made here."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import torch
    from openclip_folder import write_folder

    from clipbias.data.images import open_image
    from clipbias.data.jsonfiles import read_json_lines, stream_json_array
    from clipbias.data.loading import load_dataset
    from clipbias.data.unpack import unpack
    from clipbias.formats import read_json, read_toml
    from clipbias.models.checkpoint import read_tensors
    from clipbias.models.loading import load_model
    from clipbias.probe.spec import read_probe
    from clipbias.results.folder import read_queries, read_rows, read_run

    out: dict[str, Callable[[], object]] = {}
    for name, width, height in (("wide", 2**31 - 1, 2**31 - 1), ("large", 30_000, 30_000), ("thin", 32_000, 1)):
        png(folder / f"{name}.png", width, height)
        out[f"image {name}"] = lambda name=name: open_image(folder / f"{name}.png")
    for name, shape, says in (("shape", [2**40], 2**42), ("product", [2**31, 2**31], 64), ("negative", [-1], 64)):
        safetensors(folder / f"{name}.safetensors", shape, says)
        out[f"safetensors {name}"] = lambda name=name: read_tensors(folder / f"{name}.safetensors")
    (folder / "head.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{}")
    out["safetensors head"] = lambda: read_tensors(folder / "head.safetensors")
    torch.save({f"t{i}": torch.zeros(1).expand(2**34) for i in range(3)}, folder / "view.pt")
    out["checkpoint of views"] = lambda: read_tensors(folder / "view.pt")
    bomb(folder / "bomb.pt")
    out["checkpoint that inflates"] = lambda: read_tensors(folder / "bomb.pt")
    (folder / "x.zip").write_bytes((folder / "bomb.pt").read_bytes())
    out["archive that inflates"] = lambda: unpack(folder / "x.zip", folder / "unpacked", most=1 << 20)
    deep = b'{"a":' * 1_000_000
    for name in ("deep.json", "deep.jsonl"):
        (folder / name).write_bytes(deep)
    (folder / "deep-array.json").write_bytes(b"[" * 1_000_000)
    out["deep JSON"] = lambda: read_json(folder / "deep.json")
    out["deep line"] = lambda: list(read_json_lines(folder / "deep.jsonl"))
    out["deep array"] = lambda: list(stream_json_array(folder / "deep-array.json"))
    (folder / "deep.toml").write_bytes(b"a = " + b"[" * 200_000)
    out["deep TOML"] = lambda: read_toml(folder / "deep.toml")
    out["deep spec"] = lambda: read_probe(folder / "deep.toml")
    for name, kind in (("sparse.csv", "table"), ("sparse.json", "JSON"), ("sparse.pt", "checkpoint")):
        with (folder / name).open("wb") as file:
            file.truncate(100 << 30)
        read = {"table": lambda p: load_dataset(str(p)), "JSON": read_json, "checkpoint": read_tensors}[kind]
        out[f"sparse {kind}"] = lambda read=read, name=name: read(folder / name)
    (folder / "line.csv").write_bytes(b'image,caption\na.png,"' + b"x" * (40 << 20))
    out["one line"] = lambda: load_dataset(str(folder / "line.csv"))
    text = pa.array(["x" * 50_000_000]).dictionary_encode()
    with pq.ParquetWriter(folder / "text.parquet", pa.schema([("image", text.type), ("caption", text.type)])) as writer:
        writer.write_table(pa.table({"image": text, "caption": text}))
    out["Parquet of one text"] = lambda: load_dataset(str(folder / "text.parquet"))
    for name in ("run.json", "rows.jsonl", "queries.parquet"):
        (folder / name).write_bytes(deep)
    out |= {"run": lambda: read_run(folder), "rows": lambda: read_rows(folder), "queries": lambda: read_queries(folder)}
    for name, changes in {"context": {"context_length": 10**9}, "vocabulary": {"vocab_size": 10**9},
                          "width": {"width": 10**8}, "layers": {"layers": 10**7}}.items():  # fmt: skip
        place = folder / name
        write_folder(place)
        config = json.loads((place / "open_clip_config.json").read_text())
        config["model_cfg"]["text_cfg"] |= changes
        (place / "open_clip_config.json").write_text(json.dumps(config))
        out[f"model with a huge {name}"] = lambda place=place: load_model(str(place), device="cpu")
    return out


def child(folder: Path) -> None:
    """Print, a line a case, what became of it and its seconds of processor time."""
    import time

    from clipbias.errors import UserError

    made = cases(folder)
    # torch alone maps more than 4 GiB of libraries and threads' stacks, of which it uses little.
    room = 4 * GIB + int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    for name, read in made.items():
        began = time.process_time()
        try:
            read()
            found = "read"
        except UserError as error:
            found = "refused" if "\n" not in str(error) else f"more than a line: {error!s:.100}"
        except BaseException as error:
            found = f"{type(error).__name__}: {error!s:.100}"
        print(json.dumps([name, found, time.process_time() - began]), flush=True)


def test_huge_requests_are_refused_in_a_line_with_4_gib_of_room(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    code, out, errors = processes.start(tmp_path / "printed", processes.script, Path(__file__), folder).finish()
    assert code == 0, errors[-2000:]
    found = [json.loads(line) for line in out.splitlines()]
    assert len(found) == 27
    assert [(name, what) for name, what, _ in found if what != "refused"] == []
    assert [(name, seconds) for name, _, seconds in found if seconds > SECONDS] == []


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
    child(Path(sys.argv[1]))
