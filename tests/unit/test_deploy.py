"""What starts our processes elsewhere starts them as the Procfile does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROCFILE = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
KUBERNETES = (ROOT / "docs/deploy/kubernetes.yaml").read_text()
COMPOSE = (ROOT / "compose.yaml").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
#: The longest that a worker takes to end: `--worker-shutdown-timeout` counts twice.
WORKER_ENDS_S = 2 * int(re.findall(r"--worker-shutdown-timeout (\d+)", PROCFILE["worker"])[0]) / 1e3


def unit(name: str) -> str:
    return (ROOT / f"docs/deploy/callbacks-{name}.service").read_text()


def test_the_image_runs_the_worker() -> None:
    (command,) = re.findall(r"^CMD (\[.+\])$", DOCKERFILE, re.MULTILINE)
    assert " ".join(json.loads(command)) == PROCFILE["worker"]


@pytest.mark.parametrize("text", [KUBERNETES, COMPOSE], ids=["kubernetes", "compose"])
def test_containers_run_the_other_processes(text: str) -> None:
    commands = re.findall(r"^ +command: \[(.+)\]$", text, re.MULTILINE)
    ours = [command.replace(",", "") for command in commands if "callbacks" in command]
    assert ours == [PROCFILE["scheduler"], PROCFILE["web"]]


@pytest.mark.parametrize("name", ["worker", "scheduler", "web"])
def test_the_units_run_each_process(name: str) -> None:
    (command,) = re.findall(r"^ExecStart=/opt/callbacks/venv/bin/(.+)$", unit(name), re.MULTILINE)
    assert command.removesuffix(" --port 8000") == PROCFILE[name]


@pytest.mark.parametrize(
    ("text", "pattern", "times"),
    [
        (KUBERNETES, r"terminationGracePeriodSeconds: (\d+)", 2),
        (COMPOSE, r"stop_grace_period: (\d+)s", 1),
        (unit("worker"), r"TimeoutStopSec=(\d+)", 1),
    ],
    ids=["kubernetes", "compose", "systemd"],
)
def test_a_worker_has_the_time_to_end(text: str, pattern: str, times: int) -> None:
    found = re.findall(pattern, text)
    assert len(found) == times
    assert all(int(seconds) > WORKER_ENDS_S for seconds in found)


def test_all_files_of_the_image_exist() -> None:
    (copied,) = re.findall(r"^COPY (.+) \./$", DOCKERFILE, re.MULTILINE)
    named = [*copied.split(), "callbacks"]
    assert all((ROOT / name).exists() for name in named)
    passed = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert sorted(passed) == sorted(named)
