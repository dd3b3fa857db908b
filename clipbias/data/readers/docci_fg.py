"""DOCCI-FG (FLAIR): every sentence of a test description is a caption of its image."""

from __future__ import annotations

from clipbias.data.lists import annotated, listed

SPECS = {
    "docci-fg": listed(
        "docci-fg",
        files=("annotations/test_annotations.json", "test_annotations.json"),
        entries=annotated,
        protocol="DOCCI-FG (FLAIR's test_annotations.json, a sentence a caption): {images} images, {captions} captions",
        owner="docci",
        places=("images",),
        title="DOCCI-FG: every sentence of a DOCCI description a caption (FLAIR)",
        licence="CC BY 4.0 (captions and images)",
        homepage="https://github.com/ExplainableML/flair",
        family="DOCCI",
        layout="annotations/test_annotations.json\nimages/test_00000.jpg ...",
    )
}
