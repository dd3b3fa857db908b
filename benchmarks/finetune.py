"""A training step of the debias recipe, beside a plain loop in the manner of Long-CLIP's public code, in one run.

    python benchmarks/finetune.py                                     the nano model, batch 128, CPU
    python benchmarks/finetune.py --shape b16 --batch 256 --precision bf16 --steps 20    on a GPU

The plain loop runs both captions at the full 248 positions, with the pads moved in the ids, and takes the principal
components by SVD. Both see the same batches, made before the clock starts; steps of the two alternate. On a GPU the
share of the dense bf16 peak is that of the operations that the model needs (tokens up to EOT, forward and backward).
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from workload import B16, captions

from clipbias.data.sentences import split_sentences
from clipbias.finetune.batches import Batch
from clipbias.finetune.captions import debias_sentences, prefix_length, sample_stream
from clipbias.finetune.loop import autocast, start_state, train_step
from clipbias.finetune.losses import info_nce
from clipbias.finetune.model import TrainModel
from clipbias.finetune.recipe import Recipe
from clipbias.finetune.recipes import DEBIAS
from clipbias.models.build import build_clip
from clipbias.models.ids import EOT, PAD, eot_positions
from clipbias.models.nano import NANO_SHAPE
from clipbias.models.tokenizer import ClipTokens

PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # dense bf16, operations a second


def make_batch(size: int, image_size: int, seed: int) -> Batch:
    """A batch with captions of DOCCI's lengths, their short ones and pads by the recipe, and noise for pixels."""
    generator = torch.Generator().manual_seed(seed)
    texts = captions(size, seed)
    tokens = ClipTokens(248)
    short = [
        " ".join(debias_sentences(split_sentences(text), sample_stream(seed, 0, i))) for i, text in enumerate(texts)
    ]
    ids = tokens(short)
    ends = (eot_positions(ids) + 1).tolist()
    pads = [prefix_length(end, 248, sample_stream(seed + 1, 0, i)) for i, end in enumerate(ends)]
    pixels = torch.randn(size, 3, image_size, image_size, generator=generator)
    return Batch(pixels, tokens(texts), ids, torch.tensor(pads))


def moved(ids: Tensor, n_pre: Tensor) -> Tensor:
    """The short ids with ``n_pre`` pads between SOT and the text."""
    out = torch.full_like(ids, PAD)
    for row, (line, pads) in enumerate(zip(ids.tolist(), n_pre.tolist(), strict=True)):
        end = line.index(EOT)
        out[row, 0] = line[0]
        out[row, 1 + pads : 1 + pads + end] = torch.tensor(line[1 : end + 1])
    return out


def on_device(batch: Batch, device: torch.device) -> Batch:
    """All of a batch on the device, as other loops take it."""
    return Batch(*(None if part is None else part.to(device) for part in batch.__dict__.values()))


class PlainLoop:
    """Long-CLIP's public training step: both texts at full length, SVD, autocast, AdamW."""

    def __init__(self, clip: nn.Module, recipe: Recipe) -> None:
        self.clip, self.recipe = clip.train(), recipe
        self.optimizer = torch.optim.AdamW(clip.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)

    def step(self, batch: Batch) -> float:
        with autocast(batch.pixels.device, self.recipe.precision):
            images = F.normalize(self.clip.encode_image(batch.pixels), dim=-1)
            long = F.normalize(self.clip.encode_text(batch.long_ids), dim=-1)
            short = F.normalize(self.clip.encode_text(batch.short_ids), dim=-1)
        x = images.float()
        mean = x.mean(0, keepdim=True)
        u, s, v = torch.linalg.svd(x - mean, full_matrices=False)
        kept = self.recipe.pca_dim
        rebuilt = mean + (u[:, :kept] * s[:kept]) @ v[:kept]
        scale = self.clip.logit_scale.exp()
        loss = 0.9 * info_nce(images, long, scale, 0.1) + 0.1 * info_nce(rebuilt, short, scale, 0.1)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


def tower_operations(width: int, layers: int, tokens: Tensor) -> float:
    """Multiply-adds times two of a forward pass over sequences of these lengths."""
    return float((layers * (24 * width**2 * tokens + 4 * width * tokens**2)).sum())


def operations(shape: object, batch: Batch) -> float:
    """Multiply-adds times two of forward and backward of one batch, pads not counted."""
    patches = torch.full((len(batch.pixels),), (shape.image_size // shape.patch_size) ** 2 + 1.0)
    total = tower_operations(shape.vision_width, shape.vision_layers, patches)
    for ids in filter(lambda ids: ids is not None, (batch.long_ids, batch.short_ids)):
        total += tower_operations(shape.text_width, shape.text_layers, eot_positions(ids).double() + 1)
    return 3 * total


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=("nano", "b16"), default="nano")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--checkpointing", action="store_true")
    chosen = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shape = B16 if chosen.shape == "b16" else type(NANO_SHAPE)(**{**NANO_SHAPE.__dict__, "context_length": 248})
    recipe = DEBIAS.override(precision=chosen.precision, batch_size=chosen.batch, checkpointing=chosen.checkpointing)
    torch.manual_seed(0)
    state = start_state(TrainModel(build_clip(shape).to(device), 20, ClipTokens(248)), recipe)
    plain = PlainLoop(build_clip(shape).to(device), recipe)
    batches = [make_batch(chosen.batch, shape.image_size, seed) for seed in range(chosen.steps)]
    steps: dict[str, Callable[[Batch], object]] = {
        "clipbias": lambda batch: train_step(state, batch, recipe, 10_000),
        "plain loop": plain.step,
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    peaks = dict.fromkeys(steps, 0.0)
    for number, batch in enumerate(batches):
        for name, step in steps.items():
            shown = (
                batch
                if name == "clipbias"
                else Batch(batch.pixels, batch.long_ids, moved(batch.short_ids, batch.n_pre), None)
            )
            shown = shown.to(device) if name == "clipbias" else on_device(shown, device)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
                torch.cuda.synchronize()
            began = time.perf_counter()
            step(shown)
            if device.type == "cuda":
                torch.cuda.synchronize()
                peaks[name] = max(peaks[name], torch.cuda.max_memory_allocated() / 2**30)
            if number:  # the first warms up
                times[name].append(time.perf_counter() - began)
    label = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{label}, torch {torch.__version__}, {chosen.shape}, batch {chosen.batch}, {chosen.precision}")
    head = ("way", "samples/s", "step, s", "clipbias is faster by", "peak, GiB", "share of the dense bf16 peak")
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    base = statistics.median(times["clipbias"])
    needed = statistics.fmean(operations(shape, batch) for batch in batches)
    peak = next((value for name, value in PEAK.items() if name in label), None)
    for name, taken in times.items():
        middle = statistics.median(taken)
        share = f"{needed / middle / peak:.0%}" if peak else "-"
        memory = f"{peaks[name]:.1f}" if device.type == "cuda" else "-"
        print(f"| {name} | {chosen.batch / middle:.1f} | {middle:.3f} | {middle / base:.2f} | {memory} | {share} |")
    if device.type == "cpu":
        print(f"peak memory of both together: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
