"""What an answer says about its destination: lua/parts/feedback.lua, without what is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from callbacks.model import Effect, Feedback, Reason
from scripts.simulation.records import Destination

#: From this share of faults among its last answers, in thousandths, a destination is slowed.
_OFTEN: Final = 150
_HOUR_MS: Final = 3_600_000
_TRIED_MS: Final = 5_000


class Watched:
    """Which destinations that had answered were tried lately, and which of them fail."""

    def __init__(self) -> None:
        self.tried: dict[Destination, int] = {}
        self.failing: dict[Destination, int] = {}

    def answered(self, destination: Destination, now: int) -> None:
        if 0 <= now - destination.tried_at < _TRIED_MS:
            return
        destination.tried_at = self.tried[destination] = now
        self.failing.pop(destination, None)

    def failed(self, destination: Destination, now: int) -> None:
        destination.tried_at = 0
        if destination.seen > now - _HOUR_MS:
            self.tried[destination] = self.failing[destination] = now
        else:
            self.tried.pop(destination, None)

    def forget(self, destination: Destination) -> None:
        self.tried.pop(destination, None)
        self.failing.pop(destination, None)

    @staticmethod
    def since(found: dict[Destination, int], when: int) -> int:
        """How many are not older; forgets the others."""
        for destination in [each for each, at in found.items() if at < when]:
            del found[destination]
        return len(found)


def apply(
    destination: Destination,
    feedback: Feedback,
    reason: Reason | None,
    *,
    began_at: int,
    probe: bool,
    duration_ms: int,
    now: int,
    c: Mapping[str, int],
    watched: Watched,
) -> None:
    """Change a destination as its answer says. `c`: the constants of the scripts."""
    d, effect = destination, feedback.effect
    if d.why == "full" or probe:
        d.hold, d.why = 0, ""
    if effect is not Effect.NONE:
        d.latency = int(0.7 * (d.latency or duration_ms) + 0.3 * duration_ms)
        _watch(d, feedback, now, watched)
    fine = effect in {Effect.OK, Effect.ALIVE}
    if fine:
        d.fails = 0
    if effect is Effect.OK:
        d.ok = True
    if fine and d.broken:
        _close(d, now, c)
    else:
        _pace(d, feedback, began_at, now, c)
    if effect is Effect.FAULT:
        _fault(d, reason, now, c, watched, probe=probe)
    if feedback.hold_ms and d.hold < now + feedback.hold_ms:
        d.hold, d.why = now + feedback.hold_ms, "park"


def _watch(d: Destination, feedback: Feedback, now: int, watched: Watched) -> None:
    if feedback.transport:
        watched.failed(d, now)
        return
    d.seen = now
    watched.answered(d, now)


def _close(d: Destination, now: int, c: Mapping[str, int]) -> None:
    d.broken, d.why = False, ""
    d.opens = d.hold = d.grown = d.share = 0
    d.interval_us = None
    d.slot = d.send = now + -(-c["interval_us"] // 1_000)


def _pace(
    d: Destination, feedback: Feedback, began_at: int, now: int, c: Mapping[str, int]
) -> None:
    if not c["adaptive"] or not c["interval"]:
        return
    fault, often = feedback.effect is Effect.FAULT, d.share >= _OFTEN
    d.share = int(0.9 * d.share + (100 if fault else 0))
    grows = feedback.factor > 1_000 and began_at >= d.grown and (not fault or often)
    if grows:
        d.grown = now
    if not grows and feedback.factor >= 1_000:
        return
    pace = (c["interval_us"] if d.interval_us is None else d.interval_us) * feedback.factor // 1_000
    d.interval_us = max(c["interval_min_us"], min(c["interval_max_us"], pace))


def _fault(
    d: Destination,
    reason: Reason | None,
    now: int,
    c: Mapping[str, int],
    watched: Watched,
    *,
    probe: bool,
) -> None:
    if reason is Reason.TIMEOUT:
        d.ok = False
    if d.broken and not probe:
        return
    d.fails += 1
    if not d.broken and not 0 < c["failures"] <= d.fails:
        return
    d.fails, d.broken, d.tried_at = 0, True, 0
    watched.forget(d)
    d.hold, d.why = now + min(c["open_max"], c["open_min"] << min(d.opens, 30)), "breaker"
    d.opens += 1
