"""The models that have a name: family, sizes, and where their weights come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clipbias.registry import Registry

PACKAGED = Path(__file__).parent.parent / "weights"


@dataclass(frozen=True)
class ModelEntry:
    """One named model.

    ``source`` is "package" (ships with clipbias), "hub:OWNER/NAME" (Hugging Face) or "local" (its
    authors give it out by hand); ``file`` is the file's name there.
    """

    family: str
    backbone: str
    context_length: int
    embed_dim: int
    source: str
    file: str
    size: str
    sha256: str = ""

    @property
    def where(self) -> str:
        """The source in words."""
        if self.source == "package":
            return "ships with clipbias"
        if self.source == "local":
            return f"{self.file} ({self.size}), given out by its authors"
        return f"{self.file} ({self.size}) from {self.source.removeprefix('hub:')} on the Hugging Face hub"


MODELS: Registry[ModelEntry] = Registry("model", "clipbias.models")
_NANO = "nano ViT/16, 48 px"
_DEBIAS_SHA = "5cdd75077c35ab4d074a8e430c2f7f182ff48d01858d6c345776bf5f2713aa84"

for _name, _entry in {
    "nano-clip": ModelEntry("openai", _NANO, 77, 128, "package", "nano-clip.pt", "4 MB"),
    "nano-longclip": ModelEntry("longclip", _NANO, 248, 128, "package", "nano-longclip.pt", "4 MB"),
    "nano-drop": ModelEntry("longclip", _NANO, 248, 128, "package", "nano-drop.pt", "4 MB"),
    "nano-sample": ModelEntry("longclip", _NANO, 248, 128, "package", "nano-sample.pt", "4 MB"),
    "nano-debias": ModelEntry("longclip", _NANO, 248, 128, "package", "nano-debias.pt", "4 MB"),
    "longclip-b16": ModelEntry("longclip", "ViT-B/16", 248, 512, "hub:BeichenZhang/LongCLIP-B", "longclip-B.pt", "300 MB"),
    "longclip-l14": ModelEntry("longclip", "ViT-L/14", 248, 768, "hub:BeichenZhang/LongCLIP-L", "longclip-L.pt", "900 MB"),
    "debias-b16": ModelEntry("debias", "ViT-B/16", 248, 512, "local", "debias_vitb_3e.pt", "1.8 GB", _DEBIAS_SHA),
}.items():
    MODELS.add(_name, _entry)
