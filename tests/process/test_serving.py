"""A worker that cannot do its job exits, with one line that says why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.process.conftest import System
from tests.process.test_doctor import examine
from tests.support.processes import Group, refusals, until
from tests.support.target import Target

OWN_BROKER = """
import dramatiq
from dramatiq.brokers.stub import StubBroker
broker = StubBroker()
dramatiq.set_broker(broker)
@dramatiq.actor
def mourn(callback_id, reason): pass
"""
VAULT = """
import os
def secrets(url, environment):
    if not os.path.exists(os.environ["OPEN"]): raise OSError("the vault is closed")
    return ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
"""
MODULES = {
    "door": VAULT,
    "yourbroker": OWN_BROKER,
    "youruser": OWN_BROKER + "import callbacks\n",
    "vault": "import no_such_module\n",
    "keys": "secrets = 7\ndef short(url): return []\ndef right(url, environment): return []\n",
    "tasks": "import dramatiq\n@dramatiq.actor\ndef mourn(callback_id, reason): pass\n",
}


@pytest.fixture(autouse=True)
def written(tmp_path: Path) -> None:
    """Modules of an application, in the folder of its processes."""
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)


def refusal(group: Group) -> str:
    """Wait until it has failed; return our one line."""
    assert group.wait(30) == 1
    assert "Traceback" not in group.output
    assert "ready for action" not in group.output
    (line,) = refusals(group.output)
    return line


@pytest.mark.parametrize(
    ("resolver", "told"),
    [
        ("valut:secrets", "valut:secrets cannot be loaded: ModuleNotFoundError: No module named"),
        ("vault:secrets", "vault:secrets cannot be loaded: ModuleNotFoundError: No module named"),
        ("keys:secret", "keys:secret cannot be loaded: AttributeError: module 'keys' has no"),
        ("keys:secrets", "keys:secrets is not a function"),
        ("keys:short", "keys:short does not take (callback_url, environment)"),
    ],
)
def test_a_resolver_that_cannot_be_called_is_refused_by_name(
    system: System, resolver: str, told: str
) -> None:
    worker = system.groups.worker(processes=1, CALLBACKS_SECRET_RESOLVER=resolver)
    assert refusal(worker).startswith(f"callbacks: CALLBACKS_SECRET_RESOLVER: {told}")


@pytest.mark.parametrize(
    ("modules", "told"),
    [
        ([], "no actor 'mourn' here; start the workers with the module that has it"),
        (["yourbroker"], "actor 'mourn' is on another broker than the one served here"),
    ],
)
def test_an_actor_for_the_dead_that_would_not_hear_is_refused_by_name(
    system: System, modules: list[str], told: str
) -> None:
    worker = system.groups.worker(processes=1, modules=modules, CALLBACKS_ON_DEAD="mourn")
    assert refusal(worker).startswith(f"callbacks: CALLBACKS_ON_DEAD: {told}")


@pytest.mark.parametrize(
    "modules",
    [
        ["yourbroker", "callbacks"],
        ["yourbroker:broker", "callbacks"],
        ["youruser", "callbacks"],
        ["tasks", "callbacks"],  # Dramatiq has made its own broker for this actor
    ],
)
def test_a_worker_that_serves_another_broker_instead_of_ours_says_what_to_run(
    system: System, modules: list[str]
) -> None:
    line = refusal(system.groups.dramatiq(*modules))
    assert f"dramatiq serves the broker of '{modules[0]}', which has none of our actors" in line
    assert "run `dramatiq callbacks` by itself" in line


@pytest.mark.parametrize("module", ["yourbroker", "youruser"])
def test_an_application_may_serve_its_own_broker_and_enqueue(system: System, module: str) -> None:
    worker = system.groups.dramatiq(module)
    until(lambda: "ready for action" in worker.output, within=30)


def test_with_what_its_settings_name_a_worker_starts(system: System) -> None:
    named = {"CALLBACKS_ON_DEAD": "mourn", "CALLBACKS_SECRET_RESOLVER": "keys:right"}
    worker = system.groups.worker(processes=1, modules=["tasks"], **named)
    until(lambda: system.overview().ticked_ms is not None, within=30)
    assert worker.process.poll() is None


def test_while_the_resolver_fails_all_waits_at_no_cost_and_goes_out_when_it_answers(
    system: System, enqueue: Callable[..., None], tmp_path: Path
) -> None:
    system.configure(max_delay=0.2, check_interval=0.5, send_interval=0, destination_interval=0)
    door = {"CALLBACKS_SECRET_RESOLVER": "door:secrets", "OPEN": str(tmp_path / "open")}
    with Target() as target:
        worker = system.groups.worker(processes=1, **door)
        enqueue(target.url, 20)
        until(lambda: worker.output.count("event=no_secret") >= 5, within=40)
        system.groups.env |= door
        check = examine(system)["secrets"]
        assert check["verdict"] == "failure"
        assert "callbacks for 1 destination wait: door:secrets raised OSError" in check["found"]
        assert system.overview().queued + system.overview().processing == 20
        assert not target.hits
        (tmp_path / "open").touch()
        until(system.settled, within=60)
        assert {hit.headers["webhook-attempt"] for hit in target.hits} == {"1"}
    totals = system.overview().totals
    assert (totals["sent"], totals["attempts"]) == (20, 20)
    assert (totals["dead"], totals["retried"], totals["throttled"]) == (0, 0, 0)
    assert system.audit() == []
