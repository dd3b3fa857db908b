"""The models that have a name: family, sizes, and where their weights come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clipbias.registry import Registry

PACKAGED = Path(__file__).parent.parent / "weights"
Factory = Callable[[], object]


@dataclass(frozen=True)
class ModelEntry:
    """One named model.

    Attributes:
        family: its reader, or "openclip".
        backbone, context_length, embed_dim: for people.
        source: "package" (ships with clipbias), "hub:OWNER/NAME" (Hugging Face), "local" (its authors give it
            out by hand) or "openclip:NAME/TAG" (open_clip finds it).
        file: the file's name at the source.
        size: of the file, for people.
        sha256: of the file, where it is known.
        others: other files that are as good, file name -> SHA-256 ("" where it is not known).
    """

    family: str
    backbone: str
    context_length: int
    embed_dim: int
    source: str
    file: str = ""
    size: str = ""
    sha256: str = ""
    others: tuple[tuple[str, str], ...] = ()

    @property
    def where(self) -> str:
        """The source in words."""
        if self.source == "package":
            return "ships with clipbias"
        if self.source == "local":
            return f"{self.file}{f' ({self.size})' if self.size else ''}, given out by its authors"
        if self.family == "openclip":
            return f"open_clip: {self.source.removeprefix('openclip:')} ({self.size})"
        return f"{self.file} ({self.size}) from {self.source.removeprefix('hub:')} on the Hugging Face hub"


MODELS: Registry[ModelEntry | Factory] = Registry("model", "clipbias.models")


def register_model(name: str) -> Callable[[Factory], Factory]:
    """Register a function without arguments that returns a model, under ``name``.

    The model is an `Encoder`, or any object with ``encode_texts`` and ``encode_images``
    (see `clipbias.models.wrapped.WrappedEncoder`).

    Raises:
        UserError: the name is taken.
    """

    def add(factory: Factory) -> Factory:
        MODELS.add(name, factory)
        return factory

    return add


def _openai(size: str, file: str, sha256: str, hub: str, length: str, dim: int) -> ModelEntry:
    """An OpenAI model: open_clip's copy on the hub, or OpenAI's own archive in the user's folder."""
    return ModelEntry(
        "openai", size, 77, dim, f"hub:timm/{hub}", "open_clip_model.safetensors", length, others=((file, sha256),)
    )


_NANO = "nano ViT/16, 48 px"
# OpenAI names its files' digests in their addresses; DeBias-CLIP's is that of the released file.
_SHA = {
    "ViT-B-32.pt": "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
    "ViT-B-16.pt": "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f",
    "ViT-L-14.pt": "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
    "ViT-L-14-336px.pt": "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
    "debias_vitb_3e.pt": "5cdd75077c35ab4d074a8e430c2f7f182ff48d01858d6c345776bf5f2713aa84",
}

for _name, _entry in {
    "nano-clip": ModelEntry("openai", _NANO, 77, 128, "package", "nano-clip.pt", "4 MB"),
    "nano-longclip": ModelEntry("longclip", _NANO, 248, 128, "package", "nano-longclip.pt", "4 MB"),
    "nano-drop": ModelEntry("longclip", _NANO, 248, 128, "package", "nano-drop.pt", "4 MB"),
    "nano-sample": ModelEntry("longclip", _NANO, 248, 128, "package", "nano-sample.pt", "4 MB"),
    "nano-debias": ModelEntry("longclip", _NANO, 248, 128, "package", "nano-debias.pt", "4 MB"),
    "openai-b32": _openai(
        "ViT-B/32", "ViT-B-32.pt", _SHA["ViT-B-32.pt"], "vit_base_patch32_clip_224.openai", "605 MB", 512
    ),
    "openai-b16": _openai(
        "ViT-B/16", "ViT-B-16.pt", _SHA["ViT-B-16.pt"], "vit_base_patch16_clip_224.openai", "599 MB", 512
    ),
    "openai-l14": _openai(
        "ViT-L/14", "ViT-L-14.pt", _SHA["ViT-L-14.pt"], "vit_large_patch14_clip_224.openai", "1.7 GB", 768
    ),
    "openai-l14-336": _openai(
        "ViT-L/14, 336 px",
        "ViT-L-14-336px.pt",
        _SHA["ViT-L-14-336px.pt"],
        "vit_large_patch14_clip_336.openai",
        "1.7 GB",
        768,
    ),
    "longclip-b16": ModelEntry(
        "longclip", "ViT-B/16", 248, 512, "hub:BeichenZhang/LongCLIP-B", "longclip-B.pt", "300 MB"
    ),
    "longclip-l14": ModelEntry(
        "longclip", "ViT-L/14", 248, 768, "hub:BeichenZhang/LongCLIP-L", "longclip-L.pt", "900 MB"
    ),
    "fgclip-b16": ModelEntry(
        "fgclip", "ViT-B/16", 248, 512, "hub:qihoo360/fg-clip-base", "model.safetensors", "600 MB"
    ),
    "fgclip-l14": ModelEntry(
        "fgclip", "ViT-L/14, 336 px", 248, 768, "hub:qihoo360/fg-clip-large", "model.safetensors", "1.7 GB"
    ),
    "debias-b16": ModelEntry(
        "debias", "ViT-B/16", 248, 512, "local", "debias_vitb_3e.pt", "1.8 GB", _SHA["debias_vitb_3e.pt"]
    ),
    "debias-l14": ModelEntry("debias", "ViT-L/14", 248, 768, "local", "debias_vitl_3e.pt"),
    "openclip-b16": ModelEntry("openclip", "ViT-B/16", 77, 512, "openclip:ViT-B-16/laion2b_s34b_b88k", size="600 MB"),
    "siglip-b16": ModelEntry("openclip", "ViT-B/16 SigLIP", 64, 768, "openclip:ViT-B-16-SigLIP/webli", size="813 MB"),
    "siglip2-b16": ModelEntry(
        "openclip", "ViT-B/16 SigLIP2", 64, 768, "openclip:ViT-B-16-SigLIP2/webli", size="1.5 GB"
    ),
}.items():
    MODELS.add(_name, _entry)
