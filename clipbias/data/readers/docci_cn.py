"""DOCCI-CN (FG-CLIP 2): DOCCI's captions translated into Chinese; for models that read Chinese.

The file is the one that FG-CLIP 2's evaluation reads: a line an image, its path, a tab, the caption.
"""

from __future__ import annotations

from clipbias.data.lists import listed, tabbed

SPECS = {
    "docci-cn": listed(
        "docci-cn",
        files=("image_caption_trans.txt", "docci/image_caption_trans.txt"),
        entries=tabbed,
        protocol="DOCCI-CN (Chinese): {images} images, {captions} captions",
        owner="docci",
        places=("images",),
        title="DOCCI-CN: DOCCI's captions in Chinese (FG-CLIP 2)",
        licence="not stated (captions); CC BY 4.0 (images)",
        homepage="https://huggingface.co/datasets/qihoo360/DOCCI-CN",
        family="DOCCI",
        layout="image_caption_trans.txt\nimages/...",
    )
}
