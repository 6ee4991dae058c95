"""What is measured: how each contender is started, and how callbacks are enqueued.

All have two processes, unless the command line says otherwise, and send the request of
`request.py`. Our workers log one line per attempt, as usual; Celery's, which would log two, log
warnings only, and BullMQ's log nothing.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scripts.benchmark.processes import clean_environment, python, run
from scripts.benchmark.request import BODY, SECRET

BULLMQ: Final = Path(__file__).parent / "bullmq"

#: What `no pacing` means for our workers and producers. Batches are larger and more frequent than
#: by default, because 100 every half second would be a pace.
UNPACED: Final[dict[str, object]] = {
    "CALLBACKS_SEND_INTERVAL": 0,
    "CALLBACKS_DESTINATION_INTERVAL": 0,
    "CALLBACKS_DESTINATION_CONCURRENCY": 0,
    "CALLBACKS_BATCH_SIZE": 500,
    "CALLBACKS_MIN_INTERVAL": 0.05,
}
#: Makes greenlets of threads, before anything else is imported; as `dramatiq-gevent` does.
_GREEN: Final = "from gevent import monkey; monkey.patch_all(); "
_DRAMATIQ: Final = "import sys; from dramatiq.cli import main; sys.exit(main())"
_PERIODIQ: Final = "from periodiq import entrypoint; entrypoint()"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run takes place."""

    redis_url: str
    url: str
    folder: Path
    count: int = 0


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to send callbacks. `produce` is empty if nothing is queued."""

    name: str
    short: str
    workers: tuple[tuple[str, ...], ...]
    produce: tuple[str, ...] = ()
    settings: Mapping[str, object] | None = None

    def environment(self, place: Place) -> dict[str, str]:
        """The environment of its workers and its producer."""
        common = {
            "REDIS_URL": place.redis_url,
            "BENCH_URL": place.url,
            "BENCH_COUNT": place.count,
            "BENCH_SECRET": SECRET,
            "BENCH_BODY": BODY.decode(),
            "CALLBACKS_ALLOWED_NETWORKS": "127.0.0.0/8",
            "CALLBACKS_SECRET": SECRET,
        }
        return clean_environment(**(common | dict(self.settings or {})))

    def enqueue(self, place: Place, count: int) -> dict[str, Any]:
        """Enqueue `count` callbacks; returns what the producer reports, at least `seconds`."""
        told = run([*self.produce, str(count)], self.environment(place))
        return dict(json.loads(told.splitlines()[-1]))


def _produce(way: str) -> tuple[str, ...]:
    return tuple(python("-m", "scripts.benchmark.produce", way))


def dramatiq(processes: int, threads: int, kind: str = "threads") -> tuple[str, ...]:
    """The command of our workers, as in the Procfile: `dramatiq`, or `dramatiq-gevent`."""
    code = _GREEN + _DRAMATIQ if kind == "greenlets" else _DRAMATIQ
    shape = ("--processes", str(processes), "--threads", str(threads))
    return (*python("-c", code), "callbacks", *shape, "--worker-shutdown-timeout", "11000")


def periodiq() -> tuple[str, ...]:
    """The command of our scheduler, as in the Procfile."""
    return (*python("-c", _PERIODIQ), "callbacks")


def ours(
    processes: int,
    threads: int,
    settings: Mapping[str, object] = UNPACED,
    *,
    way: str = "bulk",
    short: str = "callbacks",
    kind: str = "threads",
) -> Contender:
    """This project; `kind` is `threads` or `greenlets`."""
    name = f"callbacks, {processes} x {threads} {kind}"
    workers = (dramatiq(processes, threads, kind),)
    return Contender(name, short, workers, _produce(way), settings)


def celery(pool: str, processes: int, in_flight: int, *, by_hand: bool = False) -> Contender:
    """Celery with one of its pools, and `in_flight` tasks per process.

    Prefork runs its processes, with one task each, under one worker; the others are one worker
    per process. The prefetch is large for short tasks, and small for tasks that wait, so that
    they are shared among the workers.
    """
    common = ("-A", "scripts.benchmark.celery_app", "worker", "-P", pool, "-l", "WARNING")
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat")
    prefork = pool == "prefork"
    shares = 1 if prefork else processes
    concurrency = processes if prefork else in_flight
    workers = tuple(
        (*python("-m", "celery"), *common, *quiet, "-c", str(concurrency), "-n", f"w{n}@%h")
        for n in range(shares)
    )
    settings = {"BENCH_IN_FLIGHT": in_flight, "BENCH_PREFETCH": 128 if prefork else 4}
    kind = "by hand: list, batches, books" if by_hand else "bare task each"
    way = "celery_by_hand" if by_hand else "celery"
    short = "Celery by hand" if by_hand else "Celery"
    name = f"Celery {pool} ({kind}), {processes} x {1 if prefork else in_flight}"
    return Contender(name, short, workers, _produce(way), settings)


def bullmq(processes: int, in_flight: int) -> Contender:
    """BullMQ with undici."""
    node = shutil.which("node") or "node"
    workers = tuple((node, str(BULLMQ / "worker.mjs")) for _ in range(processes))
    produce = (node, str(BULLMQ / "produce.mjs"))
    name = f"BullMQ with undici, {processes} x {in_flight}"
    return Contender(name, "BullMQ", workers, produce, {"BENCH_IN_FLIGHT": in_flight})


def ceiling(processes: int, threads: int) -> Contender:
    """No queue and no Redis: loops of requests.Session.post, see `ceiling.py`."""
    command = tuple(python("-m", "scripts.benchmark.ceiling", str(processes), str(threads)))
    name = f"bare requests.post loops, {processes} x {threads}"
    return Contender(name, "bare loop", (command,) * processes)


def green_ceiling(processes: int, greenlets: int) -> Contender:
    """The same loops in greenlets."""
    code = _GREEN + f"from scripts.benchmark.ceiling import main; main({processes}, {greenlets})"
    name = f"bare requests.post loops, {processes} x {greenlets} greenlets"
    return Contender(name, "bare gevent loop", (tuple(python("-c", code)),) * processes)


def prepare_bullmq(say: Callable[[str], None]) -> bool:
    """Install BullMQ into its own folder at the first run; False, with a message, if it fails."""
    if not (shutil.which("node") and shutil.which("npm")):
        say("BullMQ is left out: there is no node with npm on the PATH")
        return False
    if (BULLMQ / "node_modules" / "bullmq").is_dir():
        return True
    say("installing BullMQ into scripts/benchmark/bullmq")
    return _installed(
        ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"], say
    )


def _installed(command: Sequence[str], say: Callable[[str], None]) -> bool:
    done = subprocess.run(command, cwd=BULLMQ, capture_output=True, text=True, check=False)
    if done.returncode:
        say(f"BullMQ is left out: {' '.join(command)} failed: {done.stderr.strip()[-300:]}")
    return not done.returncode
