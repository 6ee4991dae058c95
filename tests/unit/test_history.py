"""The history is computed from samples: what is missing is a gap, and what fell is not known."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from callbacks.batcher.history import (
    MINUTES,
    TENS,
    Sample,
    Step,
    entry_of,
    greatest,
    read_sample,
    sample_of,
)
from callbacks.batcher.inspector import TOTALS, Attempts, Overview, Survey
from callbacks.monitor.history import History, Series, change_of, facts, history_of, series_of
from callbacks.policy.buckets import Counted

MINUTE_MS = 60_000
#: The beginning of a day, of an hour, and of ten minutes.
DAY_0_MS = 1_800_057_600_000
NOW_MS = DAY_0_MS + 90 * MINUTE_MS + 5_000


def at(minute: float, **given: Any) -> Sample:
    """A sample so many minutes after `DAY_0_MS`, two seconds into its minute."""
    return Sample(at_ms=round(DAY_0_MS + minute * MINUTE_MS + 2_000), **given)


def sent(minute: float, total: int, **given: Any) -> Sample:
    return at(minute, totals={"accepted": total + 5, "sent": total}, **given)


def shown(series: Series) -> list[int | None]:
    """What was sent in each of the last steps, up to the first that is not known."""
    changes = [point.change if point else None for point in reversed(series.points)]
    return [change.totals["sent"] if change else None for change in changes]


def hour(*samples: Sample, now_ms: int = NOW_MS) -> Series:
    return series_of(samples, MINUTES, now_ms)


# Samples


def test_a_sample_has_what_was_read_and_leaves_out_what_is_0() -> None:
    totals = dict.fromkeys(TOTALS, 0) | {"accepted": 9, "sent": 4}
    sizes = Overview(
        now_ms=10_000, queued=3, processing=2, dead=1, sent_records=0, destinations_waiting=1,
        oldest_due_ms=None, lock="", paused_since_ms=None, next_batch_ms=None, last_batch_ms=None,
        data_since_ms=None, data_lost_ms=None, stagger_us=None, stagger_why="", totals=totals,
        per_minute={},
    )  # fmt: skip
    waiting = Survey(ready=2, ready_since_ms=9_000, held_since_ms=12_000, holds={}, held=1)
    tried = Attempts(
        (
            Counted("sent", "none", "2xx", 5.0, 100.0, 3),
            Counted("sent", "none", "2xx", 10.0, 100.0, 1),
            Counted("sent", "none", "2xx", 10.0, float("inf"), 2),
            Counted("retry", "timeout", "none", 10_000.0, None, 7),
            Counted("dead", "timeout", "none", 10_000.0, None, 1),
            Counted("dead", "crashed", "none", None, None, 2),
        )
    )
    assert sample_of(sizes, waiting, tried) == Sample(
        at_ms=10_000,
        totals={"accepted": 9, "sent": 4},
        failed={"timeout": 8, "crashed": 2},
        delays={100.0: 4, float("inf"): 2},
        queued=3,
        ready=2,
        held=1,
        processing=2,
        dead=1,
        oldest_ready_ms=1_000,
        oldest_held_ms=0,  # by a clock that was set back
    )


def test_a_sample_is_read_as_it_was_written() -> None:
    sample = Sample(
        at_ms=5,
        totals={"sent": 2},
        failed={"dns": 1},
        delays={100.0: 1, 86_400_000.0: 1, float("inf"): 1},
        **{name: n for n, name in enumerate(_sizes(), 1)},
    )
    assert read_sample(entry_of(sample)) == sample
    assert read_sample(entry_of(sample).replace("}", ',"of_a_later_release":1}', 1)) is not None
    assert read_sample(entry_of(at(1))) == at(1)


def _sizes() -> list[str]:
    others = {"at_ms", "totals", "failed", "delays"}
    return [each.name for each in dataclasses.fields(Sample) if each.name not in others]


def test_of_several_samples_the_latest_totals_and_the_greatest_sizes_are_kept() -> None:
    early = sent(1, 10, queued=7, ready=2, oldest_ready_ms=9)
    late = sent(2, 12, queued=3, ready=4, dead=1)
    assert greatest([late, early]) == sent(2, 12, queued=7, ready=4, oldest_ready_ms=9, dead=1)


def test_a_sample_tells_of_the_step_that_has_just_ended() -> None:
    assert MINUTES.number(at(7).at_ms) == MINUTES.number(at(7.9).at_ms)
    assert MINUTES.number(at(7).at_ms) * MINUTE_MS == DAY_0_MS + 6 * MINUTE_MS
    numbers = [TENS.number(at(minute).at_ms) for minute in (0, 1, 10, 10.9, 11)]
    assert numbers == [numbers[1] - 1, numbers[1], numbers[1], numbers[1], numbers[1] + 1]
    assert numbers[1] * TENS.ms == DAY_0_MS


@pytest.mark.parametrize("step", [MINUTES, TENS])
def test_places_are_used_again_only_when_their_sample_is_too_old_to_be_shown(step: Step) -> None:
    ages = [n * step.ms for n in range(step.count + 2)]
    places = [step.place(NOW_MS - age_ms) for age_ms in ages]
    assert len(set(places)) == step.count + 1
    assert places[0] == places[-1]


# Series


def test_what_happened_in_a_minute_is_the_difference_of_two_samples() -> None:
    before = at(
        89,
        totals={"accepted": 100, "sent": 90},
        failed={"timeout": 4},
        delays={250.0: 90},
        queued=3,
    )
    after = at(
        90.02,
        totals={"accepted": 130, "sent": 130, "dead": 2},
        failed={"timeout": 5, "dns": 3},
        delays={250.0: 90, 500.0: 40},
        queued=1,
        held=1,
        oldest_held_ms=1_500,
    )
    series = hour(before, after)
    assert (len(series.points), series.step_ms) == (60, MINUTE_MS)
    assert series.start_ms == DAY_0_MS + 30 * MINUTE_MS
    assert series.points[:58] == (None,) * 58
    first, last = series.points[-2:]
    assert first is not None
    assert first.change is None
    assert last is not None
    assert (last.oldest_ready_s, last.oldest_held_s) == (0.0, 1.5)
    assert last.change is not None
    assert last.change == series.whole
    assert tuple(last.change.totals[name] for name in ("accepted", "sent", "dead")) == (30, 40, 2)
    assert list(last.change.failed.items()) == [("dns", 3), ("timeout", 1)]  # most first
    assert last.change.seconds == pytest.approx(61.2)
    assert last.change.per_minute(40) == pytest.approx(60 * 40 / 61.2)
    delays = last.change.delays
    assert delays is not None
    # All 40 in the bucket from 250 to 500 ms: half, 95 and 99 % of the way.
    assert (delays.p50_s, delays.p95_s, delays.p99_s) == pytest.approx((0.375, 0.4875, 0.4975))


def test_a_missing_minute_is_a_gap_and_counts_in_the_whole_alone() -> None:
    series = hour(sent(85, 10), sent(86, 12), sent(89, 30, oldest_ready_ms=4_000), sent(90, 31))
    assert shown(series)[:6] == [1, None, None, None, 2, None]
    assert series.points[-3:-1] != (None, None)
    assert series.points[-4:-2] == (None, None)  # 87, 88: nothing at all
    back = series.points[-2]
    assert back is not None
    assert back.oldest_ready_s == 4  # at its end, which is known
    assert series.whole is not None
    assert series.whole.totals["sent"] == 21


def test_nothing_sent_is_a_zero_and_has_no_delays() -> None:
    series = hour(sent(89, 10), sent(90, 10))
    assert shown(series)[0] == 0
    assert series.whole is not None
    assert series.whole.delays is None
    assert series.whole.failed == {}
    assert series.whole.totals == dict.fromkeys(TOTALS, 0)


def test_the_minute_that_has_no_sample_yet_is_no_gap() -> None:
    samples = (sent(88, 10), sent(89, 12))
    assert shown(hour(*samples, now_ms=DAY_0_MS + 90 * MINUTE_MS + 500))[:2] == [2, None]
    assert shown(hour(*samples, now_ms=DAY_0_MS + 91 * MINUTE_MS + 500))[:2] == [None, 2]


def test_totals_that_have_fallen_are_those_of_other_data() -> None:
    series = hour(sent(88, 100), sent(89, 3), sent(90, 7))
    assert shown(series)[:3] == [4, None, None]
    assert series.whole is None
    assert change_of(at(1, failed={"dns": 1}), at(2)) is None
    assert change_of(at(1, delays={100.0: 1}), at(2, delays={250.0: 9})) is None
    assert change_of(at(1), at(1)) is None


def test_samples_of_the_future_and_of_another_hour_are_left_out() -> None:
    """Redis' clock was set back, or ahead: places still have what was written before."""
    old, future = sent(90 - 61, 1), sent(91, 3)
    assert hour(old, future, sent(90, 50)).whole is None
    assert shown(hour(old, future, sent(89, 40), sent(90, 50))) == [10, *[None] * 59]
    empty = hour(old, future)
    assert (set(empty.points), empty.whole) == ({None}, None)
    assert hour().points == (None,) * 60
    future = sent(88, 9)  # of the present ten minutes
    day = series_of([sent(61, 1), sent(71, 3), future], TENS, DAY_0_MS + 85 * MINUTE_MS)
    assert shown(day)[:2] == [2, None]


