"""How Sphinx builds these pages: `scripts/docs`."""

from callbacks import __version__

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
# looked up, because a build must not need the network.
nitpick_ignore_regex = [("py:.*", r"(?!callbacks\.).*")]
