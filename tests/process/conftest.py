"""Each test here has its own Redis process, its own workers, and ends them all."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import redis

from callbacks.batcher.audit import audit
from callbacks.batcher.client import connect
from callbacks.batcher.inspector import Inspector, Overview, overview
from callbacks.batcher.shards import Shards
from callbacks.batcher.store import Batcher
from callbacks.settings import load_settings
from tests.support.processes import Groups, clean_environment, until
from tests.support.server import Server, binaries
from tests.support.target import Target

SETTINGS = {
    "CALLBACKS_ALLOWED_NETWORKS": "127.0.0.0/8",
    "CALLBACKS_ADAPTIVE": "false",
}


#: Many times what they need, for a busy machine.
TIMEOUT_S = 150
#: A test with this timeout takes half a minute or more.
LONG_S = 200
#: pytest-xdist gives each process this many at first (and then, as configured, one by one).
FIRST = 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests in here, and start with the longest, each in its own process."""
    for item in items:
        if "tests/process/" in item.nodeid:
            item.add_marker(pytest.mark.slow)
            if not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(TIMEOUT_S))
    for nth, item in enumerate([item for item in items if takes_long(item)]):
        items.remove(item)
        items.insert(nth * FIRST, item)


def takes_long(item: pytest.Item) -> bool:
    limit = item.get_closest_marker("timeout")
    return limit is not None and limit.args[0] >= LONG_S


class System:
    """A Redis, the processes on it, and the producer's side."""

    def __init__(self, server: Server, groups: Groups) -> None:
        self.server, self.groups = server, groups
        self.environ = {"REDIS_URL": server.url} | SETTINGS
        self._opened: list[redis.Redis] = []

    def configure(self, **given: object) -> System:
        """Set variables for all processes: `batch_size=25` is CALLBACKS_BATCH_SIZE."""
        self.environ |= {f"CALLBACKS_{k.upper()}": str(v) for k, v in given.items()}
        self.groups.env |= self.environ
        self.settings = load_settings(self.environ)
        client = connect(self.settings)
        self._opened.append(client)
        self.batcher = Batcher(client, self.settings)
        several = self.settings.shards > 1
        self.scripts = Shards(client, self.settings).scripts if several else self.batcher.scripts
        self.inspector = Inspector(self.scripts)
        return self

    def overview(self) -> Overview:
        return overview(self.scripts)

    def settled(self) -> bool:
        now = self.overview()
        return now.queued == 0 and now.processing == 0 and now.totals["accepted"] > 0

    def audit(self) -> list[str]:
        return list(audit(self.inspector))

    def close(self) -> None:
        for client in self._opened:
            client.close()
            client.connection_pool.disconnect()


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> str:
    """What a test's workers have for places: threads, unless it is marked `BOTH_KINDS`."""
    return str(getattr(request, "param", "threads"))


@pytest.fixture
def system(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> Iterator[System]:
    """On Valkey, unless a test is parametrized with the name of another server."""
    aof = ("--appendonly", "yes", "--appendfsync", "everysec")
    server = Server(binaries()[getattr(request, "param", "valkey")], *aof).start()
    groups = Groups(clean_environment(REDIS_URL=server.url, **SETTINGS), tmp_path, kind=kind)
    made = System(server, groups)
    try:
        with groups:
            yield made.configure()
    finally:
        made.close()
        server.stop()
        for group in groups.started:  # shown if the test fails
            sys.stdout.write(group.output[-20_000:])


@pytest.fixture
def enqueue(system: System, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """`enqueue(url, 5)`: five callbacks through the public API, ids c-0 to c-4."""
    import callbacks
    from tests.conftest import forget_runtime

    forget = forget_runtime()

    def put(url: str, count: int, *, start: int = 0, **more: object) -> None:
        forget()
        for name, value in system.environ.items():
            monkeypatch.setenv(name, value)
        items = [
            {"callback_url": url, "data": {"n": n}, "id": f"c-{n}"} | more
            for n in range(start, start + count)
        ]
        assert all(receipt.accepted for receipt in callbacks.enqueue_many(items))

    yield put
    forget()


@pytest.fixture
def recovered(
    system: System, record_property: Callable[[str, object], None]
) -> Callable[..., None]:
    """How every fault must end: all is settled, each id has arrived, the totals balance.

    `since`: when the fault ended (of `time.monotonic`). The report says how long after it the first
    and the last request came.
    """

    def check(target: Target, ids: Iterable[str], *, since: float, within: float = 60) -> None:
        until(system.settled, within=within)
        missing = sorted(set(ids) - set(target.counts()))
        assert not missing, f"{len(missing)} never arrived: {missing[:5]}"
        assert system.audit() == []
        totals = system.overview().totals
        assert totals["accepted"] == totals["sent"] + totals["dead"] + totals["cancelled"]
        after = [hit.at_s - since for hit in target.hits if hit.at_s >= since]
        record_property("first_s", round(min(after, default=0), 1))
        record_property("last_s", round(max(after, default=0), 1))
        record_property("requests", len(after))

    return check
