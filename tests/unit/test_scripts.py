"""The header of each Lua file is its interface: it has to say what the body does."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import pytest

from callbacks.batcher import scripts
from callbacks.batcher.keys import NAMES, Keys
from callbacks.batcher.scripts import VERBS

FOLDER = Path(str(resources.files("callbacks.batcher") / "lua"))
FUNCTION = re.compile(r"^(?:local )?function (?:\w+[.:])?(\w+)\(.*?^end$", re.MULTILINE | re.DOTALL)
READ_ONLY = {"demand", "look", "place", "status", "where"}


def parts(verb: str) -> tuple[str, str]:
    text = (FOLDER / f"{verb}.lua").read_text()
    lines = text.splitlines()
    header = [line for line in lines if line.startswith("--")]
    first_code = next(n for n, line in enumerate(lines) if not line.startswith("--"))
    return "\n".join(header[:first_code]), "\n".join(lines[first_code:])


def numbers(kind: str, text: str) -> set[int]:
    return {int(n) for n in re.findall(rf"{kind}\[(\d+)\]", text)}


def test_there_are_verbs() -> None:
    assert {"enqueue", "claim", "begin", "settle", "release", "reclaim", "cancel"} <= set(VERBS)
    assert set(VERBS) == {path.stem for path in FOLDER.glob("*.lua")}


@pytest.mark.parametrize("verb", VERBS)
def test_the_header_names_exactly_the_keys_and_arguments_that_the_body_uses(verb: str) -> None:
    header, body = parts(verb)
    for kind in ("KEYS", "ARGV"):
        used = numbers(kind, body)
        if f"#{kind}" in body:  # the rest of the list
            used.add(max(numbers(kind, header)))
        assert used == numbers(kind, header), kind


@pytest.mark.parametrize("verb", VERBS)
def test_every_key_in_a_header_is_in_the_table_of_keys(verb: str) -> None:
    assert set(VERBS[verb].keys) <= NAMES


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


@pytest.mark.parametrize("wrong", ["KEYS[2] late:", "ARGV[0] early", "@uses nothing"])
def test_a_verb_whose_header_is_wrong_is_refused_when_it_is_read(wrong: str) -> None:
    with pytest.raises((ValueError, KeyError), match=r"wrong\.lua|nothing"):
        scripts._read("wrong", f"-- Goes wrong.\n-- {wrong}\n", {"common": ""})


def test_a_family_and_a_key_are_named_under_one_hash_tag() -> None:
    keys = Keys("shop")
    assert keys.of("ring") == "{shop}:ring"
    assert keys.of("lane:", "https://a:443") == "{shop}:lane:https://a:443"
    with pytest.raises(KeyError):
        keys.of("rings")


def test_every_verb_has_its_method() -> None:
    from callbacks.batcher.inspector import Inspector, find, overview
    from callbacks.batcher.store import Batcher

    reading = {"where": find, "status": overview, "place": Inspector.place}
    for verb in VERBS:
        assert callable(reading.get(verb) or getattr(Batcher, verb))


def functions() -> dict[str, str]:
    """The body of each function in `lua/parts`, by its name."""
    found: dict[str, str] = {}
    for path in (FOLDER / "parts").glob("*.lua"):
        text = path.read_text()
        for match in FUNCTION.finditer(text):
            found[match[1]] = match[0]
    return found


def needed(text: str, known: dict[str, str], seen: set[str]) -> set[str]:
    """Every entry of K that a text uses, by itself and by what it calls."""
    keys = set(re.findall(r"\bK\.(\w+)", text))
    for name in set(re.findall(r"[\s.:(](\w+)\(", text)) & known.keys() - seen:
        seen.add(name)
        keys |= needed(known[name], known, seen)
    return keys


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_has_every_key_that_the_functions_it_calls_need(verb: str) -> None:
    _, body = parts(verb)
    made = re.search(r"local K = \{(.*?)\}", body, re.DOTALL)
    given = set(re.findall(r"(\w+) = KEYS", made[1])) if made else set()
    assert needed(body, functions(), set()) <= given
