"""One look for every figure: sizes, type, and a colour, marker and dash that a model keeps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from clipbias.errors import UserError
from clipbias.files import atomic_path
from clipbias.names import for_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette without its yellow, which vanishes on white; told apart by colour-blind readers.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
PAGE_COLOURS = (*_COLOURS[:-1], "#8b8b8b")
"""As the figures', with a grey that shows on light and on dark instead of black."""
_MARKERS = "osD^vPX"
_DASHES = ("-", "--", ":", "-.")
FORMATS = ("png", "svg", "pdf")
"""Kinds of files that a figure is written as."""


@dataclass(frozen=True)
class Look:
    """How figures are set.

    Attributes:
        style: "paper" (8 pt, a column of 3.4 inches) or "talk" (14 pt, for a slide).
        width: "column" or "page" for figures of one panel; small multiples are as wide as a page.
        titles: a title, and a line with data set, n and what the bands are, above each figure.
        dark: light ink on a dark ground.
        formats: kinds of files, of `FORMATS`; SVG is always written, as the page shows it.
    """

    style: str = "paper"
    width: str = "column"
    titles: bool = True
    dark: bool = False
    formats: tuple[str, ...] = FORMATS

    def __post_init__(self) -> None:
        asked = [("style", self.style, ("paper", "talk")), ("width", self.width, ("column", "page"))]
        for name, value, known in asked + [("format", kind, FORMATS) for kind in self.formats]:
            if value not in known:
                raise UserError(f"{name} {value!r}: choose {' or '.join(known)}")

    @property
    def kinds(self) -> tuple[str, ...]:
        """Endings of the files that a figure is written as."""
        return tuple(kind for kind in FORMATS if kind in (*self.formats, "svg"))

    @property
    def size(self) -> int:
        """The one type size, in points."""
        return 14 if self.style == "talk" else 8

    @property
    def column(self) -> float:
        """Width of a column, in inches."""
        return 5.2 if self.style == "talk" else 3.4

    @property
    def page(self) -> float:
        """Width of two columns and what is between them."""
        return 2 * self.column + 0.2

    @property
    def across(self) -> float:
        """Width of a figure of one panel."""
        return self.page if self.width == "page" else self.column

    @property
    def tall(self) -> float:
        """Height of a panel."""
        return 0.62 * self.column

    @property
    def line(self) -> float:
        """Width of a curve, in points."""
        return 2.2 if self.style == "talk" else 1.2

    @property
    def ink(self) -> str:
        """Colour of type and of lines that are no model's."""
        return "#e6edf3" if self.dark else "#000000"

    @property
    def ground(self) -> str:
        """Colour behind it."""
        return "#0d1117" if self.dark else "#ffffff"


PAPER = Look()


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
        title: above the static figure.
        band: what bands or bars are, for the line under the title.
        unit: what n counts.
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
    title: str = ""
    band: str = "95% intervals over queries"
    unit: str = "captions"

    @property
    def told(self) -> str:
        """The line under the title: data set, n, what the bands are."""
        n = ""
        if "n" in self.table and len(self.table):
            least, most = int(self.table["n"].min()), int(self.table["n"].max())
            # Panels are of different captions; along a curve, few positions have fewer.
            n = f"n = {f'{least:,} to ' if 'sentences' in self.table and least < most else ''}{most:,} {self.unit}"
        return ", ".join(part for part in (self.data, n, self.band) if part)


def model_styles(models: Sequence[str], ink: str = "#000000") -> dict[str, dict[str, str]]:
    """Colour, marker and line style of each model; the same list gives the same styles."""
    colours = (*_COLOURS[:-1], ink)
    return {
        model: {
            "color": colours[i % len(_COLOURS)],
            "marker": _MARKERS[(i + i // len(_COLOURS)) % len(_MARKERS)],
            "linestyle": _DASHES[(i // len(_COLOURS)) % len(_DASHES)],
        }
        for i, model in enumerate(models)
    }


_SIZES = ("font.size", "axes.titlesize", "axes.labelsize", "legend.fontsize", "xtick.labelsize", "ytick.labelsize",
          "figure.titlesize", "figure.labelsize")  # fmt: skip
_INKS = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "xtick.labelcolor", "ytick.labelcolor")
_GROUNDS = ("figure.facecolor", "axes.facecolor", "savefig.facecolor")


@contextmanager
def _built_in_settings() -> Iterator[None]:
    """Matplotlib's own defaults, whatever a ``matplotlibrc`` in the current or the user's folder says."""
    import matplotlib as mpl

    mpl.rcdefaults()
    yield


@contextmanager
def figure_style(look: Look = PAPER) -> Iterator[None]:
    """The style as a context; nothing stays changed behind it."""
    import matplotlib as mpl
    import seaborn as sns

    looks: dict[Any, Any] = {name: look.size for name in _SIZES}
    looks |= {name: look.ink for name in _INKS} | {name: look.ground for name in _GROUNDS}
    with (
        mpl.rc_context(),
        _built_in_settings(),
        sns.axes_style("whitegrid"),
        mpl.rc_context(
            {
                "backend": "agg",
                "text.usetex": False,
                "figure.dpi": 200,
                **looks,
                "grid.color": "#3d444d" if look.dark else "#d9d9d9",
                "axes.edgecolor": "#9ba6b2" if look.dark else "#b0b0b0",
                "lines.linewidth": look.line,
                "lines.markersize": 3 * look.line,
                "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],  # of like widths
                "svg.hashsalt": "clipbias",
                "svg.fonttype": "none",  # type as type: smaller, found by a search, edited in a drawing program
                "pdf.fonttype": 42,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "grid.linewidth": 0.5,
            }
        ),
    ):
        yield


def titled(figure: Figure, look: Look, title: str, told: str) -> None:
    """A title and the line under it, above a figure and flush with its left edge; nothing where titles are left out."""
    import textwrap

    if not look.titles:
        return
    with figure_style(look):
        room = int(figure.get_figwidth() * 72 / (0.5 * look.size))
        height, step = figure.get_figheight() * 72, 1.25 * look.size
        under, above = (textwrap.fill(for_figure(text), room) for text in (told, title))
        figure.text(0.01, 1 + 4 / height, under, va="bottom")
        at = 4 + step * (under.count("\n") + 1) + 1
        figure.text(0.01, 1 + at / height, above, va="bottom", weight="bold")


def save_figure(figure: Figure, stem: Path, look: Look = PAPER) -> list[Path]:
    """Write the look's kinds of files beside each other, without dates, and close the figure."""
    import matplotlib.pyplot as plt

    metadata = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None, "ModDate": None}}
    written = []
    for kind in look.kinds:
        target = stem.with_name(f"{stem.name}.{kind}")
        # savefig reads settings too: the type of the fonts, the salt of SVG's ids.
        with atomic_path(target) as path, figure_style(look):
            figure.savefig(path, format=kind, metadata=metadata[kind], bbox_inches="tight")
        written.append(target)
    plt.close(figure)
    return written
