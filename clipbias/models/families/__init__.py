"""Families: readers that turn their authors' files into open_clip's names, one small file each.

A reader module has

- ``recognise(state) -> str | None``: why this state dict is of the family, or None;
- ``read(state, **options) -> (state, options)``: open_clip's custom-text names, and the options as
  they took effect; a tensor that is missing raises ``KeyError``;
- ``SQUARE``: whether its authors resize images to a square instead of cropping them.
"""

FAMILIES = {name: f"clipbias.models.families.{name}" for name in ("fgclip", "debias", "longclip", "openai")}
"""Family -> reader module, the most specific first: recognition stops at the first that says yes."""
