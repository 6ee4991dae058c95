"""One attempt in a thread of a worker: `worker.attempt.send_once` as a chain of events.

The package's own waits in its thread; here each wait is an event, so the steps are separate.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import redis

from callbacks.batcher.store import MISSED_MS
from callbacks.model import LaterWhy, Outcome
from callbacks.policy.retry import Spent, decide_attempt
from callbacks.worker.duties import LEAD_MS
from scripts.simulation.gate import AGAIN, EARLY, GO, LATER
from scripts.simulation.records import Callback

if TYPE_CHECKING:
    from collections.abc import Callable

    from scripts.simulation.receivers import Said
    from scripts.simulation.shard import Shard
    from scripts.simulation.workers import Process

#: While a shard is away, `begin` and `settle` are tried again so often (`_patiently`).
_PAUSE_MS: Final = 500
#: How often an attempt asks for a new instant.
_NEW_INSTANTS: Final = 3


class Attempt:
    """One wake-up of a callback in one thread."""

    __slots__ = ("attempt", "callback", "has_place", "mine", "process", "shard", "token", "tries")

    def __init__(self, process: Process, shard: Shard, callback: Callback, token: int) -> None:
        self.process, self.shard, self.callback, self.token = process, shard, callback, token
        self.has_place = callback.needs_place and callback.token == token
        self.mine, self.tries, self.attempt = False, 0, 0

    def start(self) -> None:
        """Take a place if one is needed, and ask the gate."""
        if self.has_place and not self.process.take_place():
            self.has_place = False
            self._patiently(partial(self._give_back, 0, LaterWhy.UNPROVEN))
            return
        self._ask()

    def _patiently(self, step: Callable[[], None]) -> None:
        """Do a step; again after a while, as long as its shard is away."""
        if not self.process.alive:
            return
        try:
            step()
        except redis.ConnectionError:
            self.process.workers.loop.after(_PAUSE_MS, self._patiently, step)

    def _ask(self) -> None:
        self._patiently(self._begin)

    def _begin(self, ahead: int = -1) -> None:
        gate = self.shard.begin(
            self.callback, self.token, has_place=self.has_place, ahead=ahead, mine=self.mine
        )
        code = gate[0]
        if code == GO:
            self.mine, self.attempt = True, self.callback.attempts
            self._at_the_pace_of_all(gate[1], gate[2], ahead)
        elif code == LATER:
            self._give_back(gate[1], LaterWhy(gate[2]))
        elif code == AGAIN:
            self.process.workers.loop.after(gate[1], self._ask)
        elif code == EARLY:
            wait_ms = gate[1] - LEAD_MS
            self.process.workers.owner.send_wake(self.shard, self.callback, self.token, wait_ms)
            self._end()
        else:
            self._end()

    def _at_the_pace_of_all(self, wait: int, overdue: int, ahead: int) -> None:
        """Take an instant of the stagger over all shards; see `_Attempt.at_the_pace_of_all`."""
        pacer: Any = self.shard.pacer
        if pacer is None or self.tries >= _NEW_INSTANTS:
            self._wait(wait, overdue)
            return
        if self.tries and ahead >= 0 and wait <= ahead + MISSED_MS:
            self._wait(wait, overdue)  # put off to the instant that was taken before
            return
        given, taken = pacer.take(self.shard, wait, must=self.tries > 0)
        self.tries += 1
        if taken and given <= wait:
            self._wait(wait, overdue)
            return
        self._begin(given)

    def _give_back(self, due: int, why: LaterWhy) -> None:
        released = self.shard.release(self.callback, self.token, due, why=why)
        self.process.workers.owner.figures.released[why.name.lower()] += 1
        self.process.workers.owner.send_trigger(self.shard, released.arm_ms)
        self._end()

    def _wait(self, wait_ms: int, overdue: int) -> None:
        loop = self.process.workers.loop
        if overdue:
            self.process.overdue[self] = loop.now + wait_ms + overdue
        loop.after(wait_ms, self._send)

    def _send(self) -> None:
        if not self.process.alive:
            return
        owner = self.process.workers.owner
        owner.figures.sent(self.callback)
        said = self.callback.destination.receiver.answer(owner.chance)
        owner.loop.after(said[2], self._patiently, partial(self._settle, said))

    def _settle(self, said: Said) -> None:
        callback, owner = self.callback, self.process.workers.owner
        _, classification, took_ms = said
        spent = Spent(callback.retries, callback.throttled, callback.probe)
        delays = owner.retry_delays
        decision = decide_attempt(classification, spent, delays=delays)
        ours, arm_ms = self.shard.settle(
            callback,
            self.token,
            self.attempt,
            decision=decision,
            classification=classification,
            duration_ms=took_ms,
        )
        owner.figures.settled(callback, decision, ours=ours)
        owner.send_trigger(self.shard, arm_ms)
        if ours and decision.outcome is Outcome.RETRY and not decision.park:
            owner.send_wake(self.shard, callback, self.token, round(decision.delay_s * 1_000))
        self._end()

    def _end(self) -> None:
        process = self.process
        process.overdue.pop(self, None)
        if self.has_place:
            process.unproven -= 1
        process.ended()
