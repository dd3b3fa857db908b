"""Miniature copies of every data set in its authors' layout, quirks included."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from clipbias.data.lists import rejoined
from clipbias.data.loading import DATASETS, dataset_spec, load_dataset, not_comparable
from clipbias.errors import UserError


def picture(path: Path, shade: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (shade, 10, 20)).save(path)


def lines(path: Path, entries: list[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(e, ensure_ascii=False) + "\n" for e in entries), encoding="utf-8")


def shade(dataset, index: int) -> int:
    return dataset.load_image(index).getpixel((0, 0))[0]


def test_docci_reads_only_its_split(tmp_path):
    entries = []
    for i, split in enumerate(("train", "test", "qual_test", "test")):
        name = f"{split}_{i:05d}.png"
        picture(tmp_path / "images" / name, shade=50 * i)
        text = f'A wall{i}.There is a "sign" — ½.'
        entries.append({"split": split, "image_file": name, "description": text, "example_id": i})
    lines(tmp_path / "docci_descriptions.jsonlines", entries)
    dataset = load_dataset("docci", root=tmp_path)
    assert dataset.captions == ['A wall1.There is a "sign" — ½.', 'A wall3.There is a "sign" — ½.']
    assert dataset.caption_image.tolist() == [0, 1] and [shade(dataset, i) for i in (0, 1)] == [50, 150]
    assert len(load_dataset("docci", root=tmp_path, split="qual_test").captions) == 1
    with pytest.raises(UserError, match="no split 'dev'; it has qual_test, test, train"):
        load_dataset("docci", root=tmp_path, split="dev")


def test_urban1k_is_in_the_order_of_its_numbers_and_reads_whole_files(tmp_path):
    for number in (2, 10, 592):
        picture(tmp_path / f"Urban1k/image/{number}.jpg", number % 256)
        (tmp_path / "Urban1k/caption").mkdir(exist_ok=True)
    (tmp_path / "Urban1k/caption/2.txt").write_text("Two – first.\nMore.", encoding="utf-8")
    (tmp_path / "Urban1k/caption/10.txt").write_text("Ten.", encoding="utf-8")
    (tmp_path / "Urban1k/caption/592.txt").write_text("\nAfter a blank line.", encoding="utf-8")
    dataset = load_dataset("urban1k", root=tmp_path)
    assert list(dataset.image_names) == ["image/2.jpg", "image/10.jpg", "image/592.jpg"]
    assert dataset.captions == ["Two – first.\nMore.", "Ten.", "After a blank line."]
    # The public script reads first lines; 592 comes out empty that way.
    assert load_dataset("urban1k", root=tmp_path, first_line=True).captions == ["Two – first.", "Ten.", ""]


@pytest.fixture
def dci(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPBIAS_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "densely_captioned_images"
    for number, (short, extra) in enumerate((("A.", "B. C."), ("D", ""), ("E. ", "F.")), 1):
        note = {"image": f"sa_{number}.jpg", "short_caption": short, "extra_caption": extra, "mask_data": {"a": 1}}
        (root / "annotations").mkdir(parents=True, exist_ok=True)
        (root / "annotations" / f"{number:06d}-data.json").write_text(json.dumps(note))
        picture(root / "photos" / f"sa_{number}.jpg")
    splits = {"train": ["000001-data.json", "000002-data.json"], "valid": [], "test": ["000003-data.json"]}
    (root / "splits.json").write_text(json.dumps(splits))
    return tmp_path


def test_dci_and_the_protocols_on_its_own_files(dci):
    assert load_dataset("dci", root=dci).captions == ["A.B. C.", "D", "E. F."]
    assert load_dataset("dci-lotlip", root=dci).captions == ["A. B. C", "D", "E. F"]
    assert load_dataset("dci-fgclip", root=dci).captions == ["B. C.", "", "F."]
    assert load_dataset("long-dci", root=dci).captions == ["B. C.", "F."]
    assert load_dataset("dci", root=dci, split="test").captions == ["E. F."]
    for name in ("dci", "dci-lotlip", "dci-fgclip", "long-dci"):
        assert load_dataset(name, root=dci).protocol.endswith("; not comparable with other protocols on DCI's images")
    for name in ("dci-lotlip", "dci-fgclip"):
        with pytest.raises(UserError, match="only all"):
            load_dataset(name, root=dci, split="test")


def test_coco_keeps_all_annotations_or_the_first_five(tmp_path):
    notes = [{"image_id": 7, "id": k, "caption": f" seven {k}\n"} for k in range(6)]
    notes.insert(2, {"image_id": 9, "id": 99, "caption": "nine"})
    content = {"images": [{"id": 9, "file_name": "9.jpg"}, {"id": 7, "file_name": "7.jpg"}], "annotations": notes}
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/captions_val2017.json").write_text(json.dumps(content))
    dataset = load_dataset("coco", root=tmp_path)
    assert dataset.captions == ["nine", *(f"seven {k}" for k in range(6))]
    assert dataset.caption_image.tolist() == [0] + [1] * 6
    assert len(load_dataset("coco", root=tmp_path, first_five=True).captions) == 6


def flickr(root: Path) -> None:
    entries = [
        {"filename": f"{i}.jpg", "split": split, "sentences": [{"raw": f"{split} {i} {k}"} for k in range(5)]}
        for i, split in enumerate(("train", "val", "test", "test"))
    ]
    (root / "flickr30k-images").mkdir(parents=True)
    (root / "dataset_flickr30k.json").write_text(json.dumps({"images": entries, "dataset": "flickr30k"}))
    tokens = [f"{i}.jpg#{k}\tA token caption {i} {k} ." for i in range(6) for k in range(5)]
    (root / "results_20130124.token").write_text("\n".join(tokens) + "\n")


def test_flickr30k_full_and_1k_are_two_data_sets(tmp_path):
    flickr(tmp_path)
    whole, test = load_dataset("flickr30k-full", root=tmp_path), load_dataset("flickr30k-1k", root=tmp_path)
    assert (len(whole.image_names), len(whole.captions)) == (4, 20)
    assert (len(test.image_names), len(test.captions)) == (2, 10) and test.captions[0] == "test 2 0"
    token = load_dataset("flickr30k-full", root=tmp_path, split="token")
    assert (len(token.image_names), len(token.captions)) == (6, 30)
    assert len({whole.fingerprint, test.fingerprint, token.fingerprint}) == 3
    with pytest.raises(UserError, match="only test"):
        load_dataset("flickr30k-1k", root=tmp_path, split="all")


def test_iiw_names_its_images_as_their_owners_do(tmp_path):
    lines(
        tmp_path / "datasets/IIW-400/data.jsonl",
        [{"image/key": "aar_test_1", "IIW": "A\u00a0b.\n\nC.", "IIW-P5B": "x"}],
    )
    lines(tmp_path / "datasets/DCI_Test/data.jsonl", [{"image": "sa_1.jpg", "IIW": "D."}])
    picture(tmp_path / "images_aar/aar_test_1.jpg")
    picture(tmp_path / "photos/sa_1.jpg")
    main = load_dataset("iiw", root=tmp_path)
    assert (list(main.image_names), main.captions) == (["images_aar/aar_test_1.jpg"], ["A\u00a0b.\n\nC."])
    assert main.load_image(0).size == (8, 6)
    assert load_dataset("iiw", root=tmp_path, captions="IIW-P5B").captions == ["x"]
    assert list(load_dataset("iiw", root=tmp_path, split="DCI_Test").image_names) == ["photos/sa_1.jpg"]


def test_sharegpt4v_holds_its_first_thousand_out_and_knows_what_is_there(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPBIAS_CACHE", str(tmp_path / "cache"))
    rows = [
        {"id": str(i), "image": f"sam/images/{i}.jpg", "conversations": [{"value": "?"}, {"value": f"Caption\n{i}."}]}
        for i in range(1_005)
    ]
    (tmp_path / "share-captioner_coco_lcs_sam_1246k_1107.json").write_text(json.dumps(rows))
    for i in (1_001, 1_004):
        picture(tmp_path / f"sam/images/{i}.jpg", i % 256)
    train = load_dataset("sharegpt4v", root=tmp_path)
    assert list(train.captions) == [f"Caption\n{i}." for i in range(1_000, 1_005)]
    assert len(load_dataset("sharegpt4v", root=tmp_path, split="test").captions) == 1_000
    there = load_dataset("sharegpt4v", root=tmp_path, present_only=True)
    assert list(there.captions) == ["Caption\n1001.", "Caption\n1004."] and len(there.skipped) == 3
    assert "3 images that are not there left out" in there.protocol and shade(there, 1) == pytest.approx(
        1004 % 256, abs=6
    )
    with pytest.raises(UserError, match=r"none of the 5 images is there"):
        load_dataset("sharegpt4v", root=tmp_path, present_only=True, without="sam/")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("A cat. It sits.\n\nEnd", "A cat. It sits. End"), ("It is 2.5 m.", "It is 2. 5 m"), ("...", ""), ("</s>A", "A")],
)
def test_sentences_are_rejoined_as_lotlip_does(text, expected):
    assert rejoined(text) == expected


def test_goals_lists_name_the_images_of_their_owners_by_the_last_part(tmp_path, monkeypatch):
    own = tmp_path / "dci"
    picture(own / "densely_captioned_images/photos/sa_1.jpg", 70)
    goal = tmp_path / "dci-goal"
    goal.mkdir()
    entry = {"filename": "../DCI/dataset/densely_captioned_images/photos/sa_1.jpg", "caption": "A mall. Three."}
    (goal / "DCI_test.json").write_text(json.dumps([entry]))
    named = load_dataset("dci-goal", root=goal, images=str(own))
    monkeypatch.setenv("CLIPBIAS_DATA", str(tmp_path))
    found = load_dataset("dci-goal")
    for dataset in (named, found):
        assert dataset.captions == ["A mall. Three."] and shade(dataset, 0) == pytest.approx(70, abs=6)
    with pytest.raises(UserError, match="name the folder of dci"):
        load_dataset("dci-goal", images=str(tmp_path / "nowhere"))
    for kind, place in (("qual_test", 0), ("test", 1)):
        picture(tmp_path / f"docci/images/{kind}_{place:05d}.jpg", 40 * place)
    pairs = [
        {"filename": f"chage/path/to/your/directory/dataset/images/{name}.jpg", "caption": name}
        for name in ("qual_test_00000", "test_00001")
    ]
    (tmp_path / "docci/docci_test.json").write_text(json.dumps(pairs))
    docci = load_dataset("docci-goal")
    assert docci.captions == ["qual_test_00000", "test_00001"] and shade(docci, 1) == pytest.approx(40, abs=6)
    picture(tmp_path / "sharegpt4v/sam/images/sa_7.jpg")
    listed = [{"filename": "/x/sam/images/sa_7.jpg", "caption": "Seven."}]
    (tmp_path / "sharegpt4v/sharegpt4v_test.json").write_text(json.dumps(listed))
    assert list(load_dataset("sharegpt4v-goal").image_names) == ["sam/images/sa_7.jpg"]


def test_fine_grained_sets_have_a_caption_a_sentence(tmp_path):
    notes = [
        {"image_id": 0, "image": "docci/test_00731.jpg", "caption": "A toilet", "caption_id": 0},
        {"image_id": 0, "image": "docci/test_00731.jpg", "caption": "A lid", "caption_id": 1},
        {"image_id": 1, "image": "dci/sa_1.jpg", "caption": "A step", "caption_id": 2},
    ]
    (tmp_path / "test_annotations.json").write_text(json.dumps({"annotations": notes}))
    picture(tmp_path / "dci/sa_1.jpg", 90)
    iiw = load_dataset("iiw-fg", root=tmp_path)
    assert iiw.caption_image.tolist() == [0, 0, 1] and shade(iiw, 1) == pytest.approx(90, abs=6)
    picture(tmp_path / "images/test_00000.jpg", 30)
    (tmp_path / "annotations").mkdir()
    notes = [{"image_id": 0, "image": "test_00000.jpg", "caption": c, "caption_id": k} for k, c in enumerate("ab")]
    (tmp_path / "annotations/test_annotations.json").write_text(json.dumps({"annotations": notes}))
    docci = load_dataset("docci-fg", root=tmp_path)
    assert docci.captions == ["a", "b"] and list(docci.image_names) == ["images/test_00000.jpg"]


def test_iiw_as_lotlip_reads_it_is_all_three_parts(tmp_path):
    lines(tmp_path / "datasets/IIW-400/data.jsonl", [{"image/key": "aar_test_1", "IIW": "A b.\n\nC."}])
    lines(tmp_path / "datasets/DOCCI_Test/data.jsonl", [{"image": "test_1", "IIW": "D. E"}])
    lines(tmp_path / "datasets/DCI_Test/data.jsonl", [{"image": "sa_1.jpg", "IIW": "F."}])
    dataset = load_dataset("iiw-lotlip", root=tmp_path)
    assert list(dataset.image_names) == ["docci/test_1.jpg", "docci_aar/aar_test_1.jpg", "dci/sa_1.jpg"]
    assert dataset.captions == ["D. E", "A b. C", "F"]


def test_himo_doccis_captions_grow_and_stay_in_their_order(tmp_path):
    grown = ["A sign.", "A sign. It is oak.", "A sign. It is oak. A curb."]
    entries = [{"img_path": f"test_0000{i}.jpg", "caption": grown[: i + 2], "raw_caption": grown[-1]} for i in (0, 1)]
    lines(tmp_path / "himo_docci_data.json", entries)
    picture(tmp_path / "images/test_00000.jpg")
    dataset = load_dataset("himo-docci", root=tmp_path)
    assert dataset.captions == [*grown[:2], *grown] and dataset.caption_image.tolist() == [0, 0, 1, 1, 1]
    lines(tmp_path / "himo_docci_data.json", [{"img_path": "a.jpg", "caption": "one"}])
    with pytest.raises(UserError, match="line 1: 'caption' is no list"):
        load_dataset("himo-docci", root=tmp_path)


@pytest.mark.parametrize("name", ["dci-cn", "docci-cn"])
def test_the_chinese_sets_are_lines_of_path_tab_caption(tmp_path, name):

    picture(tmp_path / "images/a_1.jpg", 60)
    (tmp_path / "image_caption_trans.txt").write_text("/hbox/x/a_1.jpg\t一只猫。它很大。\n", "utf-8")
    dataset = load_dataset(name, root=tmp_path)
    assert dataset.captions == ["一只猫。它很大。"] and shade(dataset, 0) == pytest.approx(60, abs=6)
    assert dataset.caption_sentences == [("一只猫。", "它很大。")]
    (tmp_path / "image_caption_trans.txt").write_text("no tab here\n", "utf-8")
    with pytest.raises(UserError, match="line 1: expected an image's path, a tab"):
        load_dataset(name, root=tmp_path)


def test_sharegpt4vs_two_thousands_are_two_sets(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPBIAS_CACHE", str(tmp_path / "cache"))
    rows = [
        {"id": str(i), "image": f"coco/{i}.jpg", "conversations": [{"value": "?"}, {"value": f"Row {i}.\nEnd."}]}
        for i in range(1_003)
    ]
    (tmp_path / "share-captioner_coco_lcs_sam_1246k_1107.json").write_text(json.dumps(rows))
    first = load_dataset("sharegpt4v-1k", root=tmp_path)
    assert (len(first.captions), first.captions[999], first.name) == (1_000, "Row 999.\nEnd.", "sharegpt4v-1k")
    sam = [{**row, "image": f"sa_000000/images/sa_{i}.jpg"} for i, row in enumerate(rows)]
    (tmp_path / "share4v_sam_10k.json").write_text(json.dumps(sam))
    whole, part = (load_dataset(name, root=tmp_path) for name in ("sharegpt4v-10k", "sharegpt4v-1k-flair"))
    assert (len(whole.captions), len(part.captions), part.captions[0]) == (1_003, 1_000, "Row 0. End")
    assert whole.image_names[2] == "sa_000000/images/sa_2.jpg"
    (tmp_path / "sam/images").mkdir(parents=True)
    assert load_dataset("sharegpt4v-10k", root=tmp_path).image_names[2] == "sam/images/sa_2.jpg"


def test_what_shares_its_images_is_said_not_to_be_comparable():
    assert set(not_comparable("docci")) == {"docci-cn", "docci-fg", "docci-goal", "himo-docci"}
    assert not_comparable("dci-goal") == [n for n in DATASETS if "dci" in n and n != "dci-goal"]
    assert not_comparable("urban1k") == [] == not_comparable("./mine.csv")


@pytest.mark.parametrize(
    ("name", "split", "images", "captions"),
    [
        ("docci", "test", 5_000, 5_000),
        ("urban1k", "test", 1_000, 1_000),
        ("dci", "all", 7_805, 7_805),
        ("long-dci", "all", 7_602, 7_602),
        ("coco", "val", 5_000, 25_014),
        ("coco", "val+first_five", 5_000, 25_000),
        ("flickr30k-full", "all", 31_014, 155_070),
        ("flickr30k-1k", "test", 1_000, 5_000),
    ],
)
def test_the_protocols_counts_are_those_of_the_paper(name, split, images, captions):
    assert dataset_spec(name).counts[split] == (images, captions)


@pytest.mark.parametrize(
    ("name", "message"),
    [("docci", r"docci_descriptions\.jsonlines"), ("urban1k", "captions"), ("coco", r"captions_val2017\.json"),
     ("flickr30k-1k", r"dataset_flickr30k\.json"), ("iiw", "IIW-400"), ("dci", "annotations"),
     ("sharegpt4v", "share-captioner")],
)  # fmt: skip
def test_an_empty_folder_is_one_line_that_names_what_is_missing(tmp_path, name, message):
    with pytest.raises(UserError, match=message) as caught:
        load_dataset(name, root=tmp_path)
    assert "\n" not in str(caught.value)


def test_a_data_set_that_is_nowhere_is_asked_for(monkeypatch):
    monkeypatch.delenv("CLIPBIAS_DATA", raising=False)
    with pytest.raises(UserError, match="where is docci"):
        load_dataset("docci")


def test_an_unknown_option_is_named_with_those_there_are(tmp_path):
    with pytest.raises(UserError, match="no option 'first_six'; it takes first_five"):
        load_dataset("coco", root=tmp_path, first_six=True)


def test_facts_are_a_part_of_a_data_sets_fingerprint_and_go_with_their_captions():
    from dataclasses import replace

    from clipbias.data.build import without_images
    from clipbias.data.limited import limited

    scenes = load_dataset("scenes-2")
    few = limited(scenes, 5)
    assert few.told_wrong == [scenes.told_wrong[i] for i in range(5)]
    assert without_images(few, [0, 2]).told_wrong == [few.told_wrong[i] for i in (1, 3, 4)]
    for place, text in few.told_wrong:
        assert text != few.sentences[0][place] and len(text.split()) > 2
    other = replace(few, told_wrong=[(0, "Something else."), *few.told_wrong[1:]])
    assert few.fingerprint != other.fingerprint != replace(few, told_wrong=None).fingerprint
