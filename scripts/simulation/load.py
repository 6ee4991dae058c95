"""Producers: a steady flow and bursts, over destinations that are made when they are first used."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from scripts.simulation.receivers import Receiver
from scripts.simulation.records import Destination
from scripts.simulation.system import System

#: Arrivals are planned for so many ms at a time.
_STEP_MS: Final = 10


@dataclass(frozen=True, slots=True)
class Group:
    """So many destinations that get a share of all callbacks, evenly."""

    receiver: Receiver
    count: int
    share: float


@dataclass(frozen=True, slots=True)
class Burst:
    """For `length_ms`, so many more a second."""

    at_ms: int
    length_ms: int
    per_s: float


class Producers:
    """They enqueue from the start until `until_ms`."""

    def __init__(
        self,
        system: System,
        groups: Sequence[Group],
        *,
        unwell: Receiver,
        unwell_share: float,
        seed: int,
        proven: bool = True,
    ) -> None:
        """Make them. Of each group a share goes to `unwell`; `proven`: all have answered before."""
        self._system, self._groups = system, groups
        self._unwell, self._every = unwell, round(1 / unwell_share)
        self._chance = random.Random(seed)
        self._proven = proven
        self._known: dict[int, Destination] = {}
        self._limits = [sum(g.share for g in groups[: n + 1]) for n in range(len(groups))]
        self._firsts = [sum(g.count for g in groups[:n]) for n in range(len(groups))]

    @property
    def known(self) -> int:
        """How many destinations have been used."""
        return len(self._known)

    def start(self, per_s: float, bursts: Sequence[Burst], until_ms: int) -> None:
        """Enqueue a Poisson flow, with bursts."""
        self._per_s, self._bursts, self._until_ms = per_s, bursts, until_ms
        self._system.loop.at(0, self._step)

    def _step(self) -> None:
        now = self._system.loop.now
        if now >= self._until_ms:
            return
        self._system.loop.after(_STEP_MS, self._step)
        rate = self._per_s + sum(
            burst.per_s for burst in self._bursts if 0 <= now - burst.at_ms < burst.length_ms
        )
        count = _poisson(rate * _STEP_MS / 1_000, self._chance)
        self._system.enqueue([self._any() for _ in range(count)])

    def _any(self) -> Destination:
        chance = self._chance.random()
        n = next(n for n, limit in enumerate(self._limits) if chance < limit or limit >= 1)
        number = self._firsts[n] + int(self._chance.random() * self._groups[n].count)
        known = self._known.get(number)
        if known is None:
            group = self._groups[n]
            receiver = self._unwell if number % self._every == 0 else group.receiver
            name = f"https://receiver-{number}.example"
            known = self._system.destination(number, name, receiver, proven=self._proven)
            self._known[number] = known
        return known


def _poisson(mean: float, chance: random.Random) -> int:
    """A Poisson variate; for a large mean a rounded normal one."""
    if mean > 30:
        return max(0, round(chance.normalvariate(mean, math.sqrt(mean))))
    limit, product, count = math.exp(-mean), chance.random(), 0
    while product > limit:
        product *= chance.random()
        count += 1
    return count
