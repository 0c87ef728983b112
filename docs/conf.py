"""Configuration of Sphinx: `make docs` builds the site into `docs/_build`."""

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(_HERE), str(_HERE.parent)]

import mammo  # noqa: E402

project = "mammo"
author = "mammo contributors"
copyright = "mammo contributors"
release = version = mammo.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "config_reference",
]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_inherit_docstrings = False  # those of Lightning refer to its own pages
autodoc_default_options = {"members": True, "show-inheritance": True}
# base classes of Lightning and PyTorch are shown by name, their own members are not
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_attr_annotations = False  # reStructuredText takes the end of `numpy.str_` for a link
default_role = "code"  # docstrings write code in single backquotes

html_theme = "furo"
html_title = "mammo"
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
pygments_style = "friendly"
