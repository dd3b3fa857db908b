"""The built-in world: the same everywhere, and true to its captions."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from clipbias.scenes import SPLITS, long_caption, render, sample_scene, short_caption
from clipbias.scenes.world import COLOURS, SHAPES

# Of the first 20 scenes of every split: pixels at 48 px, long captions, short captions.
DIGEST = "c07ec1b53ae8ee7f26d639eb5666fca88dc65513ebc1dd513a038a2845406ef7"
PROGRAM = """
import hashlib
from clipbias.scenes import SPLITS, long_caption, render, sample_scene, short_caption
digest = hashlib.sha256()
for split in SPLITS:
    for index in range(20):
        scene = sample_scene(split, index)
        digest.update(render(scene).tobytes())
        digest.update(" ".join(s.text for s in long_caption(scene)).encode())
        digest.update(short_caption(scene, 3).encode())
print(digest.hexdigest())
"""


def _digest(python: str, **variables: str) -> str:
    root = Path(__file__).parents[2]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(root), **variables}
    run = subprocess.run([python, "-c", PROGRAM], env=environment, cwd=root, capture_output=True, text=True, check=True)
    return run.stdout.strip()


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_scenes_are_the_same_bytes_in_every_process(hash_seed):
    assert _digest(sys.executable, PYTHONHASHSEED=hash_seed) == DIGEST


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_scenes_are_the_same_bytes_on_other_pythons(version):
    python = shutil.which(f"python{version}")
    # Only a Python that has Pillow can draw; which ones do is a property of the machine.
    if python is None or subprocess.run([python, "-c", "import PIL"], capture_output=True).returncode:
        pytest.skip(f"no Python {version} with Pillow on this machine")
    assert _digest(python) == DIGEST


def test_splits_have_their_sizes_and_share_no_scene():
    assert SPLITS == {"train": 40_000, "validation": 1_000, "test": 1_000}
    seen = {}
    for split in SPLITS:
        for index in range(500):
            digest = hashlib.sha256(render(sample_scene(split, index)).tobytes()).hexdigest()
            assert seen.setdefault(digest, split) == split
    with pytest.raises(IndexError):
        sample_scene("test", 1_000)


def test_a_sentence_states_the_facts_it_names():
    for index in range(200):
        scene = sample_scene("validation", index)
        facts = scene.facts()
        for sentence in long_caption(scene):
            for name in sentence.facts:
                value = facts[name]
                # Places, weathers and sky states are worded freely; the others appear as they are called.
                if name.split(".")[-1] in ("shape", "colour", "size") or name in ("ground.texture",):
                    assert value in sentence.text.lower(), (sentence, name, value)
                elif name == "frame" and value != "none":
                    assert value in sentence.text.lower()


def test_each_fact_is_stated_exactly_once():
    for index in range(200):
        scene = sample_scene("test", index)
        stated = [name for sentence in long_caption(scene) for name in sentence.facts]
        assert len(stated) == len(set(stated))
        # A picture without a frame says nothing about frames.
        assert set(scene.facts()) - set(stated) <= {"frame"}


def test_the_main_thing_is_where_and_what_the_graph_says():
    for index in range(100):
        scene = sample_scene("test", index)
        assert scene.main.shape in SHAPES and scene.main.colour in COLOURS
        assert [thing.size for thing in scene.things].count("large") == 1
        assert len({(thing.row, thing.column) for thing in scene.things}) == len(scene.things)


def test_captions_have_the_lengths_that_are_promised():
    from clipbias.models.tokenizer import clip_token_lists

    scenes = [sample_scene("test", index) for index in range(1_000)]
    captions = [long_caption(scene) for scene in scenes]
    details = [len(caption) - 1 for caption in captions]
    assert min(details) >= 4 and max(details) <= 8
    lengths = [len(ids) + 2 for ids in clip_token_lists([" ".join(s.text for s in c) for c in captions])]
    assert min(lengths) >= 45 and max(lengths) <= 150 and 60 <= sum(lengths) / len(lengths) <= 100
    short = [len(ids) + 2 for ids in clip_token_lists([short_caption(scene) for scene in scenes])]
    assert 13 <= sum(short) / len(short) <= 16 and max(short) <= 30


def _expected_top1(signatures: list[object]) -> float:
    """Expected top-1 of a searcher that knows exactly these facts and guesses among the scenes that share them."""
    return sum(1 / signatures.count(signature) for signature in signatures) / len(signatures)


def test_the_summary_identifies_a_part_and_the_details_the_rest():
    scenes = [sample_scene("test", index) for index in range(1_000)]
    summary, details = [], []
    for scene in scenes:
        facts = scene.facts()
        first = long_caption(scene)[0].facts
        summary.append(tuple(facts[name] for name in first))
        details.append(tuple(sorted((k, v) for k, v in facts.items() if k not in first)))
    alone = _expected_top1(summary)
    print(f"expected top-1 of a perfect reader: summary alone {alone:.1%}, details alone {_expected_top1(details):.1%}")
    assert 0.25 <= alone <= 0.5
    assert _expected_top1(details) > 0.99
