"""One shard: the verbs of `callbacks/batcher/lua` that decide, as `Batcher` has them.

The duties of the package call these methods as they call a `Batcher`. A callback stands for its id.
"""

from __future__ import annotations

from typing import Final

from callbacks.batcher.store import MAX_CRASHES
from callbacks.model import Late, Outcome, Recovered
from scripts.simulation.dispatch import Queue
from scripts.simulation.gate import Gate
from scripts.simulation.records import NEVER, Phase

#: How much further a crashed callback of one pass is put off than the one before it (reclaim.lua).
_GOLDEN: Final = 0.6180339887


class Shard(Queue, Gate):
    """One shard with all its verbs; here those that take back what was lost."""

    def wake(self, limit: int, *, offset: int = 0, repeats: int) -> Late:
        """List claimed callbacks past their slot, whose messages may be lost."""
        now = self.call("wake")
        late = self.processing.overdue(now, self.c["late"], self.c["claim_lease"])
        late = late[offset : offset + limit]
        named, repeated = [], 0
        for callback in late:
            was = callback.woken_at > 0
            if now - callback.woken_at >= self.c["again"] and repeated + was <= repeats:
                callback.woken_at = now
                repeated += was
                named.append((callback, callback.token))
        return Late(len(late), repeated, tuple(named))  # type: ignore[arg-type]

    def reclaim(self, limit: int, *, chance: float) -> Recovered:
        """Take back what is past its lease."""
        now = self.call("reclaim")
        stuck = self.processing.past_lease(now, limit)
        lease_ms = self.c["claim_lease"]
        lost = self.processing.overdue(now, lease_ms, 10 * lease_ms)[: limit - len(stuck)]
        dead = 0
        for n, callback in enumerate([*stuck, *lost], start=1):
            crashed, due = callback.phase is Phase.SENDING, now
            self.leave(callback)
            callback.token, callback.probe, callback.woken_at = 0, False, NEVER
            callback.crashes += crashed
            if callback.crashes >= MAX_CRASHES:
                self.end(callback, Outcome.DEAD)
                dead += 1
                continue
            if crashed:
                least, most = self._crash_spread_ms
                share = (chance + n * _GOLDEN) % 1
                due += int(callback.crashes * (least + share * (most - least)))
            self.queued += 1
            self.to_lane(callback, due)
        self.totals["recovered"] += len(stuck) + len(lost)
        return Recovered(len(stuck) + len(lost) - dead, dead, 0)
