"""README.md describes every variable, command, option, state, outcome and reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from callbacks.cli.main import main
from callbacks.model import Outcome, Reason, State
from callbacks.monitor.health import WORDS
from callbacks.policy.flush import FlushReason
from callbacks.settings import VARIABLES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")

# Placeholders for other names, see `settings`.
NO_FIELD = {"REDIS_URL", "CALLBACKS_SECRET_<ENVIRONMENT>"}


def section(title: str) -> str:
    """The text under a heading, up to the next one of the same or a higher level."""
    found = re.search(rf"^(#+) {re.escape(title)}$", README, re.MULTILINE)
    assert found, f"README.md has no section {title!r}"
    rest = README[found.end() :]
    following = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: following.start()] if following else rest


def rows(title: str) -> Iterator[list[str]]:
    """The rows of the tables in a section whose first cell is code, cell by cell."""
    for line in section(title).splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def first_cells(title: str) -> list[str]:
    return [row[0].strip("`") for row in rows(title)]


def commands(
    group: click.Group, before: tuple[str, ...] = ()
) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        path = (*before, name)
        if isinstance(command, click.Group):
            yield from commands(command, path)
        else:
            yield " ".join(path), command


COMMANDS = dict(commands(main))


def command_row(path: str) -> list[str]:
    pattern = re.compile(rf"`callbacks {re.escape(path)}(?: [A-Z\[\]]+)?`")
    found = [row for row in rows("Commands") if pattern.fullmatch(row[0])]
    assert len(found) == 1, f"`callbacks {path}` has {len(found)} rows"
    return found[0]


def options(command: click.Command) -> set[str]:
    """The long names of a command's own options; common ones are described before the table."""
    named = (opt for param in command.params for opt in param.opts if opt.startswith("--"))
    return set(named) - {"--json"}


def test_the_settings_have_every_variable_once_with_its_default() -> None:
    shown = [(row[0].strip("`"), row[1].strip("`")) for row in rows("Settings")]

    assert sorted(shown) == sorted((name, known.default) for name, known in VARIABLES.items())


def test_a_variable_is_marked_as_not_yet_in_effect_where_nothing_reads_it() -> None:
    code = "".join(path.read_text("utf-8") for path in (ROOT / "callbacks").rglob("*.py"))
    fields = {name: name.removeprefix("CALLBACKS_").lower() for name in VARIABLES.keys() - NO_FIELD}
    unread = {name for name, field in fields.items() if not re.search(rf"\.{field}\b", code)}

    assert {row[0].strip("`") for row in rows("Settings") if "*not yet*" in row[2]} == unread


@pytest.mark.parametrize("path", COMMANDS)
def test_each_command_has_a_row_with_all_its_options(path: str) -> None:
    row = command_row(path)

    assert row[1]
    assert set(re.findall(r"--[a-z-]+", row[2])) == options(COMMANDS[path])


def test_no_command_is_described_that_does_not_exist() -> None:
    cells = [cell for cell in first_cells("Commands") if cell not in WORDS]
    told = {re.sub(r" [A-Z\[\]]+$", "", cell) for cell in cells}

    assert told == {f"callbacks {path}" for path in COMMANDS}


@pytest.mark.parametrize("path", COMMANDS)
def test_each_command_takes_json_as_described(path: str) -> None:
    assert "Every command takes `--json`" in section("Commands")
    assert any("--json" in param.opts for param in COMMANDS[path].params)


def test_every_state_has_a_row() -> None:
    assert first_cells("States") == [state.value for state in State]


def test_every_outcome_has_a_row() -> None:
    assert first_cells("Outcomes") == [outcome.value for outcome in Outcome]


def test_every_reason_has_a_row() -> None:
    assert first_cells("Reasons") == [reason.value for reason in Reason]


def test_every_word_for_health_has_a_row() -> None:
    assert [cell for cell in first_cells("Commands") if cell in WORDS] == list(WORDS)


def test_every_reason_to_flush_is_described() -> None:
    listed = re.findall(r"^- `(\w+)`", section("Batches and pace"), re.MULTILINE)

    assert listed == [reason.value for reason in FlushReason]


def test_the_python_examples_compile() -> None:
    examples = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)

    assert len(examples) >= 2
    for number, example in enumerate(examples, start=1):
        compile(example, f"README.md, Python example {number}", "exec")


def test_every_link_to_a_file_leads_to_one() -> None:
    files = re.findall(r"\]\((?!https?://|#)([^)]+)\)", README)

    assert files
    assert [name for name in files if not (ROOT / name).is_file()] == []
