"""Carries out the faults of a plan, each at its time, and logs each."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import redis

from callbacks.batcher.store import LOCK_TTL_MS
from tests.soak.cluster import ClusterFaults, stop
from tests.soak.diary import Diary
from tests.soak.plan import Fault, FaultKind
from tests.soak.servers import Cluster, hasty
from tests.soak.system import Place, System
from tests.soak.verdict import Risk
from tests.support.server import Server

#: How long to look for a holder of the dispatch lock, and how long to watch a stopped process: if
#: the lock stays held meanwhile, that process holds it.
_HUNT_S: Final = 5.0
_WATCH_S: Final = 0.15
#: A lock taken longer ago belongs to a process that is stopped or dead already.
_FRESH_MS: Final = LOCK_TTL_MS - 300


class Striker:
    """Faults, and what has to follow them: a SIGCONT, a second SIGTERM."""

    def __init__(self, system: System, diary: Diary) -> None:
        self.system, self.diary = system, diary
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.risks: list[Risk] = []
        self._hands: dict[FaultKind, Callable[[Fault], None]] = {
            FaultKind.WORKER_KILL: self._worker_kill,
            FaultKind.WORKER_STOP: self._worker_stop,
            FaultKind.WORKERS_KILL: self._workers_kill,
            FaultKind.WORKERS_TERM: self._workers_term,
            FaultKind.WORKERS_TERM_TWICE: self._workers_term,
            FaultKind.DISPATCHER_KILL: self._dispatcher,
            FaultKind.DISPATCHER_STOP: self._dispatcher,
            FaultKind.SCHEDULER_KILL: self._scheduler,
            FaultKind.SCHEDULER_TERM: self._scheduler,
            FaultKind.SCHEDULER_STOP: self._scheduler,
            FaultKind.REDIS_KILL: self._redis_end,
            FaultKind.REDIS_TERM: self._redis_end,
            FaultKind.REDIS_STOP: self._redis_stop,
            FaultKind.REDIS_PAUSE: self._redis_pause,
            FaultKind.REDIS_PAUSE_WRITES: self._redis_pause,
        }
        if isinstance(system.servers, Cluster):
            cluster = ClusterFaults(system.servers, diary, self._note, self._after)
            self.risks = cluster.risks
            self._hands |= cluster.hands(self._hands)

    def run(self, faults: Sequence[Fault], ended: threading.Event) -> None:
        """Cause them all, and what has to follow; everything runs again when this returns."""
        for fault in faults:
            self._at(fault.at_s, lambda fault=fault: self._hands[fault.kind](fault))
        while self._later:
            at_s, _, act = self._later[0]
            if ended.wait(max(0.0, at_s - self.diary.elapsed())):
                return
            heapq.heappop(self._later)
            with self.system.lock:
                act()

    def _at(self, at_s: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._later, (at_s, next(self._order), act))

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        self._at(self.diary.elapsed() + seconds, act)

    def _note(self, fault: Fault, whom: object) -> None:
        length = f", {fault.length_s:.2f} s" if fault.length_s else ""
        self.diary.note(f"FAULT {fault.kind.value} ({whom}{length})", kind=fault.kind.value)

    # Workers

    def _one_worker(self, fault: Fault) -> tuple[Place, int] | None:
        """A process of any group of workers, main processes included."""
        pids = [(place, pid) for place in self.system.workers for pid in self._pids(place)]
        return pids[int(fault.pick * len(pids))] if pids else None

    def _pids(self, place: Place) -> list[int]:
        return self.system.processes_of(place)

    def _group(self, fault: Fault) -> Place:
        return self.system.workers[int(fault.pick * len(self.system.workers))]

    def _worker_kill(self, fault: Fault) -> None:
        if victim := self._one_worker(fault):
            self._kill(fault, *victim)

    def _worker_stop(self, fault: Fault) -> None:
        if victim := self._one_worker(fault):
            self._stop(fault, *victim)

    def _kill(self, fault: Fault, place: Place, pid: int) -> None:
        if self.system.hit(place, pid, signal.SIGKILL):
            place.asked = True
            self._note(fault, f"{place.name}, process {pid}")

    def _stop(self, fault: Fault, place: Place, pid: int) -> None:
        if not self.system.hit(place, pid, signal.SIGSTOP):
            return
        place.stopped(fault.length_s)
        self._note(fault, f"{place.name}, process {pid}")

        def go_on() -> None:
            if self.system.hit(place, pid, signal.SIGCONT):
                self.diary.note(f"{place.name}, process {pid} goes on")

        self._after(fault.length_s, go_on)

    def _workers_kill(self, fault: Fault) -> None:
        place = self._group(fault)
        place.asked = True
        place.group.signal(signal.SIGKILL)
        self._note(fault, place.name)

    def _workers_term(self, fault: Fault) -> None:
        place = self._group(fault)
        place.terminate()
        self._note(fault, place.name)
        if fault.kind is FaultKind.WORKERS_TERM_TWICE:
            group = place.group
            self._after(fault.length_s, lambda: group.signal(signal.SIGTERM))

    # The dispatcher

    def _dispatcher(self, fault: Fault) -> None:
        """Kill or stop the holder of the lock, found by stopping one worker after another."""
        found = None
        with contextlib.suppress(redis.RedisError, AssertionError), ExitStack() as stack:
            found = self._holder(self._locks(stack))
        if found is None:
            self.diary.note("no holder of the dispatch lock found")
        elif fault.kind is FaultKind.DISPATCHER_KILL:
            self._kill(fault, *found)
        else:
            self._stop(fault, *found)

    def _locks(self, stack: ExitStack) -> list[Lock]:
        clients: dict[Server, redis.Redis] = {}
        for server, _ in self.system.servers.locks():
            if server not in clients:
                clients[server] = stack.enter_context(server.client(**hasty()))
        return [Lock(clients[server], key) for server, key in self.system.servers.locks()]

    def _holder(self, locks: Sequence[Lock]) -> tuple[Place, int] | None:
        give_up = time.monotonic() + _HUNT_S
        victims = itertools.cycle(
            [(place, pid) for place in self.system.workers for pid in self._pids(place)[1:]]
        )
        for place, pid in victims:
            held = self._await_held(locks, give_up)
            if held is None:
                return None
            if self.system.hit(place, pid, signal.SIGSTOP):
                found = False
                try:
                    found = self._stays(*held)
                finally:
                    if not found:
                        self.system.hit(place, pid, signal.SIGCONT)
                if found:
                    return place, pid
        return None

    def _await_held(self, locks: Sequence[Lock], give_up: float) -> tuple[Lock, bytes] | None:
        while time.monotonic() < give_up:
            for lock in locks:
                owner = lock.owner()
                if owner is not None and lock.is_fresh():
                    return lock, owner
        return None

    def _stays(self, lock: Lock, owner: bytes) -> bool:
        """Whether the lock keeps the same owner all the time that a process is watched."""
        until = time.monotonic() + _WATCH_S
        while time.monotonic() < until:
            if lock.owner() != owner:
                return False
        return True

    # The scheduler and Redis

    def _scheduler(self, fault: Fault) -> None:
        place = self.system.scheduler
        pid = place.group.process.pid
        if fault.kind is FaultKind.SCHEDULER_STOP:
            self._stop(fault, place, pid)
        elif fault.kind is FaultKind.SCHEDULER_KILL:
            self._kill(fault, place, pid)
        else:
            place.terminate()
            self._note(fault, place.name)

    def _redis_end(self, fault: Fault) -> None:
        server = self.system.servers.victim(fault.pick)
        if server in self.system.back_at:
            self.diary.note("Redis is away already")
            return
        kill = fault.kind is FaultKind.REDIS_KILL
        if kill and not written_out(server):
            self.diary.note("Redis does not answer, so it is not killed: see written_out")
            return
        server.signal(signal.SIGKILL if kill else signal.SIGTERM)
        self.system.back_at[server] = time.monotonic() + 0.3 + fault.length_s
        self._note(fault, f"Redis at port {server.port}")

    def _redis_pause(self, fault: Fault) -> None:
        server, every = self.system.servers.victim(fault.pick), fault.kind is FaultKind.REDIS_PAUSE
        with contextlib.suppress(redis.RedisError), server.client(**hasty()) as client:
            client.client_pause(round(fault.length_s * 1000), all=every)
            self._note(fault, f"Redis at port {server.port}")

    def _redis_stop(self, fault: Fault) -> None:
        server = self.system.servers.victim(fault.pick)
        if server in self.system.back_at:
            return
        self._note(fault, f"Redis at port {server.port}")
        self._after(fault.length_s, stop(server, self.diary))


def written_out(server: Server) -> bool:
    """Make Redis write all that it acknowledges to the kernel; False: no answer.

    With `everysec` it answers while a write waits for an fsync in progress, for up to 2 s. A
    SIGKILL then loses acknowledged writes, as a power cut would, whatever we do.
    With `no` it writes before it answers; its restart sets `everysec` again.
    """
    try:
        with server.client(**hasty()) as client:
            client.config_set("appendfsync", "no")
    except redis.RedisError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Lock:
    """The dispatch lock of one shard."""

    client: redis.Redis
    key: str

    def owner(self) -> bytes | None:
        found = self.client.get(self.key)
        return found if isinstance(found, bytes) else None

    def is_fresh(self) -> bool:
        """Whether its holder can be alive and running."""
        return int(self.client.pttl(self.key)) > _FRESH_MS
