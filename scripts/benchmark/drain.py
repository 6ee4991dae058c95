"""One drain: how fast the workers send a number of waiting callbacks.

The same for everybody: workers are started and warmed up, stopped (SIGSTOP), given the
callbacks, and continued. The time runs from the first receipt to the last answer.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import redis

from scripts.benchmark.contenders import Contender, Place
from scripts.benchmark.processes import Workers
from scripts.benchmark.receiver import ReceiverProcess
from scripts.benchmark.request import check
from tests.support.server import Server

#: Callbacks sent before, so that imports, connections and caches are not measured. A whole batch,
#: because ours would wait for more otherwise.
WARM: Final = 500
_START_S: Final = 60.0
_SETTLE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Usage:
    """Resources used since the start."""

    commands: int
    scripts: int
    script_us: int
    redis_cpu_s: float
    worker_cpu_s: float


@dataclass(frozen=True, slots=True)
class Drained:
    """One drain; all but the rate and the memory for each callback.

    `script_us` is what Redis counts for scripts and the commands in them, `redis_us` the CPU of
    its process, which reads and writes sockets, too. `rss_mb` and `pss_mb` are of all worker
    processes together, at the end.
    """

    per_s: float
    enqueue_s: float
    commands: float
    scripts: float
    script_us: float
    redis_us: float
    worker_us: float
    rss_mb: float
    pss_mb: float


def usage(client: redis.Redis, workers: Workers) -> Usage:
    """Read what Redis and the workers have used."""
    stats: Any = client.info("commandstats")
    cpu: Any = client.info("cpu")
    scripts = [stats[name] for name in ("cmdstat_evalsha", "cmdstat_eval") if name in stats]
    return Usage(
        commands=sum(int(one["calls"]) for one in stats.values()),
        scripts=sum(int(one["calls"]) for one in scripts),
        script_us=sum(int(one["usec"]) for one in scripts),
        redis_cpu_s=float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"]),
        worker_cpu_s=workers.cpu_s(),
    )


def drain(
    contender: Contender,
    receiver: ReceiverProcess,
    server: Server,
    count: int,
    *,
    delay_s: float = 0,
) -> Drained:
    """Measure one drain of `count` callbacks; the receiver answers after `delay_s`.

    The server must be unused; it is started and stopped here.
    """
    server.start()
    try:
        with tempfile.TemporaryDirectory(prefix="callbacks-bench-") as folder:
            place = Place(server.url, receiver.url, Path(folder), count)
            workers = Workers(contender.environment(place), place.folder / "workers.log")
            with workers, server.client() as client:
                _warm(contender, place, receiver, workers)
                return _drain(contender, place, receiver, workers, client=client, delay_s=delay_s)
    finally:
        server.stop()


def _warm(contender: Contender, place: Place, receiver: ReceiverProcess, workers: Workers) -> None:
    receiver.reset()
    for command in contender.workers:
        workers.start(command)
    if contender.produce:
        contender.enqueue(place, WARM)
    _await(receiver, workers, WARM, _START_S)
    time.sleep(_SETTLE_S)  # time to store the last outcomes
    workers.freeze()


def _await(receiver: ReceiverProcess, workers: Workers, count: int, within_s: float) -> None:
    try:
        receiver.await_count(count, within_s=within_s)
    except TimeoutError as error:
        raise TimeoutError(f"{error}\n{workers.log_end()}") from None


def _drain(
    contender: Contender,
    place: Place,
    receiver: ReceiverProcess,
    workers: Workers,
    *,
    client: redis.Redis,
    delay_s: float,
) -> Drained:
    receiver.reset(delay_s=delay_s)
    told = contender.enqueue(place, place.count) if contender.produce else {"seconds": 0}
    before = usage(client, workers)
    workers.thaw()
    _await(receiver, workers, place.count, 60 + place.count / 50)
    after, came = usage(client, workers), receiver.stats()
    rss_mb, pss_mb = workers.memory_mb()
    check(*receiver.first())

    def each(name: str, scale: float = 1) -> float:
        return scale * (getattr(after, name) - getattr(before, name)) / place.count

    return Drained(
        per_s=came["count"] / (came["seconds"] + delay_s),
        enqueue_s=told["seconds"],
        commands=each("commands"),
        scripts=each("scripts"),
        script_us=each("script_us"),
        redis_us=each("redis_cpu_s", 1e6),
        worker_us=each("worker_cpu_s", 1e6),
        rss_mb=rss_mb,
        pss_mb=pss_mb,
    )
