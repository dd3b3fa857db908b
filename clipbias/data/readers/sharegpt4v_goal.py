"""GOAL's test set of ShareGPT4V: its file ``sharegpt4v_test.json``."""

from __future__ import annotations

from clipbias.data.lists import array, listed

SPECS = {
    "sharegpt4v-goal": listed(
        "sharegpt4v-goal",
        files=("sharegpt4v_test.json", "datasets/sharegpt4v_test.json"),
        entries=array("filename", "caption"),
        protocol="ShareGPT4V, GOAL's sharegpt4v_test.json: {images} images, {captions} captions",
        owner="sharegpt4v",
        places=("sam/images", "coco/train2017", ""),
        title="ShareGPT4V, GOAL's test list",
        licence="not stated (list); CC BY-NC 4.0 (captions); images under their sets' licences",
        homepage="https://github.com/PerceptualAI-Lab/GOAL",
        family="ShareGPT4V",
        layout="sharegpt4v_test.json\nsam/images/ ..., or coco/train2017/",
    )
}
