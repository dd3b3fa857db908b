"""Every protocol's counts, on generated indices of full size (no images), read by the readers themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clipbias.data.check import check_dataset
from clipbias.data.loading import DATASETS, dataset_spec, load_dataset


def docci(root: Path) -> None:
    counts = {"train": 9_647, "test": 5_000, "qual_dev": 100, "qual_test": 100}
    with (root / "docci_descriptions.jsonlines").open("w") as file:
        for split, count in counts.items():
            for i in range(count):
                name = f"{split}_{i:05d}"
                entry = {"split": split, "image_file": f"{name}.jpg", "description": f"{name}.", "example_id": name}
                file.write(json.dumps(entry) + "\n")


def urban1k(root: Path) -> None:
    (root / "caption").mkdir()
    for i in range(1, 1_001):
        (root / f"caption/{i}.txt").write_text("\nLater." if i == 592 else f"Caption {i}.")


def dci(root: Path) -> None:
    names = [f"{i:06d}-data.json" for i in range(7_805)]
    (root / "annotations").mkdir()
    for i, name in enumerate(names):
        # 203 files have no extra caption: they are in DCI and not in Long-DCI.
        note = {
            "image": f"sa_{i}.jpg",
            "short_caption": f"Short {i}.",
            "extra_caption": "" if i < 203 else f"Extra {i}.",
        }
        (root / "annotations" / name).write_text(json.dumps(note))
    splits = {"train": names[:7_599], "valid": names[7_599:7_697], "test": names[7_697:]}
    (root / "splits.json").write_text(json.dumps(splits))


def coco(root: Path) -> None:
    # 5,000 images, of which 12 have six captions and one has seven.
    counts = [7] + [6] * 12 + [5] * 4_987
    notes = [{"image_id": i, "caption": f"{i} {k}"} for i, n in enumerate(counts) for k in range(n)]
    content = {"images": [{"id": i, "file_name": f"{i:012d}.jpg"} for i in range(5_000)], "annotations": notes}
    (root / "annotations").mkdir()
    (root / "annotations/captions_val2017.json").write_text(json.dumps(content))


def flickr30k(root: Path) -> None:
    splits = ["train"] * 29_000 + ["val"] * 1_014 + ["test"] * 1_000
    entries = [
        {"filename": f"{i}.jpg", "split": split, "sentences": [{"raw": f"{i} {k}"} for k in range(5)]}
        for i, split in enumerate(splits)
    ]
    (root / "flickr30k-images").mkdir()
    (root / "dataset_flickr30k.json").write_text(json.dumps({"images": entries}))
    lines = (f"{i}.jpg#{k}\t{i} {k} .\n" for i in range(31_783) for k in range(5))
    (root / "results_20130124.token").write_text("".join(lines))


def iiw(root: Path) -> None:
    for split, key, count in (("IIW-400", "image/key", 400), ("DOCCI_Test", "image", 100), ("DCI_Test", "image", 112)):
        (root / "datasets" / split).mkdir(parents=True)
        lines = (json.dumps({key: f"{split}_{i}.jpg", "IIW": f"{split} {i}."}) + "\n" for i in range(count))
        (root / "datasets" / split / "data.jsonl").write_text("".join(lines))


def goal(root: Path) -> None:
    (root / "photos").mkdir()
    lists = {
        "DCI_test": [f"../DCI/photos/sa_{i}.jpg" for i in range(1_999)],
        "docci_test": [f"x/qual_test_{i:05d}.jpg" for i in range(100)] + [f"x/test_{i:05d}.jpg" for i in range(5_000)],
    }
    for file, names in lists.items():
        entries = [{"filename": name, "caption": f"{name}."} for name in names]
        (root / f"{file}.json").write_text(json.dumps(entries, indent=4))


def flair(root: Path) -> None:
    names = [f"docci_aar/{i}.jpg" for i in range(612)]
    notes = [{"image_id": i % 612, "image": names[i % 612], "caption": f"{i}", "caption_id": i} for i in range(6_204)]
    (root / "test_annotations.json").write_text(json.dumps({"annotations": notes}))


def himo(root: Path) -> None:
    counts = [6] * 340 + [7] * 660
    entries = [
        {"img_path": f"test_{i:05d}.jpg", "caption": [f"{i} {k}" for k in range(n)]} for i, n in enumerate(counts)
    ]
    (root / "himo_docci_data.json").write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def sharegpt4v(root: Path) -> None:
    for file, count in (("share-captioner_coco_lcs_sam_1246k_1107.json", 1_200), ("share4v_sam_10k.json", 10_000)):
        rows = [
            {"image": f"sam/images/sa_{i}.jpg", "conversations": [{"value": "?"}, {"value": f"{i}. A\nB."}]}
            for i in range(count)
        ]
        (root / file).write_text(json.dumps(rows))


MAKERS = {
    "dci-lotlip": dci, "dci-fgclip": dci, "dci-goal": goal, "docci-goal": goal, "iiw-lotlip": iiw, "iiw-fg": flair,
    "himo-docci": himo, "sharegpt4v-1k": sharegpt4v, "sharegpt4v-10k": sharegpt4v, "sharegpt4v-1k-flair": sharegpt4v,
    "docci": docci, "urban1k": urban1k, "dci": dci, "long-dci": dci, "coco": coco, "flickr30k-full": flickr30k,
    "flickr30k-1k": flickr30k, "iiw": iiw,
}  # fmt: skip
STATED = [(name, key) for name in MAKERS for key in dataset_spec(name).counts]


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    made: dict[object, Path] = {}

    def root(name: str) -> Path:
        maker = MAKERS[name]
        if maker not in made:
            made[maker] = tmp_path_factory.mktemp(maker.__name__)
            maker(made[maker])
        return made[maker]

    return root


@pytest.mark.parametrize(("name", "key"), STATED, ids=[f"{name}-{key}" for name, key in STATED])
def test_a_full_size_index_comes_out_at_the_protocols_counts(roots, tmp_path_factory, monkeypatch, name, key):
    monkeypatch.setenv("CLIPBIAS_CACHE", str(tmp_path_factory.getbasetemp() / "full-size-cache"))
    split, _, option = key.partition("+")
    options = {option: True} if option else {}
    dataset = load_dataset(name, root=roots(name), split=split, **options)
    findings = {one.what: one for one in check_dataset(dataset, dataset_spec(name), options, images=False)}
    images, captions = dataset_spec(name).counts[key]
    assert (findings["images"].found, findings["captions"].found) == (f"{images:,}", f"{captions:,}")
    assert (findings["images"].expected, findings["captions"].expected) == (f"{images:,}", f"{captions:,}")
    assert all(one.fine for one in findings.values())


def test_every_data_set_with_stated_counts_is_among_them():
    stated = {name for name in DATASETS if dataset_spec(name).counts and dataset_spec(name).needs_root}
    assert stated == set(MAKERS) | ({"sharegpt4v"} & stated)


def test_one_caption_too_few_differs(roots, tmp_path):
    docci(tmp_path)
    file = tmp_path / "docci_descriptions.jsonlines"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if "test_04999" not in line or "qual" in line))
    dataset = load_dataset("docci", root=tmp_path)
    findings = check_dataset(dataset, dataset_spec("docci"), {}, images=False)
    assert [one.what for one in findings if not one.fine] == ["images", "captions"]
