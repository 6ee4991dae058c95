"""The header of each Lua file is its interface: it must match the body."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import pytest

from callbacks.batcher import scripts
from callbacks.batcher.keys import Keys, field_of
from callbacks.batcher.scripts import VERBS

FOLDER = Path(str(resources.files("callbacks.batcher") / "lua"))
READ_ONLY = {"demand", "load", "look", "place", "status", "survey", "want", "where"}


def parts(verb: str) -> tuple[str, str]:
    text = (FOLDER / f"{verb}.lua").read_text()
    lines = text.splitlines()
    header = [line for line in lines if line.startswith("--")]
    first_code = next(n for n, line in enumerate(lines) if not line.startswith("--"))
    return "\n".join(header[:first_code]), "\n".join(lines[first_code:])


def words(text: str) -> set[str]:
    """Every name in a text, except fields, comments and strings."""
    code = re.sub(r"--[^\n]*|'[^'\n]*'", "", text)
    return set(re.findall(r"(?<![\w.:])([A-Za-z_]\w*)", code))


def test_there_are_verbs() -> None:
    assert {"enqueue", "claim", "begin", "settle", "release", "reclaim", "cancel"} <= set(VERBS)
    assert set(VERBS) == {path.stem for path in FOLDER.glob("*.lua")}


def test_no_line_is_longer_than_100_characters() -> None:
    for file in FOLDER.rglob("*.lua"):
        assert max(map(len, file.read_text().splitlines())) <= 100, file.name


@pytest.mark.parametrize("verb", VERBS)
def test_a_body_uses_each_argument_of_its_header_and_reads_none_by_number(verb: str) -> None:
    _, body = parts(verb)
    assert set(VERBS[verb].arguments) <= words(body)
    assert not {"KEYS", "ARGV"} & words(body)


@pytest.mark.parametrize("verb", VERBS)
def test_the_header_says_what_it_does_returns_costs_and_why_twice_is_harmless(verb: str) -> None:
    header, _ = parts(verb)
    assert re.match(r"-- [A-Z].*[.?]$", header.splitlines()[0])
    wanted = ["Returns", "Cost:"] + ([] if verb in READ_ONLY else ["Twice:"])
    for word in wanted:
        assert f"-- {word}" in header, word


@pytest.mark.parametrize("verb", sorted(READ_ONLY))
def test_a_verb_that_says_it_changes_nothing_has_no_command_that_could(verb: str) -> None:
    _, body = parts(verb)
    commands = set(re.findall(r"redis\.call\('([A-Z]+)'", body))
    assert commands <= {
        "EXISTS", "GET", "HEXISTS", "HMGET", "HGET", "HGETALL", "ZCARD", "ZCOUNT", "ZRANGE",
        "ZRANGEBYSCORE", "ZSCORE",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ("@keys late:", "late:"),
        ("@arg early hours: ago", "early is of no known kind: hours"),
        ("@arg ids list\n-- @arg id text", "ids is of no known kind: list"),
    ],
)
def test_a_verb_whose_header_is_wrong_is_refused_when_it_is_read(wrong: str, problem: str) -> None:
    with pytest.raises(ValueError, match=rf"wrong\.lua: .*{problem}"):
        scripts.read("wrong", f"-- Goes wrong.\n-- {wrong}\n", {})


def test_a_family_and_a_key_are_named_under_one_hash_tag() -> None:
    keys = Keys("shop")
    assert keys.of("ring") == "{shop}:ring"
    assert keys.of("lane:", "https://a:443") == "{shop}:lane:https://a:443"
    with pytest.raises(KeyError):
        keys.of("rings")


def test_every_verb_has_its_method() -> None:
    from callbacks.batcher.inspector import Inspector, find, overview, survey
    from callbacks.batcher.store import Batcher

    reading = {"where": find, "status": overview, "survey": survey, "place": Inspector.place}
    for verb in VERBS:
        assert callable(reading.get(verb) or getattr(Batcher, verb))


def test_a_verb_brings_along_what_it_calls_and_nothing_else() -> None:
    numbers = (
        "-- One.\nlocal ONE = 1\n\n-- One more.\nlocal function up(n)\n  return n + ONE\nend\n"
    )
    things = """\
local function down(n) return up(n) - 2 end
local Thing = {}
Thing.__index = Thing
function Thing.new() return {n = up(0)} end
function Thing:put() end
"""
    shared = scripts.read_shared([numbers, things])
    assert list(shared) == ["ONE", "up", "down", "Thing"]
    text = scripts.read("down", "-- Not up.\nreturn down(2) -- Thing\n", shared).text
    called = [
        line for line in text.splitlines() if re.match(r"local (function )?(ONE|up|down)", line)
    ]
    assert called == [
        "local ONE = 1",
        "local function up(n)",
        "local function down(n) return up(n) - 2 end",
    ]
    assert "Thing.new" not in text
    assert "function Thing:put" in scripts.read("make", "return Thing.new()\n", shared).text


def test_what_verbs_share_has_a_name_of_its_own() -> None:
    names = [
        name
        for path in (FOLDER / "parts").glob("*.lua")
        for name in re.findall(r"^local (?:function )?(\w+)", path.read_text(), re.MULTILINE)
    ]
    assert len(names) == len(set(names))


def test_all_that_verbs_share_is_used() -> None:
    shared = scripts.read_shared(path.read_text() for path in (FOLDER / "parts").glob("*.lua"))
    unused = [
        name for name, text in shared.items() if not any(text in v.text for v in VERBS.values())
    ]
    assert unused == []


@pytest.mark.parametrize("verb", VERBS)
def test_a_header_names_exactly_the_keys_that_its_body_and_what_it_calls_use(verb: str) -> None:
    used = set(re.findall(r"\bK\.(\w+)", re.sub("--.*", "", VERBS[verb].text)))
    assert used == {field_of(name) for name in VERBS[verb].keys}
