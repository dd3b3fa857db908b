"""Models of other libraries: open_clip's, transformers', sentence-transformers'; a reader and a text tower each.

Their folders come from strangers. A configuration file never decides a keyword argument of a library: `folder.py`
reads it through a list of fields with types and hands on nothing else, and ``trust_remote_code`` is False in every call
unless the user gives it on the command line.
"""

from __future__ import annotations

from pathlib import Path

from clipbias.errors import UserError

LIBRARIES = {
    "openclip:": "clipbias.models.libraries.openclip:load_openclip",
    "hf:": "clipbias.models.libraries.transformers:load_transformers",
    "st:": "clipbias.models.libraries.sentence:load_sentence",
}
"""Prefix of a name -> its loader: (name, source, device=, precision=, own options) -> Encoder."""

_FILES = {
    "open_clip_config.json": ("openclip:", "local-dir:"),
    "modules.json": ("st:", ""),
    "config.json": ("hf:", ""),
}


def library_of_folder(folder: Path) -> tuple[str, str]:
    """Prefix and source of the model in a folder, by the file that each library writes.

    Raises:
        UserError: no library's folder.
    """
    for file, (prefix, start) in _FILES.items():
        if (folder / file).is_file():
            return prefix, f"{start}{folder}"
    raise UserError(
        f"{folder}: no model in this folder; a model folder has model.safetensors of a known family, or one of "
        f"{', '.join(_FILES)}"
    )
