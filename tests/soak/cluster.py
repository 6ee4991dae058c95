"""The faults of a cluster: one after the other, each until all nodes agree that all is well."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Final

import redis

from tests.soak.diary import Diary
from tests.soak.plan import Fault, FaultKind
from tests.soak.servers import Cluster
from tests.soak.verdict import Risk
from tests.support.server import Server
from tests.support.topologies import Move

_Hand = Callable[[Fault], None]
#: A fault in steps; each yields how many seconds to wait before the next.
_Steps = Iterator[float]
_POLL_S: Final = 0.2
_NEXT_TRY_S: Final = 0.5
#: When a replica that was told to take over is told again.
_AGAIN_S: Final = 6.0
#: How long before a fault a write may be that a replica lacks.
_BEFORE_S: Final = 1.0
#: How many keys of a slot are moved together.
_KEYS: Final = 10
#: Those after which a replica may be promoted that lacks writes.
_LOSSY: Final = frozenset({FaultKind.REDIS_KILL, FaultKind.REDIS_STOP, FaultKind.PRIMARY_KILL})
_OF_A_SERVER: Final = frozenset(
    {
        FaultKind.REDIS_KILL,
        FaultKind.REDIS_TERM,
        FaultKind.REDIS_STOP,
        FaultKind.REDIS_PAUSE,
        FaultKind.REDIS_PAUSE_WRITES,
    }
)


class ClusterFaults:
    """Carries them out. `risks`: when which shards may have lost writes."""

    def __init__(
        self,
        cluster: Cluster,
        diary: Diary,
        note: Callable[[Fault, object], None],
        after: Callable[[float, Callable[[], None]], None],
    ) -> None:
        """`note`: writes down that a fault strikes; `after`: calls later."""
        self.cluster, self.diary = cluster, diary
        self._note, self._after = note, after
        self.risks: list[Risk] = []
        self._is_busy = False

    def hands(self, of_a_server: Mapping[FaultKind, _Hand]) -> dict[FaultKind, _Hand]:
        """What to do for each kind; `of_a_server`: what is done to one server."""
        steps: dict[FaultKind, Callable[[Fault], _Steps]] = {
            FaultKind.PRIMARY_KILL: self._primary_kill,
            FaultKind.FAILOVER: self._failover,
            FaultKind.SLOT_MOVE: self._slot_move,
            FaultKind.NODES_RESTART: self._nodes_restart,
            FaultKind.REPLICA_STOP: self._replica_stop,
        }
        for kind in _OF_A_SERVER:
            steps[kind] = partial(self._struck, of_a_server[kind])
        return {kind: partial(self._in_turn, make) for kind, make in steps.items()}

    def _in_turn(self, make: Callable[[Fault], _Steps], fault: Fault) -> None:
        """Begin once the one before is over, and nobody does what must not get lost."""
        is_lossy = fault.kind in _LOSSY
        is_free = not self._is_busy and self.cluster.ready()
        if not is_free or (is_lossy and not self.cluster.lossy.acquire(blocking=False)):
            self._after(_NEXT_TRY_S, lambda: self._in_turn(make, fault))
            return
        self._is_busy = True
        self._go_on(self._whole(fault, make(fault), is_lossy=is_lossy))

    def _go_on(self, steps: _Steps) -> None:
        pause_s = next(steps, None)
        if pause_s is not None:
            self._after(pause_s, lambda: self._go_on(steps))

    def _whole(self, fault: Fault, steps: Iterable[float], *, is_lossy: bool) -> _Steps:
        """A fault, and the time until all is well again."""
        since = time.monotonic() - _BEFORE_S
        shards = self.cluster.shards_of(self.cluster.victim(fault.pick))
        try:
            yield from steps
            while not self.cluster.ready():
                yield _POLL_S
        finally:
            self._is_busy = False
            if is_lossy:
                self.risks.append(Risk(since, time.monotonic(), shards))
                self.cluster.lossy.release()
        self.diary.note(f"the cluster is well again, {time.monotonic() - since:.1f} s later")

    def _struck(self, hand: _Hand, fault: Fault) -> _Steps:
        hand(fault)
        yield fault.length_s + _POLL_S

    def _primary_kill(self, fault: Fault) -> _Steps:
        primary = self.cluster.victim(fault.pick)
        replica = self.cluster.system.replica_of(primary)
        primary.kill()
        self._note(fault, f"Redis at port {primary.port}")
        while not self._is_primary(replica):
            yield _POLL_S
        yield fault.length_s
        primary.start(ready=False)

    def _failover(self, fault: Fault) -> _Steps:
        primary = self.cluster.victim(fault.pick)
        self._note(fault, f"Redis at port {primary.port}")
        yield from self._replaced(primary)

    def _replaced(self, primary: Server) -> _Steps:
        """Have the replica of a primary take over."""
        replica, told_at = self.cluster.system.replica_of(primary), 0.0
        while not self._is_primary(replica):
            if time.monotonic() - told_at > _AGAIN_S:
                told_at = time.monotonic()
                with suppress(redis.RedisError), self.cluster.system.at(replica) as raw:
                    raw.execute_command("CLUSTER", "FAILOVER")
            yield _POLL_S

    def _slot_move(self, fault: Fault) -> _Steps:
        system, slot = self.cluster.system, self.cluster.shard_slot(fault.pick)
        move, moved = Move(system, slot, system.another(slot)), 1
        self._note(fault, f"slot {slot} to port {move.to.port}")
        move.begin()
        while moved:
            with suppress(redis.RedisError):  # one of the two has stalled
                moved = move.keys(_KEYS)
            yield 0.01
        move.end()

    def _nodes_restart(self, fault: Fault) -> _Steps:
        self._note(fault, "all nodes")
        for server in self.cluster.system.servers:
            if self._is_primary(server):  # as operators do
                yield from self._replaced(server)
            server.signal(signal.SIGTERM)
            while server.process is not None and server.process.poll() is None:
                yield 0.05
            server.start(ready=False)
            while not self.cluster.ready():
                yield _POLL_S

    def _replica_stop(self, fault: Fault) -> _Steps:
        replica = self.cluster.system.replica_of(self.cluster.victim(fault.pick))
        self._note(fault, f"Redis at port {replica.port}")
        go_on = stop(replica, self.diary)
        yield fault.length_s
        go_on()

    def _is_primary(self, server: Server) -> bool:
        try:
            with self.cluster.system.at(server) as raw:
                return bool(raw.role()[0] == b"master")
        except redis.RedisError:
            return False


def stop(server: Server, diary: Diary) -> Callable[[], None]:
    """SIGSTOP a server; the result lets it go on, unless it has ended meanwhile."""
    stopped = server.process
    server.signal(signal.SIGSTOP)

    def go_on() -> None:
        if stopped is not None and server.process is stopped and stopped.poll() is None:
            stopped.send_signal(signal.SIGCONT)
            diary.note(f"Redis at port {server.port} goes on")

    return go_on
