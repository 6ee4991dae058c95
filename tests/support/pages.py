"""The pages of the documentation as tests read them: sections, tables, blocks, links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import REPO

DOCS = REPO / "docs"
#: All that users read, README first; the changelog speaks of what is no more.
PAGES = (REPO / "README.md", REPO / "SECURITY.md", *sorted(DOCS.glob("*.md")))
#: The one secret that examples show; `whsec_...` stands for one, too.
SECRET = "whsec_c2VjcmV0IG9mIG9uZSBjdXN0b21lciwgMzIgYnl0ZXM="
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<kind>[^\n]*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL
)


def read(name: str) -> str:
    """A page by its path from the root, or by its name in docs/."""
    path = REPO / name
    return (path if path.is_file() else DOCS / f"{name}.md").read_text("utf-8")


def section(text: str, title: str) -> str:
    """The text under a heading, up to the next one of the same or a higher level."""
    found = re.search(rf"^(#+) {re.escape(title)}$", text, re.MULTILINE)
    assert found, f"there is no section {title!r}"
    rest = text[found.end() :]
    following = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: following.start()] if following else rest


def rows(text: str) -> Iterator[list[str]]:
    """The rows of all tables in a text whose first cell is code, cell by cell."""
    for line in text.splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def first_cells(text: str) -> list[str]:
    return [row[0].strip("`") for row in rows(text)]


@dataclass(frozen=True)
class Block:
    """A fenced block: `kind` is what stands after the fence."""

    page: str
    kind: str
    text: str


def blocks(path: Path) -> list[Block]:
    """All fenced blocks of a page, without their indentation."""
    page = str(path.relative_to(REPO))
    return [
        Block(
            page,
            found["kind"].strip(),
            re.sub(f"^{found['indent']}", "", found["text"], flags=re.MULTILINE),
        )
        for found in _FENCE.finditer(path.read_text("utf-8"))
    ]


def prose(path: Path) -> str:
    """A page without its blocks."""
    return _FENCE.sub("", path.read_text("utf-8"))


def slug(title: str) -> str:
    """The anchor of a heading, as GitHub and the site make it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def anchors(path: Path) -> set[str]:
    return {slug(title) for title in re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)}
