"""GOAL's split of DCI: 1,999 images with captions of its own choice, in its file ``DCI_test.json``."""

from __future__ import annotations

from clipbias.data.lists import array, listed

SPECS = {
    "dci-goal": listed(
        "dci-goal",
        files=("DCI_test.json", "datasets/DCI_test.json"),
        entries=array("filename", "caption"),
        protocol="DCI, GOAL's DCI_test.json: {images} images, {captions} captions",
        owner="dci",
        places=("photos", "densely_captioned_images/photos"),
        title="DCI, GOAL's 1,999 captions",
        licence="not stated (list); CC BY-NC 4.0 (captions); photos from SA-1B under its licence",
        homepage="https://github.com/PerceptualAI-Lab/GOAL",
        family="DCI",
        counts={"test": (1_999, 1_999)},
        layout="DCI_test.json\nphotos/sa_1543972.jpg ..., or densely_captioned_images/photos/",
    )
}
