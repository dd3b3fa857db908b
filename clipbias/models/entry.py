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
        source: "package" (ships with clipbias), "hub:OWNER/NAME" (Hugging Face), "hf:OWNER/NAME" (there, a whole
            transformers folder), "local" (its authors publish it elsewhere, see ``address``) or "openclip:NAME/TAG"
            (open_clip finds it).
        file: the file's name at the source.
        size: of the file, for people.
        sha256: of the file; "" where it is not known, and then not checked.
        others: other files that are as good, file name -> SHA-256 ("" where it is not known).
        revision: of the hub's repository; "" for its newest.
        versions: other versions of the file under the same name, SHA-256 -> what to tell of it.
        options: of the reader, as the authors' files need them.
        address: where a "local" file is published.
        note: what to know before trusting the entry.
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
    revision: str = ""
    versions: tuple[tuple[str, str], ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    address: str = ""
    note: str = ""

    @property
    def hub(self) -> str:
        """The repository on the Hugging Face hub; "" for other sources."""
        kind, _, name = self.source.partition(":")
        return name if kind in ("hub", "hf") else ""

    @property
    def where(self) -> str:
        """The source in words."""
        size = f" ({self.size})" if self.size else ""
        if self.source == "package":
            return "ships with clipbias"
        if self.source == "local":
            return f"{self.file}{size}{f', published at {self.address}' if self.address else ''}{self._note}"
        if self.family == "openclip":
            return f"open_clip: {self.source.removeprefix('openclip:')}{size}"
        revision = self.revision[:12] or ("" if self.sha256 else "not pinned")
        pinned = f", revision {revision}" if revision else ""
        return f"{self.file}{size} from {self.hub} on the Hugging Face hub{pinned}{self._note}"

    @property
    def pinned(self) -> str:
        """What holds the file to one version, in words."""
        return "SHA-256" if self.sha256 else f"revision {self.revision[:7]}" if self.revision else "not pinned"

    @property
    def _note(self) -> str:
        return f" ({self.note})" if self.note else ""

    @property
    def digest(self) -> str:
        """The digests in words."""
        known = [f"{file} {sha}" for file, sha in ((self.file, self.sha256), *self.others) if sha]
        return ", ".join(known) or ("" if self.source == "package" else "not known; the file is not checked")
