"""docs/logs.md has every event that the package logs, at its levels and with its fields."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
#: What `log.py` itself writes, without a call of the logger.
OTHERS = {"library": {"logger", "pid", "message", "exception"}, "stderr": {"text"}}


def logged() -> dict[str, tuple[set[str], set[str]]]:
    """The levels and fields of each event, from the calls in the code."""
    found: dict[str, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    for path in (ROOT / "callbacks").rglob("*.py"):
        if path.parts[-2] == "demo":
            continue
        for call in ast.walk(ast.parse(path.read_text())):
            if not isinstance(call, ast.Call):
                continue
            written = ast.unparse(call.func)
            level = written.rpartition(".")[2]
            if re.fullmatch(r"(logs\.)?log\.\w+", written) and level in LEVELS:
                levels = {level}
            elif written == "write":  # chosen among two
                levels = {"info", "warning"}
            else:
                continue
            if not (call.args and isinstance(call.args[0], ast.Constant)):
                continue
            event = found[call.args[0].value]
            event[0].update(levels)
            names = {word.arg or "" for word in call.keywords}
            event[1].update("exception" if name == "exc_info" else name for name in names)
    return found


def told() -> dict[str, tuple[set[str], set[str]]]:
    """The same from the tables of the page."""
    rows = re.findall(
        r"^\| `(\w+)` \| ([\w, ]+) \|[^|]+\| ([^|]*) \|$",
        (ROOT / "docs/logs.md").read_text(),
        re.MULTILINE,
    )
    return {
        event: ({level.strip() for level in levels.split(",")}, set(re.findall(r"`(\w+)`", fields)))
        for event, levels, fields in rows
    }


def test_the_page_has_every_event_with_its_fields() -> None:
    code, page = logged(), told()
    assert len(code) > 20
    assert {name: fields for name, (_, fields) in code.items()} | OTHERS == {
        name: fields for name, (_, fields) in page.items()
    }


def test_the_page_has_the_levels_of_each_event() -> None:
    page = told()
    assert {name: levels for name, (levels, _) in logged().items()} == {
        name: levels for name, (levels, _) in page.items() if name not in OTHERS
    }


def test_an_event_is_one_word_in_snake_case() -> None:
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", event) for event in logged())
