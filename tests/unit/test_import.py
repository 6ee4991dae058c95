"""What `import callbacks` costs an application that only enqueues."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from callbacks.cli import web
from callbacks.cli.main import main

#: Loaded only when used: by workers and the scheduler, for a log line, by a command, by the status
#: page.
LATER = (
    "callbacks.cli", "callbacks.monitor.probes", "callbacks.web", "click", "flask", "flask_wtf",
    "httptools", "limits", "pendulum", "periodiq", "prometheus_client", "requests", "rich",
    "structlog", "waitress",
)  # fmt: skip
SETTINGS = ("pydantic",)
#: Redis is away here; that shows only after everything for an enqueue is loaded.
ENQUEUE = """
try:
    callbacks.enqueue("https://customer.example/hooks", {"n": 1})
except redis.ConnectionError:
    pass
else:
    raise AssertionError
"""


@pytest.mark.parametrize(
    ("then", "later"), [("", LATER + SETTINGS), (ENQUEUE, LATER)], ids=["import", "enqueue"]
)
def test_nothing_is_loaded_that_enqueueing_does_not_need(then: str, later: tuple[str, ...]) -> None:
    code = (
        f"import sys, redis, callbacks\n{then}\nprint([n for n in {later!r} if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"REDIS_URL": "redis://127.0.0.1:1"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "[]\n"


def test_without_its_extra_the_web_process_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = web.find_spec
    monkeypatch.setattr(web, "find_spec", lambda name: None if name == "waitress" else real(name))
    result = CliRunner().invoke(main, ["web"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert (
        result.stderr
        == "callbacks: waitress is not installed; install callbacks with its extra [web]\n"
    )
