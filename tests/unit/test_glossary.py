"""docs/glossary.md defines every public term once, in its section."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path

import pytest

from callbacks.model import Outcome, Reason, State
from callbacks.monitor.health import WORDS
from callbacks.policy.flush import FlushReason

GLOSSARY = (Path(__file__).parents[2] / "docs/glossary.md").read_text("utf-8")


def terms(title: str) -> list[str]:
    """The first cells of the table under a heading."""
    section = re.split(r"^#+ ", GLOSSARY.partition(f"# {title}\n")[2], flags=re.MULTILINE)[0]
    return re.findall(r"^\| (`[\w ]+`|\*.+?) \|", section, re.MULTILINE)


@pytest.mark.parametrize(
    ("title", "words"),
    [
        ("States", State),
        ("Outcomes of an attempt", Outcome),
        ("Reasons", Reason),
        ("Why a batch is due", FlushReason),
    ],
)
def test_every_public_term_is_defined(title: str, words: type[StrEnum]) -> None:
    assert terms(title) == [f"`{word}`" for word in words]


@pytest.mark.parametrize("why", ["full", "park", "breaker", "secret"])
def test_every_kind_of_hold_is_defined(why: str) -> None:
    (row,) = re.findall(r"^\| \*hold\* \| (.+) \|$", GLOSSARY, re.MULTILINE)
    assert f"`{why}`" in row


def test_every_word_for_health_is_defined() -> None:
    assert terms("Health") == [f"`{word}`" for word in WORDS]


def test_no_term_is_defined_twice() -> None:
    rows = [line.split(" | ")[0] for line in GLOSSARY.splitlines() if line.startswith("| *")]
    found = [term for row in rows for term in re.findall(r"\*([^*]+)\*", row)]

    assert found
    assert len(found) == len(set(found))
