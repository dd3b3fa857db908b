"""The leaderboard files of a results folder: a table, and the cards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clipbias.files import below, write_text
from clipbias.names import file_name
from clipbias.report.load import all_rows
from clipbias.report.tables import leaderboard, shown, to_csv, to_markdown
from clipbias.results.card import cards, wide_cards
from clipbias.results.folder import Finished
from clipbias.results.ranks import shared_ranks


def write_boards(runs: Sequence[Finished], out: Path, name: str) -> list[Path]:
    """Write ``NAME.csv``, ``NAME.md``, ``NAME-cards.csv`` and ``NAME-cards.md`` into ``out``.

    Raises:
        UserError: no runs, or a folder that cannot be written.
    """
    runs = list(runs)
    scalars = cards(runs)
    board = leaderboard(all_rows(runs), shared_ranks(runs), scalars)
    stem = file_name(name)
    texts = {
        f"{stem}.csv": to_csv(board),
        f"{stem}.md": to_markdown(shown(board)),
        f"{stem}-cards.csv": to_csv(scalars),
        f"{stem}-cards.md": to_markdown(wide_cards(scalars)),
    }
    written = []
    for file, text in texts.items():
        path = below(out, file)
        write_text(path, text)
        written.append(path)
    return written
