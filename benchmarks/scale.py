"""Exact ranks from 10^4 to 10^6 images and captions in 64 dimensions, and an approximate index beside them; with
``--run`` the memory of a whole run.

    python benchmarks/scale.py [--blocks 2] [--images 10000 100000 1000000]
    OMP_NUM_THREADS=1 python benchmarks/scale.py --run [--images 1000000]

One caption an image. All captions and images are laid out as a run does it; of the largest sizes some rows of blocks
are counted, each against all images, and the time of all of them is theirs times a ratio: every row of blocks costs the
same. With faiss installed (``pip install clipbias[faiss]``) an IVF index names 100 candidates a caption, which are
ranked exactly; its recall is how often the image that is truly first is among them.

``--run`` is `run_probe` with the padding probe, six conditions, from pictures and texts to the files of the run: ranks,
leaders, intervals, tests, the table of queries. The encoder is a stub of 4 dimensions, as features are apart, and in
place of hours of counting each caption meets the images of its own block of 2,048; nothing else is cut. Printed is a
table for docs/scale.md (about ten minutes at 10^6). Captions have 60 characters: the data set holds them, and once more
as sentences, and a condition's texts are held while it is measured, so that longer ones add three times their length.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import resource
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clipbias.data.dataset import RetrievalDataset
from clipbias.models.wrapped import WrappedEncoder
from clipbias.probe import counting
from clipbias.probe.ranking import BLOCK, count_alone, rank_both
from clipbias.probe.run import run_probe
from clipbias.probe.session import Session
from clipbias.probe.spec import find_probes

WIDTH = 64
STUB_WIDTH = 4
GIB = 2**30


def features(number: int) -> tuple[Tensor, Tensor]:
    """Captions and images [N, 64], in clusters as real features are: a caption is its image and noise."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(max(10, number // 100), WIDTH, generator=generator)
    images = centres[torch.randint(len(centres), (number,), generator=generator)]
    images = torch.nn.functional.normalize(images + 0.7 * torch.randn(number, WIDTH, generator=generator), dim=1)
    return torch.nn.functional.normalize(images + 0.05 * torch.randn(number, WIDTH, generator=generator), dim=1), images


@contextmanager
def cut(change: Callable[[Iterator[Any]], Iterator[Any]] = iter, **always: bool) -> Iterator[None]:
    """Blocks are counted in part: those of ``change``, asked for with ``always``."""
    whole = counting._blocks

    def blocks(work: Any, share: Any, only_positives: bool) -> Iterator[Any]:
        return change(whole(work, share, **{"only_positives": only_positives, **always}))

    with patch.object(counting, "_blocks", blocks):
        yield


def exact(texts: Tensor, images: Tensor, blocks: int) -> tuple[float, float]:
    """Seconds of the whole, and the share of the rows of blocks that was counted."""
    number = len(images)
    shown = min(number, blocks * BLOCK)
    counted = 0.0

    def first_rows(found: Iterator[Any]) -> Iterator[Any]:
        for block in found:
            if block[0].start >= shown:
                return
            yield block

    def timed(*given: Any) -> Any:
        nonlocal counted
        began = time.perf_counter()
        out = count_alone(*given)
        counted = time.perf_counter() - began
        return out

    with cut(first_rows):
        began = time.perf_counter()
        rank_both(texts, images, np.arange(number), count=timed)
        planned = time.perf_counter() - began - counted
    return planned + counted * number / shown, shown / number


def approximate(texts: Tensor, images: Tensor, queries: int) -> str:
    """Time and recall of an IVF index with 100 candidates a caption, ranked exactly."""
    try:
        import faiss
    except ImportError:
        return "faiss is not installed"
    number = len(images)
    lists = int(4 * number**0.5)
    began = time.perf_counter()
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(WIDTH), WIDTH, lists, faiss.METRIC_INNER_PRODUCT)
    index.train(images[torch.randperm(number)[: 40 * lists]].numpy())
    index.add(images.numpy())
    built = time.perf_counter() - began
    asked = texts[torch.randperm(number, generator=torch.Generator().manual_seed(1))[:queries]]
    best = torch.cat([(part @ images.T).argmax(dim=1) for part in asked.split(64)])
    out = [f"built in {built:.1f} s"]
    for probes in (8, 32, 128):
        index.nprobe = probes
        began = time.perf_counter()
        _, found = index.search(asked.numpy(), 100)
        near = torch.from_numpy(found).clamp(min=0)
        values = (asked[:, None] * images[near]).sum(dim=2).masked_fill(torch.from_numpy(found) < 0, -2)
        first = near.gather(1, values.argmax(dim=1, keepdim=True))[:, 0]
        taken = (time.perf_counter() - began) * number / queries
        out.append(
            f"{probes} of {lists} lists: {taken:.0f} s for all captions, recall {(first == best).float().mean():.4f}"
        )
    return "; ".join(out)


