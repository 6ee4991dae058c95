"""How Sphinx builds these pages: `scripts/docs`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callbacks import __version__

if TYPE_CHECKING:
    from click import Context
    from sphinx.application import Sphinx

project = "callbacks"
copyright = "the authors of callbacks"  # the name that Sphinx reads
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_click"]
exclude_patterns = ["examples", "deploy", "_build"]

html_theme = "furo"
html_title = f"callbacks {release}"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_copy_source = False
html_show_sphinx = False

# Links lead to headings as on GitHub.
myst_heading_anchors = 4

# Docstrings are plain text with code between single backticks.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autoclass_content = "class"

# `-n` reports what is named in a signature and described nowhere. Names of other packages are not
# looked up, because a build must not need the network; of ours these are for nobody's code.
nitpick_ignore_regex = [("py:.*", r"(?!callbacks\.).*")]
nitpick_ignore = [
    ("py:class", "callbacks.admin.values._T"),
    ("py:class", "callbacks.delivery.callback.Sender"),
    ("py:class", "callbacks.model.Item"),
    ("py:class", "callbacks.model.Steps"),
    ("py:class", "callbacks.when.When"),
]


def _escape(_app: Sphinx, _context: Context, lines: list[str]) -> None:
    """Keep the `whsec_` of a help text from being read as a reference."""
    lines[:] = [line.replace("whsec_", r"whsec\_") for line in lines]


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("sphinx-click-process-options", _escape)
