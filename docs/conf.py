"""The documentation's site: ``sphinx-build -W docs site``."""

import clipbias

project = "clipbias"
author = "The clipbias authors"
version = release = clipbias.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
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
