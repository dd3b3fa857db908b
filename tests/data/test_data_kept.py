"""Pictures kept in memory: drawn once, and not at all to say what they are made from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipbias.data.kept import with_kept_images
from clipbias.data.loading import load_dataset
from clipbias.data.ondemand import OnDemand


def test_kept_pictures_are_drawn_once_and_leave_the_fingerprint():
    data = load_dataset("scenes-2", split="validation")
    drawn = []

    class Counting:
        key = data.load_image.key

        def __call__(self, index):
            drawn.append(index)
            return data.load_image(index)

    kept = with_kept_images(replace(data, load_image=Counting()))
    assert kept.fingerprint == data.fingerprint and not drawn
    assert kept.load_image(7).tobytes() == kept.load_image(7).tobytes() == data.load_image(7).tobytes()
    assert drawn == [7]


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
