"""The version is that of `setup.cfg` wherever it is written."""

from __future__ import annotations

import re
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).parents[2]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text("utf-8")


def version() -> str:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config["metadata"]["version"]


def test_the_newest_release_of_the_changelog_is_this_version() -> None:
    headings = re.findall(r"^## \[(.+?)\](.*)$", CHANGELOG, re.MULTILINE)
    assert headings[0] == ("Unreleased", "")
    number, date = headings[1]
    assert number == version()
    assert re.fullmatch(r" - \d{4}-\d\d-\d\d", date)


def test_requests_in_the_docs_come_from_this_version() -> None:
    pages = "".join(page.read_text("utf-8") for page in (ROOT / "docs").rglob("*.md"))
    assert set(re.findall(r"user-agent: callbacks/([\w.+]+)", pages)) == {version()}


def test_the_classifiers_name_every_python_from_the_oldest_on() -> None:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    oldest = config["options"]["python_requires"].removeprefix(">=")
    named = re.findall(r":: (3\.\d+)$", config["metadata"]["classifiers"], re.MULTILINE)
    minors = [int(name.partition(".")[2]) for name in named]
    assert named[0] == oldest
    assert minors == list(range(minors[0], minors[-1] + 1))
