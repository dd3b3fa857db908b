"""What the benchmarks run on: captions with the lengths of real ones, photos' sizes, B/16 with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from clipbias.models.build import ClipShape, build_clip
from clipbias.models.layouts import to_longclip_layout

B16 = ClipShape(512, 224, 16, 768, 12, 512, 12, 248)
_TEXT = """a an the of in on with and red wooden chair table light grey stone wall window tree green leaves tall small
large white black dog sits stands near behind left right side corner street car parked building brick roof blue sky
clouds bright shadow ground grass path person wearing jacket holding bag metal frame glass door open closed round square
pattern striped surface texture visible partially covered background foreground center bottom top edge"""
WORDS = _TEXT.split()


def captions(count: int, seed: int = 0, words: float = 112.0, spread: float = 0.45, vocabulary: int = 0) -> list[str]:
    """Captions of random words; by default as long as DOCCI's (mean 123 words, longest 518, about 17 a sentence).

    Args:
        count: of captions.
        seed: of the generator.
        words, spread: mean number of words, and its spread on the logarithm's scale.
        vocabulary: so many made-up words, drawn by Zipf's law, instead of the few of this file.
    """
    generator = np.random.default_rng(seed)
    known, often = np.array(WORDS), None
    if vocabulary:
        letters = np.array(list("eeetaoinshrdlcumwfgypbvk"))
        known = np.array(["".join(generator.choice(letters, generator.integers(2, 10))) for _ in range(vocabulary)])
        often = (1 / np.arange(1, vocabulary + 1)).cumsum()
        often /= often[-1]
    out = []
    for _ in range(count):
        left = int(np.clip(generator.lognormal(np.log(words), spread), min(25, words), 518))
        sentences = []
        while left > 0:
            size = min(left, int(generator.integers(8, 27)))
            if often is None:
                drawn = generator.integers(len(known), size=size)
            else:
                drawn = often.searchsorted(generator.random(size), side="right")
            sentences.append(" ".join(known[drawn].tolist()).capitalize() + ".")
            left -= size
        out.append(" ".join(sentences))
    return out


def write_data(folder: Path, count: int) -> None:
    """``count`` JPEGs of 1024 x 768 with a caption beside each."""
    generator = np.random.default_rng(1)
    folder.mkdir(parents=True)
    for number, caption in enumerate(captions(count)):
        small = generator.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((1024, 768), Image.Resampling.BICUBIC)
        image.save(folder / f"{number:05d}.jpg", quality=90)
        (folder / f"{number:05d}.txt").write_text(caption)


def write_b16(path: Path) -> None:
    """A checkpoint of B/16 shapes in Long-CLIP's layout, random weights, seed 0."""
    torch.manual_seed(0)
    module = build_clip(B16)
    table = module.text.positional_embedding.detach()
    torch.save({k: v.clone() for k, v in to_longclip_layout(module, table, table).items()}, path)
