"""A primary is cut off together with its clients, and demoted when it comes back."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

import callbacks
from callbacks.cli.receiver import Receiver
from tests.conftest import forget_runtime
from tests.process.conftest import SETTINGS, System
from tests.process.faults import OPEN, Note
from tests.support.namespaces import FAR, NEAR, FarSide, allowed, is_inside, run_inside
from tests.support.processes import Groups, clean_environment, until
from tests.support.server import Server, binaries
from tests.support.topologies import MASTER, SentinelProcess

pytestmark = pytest.mark.long

_SETTINGS = SETTINGS | {"CALLBACKS_ALLOWED_NETWORKS": "127.0.0.0/8 10.99.0.0/24"}
_PRODUCER = """
import itertools, sys, time
import callbacks, redis
url, prefix, out, stop = sys.argv[1:]
for n in itertools.count():
    id = f"{prefix}-{n}"
    while True:
        if __import__("os").path.exists(stop):
            sys.exit()
        try:
            callbacks.enqueue(url, n, id=id)
        except redis.RedisError as error:
            print(type(error).__name__, file=sys.stderr, flush=True)
            time.sleep(0.1)
        else:
            with open(out, "a") as file:
                file.write(f"{id} {time.time()}\\n")
            break
        time.sleep(0.02)
    time.sleep(0.02)
