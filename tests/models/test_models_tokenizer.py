"""CLIP's byte-pair encoding against open_clip's own tokenizer."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer

from clipbias.models.tokenizer import clip_token_lists

REFERENCE = SimpleTokenizer()
PARTS = st.sampled_from(
    ["A dog", "the ‘Bow’", "“PUMPKIN”", "it's", "we'll", "\n", "\r\n", "\t", "  ", "12.5", "&amp;", "&quot", "<b>",
     "1st", "naïve", "â€™", "\u00a0", "…", "—", "\x1b[1m", "\x00", "<end_of_text>", "ﬁn", "？", "Ünï", "'S", "_x_"]
)  # fmt: skip


@given(st.one_of(st.text(max_size=60), st.lists(PARTS, max_size=12).map("".join), st.lists(PARTS).map(" ".join)))
@example("The “Z”.\nIt’s ‘here’")
@example("Schloß &lt;b&gt; \u2019\u2019")
def test_ids_are_those_of_open_clip(text):
    assert clip_token_lists([text]) == [tuple(REFERENCE.encode(text))]