def test_an_hour_of_samples_makes_sixty_points() -> None:
    series = hour(*(sent(minute, 10 * minute) for minute in range(29, 91)))
    assert shown(series) == [10] * 60
    assert series.whole is not None
    assert series.whole.totals["sent"] == 600


def test_a_day_has_ten_minutes_a_point_and_the_present_ones_so_far() -> None:
    samples = [sent(10 * n, 10 * n, queued=n) for n in range(1, 10)]
    history: History = history_of(
        {TENS: [*samples, sent(93, 93)], MINUTES: []}, DAY_0_MS + 93 * MINUTE_MS + 9_000
    )
    day = history.day
    assert (len(day.points), day.step_ms) == (144, 10 * MINUTE_MS)
    assert shown(day)[:10] == [3, *[10] * 8, None]
    assert day.start_ms + 144 * day.step_ms == DAY_0_MS + 100 * MINUTE_MS
    assert set(history.hour.points) == {None}


# Words


def test_facts_say_what_failed_and_how_long_delivery_took() -> None:
    more = {"totals": {"sent": 4}, "failed": {"dns": 1, "timeout": 1_200}, "delays": {500.0: 4}}
    took = "50 % within 0.4 s of their enqueue, 95 % within 0.5 s, 99 % within 0.5 s"
    assert facts(hour(at(30), at(90, **more))) == [
        ("failed", "1,201 attempts in the last hour: 1,200 timeout, 1 dns"),
        ("delivered", f"in the last hour {took}"),
    ]
    assert facts(hour(at(78), at(90, failed={"dns": 1}))) == [
        ("failed", "1 attempt in the last 12 min: 1 dns")
    ]
    assert facts(hour(at(89), at(90))) == []
    assert facts(hour()) == []
