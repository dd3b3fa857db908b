"""ShareGPT4V-10k (LoTLIP): the first 10,000 records on SA-1B images, in LoTLIP's file, sentences rejoined.

FLAIR reads the same file, and calls its first 1,000 "ShareGPT4V-1K": other images and captions than Long-CLIP's 1k.
"""

from __future__ import annotations

from functools import partial

from clipbias.data.lists import array, listed, rejoined

_sam = partial(
    listed,
    files=("share4v_sam_10k.json", "dataloaders/share4v/share4v_sam_10k.json", "share4v/share4v_sam_10k.json"),
    entries=array("image", ("conversations", 1, "value")),
    owner="sharegpt4v",
    places=("sam/images", ""),
    change=rejoined,
    licence="CC BY-NC 4.0 (captions); images from SA-1B under its licence",
    homepage="https://github.com/wuw2019/LoTLIP",
    family="ShareGPT4V",
    layout="share4v_sam_10k.json\nsam/images/sa_1.jpg ...; or images at the paths that the list says",
)
SPECS = {
    "sharegpt4v-10k": _sam(
        "sharegpt4v-10k",
        protocol="ShareGPT4V-10k, LoTLIP's list of SA-1B images, sentences rejoined: "
        "{images} images, {captions} captions",
        title="ShareGPT4V-10k: 10,000 SA-1B images (LoTLIP, FLAIR)",
        counts={"test": (10_000, 10_000)},
    ),
    "sharegpt4v-1k-flair": _sam(
        "sharegpt4v-1k-flair",
        most=1_000,
        protocol="ShareGPT4V-1K as FLAIR reads it, the first of LoTLIP's list of SA-1B images, sentences rejoined: "
        "{images} images, {captions} captions",
        title="ShareGPT4V-1K as FLAIR reads it: the first 1,000 of LoTLIP's list",
        counts={"test": (1_000, 1_000)},
    ),
}
