"""The documentation's site: ``sphinx-build -W docs site``."""

import sys
from pathlib import Path

import clipbias

sys.path.insert(0, str(Path(__file__).parent))

project = "clipbias"
author = "The clipbias authors"
version = release = clipbias.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "clipbias_commands"]
# Notebooks are shown with the outputs that are stored in them; tests/docs runs them.
nb_execution_mode = "off"
html_theme = "furo"
html_title = f"clipbias {version}"
exclude_patterns = ["site"]
# Single backticks in docstrings are names.
default_role = "code"
highlight_language = "none"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_numpy_docstring = False
myst_heading_anchors = 3
# The pages are also read as files, where links to what lies beside docs/ work.
myst_url_schemes = ("http", "https")
