"""DCI-CN (FG-CLIP 2): DCI's captions translated into Chinese; for models that read Chinese.

The file is the one that FG-CLIP 2's evaluation reads: a line an image, its path, a tab, the caption.
"""

from __future__ import annotations

from clipbias.data.lists import listed, tabbed

SPECS = {
    "dci-cn": listed(
        "dci-cn",
        files=("image_caption_trans.txt", "dci/image_caption_trans.txt"),
        entries=tabbed,
        protocol="DCI-CN (Chinese): {images} images, {captions} captions",
        owner="dci",
        places=("images", "photos", "densely_captioned_images/photos"),
        title="DCI-CN: DCI's captions in Chinese (FG-CLIP 2)",
        licence="not stated (captions); photos from SA-1B under its licence",
        homepage="https://huggingface.co/datasets/qihoo360/DCI-CN",
        family="DCI",
        layout="image_caption_trans.txt\nimages/...",
    )
}
