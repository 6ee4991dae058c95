"""The pytest plugin in projects of their own, which find it by its entry point."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.processes import REPO

DOCS = REPO / "docs" / "testing.md"

APP = """
from callbacks import enqueue

def finish(callback_url):
    enqueue(callback_url, {"n": 1}, event="done", id="c-1")
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """An empty project, in which warnings are errors."""
    monkeypatch.setenv("PYTHONPATH", str(REPO))
    pytester.makeini("[pytest]\naddopts = --strict-markers --strict-config -W error\n")
    return pytester


def test_the_examples_in_the_docs_pass(project: pytest.Pytester) -> None:
    blocks = re.findall(
        r"^```python\n# (\S+)\n(.*?)^```$", DOCS.read_text(), re.MULTILINE | re.DOTALL
    )
    assert len(blocks) == DOCS.read_text().count("```python")
    for name, text in blocks:
        Path(project.path / name).write_text(text)
    wanted = sum(
        len(re.findall(r"^ *(?:async )?def test_", text, re.MULTILINE)) for _, text in blocks
    )

    done = project.runpytest_subprocess("-q")

    done.assert_outcomes(passed=wanted)


def test_a_run_that_does_not_use_it_does_not_import_the_package(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import sys

        def test_nothing_is_loaded():
            assert "pytest_callbacks" in sys.modules
            heavy = {"callbacks", "dramatiq", "redis", "requests", "pydantic"}
            assert not heavy & sys.modules.keys()
        """
    )

    project.runpytest_subprocess("-p", "no:xdist").assert_outcomes(passed=1)


def test_it_can_be_switched_off(project: pytest.Pytester) -> None:
    project.makepyfile("def test(callbacks_outbox): pass")

    done = project.runpytest_subprocess("-p", "no:callbacks")

    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*fixture 'callbacks_outbox' not found"])


def test_an_application_without_a_broker_of_its_own_gets_that_of_callbacks(
    project: pytest.Pytester,
) -> None:
    project.makepyfile(
        app=APP
        + """
import dramatiq

@dramatiq.actor
def work(callback_url):
    finish(callback_url)
"""
    )
    project.makepyfile(
        """
        import dramatiq
        import callbacks.runtime
        from callbacks.testing import assert_delivered, deliver_all

        import app

        def test_a_job(callbacks_receiver):
            assert dramatiq.get_broker() is callbacks.runtime.broker
            app.work("https://customer.example/")
            deliver_all()
            assert_delivered("https://customer.example/", event="done", data={"n": 1})

        def test_a_message(callbacks_app):
            app.work.send("https://customer.example/")
            assert callbacks.runtime.runtime().client.llen("callbacks:default") == 1

        def test_the_next_one_is_clean(callbacks_app):
            assert callbacks.runtime.runtime().client.llen("callbacks:default") == 0
        """
    )

    project.runpytest_subprocess().assert_outcomes(passed=3)


def test_an_application_that_sets_its_broker_after_the_fixture_keeps_it(
    project: pytest.Pytester,
) -> None:
    project.makepyfile(
        app="import dramatiq\n"
        "from dramatiq.brokers.stub import StubBroker\n"
        "broker = StubBroker()\n"
        "dramatiq.set_broker(broker)\n"
        "work = dramatiq.actor(lambda url: finish(url), actor_name='work')\n" + APP
    )
    project.makepyfile(
        """
        def test_the_outbox(callbacks_outbox):
            import app
            import dramatiq

            assert dramatiq.get_broker() is app.broker
            app.work("https://customer.example/")
            assert [each.event for each in callbacks_outbox] == ["done"]
        """
    )

    project.runpytest_subprocess().assert_outcomes(passed=1)


def test_each_process_of_xdist_has_its_own_server(project: pytest.Pytester) -> None:
    project.makepyfile(app=APP)
    project.makepyfile(
        """
        from pathlib import Path

        import pytest
        from callbacks.testing import deliver_all

        import app

        @pytest.mark.parametrize("n", range(8))
        def test_one(callbacks_receiver, callbacks_server, worker_id, n):
            app.finish("https://customer.example/")
            assert len(deliver_all()) == 1
            Path(worker_id).write_text(callbacks_server.url)
        """
    )

    project.runpytest_subprocess("-n", "2").assert_outcomes(passed=8)

    urls = [Path(project.path / name).read_text() for name in ("gw0", "gw1")]
    assert urls[0] != urls[1]
    assert not [url for url in urls if Path(url.removeprefix("unix://")).exists()]
