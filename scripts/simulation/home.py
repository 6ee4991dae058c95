"""The keys that belong to no shard: the stagger over all, and what workers say of themselves.

The methods are `bid`, `grant`, `hand_back`, `take`, `set_stagger` and `tick` in Lua.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from callbacks.batcher.store import BID_MS, _constants, _summed, _told
from callbacks.model import Demand
from callbacks.policy.stagger import Stagger
from callbacks.settings import Settings
from callbacks.units import us
from scripts.simulation.costs import HOME, Costs
from scripts.simulation.events import Loop
from scripts.simulation.pace import reserved


@dataclass(slots=True)
class Stored:
    """The fields of `state` that the stagger is made of. None: it was never set."""

    slot: int = 0
    send: int = 0
    stagger_us: int | None = None
    rate: int = -1

    def pace(self, set_ms: int, *, adapts: bool) -> int:
        """The stagger in ms, as stored or as set."""
        if set_ms > 0 and adapts and self.stagger_us is not None:
            return -(-self.stagger_us // 1_000)
        return set_ms

    def set(self, stagger: Stagger, now: int) -> bool:
        """Store a decision; a shorter stagger counts from the last instant on."""
        before, after = self.stagger_us or 0, us(stagger.interval_s)
        self.rate, self.stagger_us = round(stagger.rate_per_s * 1_000), after
        if after < before:
            self.slot = min(self.slot, self._sooner(self.slot, before, after, now))
            self.send = min(self.send, self._sooner(self.send, before, after, now))
        return before != after

    @staticmethod
    def _sooner(at: int, before: int, after: int, now: int) -> int:
        return max(now, at - -(-before // 1_000)) + -(-after // 1_000)


@dataclass(slots=True)
class _Word:
    """What a shard said it wants, and has got in all, up to which slot."""

    at: int = -BID_MS
    want: int = 0
    demand: str = ""
    had: int = 0
    till: int = 0


@dataclass
class Home:
    """One of these for all shards."""

    settings: Settings
    loop: Loop
    costs: Costs
    stored: Stored = field(default_factory=Stored)
    shard: None = None
    is_away: bool = False
    counted_as: int = HOME
    _words: dict[int, _Word] = field(default_factory=dict)
    _newest: int = 0
    _c: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self._c = _constants(self.settings, None)

    def _word(self, shard: int) -> _Word:
        return self._words.setdefault(shard, _Word())

    def _counts(self, word: _Word) -> bool:
        return self.loop.now - BID_MS < word.at <= self.loop.now

    def bid(self, shard: int, want: int, demand: Demand) -> Demand:
        """Say what a shard has; what all have."""
        self.costs.call("bid", self)
        word = self._word(shard)
        if not (self._counts(word) and word.want):
            word.had = max(word.had, self._newest)
        word.at, word.want, word.demand = self.loop.now, want, _told(demand)
        told = [each.demand for each in self._words.values() if self._counts(each)]
        return _summed(None if self.stored.rate < 0 else self.stored.rate / 1_000, told)

    def set_stagger(self, stagger: Stagger) -> bool:
        """Store the stagger that was decided."""
        self.costs.call("set_stagger", self)
        return self.stored.set(stagger, self.loop.now)

    def grant(self, shard: int, pace_ms: int) -> tuple[int, int, int, int]:
        """Give a shard its next slots, as `Batcher.grant`."""
        self.costs.call("grant", self)
        now, ahead_ms, own = (
            self.loop.now,
            self._c["horizon"] + self._c["longest"],
            self._word(shard),
        )
        slot = max(
            now,
            reserved(self.stored.slot, ahead_ms, now),
            reserved(self.stored.send, ahead_ms, now),
        )
        if not self._counts(own):
            return 0, 0, pace_ms, 50
        others = [
            each.had
            for number, each in self._words.items()
            if number != shard and self._counts(each) and each.want > 0
        ]
        window = self._c["window"]
        limit = now + (window if others else self._c["horizon"])
        slots = min(own.want, 0 if slot > limit else (limit - slot) // pace_ms + 1)
        if others:
            part = math.ceil((window // pace_ms + 1) / (len(others) + 1))
            slots = min(slots, min(*others, own.had) + part - own.had)
        if slots <= 0:
            return 0, 0, pace_ms, max(pace_ms, slot - limit, 50)
        self.stored.slot = slot + slots * pace_ms
        self._newest = own.had
        own.had, own.till, own.want = own.had + slots, self.stored.slot, own.want - slots
        return slot - now, slots, pace_ms, 0

    def hand_back(self, shard: int, pace_ms: int, unused: int) -> bool:
        """Give back the last slots, unless others have got some since."""
        self.costs.call("hand_back", self)
        own = self._word(shard)
        if own.till != self.stored.slot:
            return False
        own.had, own.till = own.had - unused, 0
        self.stored.slot -= unused * pace_ms
        return True

    def take(self, wait_ms: int, pace_ms: int, *, must: bool = False) -> tuple[int, bool]:
        """Take an instant for one send, as `Batcher.take`."""
        self.costs.call("take", self)
        now, longest = self.loop.now, self._c["max_wait"] + self._c["longest"]
        pace = self.stored.pace(pace_ms, adapts=bool(self._c["adaptive"]))
        at = max(now + wait_ms, reserved(self.stored.send, longest, now))
        if at - now > self._c["max_wait"] and not must:
            return at - now, False
        self.stored.send = at + pace
        return at - now, True
