"""The reference describes every variable, command, option, state, reason and public name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from types import ModuleType

import click
import pytest

import callbacks
from callbacks import admin, outbox, testing
from callbacks.cli.main import main
from callbacks.model import Outcome, Reason, State
from callbacks.monitor.health import WORDS
from callbacks.policy.flush import FlushReason
from callbacks.settings import VARIABLES
from tests.support.pages import first_cells, read, rows, section
from tests.support.processes import REPO

SETTINGS, COMMANDS_PAGE, STATES = read("settings"), read("commands"), read("states")

# Placeholders for other names, see `settings`.
NO_FIELD = {"REDIS_URL", "CALLBACKS_SECRET_<ENVIRONMENT>"}


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
    found = [row for row in rows(COMMANDS_PAGE) if pattern.fullmatch(row[0])]
    assert len(found) == 1, f"`callbacks {path}` has {len(found)} rows"
    return found[0]


def options(command: click.Command) -> set[str]:
    """The long names of a command's own options; common ones are described before the table."""
    named = (opt for param in command.params for opt in param.opts if opt.startswith("--"))
    return set(named) - {"--json"}


def test_the_settings_have_every_variable_once_with_its_default() -> None:
    shown = [(row[0].strip("`"), row[1].strip("`")) for row in rows(SETTINGS)]

    assert sorted(shown) == sorted((name, known.default) for name, known in VARIABLES.items())


def test_a_variable_is_marked_as_not_yet_in_effect_where_nothing_reads_it() -> None:
    code = "".join(path.read_text("utf-8") for path in (REPO / "callbacks").rglob("*.py"))
    fields = {name: name.removeprefix("CALLBACKS_").lower() for name in VARIABLES.keys() - NO_FIELD}
    unread = {name for name, field in fields.items() if not re.search(rf"\.{field}\b", code)}

    assert {row[0].strip("`") for row in rows(SETTINGS) if "*not yet*" in row[2]} == unread


@pytest.mark.parametrize("path", COMMANDS)
def test_each_command_has_a_row_with_all_its_options(path: str) -> None:
    row = command_row(path)

    assert row[1]
    assert set(re.findall(r"--[a-z-]+", row[2])) == options(COMMANDS[path])


def test_no_command_is_described_that_does_not_exist() -> None:
    cells = [cell for cell in first_cells(COMMANDS_PAGE) if cell not in WORDS]
    told = {re.sub(r" [A-Z\[\]]+$", "", cell) for cell in cells}

    assert told == {f"callbacks {path}" for path in COMMANDS}


@pytest.mark.parametrize("path", COMMANDS)
def test_each_command_takes_json_as_described(path: str) -> None:
    assert "Every command takes `--json`" in COMMANDS_PAGE
    assert any("--json" in param.opts for param in COMMANDS[path].params)


def test_every_state_has_a_row() -> None:
    assert first_cells(section(STATES, "States")) == [state.value for state in State]


def test_every_outcome_has_a_row() -> None:
    assert first_cells(section(STATES, "Outcomes")) == [outcome.value for outcome in Outcome]


def test_every_reason_has_a_row() -> None:
    assert first_cells(section(STATES, "Reasons")) == [reason.value for reason in Reason]


def test_every_word_for_health_has_a_row() -> None:
    assert [cell for cell in first_cells(COMMANDS_PAGE) if cell in WORDS] == list(WORDS)


def test_every_reason_to_flush_is_described() -> None:
    listed = re.findall(r"^- `(\w+)`", read("pace"), re.MULTILINE)

    assert listed == [reason.value for reason in FlushReason]


@pytest.mark.parametrize("module", [callbacks, admin, outbox, testing], ids=lambda m: m.__name__)
def test_every_public_name_is_on_the_page_of_the_api(module: ModuleType) -> None:
    page = read("python")
    told = set(re.findall(r"^\.\. auto\w+:: (\S+)$", page, re.MULTILINE))
    told |= {f"callbacks.{name}" for name in first_cells(section(page, "Actors"))}
    told |= set(re.findall(r"^`(callbacks\.__version__)`", page, re.MULTILINE))
    of_it = {name for name in told if name.rpartition(".")[0] == module.__name__}

    assert of_it == {f"{module.__name__}.{name}" for name in module.__all__}


def test_every_parameter_of_enqueue_has_a_row() -> None:
    shown = first_cells(section(read("sending"), "Parameters"))

    assert shown == list(inspect.signature(callbacks.enqueue).parameters)
