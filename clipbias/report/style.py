"""One look for every figure: sizes, type, and a colour, marker and dash that a model keeps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from clipbias.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette without its yellow, which vanishes on white; told apart by colour-blind readers.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
PAGE_COLOURS = (*_COLOURS[:-1], "#8b8b8b")
"""As the figures', with a grey that shows on light and on dark instead of black."""
_MARKERS = "osD^vPX"
_DASHES = ("-", "--", ":", "-.")
COLUMN = 3.4  # inches, a column of a two-column paper


@dataclass(frozen=True)
class Drawn:
    """One figure of the report.

    Attributes:
        stem: of its files.
        caption: what is drawn, of which data, with which band.
        table: the numbers it was drawn from.
        kind: "padding", "drops", ...: what the page draws of the same numbers.
        data: the data set; "" where there are several.
        words: the caption without the data set.
        axes: labels of x and y.
        published: numbers from papers beside them; columns model, condition, value, source.
    """

    stem: str
    caption: str
    table: pd.DataFrame
    kind: str = ""
    data: str = ""
    words: str = ""
    axes: tuple[str, str] = ("", "")
    published: pd.DataFrame | None = None


def model_styles(models: Sequence[str]) -> dict[str, dict[str, str]]:
    """Colour, marker and line style of each model; the same list gives the same styles."""
    return {
        model: {
            "color": _COLOURS[i % len(_COLOURS)],
            "marker": _MARKERS[(i + i // len(_COLOURS)) % len(_MARKERS)],
            "linestyle": _DASHES[(i // len(_COLOURS)) % len(_DASHES)],
        }
        for i, model in enumerate(models)
    }


@contextmanager
def _built_in_settings() -> Iterator[None]:
    """Matplotlib's own defaults, whatever a ``matplotlibrc`` in the current or the user's folder says."""
    import matplotlib as mpl

    mpl.rcdefaults()
    yield


@contextmanager
def figure_style() -> Iterator[None]:
    """The style as a context; nothing stays changed behind it."""
    import matplotlib as mpl
    import seaborn as sns

    with (
        mpl.rc_context(),
        _built_in_settings(),
        sns.axes_style("whitegrid"),
        mpl.rc_context(
            {
                "backend": "agg",
                "text.usetex": False,
                "figure.dpi": 200,
                "font.size": 8,
                "axes.titlesize": 8,
                "axes.labelsize": 8,
                "legend.fontsize": 7,
                "svg.hashsalt": "clipbias",
                "pdf.fonttype": 42,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "grid.linewidth": 0.5,
            }
        ),
    ):
        yield


def save_figure(figure: Figure, stem: Path) -> list[Path]:
    """Write PNG, SVG and PDF beside each other, without dates, and close the figure."""
    import matplotlib.pyplot as plt

    metadata = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None, "ModDate": None}}
    written = []
    for kind, facts in metadata.items():
        target = stem.with_name(f"{stem.name}.{kind}")
        # savefig reads settings too: the type of the fonts, the salt of SVG's ids.
        with atomic_path(target) as path, figure_style():
            figure.savefig(path, format=kind, metadata=facts, bbox_inches="tight")
        written.append(target)
    plt.close(figure)
    return written
