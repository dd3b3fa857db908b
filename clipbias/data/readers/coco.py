"""COCO captions: ``annotations/captions_val2017.json`` and ``val2017/``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from clipbias.data.build import build_dataset
from clipbias.data.dataset import RetrievalDataset
from clipbias.data.jsonfiles import field
from clipbias.data.roots import data_root
from clipbias.data.spec import DatasetSpec
from clipbias.errors import UserError
from clipbias.formats import read_json

_SPLITS = {"val": "val2017", "train": "train2017"}


def load_coco(
    root: object = None,
    split: str | None = None,
    first_five: bool = False,
    upright: bool = True,
    follow_links: bool = False,
) -> RetrievalDataset:
    """val2017 with all annotations (25,014); images in the order of the annotation file.

    Args:
        root: the folder that holds ``annotations`` and ``val2017``.
        split: val (default) or train.
        first_five: keep the first five captions of each image (25,000), as Long-CLIP and most others do.
        upright: apply the EXIF orientation.
        follow_links: allow links that lead out of the folder.

    Raises:
        UserError: no folder, no annotation file, or another kind of file in its place.
    """
    folder = data_root("coco", root)
    split = split or "val"
    if split not in _SPLITS:
        raise UserError(f"coco has no split {split!r}; choose one of {', '.join(_SPLITS)}")
    place = _SPLITS[split]
    file = folder / "annotations" / f"captions_{place}.json"
    content = read_json(file)
    texts: dict[object, list[object]] = defaultdict(list)
    for number, note in enumerate(_rows(content, "annotations", str(file))):
        where = f"{file}, annotation {number:,}"
        texts[field(note, "image_id", where)].append(field(note, "caption", where))

    def pairs() -> Iterator[tuple[object, object, str]]:
        for number, image in enumerate(_rows(content, "images", str(file))):
            where = f"{file}, image {number:,}"
            own = texts.pop(field(image, "id", where), [])
            for text in own[:5] if first_five else own:
                yield f"{place}/{field(image, 'file_name', where)}", text, where

    dataset = build_dataset(
        "coco",
        split,
        f"COCO {place}: {{images}} images, {{captions}} captions "
        + ("(the first five of each image)" if first_five else "(all annotations)"),
        pairs(),
        folder,
        upright=upright,
        follow_links=follow_links,
    )
    if texts:
        raise UserError(f"{file}: captions of image {next(iter(texts))!r}, which the file does not list")
    return dataset


def _rows(content: object, key: str, where: str) -> list[object]:
    rows = field(content, key, where)
    if not isinstance(rows, list):
        raise UserError(f"{where}: {key!r} is no list; is this COCO's captions file?")
    return rows


SPEC = DatasetSpec(
    load_coco,
    title="COCO captions, val2017: five or more short captions an image",
    licence="CC BY 4.0 (annotations); images under their Flickr licences",
    homepage="https://cocodataset.org/",
    default_split="val",
    counts={"val": (5_000, 25_014), "val+first_five": (5_000, 25_000)},
    layout="annotations/captions_val2017.json\nval2017/000000000139.jpg ...",
)
SPECS = {"coco": SPEC}
