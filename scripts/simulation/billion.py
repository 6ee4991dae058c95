"""A stretch of a day with 1,000,000,000 callbacks, in which three things go wrong."""

from __future__ import annotations

import random
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from callbacks.settings import Settings, load_settings
from scripts.simulation.load import Burst, Group, Producers
from scripts.simulation.receivers import Receiver, hanging, usual
from scripts.simulation.system import Size, System

_DAY_S: Final = 86_400
_UNWELL: Final = "hanging"


@dataclass(frozen=True, slots=True)
class Plan:
    """How large it is, and what happens when. Times in seconds.

    `bursts_s`: then, for two seconds, twice the mean rate comes on top. `cold`: no destination has
    answered before.
    """

    a_day: int = 1_000_000_000
    length_s: int = 120
    workers: int = 1_000
    threads: int = 16
    shards: int = 64
    destinations: int = 1_000_000
    bursts_s: tuple[int, ...] = (10, 70, 105)
    burst_length_s: int = 2
    hang_s: int = 20
    hang_share: float = 0.02
    kill_s: int = 40
    kill_share: float = 0.05
    away_s: int = 88
    away_length_s: int = 10
    away_shard: int = 7
    cold: bool = False

    @property
    def per_s(self) -> float:
        """The mean rate."""
        return self.a_day / _DAY_S

    @property
    def steady_per_s(self) -> float:
        """The rate between bursts, which leaves the mean as it is."""
        bursts = sum(at + self.burst_length_s <= self.length_s for at in self.bursts_s)
        return self.per_s * (1 - 2 * bursts * self.burst_length_s / self.length_s)

    def variables(self, more: Mapping[str, str]) -> dict[str, str]:
        """The settings, of which all others have their defaults.

        A stagger over all cannot be shorter than 1 ms, so there is none. A shard claims at most a
        batch at a time: by default 100 every half second, which is too slow for bursts.
        """
        ours = {
            "CALLBACKS_SHARDS": str(self.shards),
            "CALLBACKS_SEND_INTERVAL": "0",
            "CALLBACKS_MIN_INTERVAL": "0.1",
        }
        return ours | dict(more)


@dataclass(frozen=True, slots=True)
class Run:
    """A run that has ended."""

    plan: Plan
    settings: Settings
    system: System
    producers: Producers
    cpu_s: float
    peak_mb: float


def run(plan: Plan, variables: Mapping[str, str], seed: int, say: Callable[[str], None]) -> Run:
    """Run it, and say how far it is."""
    settings = load_settings(plan.variables(variables))
    system = System(settings, Size(plan.workers, plan.threads), seed)
    unwell, groups = _receivers(plan, seed)
    producers = Producers(
        system,
        groups,
        unwell=unwell,
        unwell_share=plan.hang_share,
        seed=seed + 1,
        proven=not plan.cold,
    )
    bursts = [
        Burst(at * 1_000, plan.burst_length_s * 1_000, 2 * plan.per_s) for at in plan.bursts_s
    ]
    producers.start(plan.steady_per_s, bursts, plan.length_s * 1_000)
    _faults(plan, system, unwell, settings)
    started = time.process_time()
    for second in range(1, plan.length_s + 1):
        system.run(second * 1_000)
        if second % 20 == 0:
            say(f"{second} s of {plan.length_s}, {time.process_time() - started:.0f} s of CPU")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak_mb = peak / (1_000_000 if sys.platform == "darwin" else 1_000)
    return Run(plan, settings, system, producers, time.process_time() - started, peak_mb)


def _receivers(plan: Plan, seed: int) -> tuple[Receiver, list[Group]]:
    """A few busy destinations, some, and many that rarely get anything; and those that hang.

    They answer after 0.15 s in the median and 0.2 s in the mean; the last ones do until they hang.
    """
    chance = random.Random(seed)
    busy, some = plan.destinations // 500, plan.destinations // 10
    groups = [
        Group(usual("busy", 0.15, 0.75, chance), busy, 0.2),
        Group(usual("usual", 0.15, 0.75, chance), some - busy, 0.4),
        Group(usual("rare", 0.15, 0.75, chance), plan.destinations - some, 0.4),
    ]
    return usual(_UNWELL, 0.15, 0.75, chance, is_well=False), groups


def _faults(plan: Plan, system: System, unwell: Receiver, settings: Settings) -> None:
    shard = system.shards[plan.away_shard % len(system.shards)]
    system.figures.apart = shard
    never = hanging(_UNWELL, settings.deadline)
    at = system.loop.at
    at(plan.hang_s * 1_000, partial(setattr, unwell, "answers", never.answers))
    at(plan.kill_s * 1_000, system.workers.kill, plan.kill_share)
    at(plan.away_s * 1_000, partial(setattr, shard, "is_away", True))
    at((plan.away_s + plan.away_length_s) * 1_000, partial(setattr, shard, "is_away", False))
