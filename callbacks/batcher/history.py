"""Samples of all totals and sizes, one a minute, from which charts are drawn.

Those of the last hour are kept, and of each ten minutes of the last day the latest one, in a ring
of fields each: a new sample replaces the one of an hour (a day) ago, so nothing has to be cleared
up, whatever the clock does. What happened between two samples is computed when they are read.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from callbacks.batcher.clock import redis_ms
from callbacks.batcher.inspector import Attempts, Overview, Survey, attempts, overview, survey
from callbacks.batcher.routes import AllScripts, as_all
from callbacks.batcher.scripts import Scripts
from callbacks.model import Outcome

_MINUTE_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class Sample:
    """All totals and sizes at one instant.

    `totals` by the names of `inspector.TOTALS`; `failed`: failed attempts by reason; `delays`:
    callbacks sent by the upper bound (ms) of their time from enqueue to 2xx, see
    `policy/buckets.py`. None of these ever falls, and what is 0 is left out. The ages are those of
    the oldest callbacks, 0 if there is none.
    """

    at_ms: int
    totals: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, int] = field(default_factory=dict)
    delays: Mapping[float, int] = field(default_factory=dict)
    queued: int = 0
    ready: int = 0
    held: int = 0
    processing: int = 0
    dead: int = 0
    oldest_ready_ms: int = 0
    oldest_held_ms: int = 0


#: The sizes of a sample: of several, the greatest is kept.
SIZES: Final = tuple(each.name for each in fields(Sample) if each.type == "int")[1:]


@dataclass(frozen=True, slots=True)
class Step:
    """A resolution of the history: `count` steps of `ms` each, and the sample before the first."""

    name: str
    ms: int
    count: int

    def number(self, at_ms: int) -> int:
        """The step of which a sample tells: it is taken as the minute ends, so it is the last."""
        return (at_ms - _MINUTE_MS) // self.ms

    def place(self, at_ms: int) -> str:
        """The field in which a sample is kept."""
        return f"{self.name}{self.number(at_ms) % (self.count + 1)}"


#: The last hour, by minute.
MINUTES: Final = Step("minute", _MINUTE_MS, 60)
#: The last day, by ten minutes.
TENS: Final = Step("ten", 10 * _MINUTE_MS, 144)


def sample_of(sizes: Overview, waiting: Survey, tried: Attempts) -> Sample:
    """Make a sample of what was read."""
    failed, delays = Counter[str](), Counter[float]()
    for one in tried.counted:
        if one.outcome != Outcome.SENT:
            failed[one.reason] += one.count
        elif one.delay_ms is not None:
            delays[one.delay_ms] += one.count
    now_ms = sizes.now_ms
    return Sample(
        at_ms=now_ms,
        totals={name: total for name, total in sizes.totals.items() if total},
        failed=dict(failed),
        delays=dict(delays),
        queued=sizes.queued,
        ready=waiting.ready,
        held=waiting.held,
        processing=sizes.processing,
        dead=sizes.dead,
        oldest_ready_ms=_age_ms(waiting.ready_since_ms, now_ms),
        oldest_held_ms=_age_ms(waiting.held_since_ms, now_ms),
    )


def _age_ms(since_ms: int | None, now_ms: int) -> int:
    return 0 if since_ms is None else max(0, now_ms - since_ms)


def greatest(samples: Iterable[Sample]) -> Sample:
    """The latest of some samples, with the greatest of each size; at least one is needed."""
    known = sorted(samples, key=lambda sample: sample.at_ms)
    most = {name: max(getattr(sample, name) for sample in known) for name in SIZES}
    return replace(known[-1], **most)


# Storing


def entry_of(sample: Sample) -> str:
    """Write a sample as it is stored."""
    sizes = {name: getattr(sample, name) for name in SIZES if getattr(sample, name)}
    entry = {
        "at": sample.at_ms,
        "totals": dict(sample.totals),
        "failed": dict(sample.failed),
        "delays": {_bound(bound): count for bound, count in sample.delays.items()},
        **sizes,
    }
    return json.dumps(entry, separators=(",", ":"))


def _bound(bound_ms: float) -> str:
    return "inf" if math.isinf(bound_ms) else str(int(bound_ms))


def read_sample(raw: bytes | str) -> Sample:
    """Read a stored sample; sizes that this release does not know are left out."""
    given: dict[str, Any] = json.loads(raw)
    return Sample(
        at_ms=given["at"],
        totals=given["totals"],
        failed=given["failed"],
        delays={float(bound): count for bound, count in given["delays"].items()},
        **{name: given.get(name, 0) for name in SIZES},
    )


# Redis


def take_sample(scripts: Scripts | AllScripts) -> Sample:
    """Take a sample of all shards now, from what is counted anyway."""
    return sample_of(overview(scripts), survey(scripts), attempts(scripts))


def latest_of_ten(scripts: Scripts | AllScripts, at_ms: int) -> Sample | None:
    """Read the latest sample of the same ten minutes."""
    home = as_all(scripts).home
    raw: Any = home.client.hget(home.keys.of("history"), TENS.place(at_ms))
    found = read_sample(raw) if raw else None
    return found if found and TENS.number(found.at_ms) == TENS.number(at_ms) else None


def read_samples(scripts: Scripts | AllScripts) -> tuple[int, dict[Step, list[Sample]]]:
    """Read Redis' time, and all samples that are kept, in no order: one command each, under 1 ms.

    Some may be older than their hour or day, or from before a jump of Redis' clock.
    """
    home = as_all(scripts).home
    now_ms = redis_ms(home.client)
    raw: Any = home.client.hgetall(home.keys.of("history"))
    found: dict[Step, list[Sample]] = {MINUTES: [], TENS: []}
    for place, entry in raw.items():
        step = MINUTES if place.startswith(MINUTES.name.encode()) else TENS
        found[step].append(read_sample(entry))
    return now_ms, found
