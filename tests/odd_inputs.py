"""Captions and images that libraries treat differently, for parity tests."""

from __future__ import annotations

import numpy as np
from PIL import Image

MODES = ("RGB", "L", "1", "P", "PA", "LA", "RGBA", "RGBX", "CMYK", "YCbCr")
SIZES = ((1, 1), (1, 37), (61, 2), (16, 16), (24, 24), (33, 47), (200, 31))


def odd_captions() -> list[str]:
    """About forty: quotes, entities, ligatures, encoding errors, scripts, white space, numbers."""
    return [
        "The “Bow” — it’s ‘here’", "Tom &amp; Jerry &lt;b&gt; &quot;x&quot;", "ﬁne ﬂuﬀy", "naïve café Ünïcödé",
        "e\u0301 against é", "ΟΔΟΣ Σ ς", "İstanbul ISTANBUL ß ẞ", "â€™ donâ€™t", "汉字 かな 한글", "😀 a 🐶 dog 👨‍👩‍👧",
                "\t tab\tand\nnewline\r\nboth", "  two  spaces  ",
        "\u00a0no\u00a0break\u2009thin\u3000wide", "zero\u200bwidth\u200d",
        "12.5 m, 1,000 €, 3/4, 2x", "it's we'll I'd they've don't", "A-B_C/D\\E|F", "...?!?!", "'", "\"", "-", "a", "A",
        "CamelCaseWords and ALLCAPS", "x" * 90,
        "word " * 60, "1 2 3 4 5 6 7 8 9 0", "http://a.b/c?d=e&f=g", "@#$%^&*()",
        "½ ² ³ ™ ©", "«guillemets» „low“", "a\u0300\u0301\u0302", "мир труд май", "שלום عربى", "tail ",
    ]  # fmt: skip


SPECIAL = [
    "<|endoftext|> a dog",
    "a dog </s> a cat",
    "<pad> <unk> <s>",
    "a <end_of_text> <start_of_text>",
    "[CLS] a [SEP]",
]
"""Captions with the spelling of special tokens."""


def odd_images() -> list[Image.Image]:
    """Seventy: each of `MODES` at each of `SIZES`."""
    draw = np.random.default_rng(0)
    out = []
    for mode in MODES:
        for width, height in SIZES:
            noise = Image.fromarray(draw.integers(0, 256, (height, width, 4), dtype=np.uint8), mode="RGBA")
            base = noise.convert("RGB")
            if mode == "PA":
                out.append(base.quantize(8).convert("PA"))
            elif mode in ("P", "1"):
                out.append(base.quantize(8) if mode == "P" else base.convert("1"))
            elif mode in ("RGBA", "LA"):
                out.append(noise.convert(mode))
            else:
                out.append(base.convert(mode))
    return out
