"""What happened in the last hour, by minute, and in the last day, by ten minutes.

    history = read_history(scripts)
    for point in history.hour.points:
        ...

Everything is computed from the samples that the elected ticker takes once a minute. Redis is
asked for two commands, which take less than a millisecond.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from callbacks.batcher.history import MINUTES, TENS, Sample, Step, read_samples
from callbacks.batcher.inspector import TOTALS
from callbacks.batcher.routes import AllScripts
from callbacks.batcher.scripts import Scripts
from callbacks.policy.buckets import DELAY_MS, quantile
from callbacks.text import age, many

#: So much of an hour counts as all of it: the sample of a minute is taken within its first seconds.
_WHOLE_S: Final = 3_540

_Name = TypeVar("_Name", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Delays:
    """How long it took from enqueue to 2xx, in seconds, for 50, 95 and 99 of 100 that were sent.

    They are computed from the buckets of `policy/buckets.py`, as if what is in a bucket were spread
    evenly over it, as Prometheus does. So each is within its bucket (0.1, 0.25, 0.5, 1, 2.5, 5, 10,
    30 s, 1, 5, 15 min, 1, 4, 24 h), and what took longer than a day counts as a day.
    """

    p50_s: float
    p95_s: float
    p99_s: float


@dataclass(frozen=True, slots=True)
class Change:
    """What happened between two samples, `seconds` apart.

    `totals` by the names of `inspector.TOTALS`, each of them; `failed`: failed attempts by reason,
    only those that occurred; `delays`: None if nothing was sent.
    """

    seconds: float
    totals: Mapping[str, int]
    failed: Mapping[str, int]
    delays: Delays | None

    def per_minute(self, count: int) -> float:
        """A count of this change as a rate: samples are not exactly a step apart."""
        return 60 * count / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Point:
    """One step: what waited, and what happened in it.

    The ages are those of the oldest ready and held callback at its end (in a step of ten minutes:
    the most of any minute), 0 if there was none. `change`: None if it is not known, because there
    is no sample of the step before.
    """

    oldest_ready_s: float
    oldest_held_s: float
    change: Change | None


@dataclass(frozen=True, slots=True)
class Series:
    """Steps in a row, the oldest first; always as many: 60 minutes, or 144 times ten minutes.

    `points[n]` tells of the step that began at `start_ms` + n * `step_ms`. None: no sample was
    taken in it, because no worker was running (or Redis' clock jumped, or it is longer ago than the
    data). Draw a gap there, not a zero. `whole`: what happened from the first sample to the last,
    gaps included; None if there are not two.
    """

    start_ms: int
    step_ms: int
    points: tuple[Point | None, ...]
    whole: Change | None

    @property
    def span(self) -> str:
        """For how long `whole` is, in words: `hour`, or less where there is less data."""
        seconds = self.whole.seconds if self.whole else 0.0
        return "hour" if seconds >= _WHOLE_S else f"{round(seconds / 60)} min"


@dataclass(frozen=True, slots=True)
class History:
    """The last hour and the last day, as of `now_ms` by Redis' clock."""

    now_ms: int
    hour: Series
    day: Series


def read_history(scripts: Scripts | AllScripts) -> History:
    """Read the last hour and the last day."""
    now_ms, samples = read_samples(scripts)
    return history_of(samples, now_ms)


def facts(series: Series) -> list[tuple[str, str]]:
    """What failed, and how long delivery took, over the whole series, as (name, text)."""
    whole, told = series.whole, []
    if whole and whole.failed:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in whole.failed.items())
        failed = many(sum(whole.failed.values()), "attempt")
        told.append(("failed", f"{failed} in the last {series.span}: {reasons}"))
    if whole and whole.delays:
        d = whole.delays
        took = (
            f"50 % within {age(d.p50_s)} of their enqueue, 95 % within {age(d.p95_s)},"
            f" 99 % within {age(d.p99_s)}"
        )
        told.append(("delivered", f"in the last {series.span} {took}"))
    return told


# Computing


def history_of(samples: Mapping[Step, Iterable[Sample]], now_ms: int) -> History:
    """Make the history of its samples. Those that are not of this hour, or day, are left out."""
    hour, day = (series_of(samples[step], step, now_ms) for step in (MINUTES, TENS))
    return History(now_ms, hour, day)


def series_of(samples: Iterable[Sample], step: Step, now_ms: int) -> Series:
    """Make one series. It ends with the last step, or the one before until its sample is taken."""
    known = {step.number(sample.at_ms): sample for sample in samples if sample.at_ms <= now_ms}
    last = step.number(now_ms)
    if last not in known:
        last -= 1
    first = last - step.count + 1
    points = tuple(_point(known.get(n - 1), known.get(n)) for n in range(first, last + 1))
    within = [sample for n, sample in sorted(known.items()) if first - 1 <= n <= last]
    whole = change_of(within[0], within[-1]) if within else None
    return Series(first * step.ms, step.ms, points, whole)


def _point(before: Sample | None, sample: Sample | None) -> Point | None:
    if sample is None:
        return None
    return Point(
        oldest_ready_s=sample.oldest_ready_ms / 1000,
        oldest_held_s=sample.oldest_held_ms / 1000,
        change=change_of(before, sample) if before else None,
    )


def change_of(before: Sample, sample: Sample) -> Change | None:
    """What happened between two samples; None if it cannot be known, because a total has fallen.

    Totals never do. So the two are not of the same data: Redis was emptied, or went back.
    """
    seconds = (sample.at_ms - before.at_ms) / 1000
    totals = _rise(before.totals, sample.totals)
    failed = _rise(before.failed, sample.failed)
    delays = _rise(before.delays, sample.delays)
    if seconds <= 0 or totals is None or failed is None or delays is None:
        return None
    return Change(
        seconds=seconds,
        totals={name: totals.get(name, 0) for name in TOTALS},
        failed=dict(sorted(failed.items(), key=lambda item: (-item[1], item[0]))),
        delays=_delays(list(delays.items())),
    )


def _rise(before: Mapping[_Name, int], after: Mapping[_Name, int]) -> dict[_Name, int] | None:
    """By how much each has risen that has; None if one has fallen."""
    rise = {name: after.get(name, 0) - before.get(name, 0) for name in {*before, *after}}
    if any(by < 0 for by in rise.values()):
        return None
    return {name: by for name, by in rise.items() if by}


def _delays(counts: list[tuple[float, int]]) -> Delays | None:
    if not counts:
        return None
    of_100 = (quantile(counts, DELAY_MS, share) / 1000 for share in (0.50, 0.95, 0.99))
    return Delays(*of_100)