class Stub:
    """A model whose features follow from the first number in a text and from a picture's colour, and from the text."""

    context_length = 77
    fingerprint = "stub"

    def encode_texts(self, texts: list[str]) -> Tensor:
        """The image that is named, and noise of the whole text."""
        named = [int((re.search(r"\d+", text) or ["0"])[0]) for text in texts]
        return scattered(named) + 0.02 * scattered([zlib.crc32(text.encode()) for text in texts])

    def encode_images(self, images: list[Image.Image]) -> Tensor:
        """The number that the first pixel holds."""
        pixels: list[Any] = [image.getpixel((0, 0)) for image in images]
        return scattered([red << 16 | green << 8 | blue for red, green, blue in pixels])

    def token_lengths(self, texts: list[str]) -> list[int]:
        """About four characters a token."""
        return [len(text) // 4 for text in texts]


def scattered(numbers: list[int]) -> Tensor:
    """Features [N, 4] that look random, the same for the same number."""
    factors = np.random.default_rng(0).integers(1, 2**63, STUB_WIDTH, dtype=np.uint64) | np.uint64(1)
    products = (np.asarray(numbers, dtype=np.uint64)[:, None] + np.uint64(1)) * factors
    return torch.from_numpy((products >> np.uint64(40)).astype(np.float32) / 2**24 - 0.5)


def picture(index: int) -> Image.Image:
    """A picture that holds its number."""
    return Image.new("RGB", (2, 2), (index >> 16, index >> 8 & 255, index & 255))


def whole_run(number: int) -> list[str]:
    """A line of the table: sizes, memory, time."""
    captions = [f"A star {index} is in the sky. It is red and round. Below is grass." for index in range(number)]
    names = list(map(str, range(number)))
    dataset = RetrievalDataset("generated", "all", "one caption an image", names, picture, captions, np.arange(number))
    assert dataset.caption_sentences
    encoder = WrappedEncoder(Stub(), "stub", torch.device("cpu"), "fp32")
    (probe,) = find_probes("padding")
    with tempfile.TemporaryDirectory() as warm:
        few = RetrievalDataset("few", "all", "", names[:8], picture, captions[:8], np.arange(8))
        run_probe(Session(encoder, few), probe, Path(warm))  # what is imported and set up at the first use
    held = memory("VmRSS")
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, cut(only_positives=True):
        session = Session(encoder, dataset, batch_size=4096)
        run_probe(session, probe, Path(folder))
    minutes = (time.perf_counter() - began) / 60
    peak, of_features = memory("VmHWM"), session._features.nbytes + session.images().nbytes
    rest = peak - held - of_features
    sizes = (peak, held, of_features, peak - of_features)
    return [
        f"{number:,}", str(len(probe.conditions)), *(f"{size / GIB:.2f}" for size in sizes), f"{rest / number:,.0f}",
        f"{minutes:.0f}",
    ]  # fmt: skip


def memory(what: str) -> int:
    """Bytes: "VmRSS", held now, or "VmHWM", most so far."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def runs(sizes: list[int]) -> None:
    """The table of `whole_run`, each in a process of its own."""
    head = (
        "images", "conditions", "peak, GiB", "libraries and data set", "features held", "peak less features",
        "bytes an image, less all of these", "minutes",
    )  # fmt: skip
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        for line in pool.map(whole_run, sizes):
            print(f"| {' | '.join(line)} |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=2, help="rows of blocks to count at most")
    parser.add_argument("--images", type=int, nargs="+")
    parser.add_argument("--run", action="store_true", help="the memory of a whole run")
    given = parser.parse_args()
    if given.run:
        return runs(given.images or [1_000_000])
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {WIDTH} dimensions, blocks of {BLOCK}")
    for number in given.images or (10_000, 100_000, 1_000_000):
        texts, images = features(number)
        seconds, share = exact(texts, images, given.blocks)
        print(f"{number:,} x {number:,}: exact, both directions {seconds:,.0f} s ({share:.1%} counted)", flush=True)
        peak, of_features = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 8 * WIDTH * number / GIB
        print(f"  peak {peak:.2f} GiB, of which {of_features:.2f} are features")
        print(f"  IVF, T2I: {approximate(texts, images, 1000)}", flush=True)


if __name__ == "__main__":
    main()
