"""DOCCI: ``docci_descriptions.jsonlines`` and ``images/``; 5,000 test images with one description each."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from clipbias.data.dataset import RetrievalDataset
from clipbias.data.images import inside, open_image
from clipbias.data.roots import data_root
from clipbias.errors import UserError

_COUNTS = {"test": 5_000}


def load_docci(root: str | Path | None = None, split: str | None = None) -> RetrievalDataset:
    """DOCCI's split "test" unless another is named; ``qual_test`` and ``qual_dev`` are splits of their own.

    Raises:
        UserError: no folder, no annotation file, a broken line, or no such split; names the place.
    """
    folder = data_root("docci", root)
    split = split or "test"
    file = folder / "docci_descriptions.jsonlines"
    names, captions, splits = [], [], set()
    try:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    entry = json.loads(line)
                    splits.add(entry["split"])
                    if entry["split"] == split:
                        names.append(f"images/{entry['image_file']}")
                        captions.append(str(entry["description"]))
                except (ValueError, KeyError, TypeError) as error:
                    raise UserError(f"{file}, line {number}: not a DOCCI entry ({error!r})") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read ({error}); name DOCCI's folder with --root") from error
    if not names:
        raise UserError(f"{file}: no split {split!r}; it has {', '.join(sorted(map(str, splits)))}")
    expected = _COUNTS.get(split, len(names))
    note = "" if len(names) == expected else f" (the protocol has {expected:,})"
    return RetrievalDataset(
        name="docci",
        split=split,
        protocol=f"DOCCI, split {split}: {len(names):,} images, one description each{note}",
        image_names=names,
        load_image=lambda index: open_image(inside(folder, names[index])),
        captions=captions,
        caption_image=np.arange(len(names)),
    )
