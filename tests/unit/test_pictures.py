"""The pictures in docs/ belong to the sources beside them. `scripts/pictures` draws them anew."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "docs").glob("*.dot"))
TEXTS = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]


def test_there_are_pictures() -> None:
    assert [source.stem for source in SOURCES] == ["architecture", "states"]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_a_picture_was_drawn_from_its_source(source: Path) -> None:
    picture = source.with_suffix(".svg").read_text("utf-8")
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert re.findall(r"<!-- drawn from (\S+), sha256 (\w+) -->", picture) == [
        (source.name, digest)
    ], "draw it anew: scripts/pictures"
    ET.fromstring(picture)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_a_picture_is_shown_with_words_for_who_cannot_see_it(source: Path) -> None:
    shown = re.compile(rf"!\[[^\]]{{20,}}\]\((docs/)?{source.stem}\.svg\)")
    assert any(shown.search(text.read_text("utf-8")) for text in TEXTS)
