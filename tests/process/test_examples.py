"""The applications in docs/examples: from a request to start a job to the callback at its end."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from callbacks.testing import EmbeddedServer
from tests.support.processes import REPO, Group, clean_environment, refusals, until, worker
from tests.support.server import free_port

EXAMPLES = REPO / "docs" / "examples"
SECRET, OTHER = (f"whsec_{base64.b64encode(byte * 32).decode()}" for byte in (b"s", b"o"))

#: Runs a module by its name, as `python -m`.
RUN = "import runpy, sys; del sys.argv[0]; runpy.run_module(sys.argv[0], None, '__main__')"
#: The command that serves each, with its port to be added.
APPLICATIONS = {
    "flask_app": ["flask", "--app", "flask_app", "run", "--port"],
    "fastapi_app": ["uvicorn", "fastapi_app:app", "--port"],
    "django_app": ["django", "runserver", "--noreload"],
}


@pytest.fixture(scope="module")
def environ() -> Iterator[dict[str, str]]:
    with EmbeddedServer() as server:
        yield clean_environment(
            REDIS_URL=server.url,
            CALLBACKS_SECRET=SECRET,
            CALLBACKS_ALLOWED_NETWORKS="127.0.0.0/8",
            CALLBACKS_CHECK_INTERVAL="0.2",
            DJANGO_SETTINGS_MODULE="django_app",
        ) | {"PYTHONPATH": os.pathsep.join([str(EXAMPLES), str(REPO)])}


def ask(url: str, *, data: bytes | None = None, headers: dict[str, str] | None = None) -> Any:
    request = urllib.request.Request(url, data=data, headers=headers or {})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.loads(answer.read() or "null")


def answers(url: str) -> bool:
    try:
        ask(url)
    except (urllib.error.URLError, ConnectionError):
        return False
    return True


def worker_of(name: str) -> list[str]:
    """The command in an example's first lines that starts its worker."""
    (found,) = re.findall(r"^ +(dramatiq .+)$", (EXAMPLES / f"{name}.py").read_text(), re.MULTILINE)
    return shlex.split(found)


@pytest.mark.parametrize("name", APPLICATIONS)
def test_the_end_of_a_job_is_told_to_its_customer(
    name: str, environ: dict[str, str], tmp_path: Path
) -> None:
    environ = environ | {"CALLBACKS_NAMESPACE": name.partition("_")[0]}
    port = free_port()
    address = f"127.0.0.1:{port}"
    last = address if name == "django_app" else str(port)
    with ExitStack() as stack:
        application = Group(RUN, [*APPLICATIONS[name], last], environ, tmp_path / "application.log")
        started = Group(RUN, worker_of(name), environ, tmp_path / "worker.log")
        for group in (application, started):
            stack.callback(lambda group=group: sys.stdout.write(group.output))  # if the test fails
            stack.callback(group.kill)
        until(lambda: answers(f"http://{address}/received"), within=30)
        query = f"text=hello&callback_url=http://{address}/hooks"
        job = ask(f"http://{address}/jobs?{query}", data=b"")["job"]
        until(lambda: ask(f"http://{address}/received"), within=30)
        received = ask(f"http://{address}/received")
        forged = {"webhook-id": "x", "webhook-timestamp": "1", "webhook-signature": "v1,x"}
        with pytest.raises(urllib.error.HTTPError, match="401"):
            ask(f"http://{address}/hooks", data=b"{}", headers=forged)
        until(lambda: " event=attempt " in started.output, within=30)
        (waited_ms,) = re.findall(r" event=attempt .* waited_ms=(\d+)", started.output)

    assert int(waited_ms) < 5_000  # the worker, too, has the MAX_DELAY that the example sets
    assert received.keys() == {job}
    assert (received[job]["type"], received[job]["data"]) == (
        "job.done",
        {"job": job, "text": "HELLO"},
    )


# Django


def manage(environ: dict[str, str], *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "django", *words],
        env=environ | more,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_runs_with_the_projects_settings(environ: dict[str, str]) -> None:
    done = manage(environ, "callbacks", "status", "--json", "--settings=django_app")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["queued"] == 0
    done = manage(environ, "callbacks", "show", "unknown")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("callbacks: unknown is unknown")
    assert manage(environ, "callbacks", "nonsense").returncode == 2


