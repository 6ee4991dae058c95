"""What the fault tests share: settings, sabotage inside a worker, and the final checks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import TracebackType

import pytest

from callbacks.batcher.inspector import Status
from callbacks.batcher.listing import Filter, statuses
from callbacks.batcher.store import MISSED_MS
from callbacks.model import State
from tests.process.conftest import System
from tests.support.again import Again
from tests.support.processes import REPO, Group, load, until
from tests.support.target import Hit, Target

#: The time that a platform allows between SIGTERM and SIGKILL, with a margin.
TERM_S = 25
Enqueue = Callable[..., None]
Note = Callable[[str, object], None]
#: No pacing, and all places for unproven destinations, so that many are in flight.
OPEN = {
    "unproven_share": 1,
    "send_interval": 0,
    "destination_interval": 0,
    "destination_concurrency": 0,
    "max_delay": 0.2,
    "min_interval": 0.05,
    "check_interval": 0.5,
}

#: For the faults that threads and greenlets meet in different ways.
BOTH_KINDS = pytest.mark.parametrize("kind", ["threads", "greenlets"], indirect=True)

_READY = re.compile(r" pid=(\d+) .*Worker process is ready for action")
_SAID = re.compile(r"^(?:timestamp=|\[\d{4}-)", re.MULTILINE)
# A crashed callback is due again after 5 to 30 s, which no setting shortens.
_SOONER = "from callbacks.batcher import store as batcher\nbatcher.CRASH_SPREAD_MS = (200, 1000)\n"
# Like another machine's clock: set before anything that keeps a reference to it is imported.
_SKEWED = """import time
true = time.time
time.time = lambda: true() + {offset}
"""
_SCHEDULER_AHEAD = """import pendulum
true = pendulum.now
pendulum.now = lambda tz=None: true(tz).add(seconds={offset})
"""


def busy_s() -> float:
    """Return the seconds that this machine may add to a time: half a second, more if it is busy."""
    return 0.5 + min(4.0, load() / 2)


def module(folder: Path, name: str, code: str) -> str:
    """Write a module that workers import after `callbacks`; return its name."""
    (folder / f"{name}.py").write_text(code)
    return name


def sooner(folder: Path) -> str:
    """Return a module that makes crashed callbacks due again within a second."""
    return module(folder, "sooner", _SOONER)


def once(folder: Path, name: str) -> str:
    """Return code for `first()`: True for one caller in all processes, which records its pid."""
    mark = folder / f"{name}.mark"
    return (
        "import os, signal\n"
        "def first():\n"
        "    try:\n"
        f"        file = os.open({str(mark)!r}, os.O_CREAT | os.O_EXCL | os.O_WRONLY)\n"
        "    except FileExistsError:\n"
        "        return False\n"
        "    os.write(file, f'{os.getpid()}\\n'.encode())\n"
        "    os.close(file)\n"
        "    return True\n"
    )


def marked(folder: Path, name: str) -> int:
    """Return the pid of the process that came first, 0 if none has."""
    mark = folder / f"{name}.mark"
    text = mark.read_text() if mark.exists() else ""
    return int(text) if text.endswith("\n") else 0


def skewed(folder: Path, offset_s: float) -> dict[str, str]:
    """Return the environment of workers whose clock is `offset_s` ahead."""
    return _startup(folder / f"clock{offset_s}", _SKEWED.format(offset=offset_s))


def minute_in(folder: Path, seconds: float) -> dict[str, str]:
    """Return the environment of schedulers whose next full minute is this near."""
    offset = (-time.time() - seconds) % 60
    return _startup(folder / "minute", _SCHEDULER_AHEAD.format(offset=round(offset)))


def _startup(folder: Path, code: str) -> dict[str, str]:
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": f"{folder}:{REPO}"}


def ready(*groups: Group, processes: int = 2) -> None:
    """Wait until this many worker processes of each group have booted."""
    for group in groups:
        until(lambda group=group: booted(group) >= processes, within=20, what="boot")


def booted(group: Group) -> int:
    """Count the living worker processes of a group that have logged that they are ready.

    The groups of a test share their log, and one killed early may never have logged it: the process
    id tells whose line it is.
    """
    return sum(belongs(int(pid), group) for pid in set(_READY.findall(group.output)))


def belongs(pid: int, group: Group) -> bool:
    try:
        return os.getpgid(pid) == group.process.pid
    except ProcessLookupError:
        return False


def lines(group: Group) -> int:
    """Count the lines in the log of a test's groups; a traceback counts as one with its line."""
    return len(_SAID.findall(group.output))


def command(system: System, *words: str) -> str:
    """Run `callbacks` with these arguments; return what it printed."""
    env = system.groups.env | {"PATH": os.environ["PATH"]}
    line = [sys.executable, "-m", "callbacks", *words]
    done = subprocess.run(line, env=env, capture_output=True, text=True, check=True, timeout=100)
    return done.stdout


