"""Pictures that are kept: drawn once, in memory or for several processes, and not at all to say what they are."""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clipbias.data.kept import with_kept_images
from clipbias.data.loading import load_dataset
from clipbias.data.ondemand import OnDemand

DATA = load_dataset("scenes-2", split="validation")


class Counting:
    """Notes what is drawn."""

    key = DATA.load_image.key

    def __init__(self) -> None:
        self.drawn: list[int] = []

    def __call__(self, index: int) -> Image.Image:
        self.drawn.append(index)
        return DATA.load_image(index)


def test_kept_pictures_are_drawn_once_and_leave_the_fingerprint():
    counting = Counting()
    kept = with_kept_images(replace(DATA, load_image=counting))
    assert kept.fingerprint == DATA.fingerprint and not counting.drawn
    assert kept.load_image(7).tobytes() == kept.load_image(7).tobytes() == DATA.load_image(7).tobytes()
    assert counting.drawn == [7]


def shared(folder: Path) -> tuple[Callable[[int], Image.Image], list[int]]:
    """The pictures as a process has them that shares this folder, and which of them it draws."""
    counting = Counting()
    kept = with_kept_images(replace(DATA, load_image=counting), folder)
    assert kept.fingerprint == DATA.fingerprint
    counting.drawn.clear()  # one is drawn to know their size
    return kept.load_image, counting.drawn


def test_shared_pictures_are_drawn_by_the_first_that_needs_them(tmp_path):
    (one, drawn), (other, drawn_there) = shared(tmp_path), shared(tmp_path)
    for index in (7, 3, 7):
        assert one(index).tobytes() == DATA.load_image(index).tobytes() and one(index).mode == "RGB"
    assert other(7).tobytes() == DATA.load_image(7).tobytes() and other(2).tobytes() == DATA.load_image(2).tobytes()
    assert drawn == [7, 3] and drawn_there == [2]


@pytest.mark.parametrize("cut", [1, 100, 6912, 6927])
def test_a_picture_that_is_being_written_is_drawn_instead(tmp_path, cut):
    (one, _), (other, drawn) = shared(tmp_path), shared(tmp_path)
    wanted = one(2).tobytes()
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    start = len(whole) - (len(wanted) + 16)
    file.write_bytes(whole[: start + cut] + bytes(len(whole) - start - cut))
    assert other(2).tobytes() == wanted and drawn == [2] and file.read_bytes() == whole


def test_a_full_disk_costs_time_alone(tmp_path):
    one, drawn = shared(tmp_path)
    (file,) = tmp_path.iterdir()
    file.unlink()
    file.symlink_to("/dev/full")
    assert one(2).tobytes() == one(2).tobytes() == DATA.load_image(2).tobytes() and drawn == [2, 2]


def _all_of_them(folder: Path, seed: int) -> None:
    load, _ = shared(folder)
    order = list(range(60))
    random.Random(seed).shuffle(order)
    assert all(load(index).tobytes() == DATA.load_image(index).tobytes() for index in order * 2)


def test_processes_that_draw_at_the_same_time_see_whole_pictures(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_all_of_them, args=(tmp_path, seed)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    load, drawn = shared(tmp_path)
    assert all(load(index).tobytes() == DATA.load_image(index).tobytes() for index in range(60)) and not drawn


class Squares(OnDemand[int]):
    """0, 1, 4, ... made when they are asked for."""

    def __len__(self) -> int:
        return 7

    def item(self, place: int) -> int:
        return place**2


@given(st.integers(-9, 9) | st.slices(12))
def test_what_is_made_on_demand_is_taken_as_from_a_list(which):
    made, plain = Squares(), [k**2 for k in range(7)]
    if isinstance(which, int) and not -7 <= which < 7:
        with pytest.raises(IndexError):
            made[which]
        return
    assert made[which] == plain[which] and list(made) == plain and made[np.int64(3)] == 9
