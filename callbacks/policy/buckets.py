"""The buckets in which attempts are counted, for the metrics: pure.

An attempt is one field of a hash in Redis: its outcome, reason, status class, and the buckets of
its duration and of its callback's delivery delay. So one command counts it in all of them.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Final

#: Upper bounds of how long an attempt took, in ms. An attempt may take `CALLBACKS_DEADLINE`.
DURATION_MS: Final = (5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000)
#: Upper bounds of the time from enqueue to 2xx, in ms: up to a day. One that waits for its batch is
#: sent a moment after `CALLBACKS_MAX_DELAY`, 5 s by default, so there is a bound a little above.
DELAY_MS: Final = (
    100, 250, 500, 1_000, 2_500, 5_000, 5_500, 10_000, 30_000, 60_000, 300_000, 900_000, 3_600_000,
    14_400_000, 86_400_000,
)  # fmt: skip
#: Written where there is no reason, no HTTP status, or no time.
NONE: Final = "none"
_BEYOND: Final = "inf"


@dataclass(frozen=True, slots=True)
class Counted:
    """Attempts that ended alike. Bounds are in ms: `inf` beyond the last, None without a time."""

    outcome: str
    reason: str
    status_class: str
    duration_ms: float | None
    delay_ms: float | None
    count: int


def field_of_attempt(
    outcome: str, reason: str, status: int | None, duration_ms: int, delay_ms: int | None
) -> str:
    """The field that counts an attempt. `delay_ms`: from enqueue to 2xx, None if it was not sent.

    Bounds are stored as numbers, so that other bounds can be chosen later.
    """
    status_class = f"{status // 100}xx" if status else NONE
    duration = _bound(duration_ms, DURATION_MS)
    delay = NONE if delay_ms is None else _bound(delay_ms, DELAY_MS)
    return f"{outcome} {reason or NONE} {status_class} {duration} {delay}"


def _bound(value_ms: int, bounds: tuple[int, ...]) -> str:
    at = bisect_left(bounds, value_ms)
    return str(bounds[at]) if at < len(bounds) else _BEYOND


def read_field(field: str, count: int) -> Counted | None:
    """Read a field and its count; None for a field that does not count attempts."""
    match field.split(" "):
        case [outcome, reason, status_class, duration, delay]:
            return Counted(outcome, reason, status_class, _read(duration), _read(delay), count)
    return None


def _read(bound: str) -> float | None:
    return None if bound == NONE else float(bound)


def cumulated(counts: list[tuple[float, int]], bounds: tuple[int, ...]) -> list[tuple[str, int]]:
    """Add up (bound in ms, count) as Prometheus wants it: (`le` in seconds, how many up to it).

    A bound that is no longer among `bounds` counts in the next higher one.
    """
    sums = _by_bucket(counts, bounds)
    result, below = [], 0
    for name, count in zip([*(str(bound / 1000) for bound in bounds), "+Inf"], sums, strict=True):
        below += count
        result.append((name, below))
    return result


def _by_bucket(counts: list[tuple[float, int]], bounds: tuple[int, ...]) -> list[int]:
    """How many each bucket has, and after the last one, how many are beyond it."""
    sums = [0] * (len(bounds) + 1)
    for bound, count in counts:
        sums[bisect_left(bounds, bound)] += count
    return sums


def quantile(counts: list[tuple[float, int]], bounds: tuple[int, ...], share: float) -> float:
    """The value that `share` of all do not exceed: 0.95 gives the 95th percentile.

    As if what is in a bucket were spread evenly over it, like Prometheus' `histogram_quantile`: so
    it is in the right bucket, and off by less than the bucket is wide. What is beyond the last
    bound counts as that bound. Something has to be counted.
    """
    sums = _by_bucket(counts, bounds)
    wanted, below = share * sum(sums), 0
    for lower, upper, count in zip((0, *bounds), bounds, sums, strict=False):
        if count and below + count >= wanted:
            return lower + (upper - lower) * (wanted - below) / count
        below += count
    return float(bounds[-1])
