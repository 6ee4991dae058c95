"""Destinations that have not answered lately never hold up those that have."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import pytest
import redis

from callbacks.batcher.store import Batcher
from callbacks.model import Answer, Effect, Feedback, Go, Later, LaterWhy, Outcome, Reason
from callbacks.settings import load_settings
from tests.redis.bench import Bench
from tests.redis.simulation import Receiver, Simulation
from tests.redis.support import begin, claim, key, now_ms, put, settle

Make = Callable[..., Batcher]
OK = Feedback(Effect.OK)
PROVEN = "https://proven.example:443"


def newcomers(batcher: Batcher, count: int) -> None:
    for n in range(count):
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
    """A producer of an older release knows one ring only, and puts it there."""
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


@pytest.mark.parametrize("end", ["cancel", "expire"])
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
    batcher = make_batcher(unproven_share=0.25)

    def most(*words: tuple[str, int]) -> int:
        for ticker, places in words:
            client.delete(key("tick"))
            batcher.tick(ticker, 1_000, places=places)
        return int(client.hget(key("state"), "unproven_most") or 0)

    assert most(("a", 64)) == 16
    assert most(("b", 64)) == 32
    client.hset(key("workers"), "a", f"64 {now_ms(client) - 1}")  # not heard of lately
    assert most(("b", 64)) == 16
    assert most(("b", 2)) == 1, "one at least, so that they can ever prove themselves"
    assert client.hkeys(key("workers")) == [b"b"]


def hangs(id: str) -> Answer:
    """Only the proven destination answers."""
    if id.startswith("h"):
        return Answer(None, Reason.TIMEOUT, duration_ms=10_000)
    return Answer(200, None, duration_ms=20)


def answers(id: str) -> Answer:
    return Answer(200, None, duration_ms=20)


def beside(client: redis.Redis, hosts: int, receiver: Receiver, threads: int) -> Simulation:
    """Default settings, two processes: what issue after issue has been measured with.

    One destination has answered 20 times; ten seconds after a callback each for `hosts` others it
    gets 50.
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
    """When each of the 50 went out, in ms after they were handed in."""
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
    # Each gets its three tries, in turn: of 10 s each over half of the places and half as much
    # again, for a place is taken again at the next batch only; 200 ms apart; 90 s of waits.
    places, tries = threads, 3 * hosts  # half of two processes
    run.run_until(run.now + 15_000 * tries // places + 200 * tries + 90_000)
    assert {f"h-{n}" for n in range(hosts)} <= run.sent.keys()
    assert run.requests == 70 + 3 * hosts


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