def consumers(system: System) -> set[tuple[str, str]]:
    """Who fetches from which queue, watched until two processes have each fetched from both.

    Idle ones look for messages every ten seconds or more, so they are told to look.
    """
    seen: set[tuple[str, str]] = set()
    give_up = time.monotonic() + 20

    def tell() -> None:
        for queue in ("callbacks", "callbacks.DQ"):
            teller.publish("callbacks:__arrivals__", f"callbacks:{queue}")

    with (
        system.server.client() as teller,
        system.server.client() as client,
        client.monitor() as monitor,
        Again(tell, every=0.5),
    ):
        while len(seen) < 4 and time.monotonic() < give_up:
            words = monitor.next_command()["command"].split()
            if "fetch" in words:
                queue, process = words[words.index("fetch") + 2 :][:2]
                seen.add((process, queue))
    return seen


def phases(system: System) -> dict[str, dict[str, Status]]:
    """Read what is in PROCESSING now, by phase and id."""
    found: dict[str, dict[str, Status]] = {"claimed": {}, "sending": {}, "retry": {}}
    for status in statuses(system.inspector, Filter(State.PROCESSING)):
        found[status.phase][status.id] = status
    return found


def unlocked(system: System) -> bool:
    """Whether no dispatcher is running: a dead one's lock would hold everything up for 2 s."""
    return not system.overview().lock


def to_monotonic(wall_s: float) -> float:
    return wall_s - time.time() + time.monotonic()


def first_hits(target: Target) -> dict[str, float]:
    """When each callback arrived first."""
    arrived: dict[str, float] = {}
    for hit in target.hits:
        arrived.setdefault(hit.id, hit.at_s)
    return arrived


def instants(system: System, count: int) -> list[int]:
    """When each attempt at c-0 to c-`count` was allowed to start, by Redis' clock, in order (ms).

    Redis sets the pace; the requests themselves come later on a busy machine.
    """
    known = system.inspector.find_many([f"c-{n}" for n in range(count)])
    return sorted(round(attempt.at * 1_000) for status in known for attempt in status.history)


def closest_ms(instants_ms: list[int]) -> int:
    return min(later - earlier for earlier, later in pairwise(instants_ms))


def too_close(instants_ms: list[int], *, least_ms: int, kind: str) -> int:
    """How many came sooner after the one before, beyond those that may.

    On a busy machine a tenth may: one that asks for its instant again within `MISSED_MS` of it is
    noted at the time of asking; and a greenlet may miss its second instant, too, and go late.
    """
    gaps = [later - earlier for earlier, later in pairwise(instants_ms)]
    close = sum(gap < least_ms for gap in gaps) - len(gaps) // 10
    far = sum(gap < least_ms - MISSED_MS for gap in gaps) if kind == "threads" else 0
    return max(0, close, far)


def early_s(system: System, hits: list[Hit]) -> float:
    """By how much the earliest request came before its instant, negative if none did."""
    at_s = {hit.id: hit.at_s for hit in hits}
    known = system.inspector.find_many(sorted(at_s))
    return max(to_monotonic(s.history[-1].at) - at_s[s.id] for s in known)


def lateness(
    claimed: dict[str, Status], hits: dict[str, float], *, since: float = 0.0
) -> dict[str, float]:
    """Seconds by which each came after its slot, or after `since` if that is later."""
    slots = {id: to_monotonic(s.next_attempt_at or 0) for id, s in claimed.items()}
    return {id: hits[id] - max(slot, since) for id, slot in slots.items()}


class Slots:
    """Watches the slots that callbacks get, to see how early or late each request came."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._seen: dict[str, list[tuple[float, float]]] = {}

    def __enter__(self) -> Slots:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            claimed = list(statuses(self._system.inspector, Filter(State.PROCESSING)))
            now = time.monotonic()  # after reading: a slot must not count for an earlier request
            for status in claimed:
                if status.next_attempt_at is not None:
                    due = to_monotonic(status.next_attempt_at)
                    self._seen.setdefault(status.id, []).append((now, due))

    def late_s(self, hits: list[Hit]) -> list[float]:
        """Seconds from the last slot seen before each request; unseen ones are left out."""
        late = []
        for hit in hits:
            slots = [due for at, due in self._seen.get(hit.id, ()) if at <= hit.at_s]
            if slots:
                late.append(hit.at_s - slots[-1])
        return late


def balanced(system: System, target: Target, count: int, *, most: int = 1, dead: int = 0) -> None:
    """Check what must hold after every fault: all arrived, none too often, the totals balance."""
    until(system.settled, within=10)
    counts, totals = target.counts(), system.overview().totals
    assert set(counts) == {f"c-{n}" for n in range(count)}
    assert max(counts.values()) <= most, counts.most_common(5)
    assert totals["accepted"] == count
    assert (totals["sent"], totals["dead"], totals["cancelled"]) == (count - dead, dead, 0)
    assert system.audit() == []
