"""What one GPU does with clipbias, in one command of under 9 minutes: the tables of docs/speed.md.

    python benchmarks/gpu.py                  on a GPU
    python benchmarks/gpu.py ranks training   parts of it
    python benchmarks/gpu.py --tiny           the same code on a shape of two layers and few inputs; runs on a CPU

Encoding (texts and images per second, with the share of the card's dense peak by counted operations), exact ranks of
the full Flickr30k's size, the paper's suite, the training steps of Long-CLIP's and DeBias-CLIP's recipes beside the
plain loop and beside open_clip's own contrastive step on the same batch, and a training from a pack on disk: with its
input, that is. Every line is the median of repeated runs after a warm-up; a part that does not fit into the memory says
so and the others run.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from finetune import PlainLoop, make_batch, moved, operations, tower_operations
from open_clip.model import CustomTextCLIP
from torch import nn
from workload import B16, captions

from clipbias.ahead import cores
from clipbias.data.dataset import RetrievalDataset
from clipbias.data.pack import with_pack, write_pack
from clipbias.data.sentences import split_sentences
from clipbias.finetune.batches import Batch, BatchMaker
from clipbias.finetune.folder import all_metrics
from clipbias.finetune.loop import autocast, start_state, train_step
from clipbias.finetune.model import TrainModel
from clipbias.finetune.recipe import Recipe
from clipbias.finetune.recipes import DEBIAS, LONGCLIP
from clipbias.finetune.train import train
from clipbias.models.build import ClipShape, build_clip
from clipbias.models.clip_encoder import ClipEncoder
from clipbias.models.ids import eot_positions
from clipbias.models.preprocessing import clip_preprocessing
from clipbias.models.tokenizer import ClipTokens
from clipbias.probe.ranking import rank_both

L14 = ClipShape(768, 224, 14, 1024, 24, 768, 12, 248)
TINY = ClipShape(64, 48, 16, 64, 2, 64, 2, 248)
PEAKS = {
    "H100": {"bf16": 989e12, "fp32": 67e12},
    "H200": {"bf16": 989e12, "fp32": 67e12},
    "A100": {"bf16": 312e12, "fp32": 19.5e12},
}
"""Dense operations per second from the makers' data sheets (SXM cards)."""
PAIRS, EPOCHS = 1_246_901, 3
PARTS = ("encoding", "ranks", "suite", "training", "feeding")
WAYS = (("fp32", False), ("bf16", False), ("bf16", True))
"""Precisions, and whether the towers are compiled."""


def wait(device: torch.device) -> None:
    """Until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median time of a call, after one that does not count."""
    times = []
    for _ in range(repeats + 1):
        wait(device)
        began = time.perf_counter()
        run()
        wait(device)
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


