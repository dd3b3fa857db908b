"""Opening large annotation files (aims: 15,000 DOCCI rows under 1 s; 1.2 million ShareGPT4V rows read within 2 GiB
and opened again under 2 s), beside reading the same file with json.load.

python benchmarks/data_index.py

Writes 1.5 GB into the temporary folder and removes it. Each line is a process of its own, with its own peak memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DOCCI = 14_847
SHARE = 1_246_901
SENTENCE = "A photo of a red wooden boat that lies on the grey stones of a beach under a cloudy evening sky. "

MEASURED = """
import resource, sys, time
name, root = sys.argv[1:3]
if name == "nothing":
    import json
    began = time.perf_counter()
    count = len(json.load(open(root, encoding="utf-8")))
else:
    from clipbias import load_dataset
    began = time.perf_counter()
    dataset = load_dataset(name, root=root, split="train")
    count = len(dataset.captions)
    dataset.captions[count - 1]
seconds = time.perf_counter() - began
print(f"{count:>12,}{seconds:>10.2f}{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:>11.2f}")
"""


def measure(label: str, name: str, root: Path) -> None:
    """Print a line of the table."""
    done = subprocess.run([sys.executable, "-c", MEASURED, name, str(root)], check=True, capture_output=True, text=True)
    print(f"{label:48}{done.stdout}", end="", flush=True)


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["CLIPBIAS_CACHE"] = str(folder / "cache")
        with (folder / "docci_descriptions.jsonlines").open("w") as file:
            for i in range(DOCCI):
                split = "train" if i < 9_647 else "test" if i < 14_647 else "qual_test"
                entry = {"split": split, "image_file": f"{split}_{i:05d}.jpg", "description": f"{i} " + 7 * SENTENCE}
                file.write(json.dumps(entry) + "\n")
        share = folder / "share-captioner_coco_lcs_sam_1246k_1107.json"
        began = time.perf_counter()
        with share.open("w") as file:
            file.write("[")
            for i in range(SHARE):
                value = f"{i} " + 10 * SENTENCE
                turns = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": value}]
                entry = {"id": f"{i}", "image": f"sam/images/sa_{i}.jpg", "conversations": turns}
                file.write(("," if i else "") + json.dumps(entry))
            file.write("]")
        print(f"made {share.stat().st_size / 1e9:.2f} GB in {time.perf_counter() - began:.0f} s\n")
        print(f"{'':48}{'captions':>12}{'seconds':>10}{'peak, GiB':>11}")
        measure("docci, 14,847 lines, split train", "docci", folder)
        measure("sharegpt4v, first time (indexes the file)", "sharegpt4v", folder)
        measure("sharegpt4v, again", "sharegpt4v", folder)
        measure("json.load of the same file", "nothing", share)


if __name__ == "__main__":
    main()
