"""The stagger over all shards: one of them cannot know when the others send.

What a shard does by itself if it is the only one, the plan of its claims and the last word before
each send, is here asked of the keys that belong to no shard: a claim asks for slots (`bid`,
`grant`), and a send whose shard's gate is open takes an instant (`take`). The sum never exceeds the
stagger, and one busy shard may use all of it. No clocks are compared: all answers are waits.

While these keys cannot be reached, each shard keeps to its even part of the stagger by itself, so
the sum still does not exceed it. With the stagger off nothing of this is called.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from callbacks.batcher.errors import AWAY
from callbacks.batcher.store import Batcher
from callbacks.model import Demand, Slots
from callbacks.policy.stagger import Stagger
from callbacks.units import ms

_T = TypeVar("_T")

_NO_DEMAND: Final = Demand(0, 0.0, None, 0, 0)
#: For how long these keys are not asked again after they could not be reached.
AWAY_S: Final = 2.0


class Pacer:
    """The stagger over all shards, as one process sees it."""

    def __init__(self, home: Batcher, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._home = home
        self._monotonic = monotonic
        self._away_until = float("-inf")
        self._count = home.settings.shards
        #: The stagger as last decided here, in ms.
        self._pace_ms = ms(home.settings.send_interval)

    def demand(self, one: Batcher, want: int) -> Demand:
        """Say what a shard has to send; the demand of all shards together, if that matters."""
        own = one.demand() if self._home.settings.adaptive else _NO_DEMAND
        return self._ask(lambda: self._home.bid(one.shard or 0, want, own), lambda: own)

    def set_stagger(self, stagger: Stagger) -> bool:
        """Store the stagger that was decided; True if it changed."""
        self._pace_ms = max(1, -(-round(stagger.interval_s * 1_000_000) // 1_000))
        return self._ask(lambda: self._home.set_stagger(stagger), lambda: False)

    def slots(self, one: Batcher) -> Slots:
        """Get slots for a claim of this shard, which has said what it has."""
        pace = self._pace_ms
        even = Slots(0, max(1, 2_000 // (self._count * pace)), self._count * pace)
        return self._ask(lambda: Slots(*self._home.grant(one.shard or 0, pace)), lambda: even)

    def hand_back(self, one: Batcher, unused: int) -> None:
        """Give back the last slots of a claim."""
        self._ask(
            lambda: self._home.hand_back(one.shard or 0, self._pace_ms, unused), lambda: False
        )

    def take(self, one: Batcher, wait_ms: int, *, must: bool = False) -> tuple[int, bool]:
        """Take an instant for a send, not before `wait_ms`: in how many ms, and if it was taken.

        It is not where it is too far ahead, unless it `must` be.
        """
        pace = self._pace_ms
        return self._ask(
            lambda: self._home.take(wait_ms, pace, must=must),
            lambda: one.take(wait_ms, self._count * pace, must=must, adapts=False),
        )

    def _ask(self, ask: Callable[[], _T], otherwise: Callable[[], _T]) -> _T:
        if self._monotonic() < self._away_until:
            return otherwise()
        try:
            return ask()
        except AWAY:
            self._away_until = self._monotonic() + AWAY_S
            return otherwise()
