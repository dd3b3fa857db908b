"""What is known of a named model without loading it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PACKAGED = Path(__file__).parent.parent / "weights"


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
