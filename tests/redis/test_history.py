"""Samples of all totals, taken once a minute, and what is read of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import redis

from callbacks import runtime
from callbacks.batcher.audit import audit
from callbacks.batcher.client import connect
from callbacks.batcher.history import MINUTES, TENS, Sample, entry_of, read_samples
from callbacks.batcher.inspector import TOTALS, Inspector
from callbacks.batcher.routes import shard_of
from callbacks.batcher.shards import Shards
from callbacks.batcher.store import Batcher
from callbacks.model import Item, Outcome, Reason
from callbacks.monitor.history import read_history
from callbacks.policy.buckets import DELAY_MS
from callbacks.settings import Settings
from callbacks.worker.duties import sample_once
from tests.redis.bench import Bench
from tests.redis.support import (
    HOUR_MS,
    begin,
    claim_one,
    everything,
    key,
    now_ms,
    packed,
    put,
    settle,
)

MINUTE_MS = 60_000


@pytest.fixture
def unpaced(make_batcher: Callable[..., Batcher]) -> Batcher:
    return make_batcher(min_interval=0, send_interval=0, destination_interval=0)


@pytest.fixture
def bench(client: redis.Redis) -> Bench:
    return Bench(client)


@pytest.fixture
def timed(bench: Bench, make_settings: Callable[..., Settings]) -> Batcher:
    """A batcher whose clock is that of the bench."""
    return bench.begin_anew(make_settings())


def test_a_sample_has_all_totals_and_sizes_and_changes_nothing_else(
    unpaced: Batcher, client: redis.Redis
) -> None:
    for id, outcome, more in (
        ("c-1", Outcome.SENT, {"status": 200, "duration_ms": 5, "delivery_ms": 400}),
        ("c-2", Outcome.RETRY, {"duration_ms": 9_000, "reason": Reason.TIMEOUT, "delay_ms": 9}),
        ("c-3", Outcome.DEAD, {"status": 401, "duration_ms": 5, "reason": Reason.CLIENT_ERROR}),
    ):
        claimed = claim_one(unpaced, id)
        begin(unpaced, claimed)
        settle(unpaced, claimed, outcome, **more)
    put(unpaced, "c-4")
    put(unpaced, "c-5", "https://held.example:443")
    unpaced.pause("https://held.example:443")
    before = everything(client)
    sample = sample_once(unpaced)
    assert everything(client).keys() - before.keys() == {key("history")}
    assert {name: everything(client)[name] for name in before} == before
    assert sample.totals["accepted"] == 5
    assert sample.totals["sent"] == 1
    assert sample.failed == {"timeout": 1, "client_error": 1}
    assert sample.delays == {500.0: 1}
    sizes = (sample.queued, sample.ready, sample.held, sample.processing, sample.dead)
    assert sizes == (2, 1, 1, 1, 1)
    _, kept = read_samples(unpaced.scripts)
    assert kept == {MINUTES: [sample], TENS: [sample]}
    assert list(audit(Inspector(unpaced.scripts))) == []


def test_a_sample_adds_up_all_shards_and_is_kept_once(
    client: redis.Redis, make_settings: Callable[..., Settings]
) -> None:
    settings = make_settings(shards=3)
    with connect(settings) as opened:
        shards = Shards(opened, settings)
        names = [f"https://{n}.example:443" for n in range(12)]
        shards.enqueue_many(
            [Item(f"c-{n}", name, packed(name), 0, HOUR_MS) for n, name in enumerate(names)]
        )
        assert len({shard_of(name, 3) for name in names}) == 3
        sample = sample_once(shards)
        assert (sample.queued, sample.totals) == (12, {"accepted": 12})
        assert sample_once(shards).totals == {"accepted": 12}
        assert len(read_samples(shards.scripts)[1][MINUTES]) == 1
        assert len(read_history(shards.scripts).hour.points) == 60
    assert [name for name in client.keys("*history*") if name != key("history").encode()] == []


def test_of_ten_minutes_the_latest_totals_and_the_greatest_sizes_are_kept(
    bench: Bench, timed: Batcher
) -> None:
    bench.advance(-bench.now_ms % TENS.ms + MINUTE_MS)  # the first minute of ten has ended
    put(timed, "c-1")
    first = sample_once(timed)
    timed.cancel("c-1")
    bench.advance(9 * MINUTE_MS)
    last = sample_once(timed)
    kept = read_samples(timed.scripts)[1]
    assert (first.queued, last.queued) == (1, 0)
    assert [(s.at_ms, s.queued, s.totals) for s in kept[TENS]] == [
        (bench.now_ms, 1, {"accepted": 1, "cancelled": 1})
    ]
    bench.advance(MINUTE_MS)
    sample_once(timed)
    kept = read_samples(timed.scripts)[1]
    assert sorted(sample.queued for sample in kept[TENS]) == [0, 1]
    assert len(kept[MINUTES]) == 3


def test_what_was_there_a_day_ago_does_not_count_among_the_greatest(
    bench: Bench, timed: Batcher
) -> None:
    put(timed, "c-1")
    assert sample_once(timed).queued == 1
    timed.cancel("c-1")
    bench.advance((TENS.count + 1) * TENS.ms)  # its place is used again
    sample_once(timed)
    (kept,) = read_samples(timed.scripts)[1][TENS]
    assert (kept.at_ms, kept.queued) == (bench.now_ms, 0)


def test_a_week_of_samples_takes_no_more_room_than_a_day(bench: Bench, timed: Batcher) -> None:
    for _ in range(1_500):
        sample = Sample(at_ms=bench.now_ms)
        timed.sample(sample, sample)
        bench.advance(7 * MINUTE_MS)
    assert bench.client.hlen(key("history")) == 61 + 145


def test_a_redis_at_its_limit_keeps_samples(batcher: Batcher, client: redis.Redis) -> None:
    sample_once(batcher)
    client.config_set("maxmemory", 1)
    sample_once(batcher)
    assert len(read_samples(batcher.scripts)[1][TENS]) == 1


def test_each_minute_has_one_first_tick_whoever_is_elected(bench: Bench, timed: Batcher) -> None:
    bench.advance(-bench.now_ms % MINUTE_MS)
    firsts = []
    for n in range(120):  # one elected each second
        tick = timed.tick(f"w-{n % 3}", 999)
        assert tick.elected
        assert not timed.tick("late", 999).first_of_minute
        firsts.append(tick.first_of_minute)
        bench.advance(1_000, unseen=["tick"])
    assert [n for n, first in enumerate(firsts) if first] == [0, 60]


def test_a_clock_that_is_set_back_does_not_stop_the_samples(bench: Bench, timed: Batcher) -> None:
    assert timed.tick("w", 999).first_of_minute
    bench.advance(-3 * 3_600_000, unseen=["tick"])
    assert timed.tick("w", 999).first_of_minute


def test_the_history_is_read_up_to_now(batcher: Batcher, client: redis.Redis) -> None:
    now = now_ms(client)
    for n, sent in enumerate((30, 20, 10)):
        sample = Sample(at_ms=now - n * MINUTE_MS, totals={"accepted": 40, "sent": sent})
        batcher.sample(sample, sample)
    history = read_history(batcher.scripts)
    assert now <= history.now_ms < now + MINUTE_MS
    assert history.hour.whole is not None
    assert history.hour.whole.totals["sent"] == 20
    changes = [
        point.change.totals["sent"] for point in history.hour.points if point and point.change
    ]
    assert changes == [10, 10]


def test_an_emptied_redis_begins_a_new_history(batcher: Batcher, client: redis.Redis) -> None:
    sample_once(batcher)
    client.flushall()
    history = read_history(batcher.scripts)
    assert history.hour.points == (None,) * 60
    assert history.hour.whole is None


def test_a_full_history_fits_into_little_memory(
    batcher: Batcher, client: redis.Redis, record_property: Callable[[str, object], None]
) -> None:
    """With every total, every reason and every bucket in use, and large counts."""
    now = now_ms(client)
    totals = dict.fromkeys(TOTALS, 12_345_678)
    failed = dict.fromkeys((reason.value for reason in Reason), 123_456)
    delays = dict.fromkeys(map(float, DELAY_MS), 1_234_567)
    sample = Sample(now, totals, failed, delays, *range(99_990, 99_997))
    for n in range(24 * 60):
        sample = replace(sample, at_ms=now - n * MINUTE_MS)
        batcher.sample(sample, sample)
    assert client.hlen(key("history")) == 61 + 145
    size = client.memory_usage(key("history"), samples=0)
    record_property("bytes of a day", size)
    record_property("bytes of a sample", len(entry_of(sample)))
    assert size < 300_000


# The ticker's part


def test_the_first_tick_of_a_minute_takes_a_sample_also_while_nothing_is_to_be_done(
    environment: Callable[..., None], client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(CALLBACKS_CHECK_INTERVAL=0.05)
    election = runtime.TickerElection()
    monkeypatch.setattr(runtime, "_election", election)
    client.hset(key("state"), "ticked", 1)

    def passes() -> bool:
        client.delete(key("tick"))
        client.hdel(key("state"), "busy")
        does = election.elect()
        if does:
            runtime.tick()
        return does

    assert passes()
    assert client.hlen(key("history")) == 2
    client.delete(key("history"))
    client.hset(key("state"), "ticked", now_ms(client))  # this minute is done
    assert not passes()
    assert not client.exists(key("history"))
    client.hset(key("state"), "ticked", now_ms(client) - MINUTE_MS)  # the next one
    assert passes()
    assert client.hlen(key("history")) == 2
