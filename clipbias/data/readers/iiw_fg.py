"""IIW-FG (FLAIR): every sentence of the 612 IIW captions is a caption of its image."""

from __future__ import annotations

from clipbias.data.lists import annotated, listed

SPECS = {
    "iiw-fg": listed(
        "iiw-fg",
        files=("test_annotations.json", "finegrained_annotations.json"),
        entries=annotated,
        protocol="IIW-FG (FLAIR's test_annotations.json, a sentence a caption): {images} images, {captions} captions",
        owner="iiw",
        title="IIW-FG: every sentence of an IIW caption a caption (FLAIR)",
        licence="CC BY 4.0; DCI's photos from SA-1B under its licence",
        homepage="https://github.com/ExplainableML/flair",
        family="IIW",
        counts={"test": (612, 6_204)},
        layout="test_annotations.json\ndocci/test_00731.jpg ..., docci_aar/aar_test_*.jpg, dci/sa_*.jpg",
    )
}
