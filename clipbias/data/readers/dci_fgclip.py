"""DCI as FG-CLIP and FG-CLIP 2 read it: the extra caption alone, of every annotation file, empty ones too.

FG-CLIP 2 lower-cases captions, which is the model's reader's part.
"""

from __future__ import annotations

from clipbias.data.readers.dci import whole_dci

SPECS = {
    "dci-fgclip": whole_dci(
        "dci-fgclip",
        "extra caption alone, empty ones too",
        lambda entry: entry.extra,
        title="DCI as FG-CLIP reads it: the extra captions, empty ones too",
        homepage="https://github.com/360CVGroup/FG-CLIP",
    )
}
