"""Readings: once a second for all who look, and kept while Redis is away."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from redis.exceptions import NoPermissionError

from callbacks.web.readings import FRESH_S, MOST, Readings


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Source:
    """Counts how often it is read, and may be away."""

    def __init__(self) -> None:
        self.times = 0
        self.error: redis.RedisError | None = None

    def __call__(self) -> int:
        self.times += 1
        if self.error:
            raise self.error
        return self.times


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def readings(clock: Clock) -> Readings:
    return Readings(monotonic=clock)


def test_a_reading_is_used_for_a_second(readings: Readings, clock: Clock) -> None:
    source = Source()
    assert [readings.of("a", source).value for _ in range(3)] == [1, 1, 1]
    clock.now = FRESH_S
    assert readings.of("a", source).value == 2
    assert readings.of("b", source).value == 3
    assert not readings.of("a", source).old


def test_what_changes_slowly_is_read_less_often(readings: Readings, clock: Clock) -> None:
    source = Source()
    for clock.now in (0.0, FRESH_S, 9.0):
        assert readings.of("a", source, fresh_s=10).value == 1
    clock.now = 10.0
    assert readings.of("a", source, fresh_s=10).value == 2


def test_many_requests_at_once_share_one_reading(readings: Readings) -> None:
    source, gate = Source(), threading.Barrier(20)

    def ask(_: int) -> int:
        gate.wait(10)
        return readings.of("a", source).value

    with ThreadPoolExecutor(20) as threads:
        assert set(threads.map(ask, range(20))) == {1}


def test_the_last_reading_stays_while_redis_is_away(readings: Readings, clock: Clock) -> None:
    source = Source()
    readings.of("a", source)
    source.error = redis.ConnectionError("away")
    clock.now = 40.0
    kept = readings.of("a", source)
    assert (kept.value, kept.age_s, kept.old) == (1, 40.0, True)
    assert readings.of("a", source).old
    assert source.times == 2
    source.error = None
    clock.now = 41.0
    assert readings.of("a", source) == type(kept)(3)


def test_while_redis_is_away_it_is_asked_once_a_second_for_all_pages(
    readings: Readings, clock: Clock
) -> None:
    source = Source()
    source.error = redis.TimeoutError("hangs")
    for key in "abcd":
        with pytest.raises(redis.TimeoutError):
            readings.of(key, source)
    assert source.times == 1
    clock.now = FRESH_S
    with pytest.raises(redis.TimeoutError):
        readings.of("b", source)
    assert source.times == 2


def test_what_redis_refuses_says_nothing_about_other_pages(
    readings: Readings, clock: Clock
) -> None:
    refused, well = Source(), Source()
    refused.error = NoPermissionError("NOPERM")
    with pytest.raises(NoPermissionError):
        readings.of("a", refused)
    assert not readings.of("b", well).old
    with pytest.raises(NoPermissionError):
        readings.of("a", refused)
    assert refused.times == 1


def test_a_fault_of_ours_is_no_outage(readings: Readings) -> None:
    def broken() -> int:
        raise KeyError("ours")

    with pytest.raises(KeyError):
        readings.of("a", broken)


def test_only_the_pages_asked_for_last_are_kept(readings: Readings) -> None:
    source = Source()
    for key in range(MOST + 1):
        readings.of(key, source)
    readings.of(1, source)
    assert source.times == MOST + 1
    readings.of(0, source)
    assert source.times == MOST + 2


def test_what_was_changed_is_read_again(readings: Readings) -> None:
    source = Source()
    readings.of("a", source)
    readings.forget("a")
    assert readings.of("a", source).value == 2


def test_an_outage_is_logged_once_and_so_is_its_end(
    readings: Readings, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    source = Source()
    for clock.now, away in enumerate((False, True, True, True, False, False)):
        source.error = redis.ConnectionError("away") if away else None
        readings.of("a", source)
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split()[0] for line in lines] == ["event=redis_away", "event=redis_back"]
