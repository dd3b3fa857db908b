"""GOAL's split of DOCCI: ``docci_test.json``, 5,100 pairs, the test and the qual_test split together."""

from __future__ import annotations

from clipbias.data.lists import array, listed

SPECS = {
    "docci-goal": listed(
        "docci-goal",
        files=("docci_test.json", "datasets/docci_test.json"),
        entries=array("filename", "caption"),
        protocol="DOCCI, GOAL's docci_test.json (test and qual_test): {images} images, {captions} captions",
        owner="docci",
        places=("images",),
        title="DOCCI, GOAL's 5,100 pairs (test and qual_test)",
        licence="not stated (list); CC BY 4.0 (captions and images)",
        homepage="https://github.com/PerceptualAI-Lab/GOAL",
        family="DOCCI",
        counts={"test": (5_100, 5_100)},
        layout="docci_test.json\nimages/qual_test_00000.jpg ...",
    )
}
