"""Unproven destinations never hold up proven ones."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from statistics import median

import pytest
import redis

from callbacks.batcher.store import Batcher
from callbacks.model import Answer, Effect, Feedback, Go, Later, LaterWhy, Outcome, Reason, Refused
from callbacks.policy.stagger import Stagger, StaggerWhy
from callbacks.settings import load_settings
from tests.redis.bench import Bench
from tests.redis.simulation import Receiver, Simulation
from tests.redis.support import begin, claim, key, now_ms, put, settle

Make = Callable[..., Batcher]
OK = Feedback(Effect.OK)
PROVEN = "https://proven.example:443"


def newcomers(batcher: Batcher, many: int) -> None:
    for n in range(many):
        put(batcher, f"h-{n:03}", f"https://h{n:03}.example:443", proven=False)


def allow(client: redis.Redis, most: int) -> None:
    client.hset(key("state"), "unproven_most", most)


def test_who_has_answered_gets_every_other_slot_however_many_have_not(
    make_batcher: Make,
) -> None:
    batcher = make_batcher(send_interval=0, destination_interval=0, batch_size=10)
    newcomers(batcher, 50)
    for n in range(20):
        put(batcher, f"p-{n}", PROVEN)
    claimed = [c.id[0] for c in claim(batcher).callbacks]
    assert claimed == ["p", "h"] * 5


def test_where_nobody_else_waits_they_get_all_slots(make_batcher: Make) -> None:
    batcher = make_batcher(send_interval=0, destination_interval=0, batch_size=10)
    newcomers(batcher, 50)
    assert len(claim(batcher).callbacks) == 10


def test_they_are_claimed_for_as_many_places_as_there_are_and_each_answer_frees_one(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(send_interval=0, destination_interval=0, min_interval=0)
    allow(client, 3)
    newcomers(batcher, 5)
    batch = claim(batcher)
    assert [c.id for c in batch.callbacks] == ["h-000", "h-001", "h-002"]
    assert batch.arm_ms is None, "nothing can be claimed before there is a place"
    assert batcher.look().ready == 0
    assert claim(batcher).callbacks == ()
    first, *_ = batch.callbacks
    begin(batcher, first)
    assert settle(batcher, first, Outcome.RETRY, feedback=Feedback(Effect.FAULT)).name == "RETRY"
    assert batcher.look().ready == 1
    assert [c.id for c in claim(batcher).callbacks] == ["h-003"]


def test_a_freed_place_asks_for_the_next_batch(make_batcher: Make, client: redis.Redis) -> None:
    batcher = make_batcher(send_interval=0, destination_interval=0, min_interval=0)
    allow(client, 1)
    newcomers(batcher, 2)
    (first,) = claim(batcher).callbacks
    begin(batcher, first)
    done = batcher.settle(
        first.id, first.token, 1, Outcome.SENT, reason=None, feedback=OK, entry="[]"
    )
    assert done.arm_ms == 0


def test_the_place_of_a_worker_that_is_gone_comes_back_when_its_request_is_taken_back(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(send_interval=0, destination_interval=0, min_interval=0)
    allow(client, 1)
    newcomers(batcher, 2)
    (first,) = claim(batcher).callbacks
    begin(batcher, first)
    assert claim(batcher).callbacks == ()
    client.zadd(key("processing"), {first.id: 1})
    assert batcher.reclaim(100, chance=0).recovered == 1
    assert [c.id for c in claim(batcher).callbacks] == ["h-001"]


def test_places_of_nobody_are_freed_behind_many_old_ones_that_are_taken(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(send_interval=0, destination_interval=0, min_interval=0, batch_size=10)
    newcomers(batcher, 5)
    claimed = [c.id for c in claim(batcher).callbacks]
    old = now_ms(client) - 61_000
    client.zadd(key("places"), {**dict.fromkeys(claimed, 1), "nobody-1": old, "nobody-2": old})
    for _ in range(2):
        batcher.reclaim(5, chance=0)
    assert sorted(client.zrange(key("places"), 0, -1)) == [id.encode() for id in claimed]


def test_a_destination_that_hangs_although_it_had_answered_needs_a_place_for_more(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(send_interval=0, destination_interval=0, min_interval=0)
    allow(client, 1)
    for n in range(4):
        put(batcher, f"a-{n}", PROVEN)
    first, *more, third = claim(batcher).callbacks
    assert begin(batcher, first).overdue_ms == 1_000
    client.zadd(key("places"), {first.id: 1}, xx=True)  # a second later
    for c in more:
        assert isinstance(batcher.begin(c.id, c.token, has_place=False), Go), "one alone is slow"
    client.zadd(key("places"), {more[0].id: 1}, xx=True)
    gate = batcher.begin(third.id, third.token, has_place=False)
    assert isinstance(gate, Later)
    assert gate.why is LaterWhy.UNPROVEN
    batcher.release(third.id, third.token, 0, why=LaterWhy.UNPROVEN)
    allow(client, 1)
    newcomers(batcher, 3)
    assert claim(batcher).callbacks == (), "what hangs has taken more than the one place"


def test_without_a_place_the_gate_is_shut_and_the_callback_stays_the_next_one(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(send_interval=0, destination_interval=0, min_interval=0)
    allow(client, 2)
    newcomers(batcher, 5)
    one, two = claim(batcher).callbacks
    gate = batcher.begin(one.id, one.token, has_place=False)
    assert isinstance(gate, Later)
    assert gate.why is LaterWhy.UNPROVEN
    released = batcher.release(one.id, one.token, gate.due_ms, why=gate.why)
    assert released.arm_ms == 0
    assert [c.id for c in claim(batcher).callbacks] == [one.id]
    assert isinstance(batcher.begin(two.id, two.token), Go)


def test_a_destination_in_both_rings_is_claimed_from_once(
    make_batcher: Make, client: redis.Redis
) -> None:
    """A producer of an older release only knows one ring, and puts it there."""
    batcher = make_batcher(send_interval=0, destination_interval=0, min_interval=0)
    for n in range(2):
        put(batcher, f"a-{n}", PROVEN, proven=False)
    client.zadd(key("ring"), {PROVEN: 1})
    assert [c.id for c in claim(batcher).callbacks] == ["a-0"]
    assert client.zscore(key("ring"), PROVEN) is None
    assert client.zrange(key(f"lane:{PROVEN}"), 0, -1) == [b"a-1"]


def test_an_overdue_request_that_ends_asks_for_the_next_batch(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(send_interval=0, destination_interval=0, min_interval=0)
    put(batcher, "slow", PROVEN)
    (slow,) = claim(batcher).callbacks
    begin(batcher, slow)
    allow(client, 1)
    client.zadd(key("places"), {slow.id: 1}, xx=True)
    newcomers(batcher, 1)
    assert claim(batcher).callbacks == ()
    client.hdel(key("state"), "next_batch")
    done = batcher.settle(
        slow.id, slow.token, 1, Outcome.SENT, reason=None, feedback=OK, entry="[]",
        duration_ms=5_000,
    )  # fmt: skip
    assert done.arm_ms == 0


@pytest.mark.parametrize("end", ["cancel", "cancel asleep", "expire"])
def test_where_the_first_request_is_not_sent_the_next_one_need_not_wait_for_it(
    make_batcher: Make, client: redis.Redis, end: str
) -> None:
    batcher = make_batcher(send_interval=0, destination_interval=0, min_interval=0)
    for n in range(2):
        put(batcher, f"a-{n}", PROVEN, proven=False)
    (first,) = claim(batcher).callbacks
    assert claim(batcher).callbacks == ()
    if end == "cancel":
        batcher.cancel(first.id)
    elif end == "cancel asleep":
        assert isinstance(batcher.begin(first.id, first.token, nonce="n"), Go)
        assert batcher.cancel(first.id).name == "IN_FLIGHT"
        client.hincrby(key(f"rec:{first.id}"), "at", -1_000)  # its sender was stopped
        assert batcher.begin(first.id, first.token, nonce="n") is Refused.STALE
    else:
        client.zadd(key("expiry"), {first.id: 1})
        assert batcher.expire(1) == 1
    assert [c.id for c in claim(batcher).callbacks] == ["a-1"]


def test_a_destination_is_proven_by_its_first_success_and_until_it_times_out(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(send_interval=0, destination_interval=0, min_interval=0)
    slow = Feedback(Effect.FAULT, transport=True)
    rings: list[tuple[float | None, float | None]] = []
    for feedback, reason in [(OK, None), (slow, Reason.TIMEOUT), (OK, None)]:
        put(batcher, f"a-{len(rings)}", PROVEN, proven=False)
        (claimed,) = [c for c in claim(batcher).callbacks if c.id == f"a-{len(rings)}"]
        begin(batcher, claimed)
        put(batcher, f"next-{len(rings)}", PROVEN, proven=False)
        outcome = Outcome.DEAD if reason else Outcome.SENT
        settle(batcher, claimed, outcome, feedback=feedback, reason=reason)
        rings.append((client.zscore(key("ring"), PROVEN), client.zscore(key("unproven"), PROVEN)))
        batcher.cancel(f"next-{len(rings) - 1}")
    assert [proven is not None for proven, _ in rings] == [True, False, True]
    assert [unproven is not None for _, unproven in rings] == [False, True, False]


def test_the_places_of_all_live_processes_are_added_up(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher()

    def most(*words: tuple[str, int]) -> int:
        for ticker, places in words:
            client.delete(key("tick"))
            batcher.tick(ticker, 1_000, places=places)
        return int(client.hget(key("state"), "unproven_most") or 0)

    assert most(("a", 16)) == 16
    assert most(("b", 16)) == 32
    client.hset(key("workers"), "a", f"32 16 {now_ms(client) - 1}")  # no recent report
    assert most(("b", 16)) == 16
    assert client.hkeys(key("workers")) == [b"b"]


def hangs(id: str) -> Answer:
    """Only the proven destination answers."""
    if id.startswith("h"):
        return Answer(None, Reason.TIMEOUT, duration=10.0)
    return Answer(200, None, duration=0.02)


def answers(id: str) -> Answer:
    return Answer(200, None, duration=0.02)


def beside(client: redis.Redis, hosts: int, receiver: Receiver, threads: int) -> Simulation:
    """Default settings, two processes: the usual setup for measuring such problems.

    One destination has answered 20 times. `hosts` others get a callback each; ten seconds later the
    one gets 50.
    """
    settings = load_settings({"REDIS_URL": "redis://127.0.0.1:1/0"})
    run = Simulation(Bench(client), settings, receiver, threads=(threads, threads))
    start = run.now
    for n in range(20):
        run.enqueue(f"w-{n}", PROVEN)
    run.run_until(start + 20_000)
    assert len(run.sent) == 20
    for n in range(hosts):
        run.enqueue(f"h-{n}", f"https://h{n}.example:443")
    run.run_until(start + 30_000)
    for n in range(50):
        run.enqueue(f"p-{n}", PROVEN)
    run.run_until(start + 60_000)
    return run


def lateness(run: Simulation) -> list[int]:
    """When each of the 50 was sent, in ms after they were enqueued."""
    start = min(run.sent.values())
    return sorted(at - start - 30_000 for id, at in run.sent.items() if id.startswith("p"))


@pytest.mark.parametrize(
    ("hosts", "threads"),
    [
        (20, 64),
        (200, 64),
        pytest.param(1_000, 64, marks=pytest.mark.slow),
        pytest.param(1_000, 500, marks=pytest.mark.slow),
    ],
)
def test_hanging_hosts_hold_nobody_up_with_default_settings(
    client: redis.Redis, hosts: int, threads: int
) -> None:
    alone = lateness(beside(client, 0, hangs, threads))
    with_answering = lateness(beside(client, hosts, answers, threads))
    run = beside(client, hosts, hangs, threads)
    found = lateness(run)
    assert len(found) == 50
    assert found[-1] <= max(alone[-1], with_answering[-1]) + 2_000
    assert median(found) <= max(median(alone), median(with_answering)) + 2_000
    assert max(run.staggers) <= 0.2, "never slower because of those that never worked"
    # Each gets its three tries in turn: 10 s each over half of the places, and half as much again
    # because a place is only reused by the next batch; 200 ms apart; 90 s of waits.
    places, tries = threads, 3 * hosts  # half of two processes
    run.run_until(run.now + 15_000 * tries // places + 200 * tries + 90_000)
    assert {f"h-{n}" for n in range(hosts)} <= run.sent.keys()
    assert run.requests == 70 + 3 * hosts


@pytest.mark.parametrize("took_ms", [3_000, 6_500])
def test_many_that_answer_slowly_leave_places_to_the_quick_ones(
    client: redis.Redis, took_ms: int
) -> None:
    def receiver(id: str) -> Answer:
        return Answer(200, None, duration=(took_ms if id.startswith("h") else 20) / 1000)

    def ask_slow(times: int) -> None:
        for n in range(200):
            for _ in range(times):
                run.enqueue(f"h-{n}-{next(number)}", f"https://h{n}.example:443")

    number = count()
    settings = load_settings({"REDIS_URL": "redis://127.0.0.1:1/0"})
    run = Simulation(Bench(client), settings, receiver, threads=(64, 64))
    run.enqueue("w-0", PROVEN)
    ask_slow(1)
    run.run_until(run.now + 120_000)
    assert len(run.sent) == 201, "all have answered"
    ask_slow(20)
    run.run_until(run.now + 20_000)
    handed_in = run.now
    for n in range(50):
        run.enqueue(f"p-{n}", PROVEN)
    run.run_until(run.now + 60_000)
    late = [run.sent[f"p-{n}"] - handed_in for n in range(50)]
    assert max(late) <= 13_000, "alone they take 11 s"
    run.run_until(run.now + 400_000)
    assert len(run.sent) == 201 + 4_000 + 50


def backlog_of_newcomers(client: redis.Redis, many: int, receiver: Receiver) -> Simulation:
    """This many wait, with one callback each, whose arrivals no longer count."""
    settings = load_settings({"REDIS_URL": "redis://127.0.0.1:1/0"})
    run = Simulation(Bench(client), settings, receiver, threads=(64, 64))
    run.batcher.pause()
    for n in range(many):
        run.enqueue(f"h-{n}", f"https://h{n}.example:443")
    run.run_until(run.now + 30_000)
    run.batcher.resume()
    run.staggers.clear()
    return run


def test_a_backlog_of_newcomers_that_answer_is_gone_within_the_drain_target(
    client: redis.Redis,
) -> None:
    run = backlog_of_newcomers(client, 3_000, answers)
    # The last ones, less than a batch, go at the base rate plus one per place.
    run.run_until(run.now + 60_000 + 10_000)
    assert len(run.sent) == 3_000


def test_a_backlog_of_newcomers_that_hang_does_not_drive_the_stagger(client: redis.Redis) -> None:
    run = backlog_of_newcomers(client, 3_000, hangs)
    run.run_until(run.now + 120_000)
    # 5 a second, one for each of 64 places in 5 s, and 3,000 / 60 s before it shows that they hang.
    assert min(run.staggers) >= 1 / 70
    settled = run.staggers[10:]
    assert median(settled) >= 1 / (5 + 64 / 5 + 7), "about as fast as their places come free"


@pytest.mark.parametrize("hosts", [12, 20])
def test_hosts_that_reset_while_the_only_good_one_is_quiet_hold_it_up_for_no_longer_than_a_batch(
    client: redis.Redis, hosts: int
) -> None:
    settings = load_settings({"REDIS_URL": "redis://127.0.0.1:1/0"})
    resets = False

    def receiver(id: str) -> Answer:
        if resets and id.startswith("h"):
            return Answer(None, Reason.RESET, duration=0.02)
        return answers(id)

    run = Simulation(Bench(client), settings, receiver, threads=(64, 64))
    for n in range(hosts):
        run.enqueue(f"h-{n}", f"https://h{n}.example:443")
    run.enqueue("p-0", PROVEN)
    run.run_until(run.now + 70_000)  # the good one was not tried within the minute
    resets = True

    def attack(seconds: int) -> None:
        for _ in range(seconds // 5):
            for n in range(hosts):
                run.enqueue(f"h-{run.now}-{n}", f"https://h{n}.example:443")
            run.run_until(run.now + 5_000)

    attack(15)
    assert run.staggers[-1] > 4, "nobody who waits or was asked lately answers"
    run.enqueue("p-1", PROVEN)
    handed_in = run.now
    attack(20)
    assert run.sent["p-1"] - handed_in <= 5_000
    assert run.staggers[-1] <= 0.2


def test_a_shorter_stagger_counts_at_once_from_the_last_instant_of_the_longer_one(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(destination_interval=0, destination_concurrency=0, min_interval=0)
    batcher.set_stagger(Stagger(0.2, 5, StaggerWhy.NETWORK))
    for n in range(2):
        put(batcher, f"a-{n}", PROVEN)
    (first,) = claim(batcher).callbacks
    begin(batcher, first)
    batcher.set_stagger(Stagger(5, 0.2, StaggerWhy.BASE))
    (second,) = claim(batcher).callbacks
    gate = batcher.begin(second.id, second.token)
    assert isinstance(gate, Go)
    assert 0 < second.slot_ms - first.slot_ms <= 400
    sent = [int(client.hget(key(f"rec:{c.id}"), "at") or 0) for c in (first, second)]
    assert 200 <= sent[1] - sent[0] <= 600


def test_a_shorter_stagger_keeps_its_distance_to_an_instant_that_is_still_ahead(
    batcher: Batcher, client: redis.Redis
) -> None:
    batcher.set_stagger(Stagger(0.2, 5, StaggerWhy.NETWORK))
    ahead = now_ms(client) + 60_000
    client.hset(key("state"), mapping={"slot": ahead + 5_000, "send": ahead + 5_000})
    for interval_s in (0.2, 0.2, 1):  # a longer one changes nothing
        batcher.set_stagger(Stagger(1 / interval_s, interval_s, StaggerWhy.BASE))
        found = client.hmget(key("state"), "slot", "send")
        assert [int(at or 0) for at in found] == [ahead + 200, ahead + 200]


def test_all_that_had_answered_and_hang_now_mean_our_own_network(client: redis.Redis) -> None:
    settings = load_settings({"REDIS_URL": "redis://127.0.0.1:1/0"})
    down = False

    def receiver(id: str) -> Answer:
        return hangs("h") if down else answers(id)

    def again() -> float:
        for n in range(12):
            run.enqueue(f"{len(run.sent)}-{n}", f"https://d{n}.example:443")
        run.run_until(run.now + 25_000)
        return run.staggers[-1]

    run = Simulation(Bench(client), settings, receiver, threads=(64, 64))
    assert again() <= 0.2
    down = True
    again()
    assert again() == 5
    down = False
    again()
    assert again() <= 0.2
