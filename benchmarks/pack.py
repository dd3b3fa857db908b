"""Images per second from JPEG files of 1,024 x 768, decoded by threads and by processes, and from a pack, in one run.

    python benchmarks/pack.py [--images 400] [--workers 2]

The three give the same pixels, bit for bit, which is checked. The pack was just written, so its pages are in memory, as
in a second epoch.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from workload import captions

from clipbias.ahead import prefetched
from clipbias.data.dataset import RetrievalDataset
from clipbias.data.image_loaders import FileImages
from clipbias.data.pack import with_pack, write_pack
from clipbias.data.sentences import split_sentences
from clipbias.finetune.batches import BatchMaker
from clipbias.finetune.recipes import DEBIAS
from clipbias.models.preprocessing import clip_preprocessing

RULE = clip_preprocessing(224)


def write_files(folder: Path, count: int) -> RetrievalDataset:
    """JPEG files with the spectrum of photographs (smooth noise at several scales), quality 90."""
    generator = np.random.default_rng(0)
    names = []
    for number in range(count):
        layers = [
            np.asarray(
                Image.fromarray(generator.integers(0, 256, (3 * s, 4 * s, 3), dtype=np.uint8)).resize((1024, 768))
            )
            for s in (2, 8, 32, 128)
        ]
        pixels = np.average(np.stack(layers), axis=0, weights=(8, 4, 2, 1)).astype(np.uint8)
        names.append(f"{number}.jpg")
        Image.fromarray(pixels).save(folder / names[-1], quality=90)
    captions = [str(i) for i in range(count)]
    return RetrievalDataset("files", "all", "generated", names, FileImages(folder, names), captions, np.arange(count))


class _Pixels(torch.utils.data.Dataset[Tensor]):
    def __init__(self, dataset: RetrievalDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset.image_names)

    def __getitem__(self, index: int) -> Tensor:
        return RULE(self.dataset.load_image(index))


def by_threads(dataset: RetrievalDataset, workers: int) -> Iterator[Tensor]:
    """As encoding and training feed themselves."""
    made = prefetched(lambda i: RULE(dataset.load_image(i)), len(dataset.image_names), ahead=128, workers=workers)
    while part := [image for _, image in zip(range(64), made, strict=False)]:
        yield torch.stack(part)


def by_processes(dataset: RetrievalDataset, workers: int) -> Iterator[Tensor]:
    """torch's DataLoader; its start is part of what is timed, as it is for a user."""
    yield from torch.utils.data.DataLoader(_Pixels(dataset), batch_size=64, num_workers=workers)


def timed(feed: Callable[[], Iterator[Tensor]]) -> tuple[float, Tensor]:
    """Images per second, and all of them."""
    began = time.perf_counter()
    batches = list(feed())
    seconds = time.perf_counter() - began
    pixels = torch.cat(batches)  # to compare them, which is no part of feeding
    return len(pixels) / seconds, pixels


def texts_of_a_batch(size: int = 256) -> float:
    """Milliseconds of one core for the captions of a batch of the debias recipe: short ones drawn, all tokenised."""
    texts = captions(size)
    names = [str(i) for i in range(size)]
    blank = Image.new("RGB", (8, 8))
    data = RetrievalDataset("texts", "all", "generated", names, lambda i: blank, texts, np.arange(size))
    maker = BatchMaker(data, DEBIAS, lambda image: torch.zeros(1), split_sentences)
    maker.batch(range(size), 0)  # captions are split into sentences and known words are looked up once
    began = time.process_time()
    maker.batch(range(size), 1)
    return 1000 * (time.process_time() - began)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "files").mkdir()
        dataset = write_files(folder / "files", arguments.images)
        began = time.perf_counter()
        write_pack(dataset, folder / "pack", RULE.geometry(), RULE.resized, *RULE.size)
        packing = arguments.images / (time.perf_counter() - began)
        packed = with_pack(dataset, folder / "pack")
        feeds = {
            f"files, {arguments.workers} threads": lambda: by_threads(dataset, arguments.workers),
            f"files, {arguments.workers} processes": lambda: by_processes(dataset, arguments.workers),
            f"pack, {arguments.workers} threads": lambda: by_threads(packed, arguments.workers),
        }
        rates: dict[str, list[float]] = {label: [] for label in feeds}
        want = None
        for _ in range(3):
            for label, feed in feeds.items():
                rate, pixels = timed(feed)
                rates[label].append(rate)
                if want is not None and not torch.equal(pixels, want):
                    raise SystemExit(f"{label}: other pixels")
                want = pixels
    base = sorted(rates[f"files, {arguments.workers} threads"])[1]
    print(f"{arguments.images} JPEG files of 1,024 x 768, 224-pixel CLIP transform, median of 3")
    print(f"  {'packing (once)':24} {packing:8.0f} images/s")
    print(f"  captions of a batch of 256: {texts_of_a_batch():.0f} ms of one core")
    for label, found in rates.items():
        print(f"  {label:24} {sorted(found)[1]:8.0f} images/s  {sorted(found)[1] / base:5.1f} x threads on files")


if __name__ == "__main__":
    main()
