"""What a training step keeps for the backward pass, at the shapes of B/16 and L/14: counted, no GPU needed.

    python benchmarks/memory.py [--samples 4]

A step of the debias recipe's towers runs forward under bf16 autocast as it does on a GPU (texts in groups of like
length), with captions of DOCCI's length; every tensor that autograd saves is counted once, parameters apart. With
checkpointing, one block is there once more while the backward pass recomputes it; the largest is an image tower's.
Bytes per sample times the batch, and 16 bytes per parameter for weights, gradients and AdamW's two moments in fp32, are
what a card must hold, beside the losses and the allocator's slack.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from finetune import make_batch
from gpu import L14
from torch import nn
from workload import B16

from clipbias.finetune.model import TrainModel
from clipbias.models.blocks import attention, enter, finish
from clipbias.models.build import ClipShape, build_clip
from clipbias.models.tokenizer import ClipTokens

BATCHES = (64, 128, 256, 512)


def held_by(model: nn.Module, forward: Callable[[], object]) -> int:
    """Bytes that autograd holds after a forward pass under bf16 autocast, the model's own parameters apart."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    held: dict[int, int] = {}
    kept: list[torch.Tensor] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            held[storage.data_ptr()] = storage.nbytes()
            kept.append(tensor)  # so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t), torch.autocast("cpu", torch.bfloat16):
        outputs = forward()
    del outputs
    return sum(held.values())


def saved_bytes(model: TrainModel, samples: int, image_size: int) -> int:
    """Bytes that autograd holds after the towers' forward pass of a batch."""
    batch = make_batch(samples, image_size, 0)
    return held_by(model, lambda: model(batch.pixels, batch.short_ids, batch.n_pre, batch.long_ids))


def block_bytes(shape: ClipShape) -> float:
    """Bytes per sample that autograd holds of one block of the image tower."""
    torch.manual_seed(0)
    tower = build_clip(shape).visual
    block, patches = tower.transformer.resblocks[0], (shape.image_size // shape.patch_size) ** 2 + 1

    def forward(samples: int) -> torch.Tensor:
        x = torch.randn(samples * patches, shape.vision_width, requires_grad=True)
        return finish(block, x, attention(enter(block, x), samples, block.attn.num_heads, False))

    three, two = (held_by(tower, partial(forward, samples)) for samples in (3, 2))
    return three - two


def needs(shape: ClipShape, samples: int) -> tuple[float, float, int]:
    """Bytes per sample, those of checkpointing (each block's input alone), and bytes of weights and optimiser."""
    torch.manual_seed(0)
    model = TrainModel(build_clip(shape), 20, ClipTokens(248))
    model._packs = lambda: False  # type: ignore[method-assign]  # the way of a GPU
    half = samples // 2
    few, all_of_them = (saved_bytes(model, count, shape.image_size) for count in (half, samples))
    model.clip.set_grad_checkpointing(True)
    lean = [saved_bytes(model, count, shape.image_size) for count in (half, samples)]
    trained = sum(p.numel() for p in model.parameters())
    return (all_of_them - few) / (samples - half), (lean[1] - lean[0]) / (samples - half), 16 * trained


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=4)
    samples = parser.parse_args().samples
    print(f"torch {torch.__version__}, activations in GiB by batch, counted on {samples} samples")
    print(f"| model | activations | {' | '.join(f'batch {b}' for b in BATCHES)} | weights, gradients, AdamW |")
    print(f"|{'---|' * (len(BATCHES) + 3)}")
    for name, shape in (("B/16", B16), ("L/14", replace(L14))):
        each, lean, fixed = needs(shape, samples)
        again = ("a block recomputed", block_bytes(shape))
        for label, size in (("kept", each), ("checkpointing", lean), again):
            cells = " | ".join(f"{size * batch / 2**30:.1f}" for batch in BATCHES)
            print(f"| {name} | {label} | {cells} | {fixed / 2**30:.1f} |", flush=True)


if __name__ == "__main__":
    main()
