"""Pictures kept in memory: drawn once, and not at all to say what they are made from."""

from __future__ import annotations

from dataclasses import replace

from clipbias.data.kept import with_kept_images
from clipbias.data.loading import load_dataset


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