"""


@pytest.mark.skipif(is_inside(), reason="this is the inside")
def test_what_a_lost_side_took_is_lost_only_where_nobody_waited(record_property: Note) -> None:
    if not allowed():
        pytest.skip("this user may make no network namespaces")
    done = run_inside(__file__, "-k", "inside", "-s")
    assert done.returncode == 0, done.stdout + done.stderr
    for name, value in re.findall(r"figure: (.+) = (.+)", done.stdout):
        record_property(name, value)


class _Far(Server):
    """A server over there."""

    def __init__(self, far: FarSide, binary: str, *options: str) -> None:
        super().__init__(binary, *options)
        self._far = far

    def start(self, *, ready: bool = True) -> Server:
        words = (self.binary, "--port", str(self.port), "--bind", FAR, "127.0.0.1")
        words += ("--dir", str(self.folder), "--protected-mode", "no", *self.options)
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(self._far.command(*words), stdout=log, stderr=log)
        return self


@pytest.mark.skipif(not is_inside(), reason="runs in a network namespace")
def test_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = binaries()["valkey"]
    quick = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
    quick += ("--repl-timeout", "5", "--protected-mode", "no")
    lines = ("protected-mode no", f"sentinel announce-ip {NEAR}")
    started: list[Server] = []
    with FarSide() as far:
        primary = _Far(far, binary, *quick)
        started.append(primary.start())
        for _ in range(2):
            more = ("--bind", NEAR, "127.0.0.1", "--replicaof", f"{FAR} {primary.port}")
            more += ("--replica-announce-ip", NEAR)
            started.append(Server(binary, *quick, *more).start())
        watching = [SentinelProcess(binary, primary, lines, ip=FAR).start() for _ in range(3)]
        started += [each.server for each in watching]
        try:
            _part(far, started, watching, tmp_path, monkeypatch)
        finally:
            for server in started:
                server.stop()


def _part(
    far: FarSide,
    servers: list[Server],
    watching: list[SentinelProcess],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hosts = ",".join(f"{NEAR}:{each.server.port}" for each in watching)
    url = f"redis+sentinel://{hosts}/{MASTER}/0"
    until(lambda: _knows_all(watching[0]), within=20)
    groups = Groups(clean_environment(REDIS_URL=url, **_SETTINGS), folder)
    system = System(_At(url), groups)  # type: ignore[arg-type]
    system.environ |= _SETTINGS
    system.configure(**OPEN, redis_timeout=1)
    for name, value in system.environ.items():
        monkeypatch.setenv(name, value)
    forget = forget_runtime()
    with groups, Receiver(host=NEAR) as receiver:
        workers = groups.worker()
        target = receiver.url("/hook").replace("127.0.0.1", NEAR)
        fast = _Producer(far, folder, target, "fast", groups.env)
        waiting = {"CALLBACKS_WAIT_FOR": "replica", "CALLBACKS_WAIT_TIMEOUT": "0.5"}
        safe = _Producer(far, folder, target, "safe", groups.env | waiting)
        until(lambda: len(receiver.hits) > 20, within=30)
        for producer in (fast, safe):
            until(lambda p=producer: len(p.acknowledged()) > 5, within=30)
        cut = time.time()
        far.cut()
        until(lambda: any(_is_primary(server) for server in servers[1:3]), within=30)
        moved = time.monotonic()
        until(lambda: _accepted(target, "near-1"), within=5)
        until(lambda: any(hit.id == "near-1" for hit in receiver.hits), within=5)
        _figure("s from the promotion until delivered", round(time.monotonic() - moved, 2))
        time.sleep(2)
        healed = time.time()
        far.join()
        for producer in (fast, safe):
            until(lambda p=producer: max(p.acknowledged().values()) > healed + 1, within=30)
            producer.stop()
        until(system.settled, within=30)
        _compare(system, fast.acknowledged(), safe.acknowledged(), target, (cut - 3, healed + 5))
        assert "NotDurable" in safe.errors.read_text()
        assert {hit.id for hit in receiver.hits} >= {*fast.acknowledged(), *safe.acknowledged()}
        assert workers.process.poll() is None
        forget()
    system.close()


def _compare(
    system: System,
    fast: dict[str, float],
    safe: dict[str, float],
    target: str,
    between: tuple[float, float],
) -> None:
    """Check what the surviving side knows of what the lost one had acknowledged."""
    here = {status.id for status in system.inspector.find_many([*fast, *safe])}
    lost = set(fast) - here
    _figure("acknowledged and lost without waiting", len(lost))
    _figure("acknowledged and lost with waiting", len(set(safe) - here))
    assert set(safe) <= here
    assert len(lost) >= 5
    assert all(between[0] < fast[id] < between[1] for id in lost)
    for id in lost:  # whoever knows what was enqueued enqueues it again
        assert callbacks.enqueue(target, 1, id=id).accepted
    until(system.settled, within=30)
    assert system.audit() == []
    totals = system.overview().totals
    assert totals["accepted"] == totals["sent"]


class _At:
    """What `System` needs of a server."""

    def __init__(self, url: str) -> None:
        self.url = url


class _Producer:
    """A process over there that enqueues one callback after the other."""

    def __init__(
        self, far: FarSide, folder: Path, url: str, prefix: str, env: dict[str, str]
    ) -> None:
        self._ids, self._stop = folder / f"{prefix}.ids", folder / f"{prefix}.stop"
        self.errors = folder / f"{prefix}.err"
        words = (sys.executable, "-c", _PRODUCER, url, prefix, str(self._ids), str(self._stop))
        with self.errors.open("ab") as errors:
            path = {"PATH": os.environ["PATH"]}
            self._process = subprocess.Popen(
                far.command(*words), env=env | path, cwd=folder, stderr=errors
            )

    def acknowledged(self) -> dict[str, float]:
        """The ids whose enqueue has returned, and when."""
        if not self._ids.exists():
            return {"": 0.0}
        rows = [line.split() for line in self._ids.read_text().splitlines(keepends=False)]
        return {row[0]: float(row[1]) for row in rows if len(row) == 2}

    def stop(self) -> None:
        self._stop.touch()
        assert self._process.wait(20) == 0


def _knows_all(sentinel: SentinelProcess) -> bool:
    with sentinel.server.client() as asked:
        state = asked.sentinel_masters()[MASTER]
    return int(state["num-slaves"]) == 2 and int(state["num-other-sentinels"]) == 2


def _is_primary(server: Server) -> bool:
    with server.client() as raw:
        return bool(raw.role()[0] == b"master")


def _accepted(target: str, id: str) -> bool:
    with contextlib.suppress(redis.ConnectionError, redis.TimeoutError):
        callbacks.enqueue(target, 1, id=id)
        return True
    return False


def _figure(name: str, value: object) -> None:
    """Tell the outer test, which reads what this one prints."""
    sys.stdout.write(f"figure: {name} = {value}\n")
