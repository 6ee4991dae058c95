"""docs/runbook.md has a section for each alert, each word of health and each check of `doctor`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from callbacks.cli.main import main
from callbacks.monitor.checks import Check, CheckStatus
from callbacks.monitor.health import WORDS, Health
from callbacks.settings import VARIABLES

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs/runbook.md").read_text("utf-8")
ALERTS = (ROOT / "docs/alerts.yml").read_text("utf-8")
METRICS = (ROOT / "docs/metrics.md").read_text("utf-8")
LOGS = (ROOT / "docs/logs.md").read_text("utf-8")
PARTS = ("Means.", "See.", "Do.", "Do not.")
#: What makes a check.
VERDICTS = ("ok", "warning", "failure", "unknown")
#: What cannot be undone.
DESTROYS = ("dead purge", "redis-cli DEL", "FLUSH", "cleanup --expired", "NO ONE")


def slug(title: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def sections(title: str) -> dict[str, str]:
    """The sections under a heading of the second level, by their titles."""
    text = re.split(r"^## ", RUNBOOK.partition(f"\n## {title}\n")[2], flags=re.MULTILINE)[0]
    titles = re.findall(r"^### (.+)$", text, re.MULTILINE)
    assert len(titles) == len(set(titles))
    return dict(zip(titles, re.split(r"^### .+$", text, flags=re.MULTILINE)[1:], strict=True))


SECTIONS = {name: sections(name) for name in ("Alerts", "Health", "Doctor")}
ALL = {title: text for each in SECTIONS.values() for title, text in each.items()}


def part(title: str, name: str) -> str:
    text = ALL[title].partition(f"- **{name}** ")[2]
    return text.partition("\n- **")[0]


def checks() -> Iterator[str]:
    """The names of all checks of `doctor`: the first words given to a verdict."""
    for path in (ROOT / "callbacks/monitor").glob("*_checks.py"):
        tree = ast.parse(path.read_text("utf-8"))
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and ast.unparse(call.func) in VERDICTS:
                assert isinstance(call.args[0], ast.Constant), ast.unparse(call)
                yield str(call.args[0].value)


def spans() -> list[str]:
    return re.findall(r"`([^`\n]+)`", RUNBOOK)


# Complete


def test_every_alert_has_a_section_and_leads_to_it() -> None:
    alerts = re.findall(r"- alert: (\w+)", ALERTS)
    assert list(SECTIONS["Alerts"]) == alerts
    links = re.findall(r"^ {10}runbook_url: (.+)$", ALERTS, re.MULTILINE)
    assert links == [f"docs/runbook.md#{slug(alert)}" for alert in alerts]


@pytest.mark.parametrize("severity", ["page", "ticket"])
def test_a_section_says_whether_its_alert_wakes_somebody(severity: str) -> None:
    for rule in ALERTS.split("- alert: ")[1:]:
        if f"severity: {severity}" in rule:
            told = part(rule.split()[0], "Means.")
            assert told.lower().startswith(severity), rule.split()[0]


def test_every_word_of_health_has_a_section_and_leads_to_it() -> None:
    assert list(SECTIONS["Health"]) == [f"health: {word}" for word in WORDS]
    for word in WORDS:
        assert Health(word).runbook == f"docs/runbook.md#{slug(f'health: {word}')}"


def test_every_check_of_doctor_has_a_section_and_leads_to_it() -> None:
    names = set(checks())
    assert len(names) > 20
    assert set(SECTIONS["Doctor"]) == {f"doctor: {name}" for name in names}
    for name in names:
        check = Check(name, CheckStatus.OK, "")
        assert check.runbook == f"docs/runbook.md#{slug(f'doctor: {name}')}"


@pytest.mark.parametrize("title", ALL)
def test_a_section_says_what_it_means_how_to_see_more_what_to_do_and_what_not(title: str) -> None:
    found = re.findall(r"^- \*\*(.+?)\*\* \S", ALL[title], re.MULTILINE)
    assert tuple(found) == PARTS


# Right


@pytest.mark.parametrize("title", ALL)
def test_nothing_that_destroys_comes_before_something_that_does_not(title: str) -> None:
    see, do = part(title, "See."), part(title, "Do.")
    assert not any(word in see for word in DESTROYS)
    for word in DESTROYS:
        before, found, _ = do.partition(word)
        if found:
            assert re.search(r"[.;] ", before), f"{word} is the first remedy of {title}"
            assert "**Deletes" in do or word == "NO ONE"


def commands() -> list[str]:
    return [span for span in spans() if re.match(r"(CALLBACKS_\w+=\w+ )?callbacks [a-z]", span)]


def test_every_command_exists_with_its_options() -> None:
    assert len(commands()) > 50
    for span in commands():
        command: click.Command = main
        words = span[span.index("callbacks ") :].split()[1:]
        while isinstance(command, click.Group):
            assert words, span
            name = words.pop(0)
            assert name in command.commands, span
            command = command.commands[name]
        options = {option for param in command.params for option in param.opts}
        assert {word for word in words if word.startswith("--")} <= options, span


def test_every_variable_metric_and_event_exists() -> None:
    variables = {name.partition("<")[0] for name in VARIABLES}
    named = set(re.findall(r"\bCALLBACKS_[A-Z_]+\b", RUNBOOK))
    assert named <= variables, named - variables
    metrics = set(re.findall(r"\bcallbacks_[a-z_]+\b", RUNBOOK))
    assert metrics <= set(re.findall(r"callbacks_\w+", METRICS)) | {"callbacks_refused_total"}
    events = {"tick_failed", "watchdog", "no_secret", "redis_lost_data"}
    assert all(f"`{event}`" in RUNBOOK and f"| `{event}` |" in LOGS for event in events)


def test_every_link_leads_to_a_section_or_a_file() -> None:
    links = re.findall(r"\]\(([^)]+)\)", RUNBOOK)
    anchors = {f"#{slug(title)}" for title in re.findall(r"^#+ (.+)$", RUNBOOK, re.MULTILINE)}
    assert links
    for link in links:
        assert link in anchors or (ROOT / "docs" / link).is_file(), link


def test_the_readme_leads_to_the_runbook() -> None:
    assert "docs/runbook.md" in (ROOT / "README.md").read_text("utf-8")
