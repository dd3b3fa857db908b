"""Loading a B/16 checkpoint of OpenAI's layout, against reading its bytes and building the modules once.

python benchmarks/load_time.py
"""

from __future__ import annotations

import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

import clipbias
from clipbias.models.build import ClipShape, build_clip
from clipbias.models.layouts import custom_to_openai

B16 = ClipShape(512, 224, 16, 768, 12, 512, 12, 77)
ROUNDS = 5


def median(action: Callable[[], object]) -> float:
    """Median seconds of `ROUNDS` calls, after one that warms up."""
    action()
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "b16.pt"
        torch.save({k: v.clone() for k, v in custom_to_openai(build_clip(B16).state_dict()).items()}, path)
        size = path.stat().st_size
        rows = {
            "read the bytes": median(path.read_bytes),
            "build the modules once": median(lambda: build_clip(B16)),
            "SHA-256 of the bytes (fingerprint)": median(lambda: hashlib.sha256(path.read_bytes()).hexdigest()),
            "clipbias.load_model": median(lambda: clipbias.load_model(str(path), device="cpu")),
        }
    machine = f"torch {torch.__version__}, {torch.get_num_threads()} threads"
    print(f"B/16, fp32, {size / 1e6:.0f} MB, {machine}, median of {ROUNDS}")
    for name, seconds in rows.items():
        print(f"{name:38}{seconds:8.3f} s")
    base = rows["read the bytes"] + rows["build the modules once"]
    print(f"load_model / (read + build): {rows['clipbias.load_model'] / base:.2f} (aim: at most 1.5)")


if __name__ == "__main__":
    main()
