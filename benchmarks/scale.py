"""Exact ranks from 10^4 to 10^6 images and captions in 64 dimensions, and an approximate index beside them.

    python benchmarks/scale.py [--blocks 2] [--images 10000 100000 1000000]

One caption an image. Of the largest sizes some rows of blocks are counted, each against all images, and the time of all
of them is theirs times a ratio: every row of blocks costs the same. With faiss installed (``pip install
clipbias[faiss]``) an IVF index names 100 candidates a caption, which are ranked exactly; its recall is how often the
image that is truly first is among them.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import torch
from torch import Tensor

from clipbias.probe.blocks import laid_out
from clipbias.probe.counting import Share, Work, count
from clipbias.probe.ranking import BLOCK

WIDTH = 64


def features(number: int) -> tuple[Tensor, Tensor]:
    """Captions and images [N, 64], in clusters as real features are: a caption is its image and noise."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(max(10, number // 100), WIDTH, generator=generator)
    images = centres[torch.randint(len(centres), (number,), generator=generator)]
    images = torch.nn.functional.normalize(images + 0.7 * torch.randn(number, WIDTH, generator=generator), dim=1)
    return torch.nn.functional.normalize(images + 0.05 * torch.randn(number, WIDTH, generator=generator), dim=1), images


def exact(texts: Tensor, images: Tensor, blocks: int) -> tuple[float, float]:
    """Seconds of the whole, and the share of the rows of blocks that was counted."""
    number = len(images)
    began = time.perf_counter()
    i_rows, columns = laid_out(images, np.arange(number), np.arange(number))
    shown = min(number, blocks * BLOCK)
    t_rows, lines = laid_out(texts[:shown], np.arange(shown), np.arange(shown))
    planned = time.perf_counter() - began
    work = Work(lines, columns, columns.place[lines.items], len(t_rows), WIDTH, BLOCK)
    share = Share(range(number), i_rows, lambda first: t_rows[first : first + BLOCK], lambda part, how: part)
    began = time.perf_counter()
    count(work, share)
    return planned + (time.perf_counter() - began) * number / shown, shown / number


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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=2, help="rows of blocks to count at most")
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    given = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {WIDTH} dimensions, blocks of {BLOCK}")
    for number in given.images:
        texts, images = features(number)
        seconds, share = exact(texts, images, given.blocks)
        print(f"{number:,} x {number:,}: exact, both directions {seconds:,.0f} s ({share:.1%} counted)", flush=True)
        print(f"  IVF, T2I: {approximate(texts, images, 1000)}")
        print(f"  peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB", flush=True)


if __name__ == "__main__":
    main()
