"""The leaderboard files of a results folder: a table, and the cards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from clipbias.files import below, write_text
from clipbias.names import file_name
from clipbias.report.load import all_rows
from clipbias.report.tables import leaderboard, shown, to_csv, to_markdown
from clipbias.results.card import cards, wide_cards
from clipbias.results.folder import Finished
from clipbias.results.ranks import shared_ranks


def board_texts(board: pd.DataFrame, scalars: pd.DataFrame, name: str, cards_name: str) -> dict[str, str]:
    """The tables as CSV and for people, file name -> text; ``board`` and ``scalars`` as `leaderboard` takes."""
    return {
        f"{name}.csv": to_csv(board),
        f"{name}.md": to_markdown(shown(board)),
        f"{cards_name}.csv": to_csv(scalars),
        f"{cards_name}.md": to_markdown(wide_cards(scalars)),
    }


def write_boards(runs: Sequence[Finished], out: Path, name: str) -> list[Path]:
    """Write ``NAME.csv``, ``NAME.md``, ``NAME-cards.csv`` and ``NAME-cards.md`` into ``out``.

    Raises:
        UserError: no runs, or a folder that cannot be written.
    """
    runs = list(runs)
    scalars = cards(runs)
    board = leaderboard(all_rows(runs), shared_ranks(runs), scalars)
    stem, written = file_name(name), []
    for file, text in board_texts(board, scalars, stem, f"{stem}-cards").items():
        path = below(out, file)
        write_text(path, text)
        written.append(path)
    return written
