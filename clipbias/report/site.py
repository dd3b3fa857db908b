"""`clipbias report --site`: a front page, a page per model and per data set, at addresses that stay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clipbias.errors import UserError
from clipbias.files import below, write_text
from clipbias.names import file_name
from clipbias.report.display import model_name
from clipbias.report.material import Material, Place, of_data, of_model
from clipbias.report.page.build import build_page
from clipbias.results.published import lines, read_published


def write_site(material: Material, out: Path) -> list[Path]:
    """Write ``index.html``, ``models/MODEL.html`` and ``data/DATA.html`` below ``out``, for any static host.

    An address is made of the name alone, so that it stays when other models or data sets come; a page needs no other.

    Args:
        material: as `clipbias.report.build.gather` gives it.
        out: the site's folder.

    Returns:
        The pages, the front page first.

    Raises:
        UserError: two names have one address, or the folder cannot be written.
    """
    data = sorted({one.run.data for one in material.runs})
    models = _addresses("models", material.order)
    sets = _addresses("data", data)
    published = lines(read_published())
    front = Place(models=tuple(models.items()), data=tuple(sets.items()))
    pages = {"index.html": build_page(material, front)}
    up = {model: f"../{address}" for model, address in models.items()}
    across = {name: f"../{address}" for name, address in sets.items()}
    for model, address in models.items():
        heading = f"{model_name(model)}: does it read the whole caption?"
        place = Place(heading, "../index.html", data=tuple(across.items()))
        pages[address] = build_page(of_model(material, model), place)
    for name, address in sets.items():
        theirs = tuple(line for line in published if line[0] == name)
        heading = f"{name}: which models read the whole caption?"
        place = Place(heading, "../index.html", tuple(up.items()), published=theirs)
        pages[address] = build_page(of_data(material, name), place)
    written = []
    for address, text in pages.items():
        path = below(out, *address.split("/"))
        write_text(path, text)
        written.append(path)
    return written


def _addresses(folder: str, names: Sequence[str]) -> dict[str, str]:
    """The address of each name's page, from the front page."""
    found = {name: f"{folder}/{file_name(name)}.html" for name in names}
    taken: dict[str, str] = {}
    for name, address in found.items():
        other = taken.setdefault(address.lower(), name)
        if other != name:
            raise UserError(f"{other} and {name} would share the page {address}; report them from two results folders")
    return found
