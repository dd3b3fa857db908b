"""DCI as LoTLIP and FLAIR read it: short caption, a line break, extra caption, cut and rejoined by their rule.

They read the files that ``splits.json`` names, all three splits.
"""

from __future__ import annotations

from clipbias.data.lists import rejoined
from clipbias.data.readers.dci import whole_dci

SPECS = {
    "dci-lotlip": whole_dci(
        "dci-lotlip",
        "short caption, line break, extra caption; cut at line breaks and full stops, rejoined by '. '",
        lambda entry: rejoined(f"{entry.short}\n{entry.extra}"),
        parts=("train", "valid", "test"),
        title="DCI as LoTLIP and FLAIR read it: short and extra caption, sentences rejoined",
        homepage="https://github.com/wuw2019/LoTLIP",
    )
}
