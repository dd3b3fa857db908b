"""ImageInWords: captions over DOCCI and DCI images, in ``datasets/{IIW-400,DOCCI_Test,DCI_Test}/data.jsonl``."""

from __future__ import annotations

from collections.abc import Iterator

from clipbias.data.build import build_dataset
from clipbias.data.dataset import RetrievalDataset
from clipbias.data.jsonfiles import field, read_json_lines
from clipbias.data.lists import image_root
from clipbias.data.roots import data_root, first_existing
from clipbias.data.spec import DatasetSpec
from clipbias.errors import UserError

# split: key of the image's name, where its images lie below the images' root, whose images they are
_SPLITS = {
    "IIW-400": ("image/key", ("images_aar", "images"), "docci"),
    "DOCCI_Test": ("image", ("images",), "docci"),
    "DCI_Test": ("image", ("photos", "densely_captioned_images/photos", "images"), "dci"),
}


def load_iiw(
    root: object = None,
    split: str | None = None,
    captions: str = "IIW",
    images: str | None = None,
    upright: bool = True,
    follow_links: bool = False,
) -> RetrievalDataset:
    """IIW-400 (the default), DOCCI_Test or DCI_Test with their human IIW captions.

    Args:
        root: the folder that holds ``datasets``, or that one itself.
        split: which of the three.
        captions: the field to read: IIW; IIW-P5B (machine-written, IIW-400); DOCCI (DOCCI_Test).
        images: the folder of the images' own data set (DOCCI's or DCI's); default the root where its image
            folder is there, else the configured folder of docci or dci.
        upright: apply the EXIF orientation.
        follow_links: allow links that lead out of the folder.

    Raises:
        UserError: no folder, no such split or field, a broken line.
    """
    folder = data_root("iiw", root)
    split = split or "IIW-400"
    if split not in _SPLITS:
        raise UserError(f"iiw has no split {split!r}; choose one of {', '.join(_SPLITS)}")
    key, places, owner = _SPLITS[split]
    file = first_existing(folder, (f"datasets/{split}/data.jsonl", f"{split}/data.jsonl"), f"the captions of {split}")
    base, place = image_root("iiw", folder, images, places, owner)

    def pairs() -> Iterator[tuple[object, object, str]]:
        for entry, where in read_json_lines(file):
            name = str(field(entry, key, where))
            # DOCCI's keys come without the suffix, DCI's with it.
            name = name if name.endswith(".jpg") else f"{name}.jpg"
            yield f"{place}/{name}", field(entry, captions, where), where

    return build_dataset(
        "iiw",
        split,
        f"ImageInWords, {split}, field {captions}: {{images}} images, {{captions}} captions",
        pairs(),
        base,
        upright=upright,
        follow_links=follow_links,
    )


SPEC = DatasetSpec(
    load_iiw,
    title="ImageInWords: very detailed human captions",
    licence="CC BY 4.0",
    homepage="https://google.github.io/imageinwords/",
    default_split="IIW-400",
    family="IIW",
    counts={"IIW-400": (400, 400), "DOCCI_Test": (100, 100), "DCI_Test": (112, 112)},
    layout="datasets/IIW-400/data.jsonl, datasets/DOCCI_Test/data.jsonl, datasets/DCI_Test/data.jsonl\n"
    "images_aar/aar_test_04600.jpg ... (IIW-400), images/test_00731.jpg ... (DOCCI_Test), photos/sa_*.jpg (DCI_Test);\n"
    "or the images in the folders of docci and dci",
)
SPECS = {"iiw": SPEC}