@contextmanager
def part(title: str, head: tuple[str, ...]) -> Iterator[None]:
    """A table with its title; a part that runs out of memory says so."""
    print(f"\n### {title}\n| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    try:
        yield
    except torch.OutOfMemoryError as error:
        print(f"does not fit: {str(error)[:120]}")
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def line(*cells: object) -> None:
    """A row of a table."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def share(work: float, taken: float, precision: str, card: str) -> str:
    """Operations per second over the card's dense peak in that precision."""
    peak = next((peaks for name, peaks in PEAKS.items() if name in card), {}).get(precision)
    return f"{work / taken / peak:.0%}" if peak else "-"


def clip_of(shape: ClipShape, device: torch.device) -> CustomTextCLIP:
    """A model with random weights, drawn on the device; nothing that was compiled for another is kept."""
    torch.manual_seed(0)
    if device.type == "cuda":
        torch.compiler.reset()
    with device:
        return build_clip(shape)


def encoder_of(shape: ClipShape, module: CustomTextCLIP, precision: str, device: torch.device) -> ClipEncoder:
    """An encoder of that model."""
    tokens = ClipTokens(shape.context_length)
    return ClipEncoder("random", "gpu", module, clip_preprocessing(shape.image_size), tokens, "", {}, device, precision)


def encoding(shapes: dict[str, ClipShape], count: int, device: torch.device, card: str, repeats: int) -> None:
    """Texts of DOCCI's length and images per second; pixels lie on the device, decoding is not part of it."""
    texts = captions(count)
    head = ("model", "precision", "compiled", "texts/s", "share of peak", "images/s", "share of peak")
    with part(f"Encoding {count:,} captions and images", head):
        for name, shape in shapes.items():
            module = clip_of(shape, device)
            ids = ClipTokens(shape.context_length)(texts)
            work = tower_operations(shape.text_width, shape.text_layers, eot_positions(ids).double() + 1)
            pixels = torch.randn(min(count, 512), 3, shape.image_size, shape.image_size, device=device)
            patches = torch.full((len(pixels),), (shape.image_size // shape.patch_size) ** 2 + 1.0)
            looked = tower_operations(shape.vision_width, shape.vision_layers, patches)
            for precision, compiled in WAYS if device.type == "cuda" else WAYS[:2]:
                encoder = encoder_of(shape, module, precision, device)
                if compiled:
                    encoder.compile()
                taken = seconds(lambda e=encoder, i=ids: e.encode_token_ids(i), device, repeats)
                looks = seconds(lambda e=encoder, p=pixels: e.run(e.image_features, {"pixels": p}), device, repeats)
                line(
                    name, precision, "yes" if compiled else "no",
                    f"{count / taken:,.0f}", share(work, taken, precision, card),
                    f"{len(pixels) / looks:,.0f}", share(looked, looks, precision, card),
                )  # fmt: skip


def ranks(images: int, texts: int, width: int, device: torch.device, repeats: int) -> None:
    """Exact ranks in both directions."""
    generator = torch.Generator().manual_seed(0)
    features = [
        torch.nn.functional.normalize(torch.randn(n, width, generator=generator), dim=-1) for n in (texts, images)
    ]
    owner = np.arange(texts) * images // texts
    with part(f"Exact ranks, {images:,} images x {texts:,} captions, {width} dimensions", ("device", "seconds")):
        line(device.type, f"{seconds(lambda: rank_both(*features, owner, device=device), device, repeats):.2f}")


def suite(shape: ClipShape, count: int, device: torch.device) -> None:
    """The paper's probes on generated images, from pixels to run folders."""
    from PIL import Image

    from clipbias.probe.run import run_probe
    from clipbias.probe.session import Session
    from clipbias.probe.spec import find_probes

    pixels = np.random.default_rng(0).integers(0, 256, (count, 48, 48, 3), dtype=np.uint8)
    dataset = RetrievalDataset(
        "generated", "all", "generated", [str(i) for i in range(count)],
        lambda i: Image.fromarray(pixels[i]).resize((shape.image_size,) * 2), captions(count), np.arange(count),
    )  # fmt: skip
    with part(f"The suite `paper` on {count:,} images", ("precision", "seconds")):
        for precision in ("fp32", "bf16"):
            encoder = encoder_of(shape, clip_of(shape, device), precision, device)
            with tempfile.TemporaryDirectory() as folder:
                began = time.perf_counter()
                session = Session(encoder, replace(dataset))
                for probe in find_probes("paper"):
                    run_probe(session, probe, Path(folder))
                line(precision, f"{time.perf_counter() - began:.1f}")


class OpenClipStep:
    """open_clip's own contrastive step (its `ClipLoss`, both towers at full length) on the long captions alone."""

    def __init__(self, clip: nn.Module, recipe: Recipe) -> None:
        from open_clip.loss import ClipLoss

        self.clip, self.recipe, self.loss = clip.train(), recipe, ClipLoss()
        self.optimizer = torch.optim.AdamW(clip.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)

    def step(self, batch: Batch) -> None:
        """One optimiser step."""
        self.optimizer.zero_grad()
        with autocast(batch.pixels.device, self.recipe.precision):
            loss = self.loss(*self.clip(batch.pixels, batch.long_ids)[:3])
        loss.backward()
        self.optimizer.step()


def training(
    shapes: dict[str, tuple[ClipShape, int]], steps: int, device: torch.device, card: str, price: float
) -> None:
    """Steps of the recipes beside the plain loop and open_clip's, on the same batches."""
    head = (
        "model", "batch", "step", "samples/s", "ms", "peak GiB", "share of bf16 peak", "3 epochs of 1.2 M, hours",
        f"cost at {price:g} an hour",
    )  # fmt: skip
    timed = partial(_timed, steps=steps, device=device, card=card, price=price)
    for name, (shape, size) in shapes.items():
        with part(f"Training {name}, bf16 autocast", head):
            batches = [make_batch(size, shape.image_size, seed) for seed in range(2)]
            work = statistics.fmean(operations(shape, batch) for batch in batches)
            ways = [("Long-CLIP", LONGCLIP, False), ("DeBias-CLIP", DEBIAS, False)]
            if device.type == "cuda":
                ways.append(("DeBias-CLIP, compiled", DEBIAS, True))
            for label, recipe, compiled in ways:
                recipe = recipe.override(precision="bf16", batch_size=size, compile=compiled)
                state = start_state(TrainModel(clip_of(shape, device), 20, ClipTokens(248)), recipe)
                pads = recipe.prefix_padding and recipe.short_rule == "sentences"
                shown = [batch if pads else replace(batch, n_pre=None) for batch in batches]
                timed(name, size, label, lambda b, s=state, r=recipe: train_step(s, b, r, 10_000), shown, work)
                del state
            recipe = DEBIAS.override(precision="bf16", batch_size=size)
            whole = [Batch(b.pixels, b.long_ids, moved(b.short_ids, b.n_pre), None) for b in batches]
            alone = statistics.fmean(operations(shape, replace(batch, short_ids=None)) for batch in batches)
            others = (("plain loop", PlainLoop, work), ("open_clip, long captions only", OpenClipStep, alone))
            for label, kind, needed in others:
                other = kind(clip_of(shape, device), recipe)
                on_device = [
                    Batch(*(None if t is None else t.to(device) for t in (b.pixels, b.long_ids, b.short_ids, None)))
                    for b in whole
                ]
                timed(name, size, label, other.step, on_device, needed)
                del other


def _timed(
    name: str, size: int, label: str, step: Callable[[Batch], object], batches: list[Batch], work: float,
    *, steps: int, device: torch.device, card: str, price: float,
) -> None:  # fmt: skip
    batches = [batch.to(device) for batch in batches]
    number = iter(range(10**9))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    taken = seconds(lambda: step(batches[next(number) % len(batches)]), device, steps)
    memory = f"{torch.cuda.max_memory_allocated() / 2**30:.1f}" if device.type == "cuda" else "-"
    hours = EPOCHS * PAIRS / size * taken / 3600
    line(name, size, label, f"{size / taken:,.0f}", f"{1000 * taken:,.1f}", memory, share(work, taken, "bf16", card),
         f"{hours:,.2f}", f"{hours * price:,.2f}")  # fmt: skip


def feeding(shape: ClipShape, size: int, steps: int, device: torch.device) -> None:
    """A training whose pixels come from a pack and whose captions are tokenised on the way, as a user's are."""
    from PIL import Image

    rule = clip_preprocessing(shape.image_size)
    side, count = shape.image_size, 8 * size
    noise = np.random.default_rng(0).integers(0, 256, (32, side, side, 3), dtype=np.uint8)
    names = [str(i) for i in range(count)]
    made = RetrievalDataset(
        "generated", "all", "generated", names, lambda i: Image.fromarray(np.roll(noise[i % 32], i)), captions(count),
        np.arange(count),
    )  # fmt: skip
    recipe = DEBIAS.override(precision="bf16", batch_size=size, steps=steps, compile=device.type == "cuda")
    with (
        part(f"A training from a pack, {cores()} threads", ("batch", "samples/s", "of it waiting for input")),
        tempfile.TemporaryDirectory() as name,
    ):
        write_pack(made, Path(name) / "pack", rule.geometry(), rule.resized, side, side)
        tokens = ClipTokens(shape.context_length)
        maker = BatchMaker(with_pack(made, Path(name) / "pack"), recipe, rule, split_sentences, tokens=tokens)
        train(TrainModel(clip_of(shape, device), 20, tokens), maker, recipe, Path(name) / "run")
        lines = all_metrics(Path(name) / "run")[steps // 2 :]
        whole = sum(size / each["samples_per_second"] for each in lines)
        waited = sum(each["waited_for_input"] for each in lines)
        line(size, f"{len(lines) * size / whole:,.0f}", f"{waited / whole:.0%}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all of them unless given")
    parser.add_argument("--tiny", action="store_true", help="a shape of two layers and few inputs, for a CPU")
    parser.add_argument("--price", type=float, default=3.0, help="of an hour of the card, in your currency")
    given = parser.parse_args(arguments)
    tiny, price = given.tiny, given.price
    if not tiny and not torch.cuda.is_available():
        raise SystemExit("no CUDA device here; --tiny runs the same code on the CPU")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    card = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    torch.set_float32_matmul_precision("highest")
    print(f"{card}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}")
    began = time.perf_counter()
    full, count, repeats = B16, 5_000, 3
    sizes = {"B/16": (B16, 256), "L/14": (L14, 128)}
    matrix, pictures, steps = (31_014, 155_070, 512), 1_000, 10
    if tiny:
        full, count, repeats, sizes = TINY, 8, 1, {"nano": (TINY, 8)}
        matrix, pictures, steps = (40, 200, 16), 8, 1
    run = {
        "encoding": lambda: encoding({n: shape for n, (shape, _) in sizes.items()}, count, device, card, repeats),
        "ranks": lambda: ranks(*matrix, device, repeats),
        "suite": lambda: suite(full, pictures, device),
        "training": lambda: training(sizes, steps, device, card, price),
        "feeding": lambda: feeding(full, sizes[next(iter(sizes))][1], 6 * steps, device),
    }
    for name in given.parts or PARTS:
        run[name]()
    print(f"\n{time.perf_counter() - began:.0f} s in all")


if __name__ == "__main__":
    main()