def run(code: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


CHECKS = """
import django
from django.core.checks import run_checks
from django.test import override_settings

django.setup()
for given in ({}, {"SECRET": None}, [1], {"BATCH_SISE": 1}, {"SECRET_RESOLVER": "nowhere:find"}):
    with override_settings(CALLBACKS=given):
        print(*(f"{found.id} {found.msg}" for found in run_checks()), sep="; ")
"""


def test_the_check_names_what_is_wrong(environ: dict[str, str]) -> None:
    more = {"CALLBACKS_SECRET": "", "CALLBACKS_BATCH_SISE": "3"}
    done = run(CHECKS, environ | more)

    cautions = (
        "callbacks.W001 Callbacks are not signed.; "
        "callbacks.W002 CALLBACKS_BATCH_SISE is not a setting of callbacks; "
        "did you mean CALLBACKS_BATCH_SIZE?"
    )
    assert done.stdout.splitlines() == [
        cautions,
        cautions,
        "callbacks.E001 settings.CALLBACKS is of type list; expected a dict",
        "callbacks.E001 batch_sise is not a setting of callbacks; did you mean batch_size?",
        (
            "callbacks.E002 nowhere:find cannot be loaded: ModuleNotFoundError: No module named "
            f"'nowhere'; {cautions.partition('; ')[2]}"
        ),
    ]


@pytest.fixture
def bad(environ: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The environment of a project with a bad setting."""
    text = "from django_app import *\nCALLBACKS = {'BATCH_SIZE': 0}\n"
    (tmp_path / "bad_settings.py").write_text(text)
    paths = os.pathsep.join([str(tmp_path), environ["PYTHONPATH"]])
    return environ | {"DJANGO_SETTINGS_MODULE": "bad_settings", "PYTHONPATH": paths}


def test_a_project_with_a_bad_setting_fails_its_check(bad: dict[str, str]) -> None:
    done = manage(bad, "check")

    assert done.returncode == 1
    assert "(callbacks.E001) batch_size is 0, expected a whole number from 1 to" in done.stderr


def test_a_project_with_a_bad_setting_enqueues_nothing_and_follows_overrides(
    bad: dict[str, str],
) -> None:
    code = """
import callbacks, django
from django.core.management import call_command
from django.test import override_settings

django.setup()
try:
    callbacks.enqueue("https://customer.example/", {})
except callbacks.SettingsError as error:
    print(error)
with override_settings(CALLBACKS={"BATCH_SIZE": 7}):
    print(callbacks.runtime.runtime().settings.batch_size)
    call_command("callbacks", "cancel", "unknown")
"""
    done = run(code, bad)

    first, second = done.stdout.splitlines()
    assert first.startswith("batch_size is 0, expected")
    assert second == "7"
    assert "CommandError: unknown is unknown" in done.stderr


# A worker


def test_a_worker_uses_what_its_modules_set_in_code(
    environ: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "tasks.py").write_text("import callbacks\ncallbacks.configure(log_format='json')\n")
    given = environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(REPO)])}
    given["CALLBACKS_BATCH_SISE"] = "1"  # which a worker warns of, once it has its settings
    with ExitStack() as stack:
        group = worker(given, tmp_path, processes=1, threads=1, modules=["tasks"])
        stack.callback(group.kill)
        until(lambda: '"event": "unknown_setting"' in group.output, within=30)


def test_a_worker_whose_modules_set_a_bad_value_ends_with_one_line(
    environ: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "tasks.py").write_text("import callbacks\ncallbacks.configure(batch_size=0)\n")
    given = environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(REPO)])}
    with ExitStack() as stack:
        group = worker(given, tmp_path, processes=1, threads=1, modules=["tasks"])
        stack.callback(group.kill)
        assert group.wait(60) == 1

    assert refusals(group.output) == [
        "callbacks: batch_size is 0, expected a whole number from 1 to 1000"
    ]
    assert "Traceback" not in group.output


# Node


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with receiver.mjs and what it needs."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("there is no Node: docs/examples/receiver.mjs is not tried")
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "receiver.mjs"):
        shutil.copy(EXAMPLES / name, folder)
    done = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund"],
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"npm cannot install standardwebhooks: {done.stderr[-300:]}")
    return folder


def test_a_receiver_in_node_verifies_it(node_modules: Path, environ: dict[str, str]) -> None:
    port = free_port()
    with subprocess.Popen(
        ["node", "receiver.mjs", str(port)],
        cwd=node_modules, env=environ, stdout=subprocess.PIPE, text=True,
    ) as node:  # fmt: skip
        try:
            url = f"http://127.0.0.1:{port}/hooks"
            until(lambda: reaches(url), within=20)
            sent = send(environ, url)
            forged = send(environ | {"CALLBACKS_SECRET": OTHER}, url)
        finally:
            node.send_signal(signal.SIGTERM)
        assert node.stdout
        lines = node.stdout.read().splitlines()

    assert (sent["status"], forged["status"]) == (204, 401)
    (line,) = lines
    assert line.split()[1] == "ping"


def reaches(url: str) -> bool:
    try:
        ask(url)
    except urllib.error.HTTPError:
        return True
    except (urllib.error.URLError, ConnectionError):
        return False
    return True


def send(environ: dict[str, str], url: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "callbacks", "send", url, "--json"],
        env=environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return json.loads(done.stdout)
