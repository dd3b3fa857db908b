"""The cache: a flipped bit in an index never gives another caption, and nothing of others is removed."""

from __future__ import annotations

import random

import pytest
from typer.testing import CliRunner

from clipbias.cli.app import app
from clipbias.data.index import IndexColumn, open_index, write_index
from clipbias.data.roots import cache_folder
from clipbias.errors import UserError

ROWS = [(f"{number}.jpg", f"Caption number {number}.") for number in range(50)]


def test_a_flipped_bit_in_an_index_is_seen_wherever_it_is(tmp_path):
    path = tmp_path / "clipbias-x.arrow"
    write_index(path, ROWS)
    assert list(IndexColumn(path, "caption", 0, 50)) == [text for _, text in ROWS]
    raw = path.read_bytes()
    random_bits = random.Random(0)
    for number in range(60):
        bit = random_bits.randrange(8 * len(raw))
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        other = tmp_path / f"clipbias-{number}.arrow"
        other.write_bytes(changed)
        assert open_index(other) is None
        with pytest.raises(UserError, match="damaged"):
            list(IndexColumn(other, "caption", 0, 50))
    for cut in (0, 10, len(raw) - 1):
        (tmp_path / "cut.arrow").write_bytes(raw[:cut])
        assert open_index(tmp_path / "cut.arrow") is None


def test_clear_and_verify_touch_only_what_clipbias_made():
    cache = cache_folder()
    theirs = ["index/mine.arrow", "embeddings/mine/model.safetensors", "digests/mine.bin", "photo.jpg"]
    ours = ["index/clipbias-dci-0.arrow", "embeddings/space/clipbias-0.safetensors", "digests/clipbias-0.bin"]
    for name in theirs + ours:
        (cache / name).parent.mkdir(parents=True, exist_ok=True)
        (cache / name).write_bytes(b"x")
    assert CliRunner().invoke(app, ["cache", "verify"]).exit_code == 1  # the shard of ours is damaged
    assert not (cache / ours[1]).exists()
    assert CliRunner().invoke(app, ["cache", "clear"]).exit_code == 0
    assert sorted(str(f.relative_to(cache)) for f in cache.rglob("*") if f.is_file()) == sorted(theirs)
