"""The same small scenarios with everything real: a server, Dramatiq's workers, a receiver."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import callbacks
from callbacks import runtime
from callbacks.batcher.inspector import Inspector
from scripts.simulation.small import START_MS, Hit, Small, Trace
from tests.support.processes import Groups, clean_environment, until
from tests.support.server import Server, binaries
from tests.support.target import Hit as Request
from tests.support.target import Response, Target

_READY: Final = "Worker process is ready for action"
#: Crashed callbacks are due again sooner, as the scenario says; no setting does that.
_SPREAD: Final = "from callbacks.batcher import store\nstore.CRASH_SPREAD_MS = {}\n"
_WARM: Final = 4


def run(small: Small) -> tuple[Trace, str]:
    """Run a scenario; returns what came of it, and the host of its lanes."""
    with ExitStack() as kept:
        server = Server(binaries()["valkey"]).start()
        kept.callback(server.stop)
        folder = Path(kept.enter_context(tempfile.TemporaryDirectory(prefix="callbacks-sim-")))
        target = kept.enter_context(Target(_answers(small)))
        environ = {"REDIS_URL": server.url, **small.variables}
        kept.enter_context(_configured(environ))
        groups = kept.enter_context(Groups(clean_environment(**environ), folder))
        _start(small, groups, folder)
        _warm_up(target)
        return _watch(small, groups, target), target.url.rpartition("/")[0]


@contextmanager
def _configured(environ: dict[str, str]) -> Iterator[None]:
    """Have this process enqueue with these variables."""
    before = dict(os.environ)
    os.environ.update(environ)
    runtime.renew()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        runtime.renew()


def _answers(small: Small) -> Callable[[Request, int], int | Response]:
    """How its receivers answer."""
    unwell = {lane for lane, is_well, _ in small.lanes() if not is_well}
    well, never = Response(200, delay_s=small.took_s), Response(200, delay_s=3_600)

    def answer(request: Request, _nth: int) -> Response:
        return never if request.id.rpartition("_")[0] in unwell else well

    return answer


def _start(small: Small, groups: Groups, folder: Path) -> None:
    """Start the worker processes, each alone, so that it can be killed alone."""
    (folder / "spread.py").write_text(_SPREAD.format(small.crash_spread_ms))
    for _ in range(small.processes):
        groups.worker(processes=1, threads=small.threads, modules=["spread"])
    log = groups.started[0]  # they share it
    until(lambda: log.output.count(_READY) >= small.processes, within=60, what="workers")


def _warm_up(target: Target) -> None:
    """Have the workers send a first request, and tell of their places."""
    ready_at = time.monotonic() + START_MS / 1_000
    for n in range(_WARM):
        callbacks.enqueue(target.url, n, lane=f"warm-{n}", id=f"warm_{n}")
    until(lambda: len(target.hits) >= _WARM, within=30, what="first requests")
    time.sleep(max(0.0, ready_at - time.monotonic()))


def _watch(small: Small, groups: Groups, target: Target) -> Trace:
    """Enqueue, and wait until all has ended or is watched no longer."""
    items = [
        {"callback_url": target.url, "data": n, "lane": lane, "id": f"{lane}_{n}"}
        for lane, n in small.items()
    ]
    since = time.monotonic()
    offset_s = time.time() - since
    receipts = callbacks.enqueue_many(items)
    assert all(receipt.accepted for receipt in receipts)
    if small.kill_at_s is not None:
        time.sleep(max(0.0, since + small.kill_at_s - time.monotonic()))
        groups.started[0].kill()
    ids = [str(item["id"]) for item in items]
    give_up = since + small.watched_s
    while not _ended(ids) and time.monotonic() < give_up:
        time.sleep(0.2)
    statuses = _inspector().find_many(ids)
    hits = [Hit(hit.at_s - since, hit.id.rpartition("_")[0], hit.id) for hit in target.hits]
    instants = [
        Hit(attempt.at - offset_s - since, status.id.rpartition("_")[0], status.id)
        for status in statuses
        for attempt in status.history
    ]
    sent = sum(status.state == "sent" for status in statuses)
    return Trace([hit for hit in hits if hit.lane != "warm"], instants, sent)


def _inspector() -> Inspector:
    return Inspector(runtime.runtime().batcher.scripts)


def _ended(ids: list[str]) -> bool:
    return all(status.state in {"sent", "dead"} for status in _inspector().find_many(ids))
