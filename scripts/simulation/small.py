"""Small scenarios, which the model and the real system both run, and what is compared of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Final, NamedTuple

from callbacks.batcher.store import CRASH_SPREAD_MS
from callbacks.settings import Settings, load_settings
from scripts.simulation.receivers import hanging, quick
from scripts.simulation.records import Destination
from scripts.simulation.system import Size, System

#: What the host of all lanes is called in the model; in the real system it has a port.
HOST: Final = "http://127.0.0.1"
#: Workers have told of their places by then, and the real ones have sent their first requests.
START_MS: Final = 3_000
_STEP_MS: Final = 50


class Bound(NamedTuple):
    """How far the model may be from the real system: this, and a share of the real figure."""

    absolute: float
    share: float


@dataclass(frozen=True, slots=True)
class Small:
    """One scenario. Times in seconds; `kill_at_s`: after the enqueue, one worker process of two."""

    name: str
    what: str
    settings: Mapping[str, object]
    bounds: Mapping[str, Bound]
    well: int
    each: int
    hanging: int = 0
    hanging_each: int = 0
    processes: int = 2
    threads: int = 8
    took_s: float = 0.02
    kill_at_s: float | None = None
    crash_spread_ms: tuple[int, int] = CRASH_SPREAD_MS
    watched_s: float = 60.0

    @property
    def variables(self) -> dict[str, str]:
        """The settings as variables."""
        return {f"CALLBACKS_{name.upper()}": str(value) for name, value in self.settings.items()}

    def lanes(self) -> list[tuple[str, bool, int]]:
        """The lanes by name: (name, well, callbacks)."""
        total = self.well + self.hanging
        every = total // self.hanging if self.hanging else total + 1
        found = []
        for n in range(total):
            hangs = self.hanging > 0 and n % every == every - 1
            found.append((f"l-{n:03}", not hangs, self.hanging_each if hangs else self.each))
        return found

    def items(self) -> list[tuple[str, int]]:
        """The callbacks in the order of their enqueue, (lane, number): lanes take turns."""
        most = max(self.each, self.hanging_each)
        return [(lane, n) for n in range(most) for lane, _, count in self.lanes() if n < count]


class Hit(NamedTuple):
    """One request: when, in seconds from the enqueue, of which lane and callback."""

    at_s: float
    lane: str
    id: str


@dataclass(frozen=True, slots=True)
class Trace:
    """What came of a run: requests as they arrived, the instants that they were given, and how many
    callbacks have been sent."""

    hits: Sequence[Hit]
    instants: Sequence[Hit]
    sent: int


def figures(small: Small, trace: Trace, shard_of: Callable[[str], int]) -> dict[str, float]:
    """What is compared; only what the scenario has bounds for."""
    well = {lane for lane, is_well, _ in small.lanes() if is_well}
    hits = sorted(hit for hit in trace.hits if hit.at_s <= small.watched_s)
    ours = [hit for hit in hits if hit.lane in well]
    first: dict[str, float] = {}
    for hit in ours:
        first.setdefault(hit.id, hit.at_s)
    last: dict[str, float] = {hit.id: hit.at_s for hit in ours}
    gaps = _gaps(hit for hit in trace.instants if hit.lane in well)
    by_shard: dict[int, int] = defaultdict(int)
    for hit in ours:
        by_shard[shard_of(hit.lane)] += 1
    apart = [later.at_s - hit.at_s for hit, later in pairwise(ours)]
    found = {
        "callbacks that arrived": float(len(first)),
        "callbacks sent": float(trace.sent),
        "all had arrived, s": max(last.values(), default=0.0),
        "half had arrived, s": median(first.values()) if first else 0.0,
        "gap of a destination, median, ms": 1_000 * median(gaps) if gaps else 0.0,
        "gap of a destination, shortest, ms": 1_000 * min(gaps, default=0.0),
        "gap over all, median, ms": 1_000 * median(apart) if apart else 0.0,
        "requests to those that hang": float(len(hits) - len(ours)),
        "requests that came twice": float(len(ours) - len(first)),
        "share of the busiest shard": max(by_shard.values(), default=0) / max(1, len(ours)),
    }
    return {name: found[name] for name in small.bounds}


def _gaps(hits: object) -> list[float]:
    times: defaultdict[str, list[float]] = defaultdict(list)
    for hit in sorted(hits):  # type: ignore[call-overload]
        times[hit.lane].append(hit.at_s)
    return [later - at for all in times.values() for at, later in pairwise(all)]


#: Changes a system before it runs: a test injects a defect with it.
Defect = Callable[[System], object]


def _sound(system: System) -> None:
    """Change nothing."""


def simulate(
    small: Small, seed: int, *, host: str = HOST, defect: Defect = _sound
) -> tuple[Trace, System]:
    """Run a scenario in the model."""
    settings = load_settings(small.variables)
    size = Size(small.processes, small.threads, small.crash_spread_ms)
    system = System(settings, size, seed)
    trace: list[tuple[int, int, int]] = []
    system.figures.trace = trace
    defect(system)
    lanes, names = _destinations(small, settings, system, host), [n for n, _, _ in small.lanes()]
    system.loop.at(START_MS, system.enqueue, [lanes[lane] for lane, _ in small.items()])
    if small.kill_at_s is not None:
        system.loop.at(START_MS + round(small.kill_at_s * 1_000), system.workers.kill, 0.5)
    end = START_MS
    while end < START_MS + small.watched_s * 1_000 and not (end > START_MS and system.is_settled):
        end += _STEP_MS
        system.run(end)
    hits = [Hit((at - START_MS) / 1_000, names[d], str(id)) for at, d, id in trace]
    return Trace(hits, hits, system.totals()["sent"]), system


def _destinations(
    small: Small, settings: Settings, system: System, host: str
) -> dict[str, Destination]:
    well = quick("well", small.took_s)
    unwell = hanging("hanging", settings.deadline)
    return {
        lane: system.destination(n, f"{host}#{lane}", well if is_well else unwell, proven=False)
        for n, (lane, is_well, _) in enumerate(small.lanes())
    }


def differences(
    small: Small, model: Mapping[str, float], real: Mapping[str, float]
) -> dict[str, tuple[float, float]]:
    """For each figure by how much both differ, and by how much they may."""
    return {
        name: (abs(model[name] - real[name]), bound.absolute + bound.share * abs(real[name]))
        for name, bound in small.bounds.items()
    }


def medians(all: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each figure over several runs of the model."""
    return {name: median(each[name] for each in all) for name in all[0]}


