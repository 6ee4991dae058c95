"""Workers in virtual time: the real scripts decide, and the test moves the clock.

Nothing sleeps and nothing is sent. A worker process has its places and takes a message when it is
due and a place is free; a request ends when its receiver says so. So minutes with a thousand
hanging receivers take seconds, and a run is repeatable to the millisecond.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import InitVar, dataclass, field
from functools import partial
from typing import Any, Final

from callbacks.model import Again, Answer, Early, Go, Item, Later, LaterWhy, needs_place
from callbacks.policy.outcome import classify
from callbacks.policy.retry import Spent, decide_attempt
from callbacks.settings import Settings
from callbacks.units import ms
from callbacks.worker import duties
from callbacks.worker.places import Places
from tests.redis.bench import Bench

_OK: Final = Answer(200, None, duration=0.02)
#: A message is fetched a little later than it is due.
_FETCH_MS: Final = 5

#: The keys that get an expiry within a run.
_ENDING: Final = ("lock", "tick", "claimed", "trial")

#: What a receiver answers to a callback, after `duration`.
Receiver = Callable[[str], Answer]
Step = Iterator[float]


@dataclass(slots=True)
class Process:
    """One worker process: its places, and the messages it has taken."""

    threads: int
    share: float
    clock: InitVar[Callable[[], float]]
    busy: int = 0
    waiting: deque[tuple[str, str]] = field(default_factory=deque)
    places: Places = field(init=False)

    def __post_init__(self, clock: Callable[[], float]) -> None:
        self.places = Places(clock)
        self.places.open(self.threads, self.share)


class Simulation:
    """Worker processes on one bench. `sent[id]`: when its first request went out, in ms."""

    def __init__(
        self, bench: Bench, settings: Settings, receiver: Receiver, *, threads: tuple[int, ...]
    ) -> None:
        self.bench, self.batcher = bench, bench.begin_anew(settings)
        self.receiver = receiver
        self.processes = [
            Process(n, settings.unproven_share, lambda: self.now / 1_000) for n in threads
        ]
        self.sent: dict[str, int] = {}
        self.requests = 0
        self.staggers: list[float] = []
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._turns = itertools.cycle(self.processes)
        self._tick()

    @property
    def now(self) -> int:
        return self.bench.now_ms

    def at(self, when_ms: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (round(max(when_ms, self.now)), next(self._order), do))

    def enqueue(self, id: str, destination: str) -> None:
        packed = f'{destination}\n["{destination}/","production",[]]\n{{}}'.encode()
        stored = self.batcher.enqueue(Item(id, destination, packed, 0, 86_400_000))
        if stored.signal.name == "TRIGGER":
            self.trigger(0)
        if stored.signal.name == "CHECK":
            self.check(stored.wait_ms)

    def run_until(self, when_ms: int) -> None:
        while self._events and self._events[0][0] <= when_ms:
            when, _, do = heapq.heappop(self._events)
            self._move_to(when)
            do()
        self._move_to(when_ms)

    def _move_to(self, when_ms: int) -> None:
        if when_ms > self.now:
            self.bench.advance(when_ms - self.now, unseen=_ENDING)

    # What `duties.Messages` does

    def batch(self, claimed: Any) -> None:
        for callback_id, token, delay_ms in claimed:
            take = partial(self._take, callback_id, token)
            self.at(self.now + delay_ms + _FETCH_MS, take)

    def trigger(self, delay_ms: int) -> None:
        self.at(self.now + delay_ms + _FETCH_MS, lambda: duties.dispatch_once(self.batcher, self))

    def check(self, delay_ms: int) -> None:
        self.at(self.now + delay_ms + _FETCH_MS, lambda: duties.flush_once(self.batcher, self))

    # What a worker does

    def _tick(self) -> None:
        for n, process in enumerate(self.processes):
            threads, places = process.threads, process.places.unproven_most
            if self.batcher.tick(f"w-{n}", 2_700, threads=threads, places=places).elected:
                duties.wake_once(self.batcher, self)
                duties.recover_once(self.batcher, chance=0.5)
                duties.flush_once(self.batcher, self)
        stagger = self.bench.client.hget("{callbacks}:state", "stagger")
        self.staggers.append(float(stagger or 0) / 1_000_000)
        self.at(self.now + ms(self.batcher.settings.check_interval), self._tick)

    def _take(self, id: str, token: str) -> None:
        """Processes with free places take messages in turn; without one, they wait for it."""
        process = next(self._turns)
        if process.busy >= process.threads:
            process = min(self.processes, key=lambda p: (p.busy >= p.threads, len(p.waiting)))
        process.waiting.append((id, token))
        self._work(process)

    def _work(self, process: Process) -> None:
        while process.waiting and process.busy < process.threads:
            process.busy += 1
            self._go_on(process, self._attempt(process, *process.waiting.popleft()))

    def _go_on(self, process: Process, attempt: Step) -> None:
        """Run an attempt up to its next wait."""
        try:
            wait_ms = next(attempt)
        except StopIteration:
            process.busy -= 1
            self._work(process)
        else:
            self.at(self.now + wait_ms, lambda: self._go_on(process, attempt))

    def _attempt(self, process: Process, id: str, token: str) -> Step:
        """Do what `attempt.send_once` does; each wait is yielded in ms."""
        if not needs_place(token):
            yield from self._make(process, id, token)
            return
        with process.places.taking() as taken:
            if taken:
                yield from self._make(process, id, token)
            else:
                self._release(id, token, Later(0, LaterWhy.UNPROVEN))

    def _make(self, process: Process, id: str, token: str) -> Step:
        has_place = needs_place(token)
        nonce = f"n-{next(self._order)}"
        gate = self.batcher.begin(id, token, nonce=nonce, has_place=has_place)
        while isinstance(gate, Again):
            yield gate.wait_ms
            gate = self.batcher.begin(id, token, nonce=nonce, has_place=has_place)
        if isinstance(gate, Go) and has_place:
            yield from self._send(id, token, gate)
        elif isinstance(gate, Go):
            with process.places.watching(gate.overdue_ms / 1_000):
                yield from self._send(id, token, gate)
        elif isinstance(gate, Later):
            self._release(id, token, gate)
        elif isinstance(gate, Early):
            self.batch([(id, token, gate.wait_ms)])

    def _release(self, id: str, token: str, gate: Later) -> None:
        arm_ms = self.batcher.release(id, token, gate.due_ms, why=gate.why).arm_ms
        duties.trigger(self, arm_ms)

    def _send(self, id: str, token: str, go: Go) -> Step:
        yield go.wait_ms
        self.sent.setdefault(id, self.now)
        self.requests += 1
        answer = self.receiver(id)
        yield ms(answer.duration)
        classification = classify(answer, now_s=self.now / 1_000)
        spent = Spent(go.retries, go.throttled, go.probe)
        delays = self.batcher.settings.retry_delays
        decision = decide_attempt(classification, spent, delays=delays)
        done = self.batcher.settle(
            id,
            token,
            go.attempt,
            decision.outcome,
            reason=decision.reason,
            feedback=classification.feedback,
            entry="[]",
            delay_ms=ms(decision.delay_s),
            park=decision.park,
            throttled=decision.throttled,
            duration_ms=ms(answer.duration),
        )
        duties.trigger(self, done.arm_ms)
        if done.settled.name == "RETRY":
            self.batch([(id, token, ms(decision.delay_s))])
