"""HiMo-Docci (HiMo-CLIP): 1,000 DOCCI test images, each with 2 to 17 captions, every one longer than the one before.

The captions of an image, in their order, are the steps of HiMo@K: ``clipbias probe himo-docci --data himo-docci``.
"""

from __future__ import annotations

from clipbias.data.lists import lines, listed

SPECS = {
    "himo-docci": listed(
        "himo-docci",
        files=("himo_docci_data.json",),
        entries=lines("img_path", "caption"),
        protocol="HiMo-Docci: {images} images, {captions} growing captions",
        owner="docci",
        places=("images",),
        title="HiMo-Docci: growing captions of 1,000 DOCCI test images",
        licence="Apache 2.0 (list); CC BY 4.0 (images)",
        homepage="https://github.com/UnicomAI/HiMo-CLIP",
        family="DOCCI",
        counts={"test": (1_000, 6_660)},
        layout="himo_docci_data.json\nimages/test_00000.jpg ...",
    )
}
