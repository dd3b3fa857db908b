"""What is known of a data set beside its files: a record without logic, and the function that reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from clipbias.data.dataset import RetrievalDataset

Loader = Callable[..., RetrievalDataset]


@dataclass(frozen=True)
class DatasetSpec:
    """A registered data set.

    Attributes:
        load: ``(root=None, split=None, **options) -> RetrievalDataset``; reads the index, never an image.
        title: one line for people.
        licence: of the annotations and images, in short; "" where the author of the entry did not say.
        homepage: where its authors describe it.
        default_split: the split of the published protocol.
        counts: (images, captions) that the protocol has, by split; ``"split+option"`` where a true
            option changes them, e.g. ``"val+first_five"``. Splits without an entry are not compared.
        layout: the files expected below the root, one a line.
        needs_root: False for data that the program makes itself.
        family: whose images they are, e.g. "DCI": several sets may share them, each a protocol of its own whose numbers
            are not comparable with the others'; "" where there is only one.
        complete: False where users may rightly hold a part of the images (training sets).
    """

    load: Loader
    title: str = ""
    licence: str = ""
    homepage: str = ""
    default_split: str = ""
    counts: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    layout: str = ""
    needs_root: bool = True
    family: str = ""
    complete: bool = True

    def expected(self, split: str, options: Mapping[str, object]) -> tuple[int, int] | None:
        """The protocol's (images, captions) of a split under these options; None where nothing is stated."""
        for name, value in options.items():
            for key in (f"{split}+{name}={value}", f"{split}+{name}" if value in (True, "true") else ""):
                if key in self.counts:
                    return self.counts[key]
        return self.counts.get(split)
