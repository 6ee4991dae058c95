"""The watchdog with real workers: it ends one that hangs, not one that only waits for Redis."""

from __future__ import annotations

import time
from pathlib import Path

from tests.process.conftest import System
from tests.process.faults import BOTH_KINDS, Enqueue, sooner
from tests.support.processes import until
from tests.support.target import Target

FAST = {"max_delay": 0.2, "check_interval": 0.5, "min_interval": 0.05, "deadline": 1}
IMPATIENT = (
    "from callbacks.worker import watchdog\nwatchdog.PATIENCE_S = watchdog.CONFIRM_S = 1.0\n"
)
SOFTWARE = 70


@BOTH_KINDS
def test_a_worker_whose_consumer_died_ends_while_work_is_due(
    system: System, enqueue: Enqueue, tmp_path: Path
) -> None:
    (tmp_path / "sick.py").write_text(
        IMPATIENT + "from callbacks.worker.consumer import Consumer\n"
        "def die(self):\n"
        "    if self.queue_name == 'callbacks': raise SystemExit\n"
        "    return living(self)\n"
        "living, Consumer.__next__ = Consumer.__next__, die\n"
    )
    system.configure(**FAST)
    with Target() as target:
        sick = system.groups.worker(processes=1, modules=["sick"])
        until(lambda: "ready for action" in sick.output, within=20)
        time.sleep(5)
        assert sick.process.poll() is None, "nothing was due"
        enqueue(target.url, 3)
        assert sick.wait(30) == SOFTWARE
        assert "consumer of callbacks for" in sick.output
        system.groups.worker(processes=1)  # as the supervisor would
        until(lambda: len(target.counts()) == 3, within=20)
    until(system.settled, within=10)
    assert system.audit() == []


@BOTH_KINDS
def test_a_worker_whose_threads_all_hang_ends(
    system: System, enqueue: Enqueue, tmp_path: Path
) -> None:
    (tmp_path / "stuck.py").write_text(
        IMPATIENT + "import time\n"
        "from callbacks.delivery.transport import Transport\n"
        "Transport.post = lambda *_, **__: time.sleep(3600)\n"
    )
    system.configure(**FAST, destination_concurrency=0, destination_interval=0, send_interval=0)
    with Target() as target:
        enqueue(target.url, 10)
        stuck = system.groups.worker(processes=1, threads=2, modules=["stuck"])
        assert stuck.wait(40) == SOFTWARE
        assert "messages for" in stuck.output
        system.groups.worker(processes=1, modules=[sooner(tmp_path)])
        until(lambda: len(target.counts()) == 10, within=45)
    until(system.settled, within=10)
    assert system.audit() == []


@BOTH_KINDS
def test_a_secret_resolver_that_hangs_holds_up_no_thread_and_costs_no_crash(
    system: System, enqueue: Enqueue, tmp_path: Path
) -> None:
    (tmp_path / "vault.py").write_text(
        "import os, time\n"
        "def secrets(url, environment):\n"
        "    if not os.path.exists(os.environ['OPEN']): time.sleep(3600)\n"
        "    return ['whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw']\n"
    )
    system.configure(**FAST, retry_increment=0.3)
    resolver = {"CALLBACKS_SECRET_RESOLVER": "vault:secrets", "OPEN": str(tmp_path / "open")}
    with Target() as target:
        worker = system.groups.worker(processes=1, threads=2, modules=["vault"], **resolver)
        enqueue(target.url, 1)
        until(lambda: worker.output.count("event=no_secret") >= 2, within=20)
        assert not target.hits
        (tmp_path / "open").touch()
        enqueue(target.url + "2", 1, start=1)  # the call of the first one hangs for ever
        until(lambda: len(target.counts()) == 1, within=20)
    assert system.overview().totals["recovered"] == 0


@BOTH_KINDS
def test_a_worker_whose_redis_is_away_stays_and_goes_on(
    system: System, enqueue: Enqueue, tmp_path: Path
) -> None:
    # Dramatiq starts a consumer again 3 s after an error.
    (tmp_path / "impatient.py").write_text(IMPATIENT + "watchdog.CONFIRM_S = 5.0\n")
    system.configure(**FAST, send_interval=0.1, redis_timeout=0.5)
    with Target() as target:
        worker = system.groups.worker(modules=["impatient"])
        enqueue(target.url, 50)
        until(lambda: len(target.hits) >= 10, within=20)
        system.server.kill()
        time.sleep(10)
        system.server.start()
        until(lambda: len(target.counts()) == 50, within=30)
        until(system.settled, within=10)
        assert worker.process.poll() is None
    assert system.audit() == []
