"""How Sphinx builds these pages: `scripts/docs`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sphinx.search.en import SearchEnglish

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
]


class NumbersToo(SearchEnglish):
    """A search that finds 401 and 503, which Sphinx leaves out of the index and of the query."""

    js_splitter_code = """
const parseWithoutNumbers = Search._parseQuery;
Search._parseQuery = (query) => {
  const parsed = parseWithoutNumbers(query);
  const [, searchTerms, , highlightTerms] = parsed;
  for (const number of query.match(/(?<![\\p{L}\\p{N}_])\\d{3,}(?![\\p{L}\\p{N}_])/gu) ?? []) {
    searchTerms.add(number);
    highlightTerms.add(number);
  }
  return parsed;
};
"""

    def word_filter(self, word: str) -> bool:
        """Return whether a word is kept: also a number of three digits or more."""
        return (len(word) > 2 and word.isdecimal()) or super().word_filter(word)


def _escape(_app: Sphinx, _context: Context, lines: list[str]) -> None:
    """Keep `whsec_` and `https://host` of a help text from being read as references."""
    text = [line.replace("whsec_", r"whsec\_") for line in lines]
    lines[:] = [re.sub(r"(?<=http)(s?)://", r"\1\\://", line) for line in text]


def _leave_out_when(*given: Any) -> tuple[str, str | None] | None:
    """Show of a time's types those that users write: `When` is what the commands make of them."""
    signature, returns = given[-2:]
    return (signature.replace(" | ~callbacks.when.When", ""), returns) if signature else None


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    for part in ("description", "arguments", "options", "epilog"):
        app.connect(f"sphinx-click-process-{part}", _escape)
    app.connect("autodoc-process-signature", _leave_out_when)
    app.add_search_language(NumbersToo)
