"""Worker processes: their places, the messages that they fetch, and one attempt after the other.

What a process fetches at a time is decided as in `worker.consumer`, at the package's own `Pace`.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable as Call
from typing import TYPE_CHECKING, Final, Protocol

from callbacks.worker.consumer import Pace
from scripts.simulation.attempts import Attempt
from scripts.simulation.events import Loop
from scripts.simulation.records import Callback

if TYPE_CHECKING:
    from scripts.simulation.figures import Figures
    from scripts.simulation.shard import Shard

#: From a message in the queue to a thread that has it, with the announcement in between: between
#: these, so that what happens again and again does not stay in step for ever.
FETCH_MS: Final = (2, 7)
#: How often a process with room is looked for at random before all are looked through.
_TRIES: Final = 8

#: A callback and the token of its claim, or what a trigger or check does.
Wake = tuple["Shard", Callback, int] | Call[[], object]


class Owner(Protocol):
    """What an attempt needs to know of the whole."""

    loop: Loop
    figures: Figures
    chance: random.Random
    retry_delays: tuple[float, ...]

    def send_trigger(self, shard: Shard, wait_ms: int | None) -> None: ...

    def send_wake(self, shard: Shard, callback: Callback, token: int, wait_ms: int) -> None: ...


class Process:
    """One worker process."""

    __slots__ = (
        "alive",
        "busy",
        "fetched",
        "number",
        "overdue",
        "pace",
        "threads",
        "unproven",
        "unproven_most",
        "workers",
    )

    def __init__(self, number: int, workers: Workers, threads: int, share: float) -> None:
        self.number, self.workers, self.threads = number, workers, threads
        self.unproven_most = max(1, int(threads * share))
        self.alive = True
        self.busy = self.unproven = 0
        self.fetched: deque[Wake] = deque()
        self.overdue: dict[Attempt, int] = {}
        self.pace = Pace(workers.loop.monotonic)

    def room(self) -> int:
        """How many messages it fetches now, see `Consumer._room`."""
        outstanding = self.busy + len(self.fetched)
        most = min(2 * self.threads, self.threads + self.pace.soon())
        room = most - outstanding
        return room if outstanding < self.threads or 4 * room >= most else 0

    def take_place(self) -> bool:
        """Take one of the places that unproven destinations may have; see `Places`."""
        now = self.workers.loop.now
        if self.unproven + sum(at <= now for at in self.overdue.values()) >= self.unproven_most:
            return False
        self.unproven += 1
        return True

    def work(self) -> None:
        """Give messages to free threads."""
        while self.fetched and self.busy < self.threads and self.alive:
            wake = self.fetched.popleft()
            self.busy += 1
            if callable(wake):
                wake()
                self.ended()
            else:
                Attempt(self, *wake).start()

    def ended(self) -> None:
        """A thread is free again."""
        self.busy -= 1
        self.pace.count()
        if self.fetched:
            self.work()
        elif self.workers.ready:
            self.workers.look()


class Workers:
    """All processes, and the queue that they share."""

    def __init__(self, owner: Owner, count: int, threads: int, share: float) -> None:
        self.owner, self.loop = owner, owner.loop
        self.ready: deque[Wake] = deque()
        self.processes = [Process(n, self, threads, share) for n in range(count)]
        self._looks = False
        self.chance = owner.chance

    def put(self, wake: Wake, delay_ms: int) -> None:
        """Send a message. One with a delay is kept by a process until then, and dies with it."""
        if delay_ms > 0:
            holder = self.processes[int(self.chance.random() * len(self.processes))]
            if holder.alive:
                self.loop.after(delay_ms, self._due, holder, wake)
                return
            alive = self.alive()
            if alive:
                holder = alive[int(self.chance.random() * len(alive))]
                self.loop.after(delay_ms, self._due, holder, wake)
            return
        self.ready.append(wake)
        self.look()

    def _due(self, holder: Process, wake: Wake) -> None:
        if holder.alive:
            self.put(wake, 0)

    def look(self) -> None:
        """Have a process fetch what is in the queue, in a moment."""
        if not self._looks:
            self._looks = True
            self.loop.after(self.chance.randint(*FETCH_MS), self._fetch)

    def _fetch(self) -> None:
        self._looks = False
        while self.ready:
            process = self._with_room()
            if process is None:
                return
            room = min(process.room(), len(self.ready))
            some = [self.ready.popleft() for _ in range(room)]
            # A trigger or check has a higher priority than a callback.
            process.fetched.extendleft(each for each in some if callable(each))
            process.fetched.extend(each for each in some if not callable(each))
            process.work()

    def _with_room(self) -> Process | None:
        count = len(self.processes)
        start = 0
        for _ in range(_TRIES):
            start = int(self.chance.random() * count)
            process = self.processes[start]
            if process.alive and process.room() > 0:
                return process
        for n in range(count):
            process = self.processes[(start + n) % count]
            if process.alive and process.room() > 0:
                return process
        return None

    def alive(self) -> list[Process]:
        """Those that run."""
        return [each for each in self.processes if each.alive]

    def kill(self, share: float) -> int:
        """Kill a share of them at once: what they do and have fetched is lost; how many."""
        alive = self.alive()
        killed = self.chance.sample(alive, round(share * len(alive)))
        for process in killed:
            process.alive = False
            process.fetched.clear()
        return len(killed)
