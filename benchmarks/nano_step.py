"""A training step of the nano models on one CPU thread: packed towers and compact tokens against the plain way.

    python benchmarks/nano_step.py [--steps 3] [--samples 64] [--bf16]
    python benchmarks/nano_step.py --batches


Before: bucketed text batches, open_clip's image tower, gradients of all 49,408 token rows. After: what trainings use.
Both see the same batches of scenes; bf16 is what the recipes used before, on CPUs without matrix units for it several
times as slow. ``--batches``: what making the batches of a base takes instead, while its pictures are drawn, and when
they are kept in memory or in the file that a grid's processes share. Seconds are those of the process (CPU time), so
that a busy machine does not count.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from clipbias.data.build import without_images
from clipbias.data.kept import with_kept_images
from clipbias.data.loading import load_dataset
from clipbias.finetune.batches import BatchMaker
from clipbias.finetune.loop import start_state, train_step
from clipbias.finetune.recipes import DEBIAS, LONGCLIP, PRETRAIN_NANO, nano
from clipbias.finetune.runs import compact_tokens, scene_tokens, stretched_model
from clipbias.models.nano import NANO_SHAPE, nano_clip
from clipbias.models.preprocessing import clip_preprocessing
from clipbias.scenes import v2


def batches(steps: int) -> None:
    """Print what making a batch takes."""
    data = load_dataset("scenes-2", split="train")

    def short(index: int, epoch: int) -> str:
        return v2.web_caption(v2.sample_scene("train", index), epoch, 0.0)

    print("| pictures | ms per batch of 128 |\n|---|---|")
    with TemporaryDirectory() as folder:
        where = {"memory": with_kept_images(data), "a shared file": with_kept_images(data, Path(folder))}
        for name, held in where.items():
            maker = BatchMaker(held, PRETRAIN_NANO, clip_preprocessing(NANO_SHAPE.image_size), list, short)
            maker.batch([39_999], 0)  # the tokenizer is made
            for how in ("drawn", "kept"):
                taken = []
                for step in range(steps):
                    began = time.process_time()
                    maker.batch(range(step * 128, step * 128 + 128), 0)
                    taken.append(1000 * (time.process_time() - began))
                print(f"| {how}, in {name} | {statistics.median(taken):.0f} |")


def main(words: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--bf16", action="store_true", help="time the way before in bf16, too")
    parser.add_argument("--batches", action="store_true", help="time the making of batches")
    parser.add_argument("--samples", type=int, default=64, help="in a batch")
    chosen = parser.parse_args(words)
    torch.set_num_threads(1)
    if chosen.batches:
        batches(chosen.steps)
        return
    data = without_images(load_dataset("scenes", split="validation"), range(200, 1000), "other")
    print("| recipe | way | s per step | samples/s | speed-up |\n|---|---|---|---|---|")
    for base in (LONGCLIP, DEBIAS):
        ways = [("fp32", False), ("fp32", True)] + [("bf16", False)] * chosen.bf16
        taken: dict[tuple[str, bool], list[float]] = {way: [] for way in ways}
        runs = {}
        for precision, packed in ways:
            recipe = nano(base).override(
                precision=precision, batch_size=chosen.samples, pca_dim=min(32, chosen.samples // 2)
            )
            torch.manual_seed(0)
            model = stretched_model(nano_clip(), recipe)
            if not packed:
                model._packs = lambda: False  # type: ignore[method-assign]
            runs[precision, packed] = (recipe, model)
        maker = BatchMaker(data, recipe, clip_preprocessing(NANO_SHAPE.image_size), lambda caption: [caption])
        for way, (recipe, model) in runs.items():
            with compact_tokens(model.clip, scene_tokens("scenes"), 1.0) if way[1] else nullcontext():
                state = start_state(model, recipe)
                for step in range(chosen.steps + 1):
                    batch = maker.batch(range(recipe.batch_size), step)
                    began = time.process_time()
                    train_step(state, batch, recipe, 1000)
                    if step:  # the first warms up
                        taken[way].append(time.process_time() - began)
        slow = statistics.median(taken["fp32", False])
        for (precision, packed), seconds in taken.items():
            middle = statistics.median(seconds)
            name = f"{'packed' if packed else 'plain'}, {precision}"
            print(f"| {base.name} | {name} | {middle:.2f} | {chosen.samples / middle:.0f} | {slow / middle:.2f} |")


if __name__ == "__main__":
    main()