#: A busy machine adds some hundredths of a second to a request, and to a batch.
_TIME = Bound(0.4, 0.1)
_COMMON: Final = {"max_delay": 0.5, "check_interval": 1, "allowed_networks": "127.0.0.0/8"}
_EXACT: Final = Bound(0, 0)

BURST: Final = Small(
    "burst",
    "200 callbacks to 20 new destinations at once; the stagger adapts",
    {**_COMMON, "send_interval": 0.05},
    {
        "callbacks that arrived": _EXACT,
        "all had arrived, s": _TIME,
        "half had arrived, s": _TIME,
        "gap over all, median, ms": Bound(8, 0.1),
        "gap of a destination, median, ms": Bound(25, 0.08),
    },
    well=20,
    each=10,
)
HANGING: Final = Small(
    "hanging",
    "8 new destinations that answer and 4 that hang, with 6 threads, half of them for these",
    {
        **_COMMON,
        "send_interval": 0,
        "deadline": 2,
        "adaptive": "false",
    },
    {
        "callbacks that arrived": _EXACT,
        "all had arrived, s": _TIME,
        "half had arrived, s": _TIME,
        "gap of a destination, shortest, ms": Bound(12, 0),
        "gap of a destination, median, ms": Bound(15, 0.1),
        "requests to those that hang": Bound(2, 0.1),
    },
    well=8,
    each=15,
    hanging=4,
    hanging_each=5,
    processes=1,
    threads=6,
    took_s=0.05,
    watched_s=9,
)
KILLED: Final = Small(
    "killed",
    "120 callbacks, answers after 0.4 s; one of two worker processes is killed after 1.5 s",
    {
        **_COMMON,
        "send_interval": 0,
        "destination_interval": 0.1,
        "deadline": 1,
        "adaptive": "false",
    },
    {
        "callbacks sent": _EXACT,
        "all had arrived, s": Bound(1.5, 0.15),
        "half had arrived, s": _TIME,
        "gap of a destination, shortest, ms": Bound(12, 0),
        "requests that came twice": Bound(3, 0.25),
    },
    well=8,
    each=15,
    took_s=0.4,
    kill_at_s=1.5,
    crash_spread_ms=(200, 1_000),
)
SHARDS: Final = Small(
    "shards",
    "180 callbacks to 30 destinations in 3 shards that share one stagger of 20 ms",
    {**_COMMON, "send_interval": 0.02, "shards": 3, "adaptive": "false"},
    {
        "callbacks that arrived": _EXACT,
        "all had arrived, s": _TIME,
        "half had arrived, s": _TIME,
        "gap over all, median, ms": Bound(3, 0.1),
        "gap of a destination, shortest, ms": Bound(12, 0),
        "share of the busiest shard": _EXACT,
    },
    well=30,
    each=6,
)
BATCHES: Final = Small(
    "batches",
    "800 callbacks to 100 destinations without a stagger: batches set the pace, 100 in 0.5 s",
    {**_COMMON, "send_interval": 0, "adaptive": "false"},
    {
        "callbacks that arrived": _EXACT,
        # Each batch is late by what the one before was, which adds up: a tenth of a second each.
        "all had arrived, s": Bound(0.8, 0.15),
        "half had arrived, s": Bound(0.4, 0.15),
        "gap of a destination, shortest, ms": Bound(12, 0),
        "gap of a destination, median, ms": Bound(50, 0.1),
    },
    well=100,
    each=8,
    threads=16,
)
ALL: Final = (BURST, HANGING, KILLED, SHARDS, BATCHES)
