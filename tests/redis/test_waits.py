"""What a callback waits for before an attempt, on a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis

from callbacks.batcher import scopes
from callbacks.model import Claimed, Effect, Feedback, Go, LaterWhy, Outcome, Waited
from callbacks.request.urls import Scope
from callbacks.settings import Settings
from tests.redis.bench import Bench
from tests.redis.support import HOST, claim, put, settle

FAST = {"send_interval": 0, "min_interval": 0, "destination_interval": 0}
LANE = f"{HOST}#one"

Given = Callable[..., "World"]


class World:
    """A batcher, and time that passes only when told to."""

    def __init__(self, bench: Bench, settings: Settings) -> None:
        self.bench, self.batcher = bench, bench.begin_anew(settings)
        self.start = bench.now_ms

    def claim(self) -> tuple[Claimed, ...]:
        """Claim a batch, whenever a lock was last held."""
        self.bench.lose_lock()
        return claim(self.batcher).callbacks

    def waited(self, claimed: Claimed) -> Waited:
        """Begin, and tell how it came to that; instants from the start on."""
        gate = self.batcher.begin(claimed.id, claimed.token)
        assert isinstance(gate, Go), gate
        assert gate.waited is not None
        due, taken, slot, passed, held = gate.waited
        return Waited(due - self.start, taken - self.start, slot - self.start, passed, held)


@pytest.fixture
def given(client: redis.Redis, make_settings: Callable[..., Settings]) -> Iterator[Given]:
    return lambda **settings: World(Bench(client), make_settings(**FAST | settings))  # type: ignore[return-value]


def test_it_waits_for_its_batch_from_when_it_was_due(given: Given) -> None:
    world = given()
    put(world.batcher, "c-1", delay_ms=2_000)
    world.bench.advance(5_000)
    (c,) = world.claim()
    assert world.waited(c) == Waited(2_000, 5_000, 5_000)


def test_its_slot_is_apart_from_its_claim(given: Given) -> None:
    world = given(send_interval=0.2, adaptive=False)
    for n in range(2):
        put(world.batcher, f"c-{n}")
    world.bench.advance(1_000)
    first, second = world.claim()
    assert world.waited(first).slot_ms == 1_000
    world.bench.advance(100)
    assert world.waited(second) == Waited(0, 1_000, 1_200)


def test_batches_that_take_others_pass_over_it_until_the_last_one_before_its_own(
    given: Given,
) -> None:
    world = given(batch_size=1)
    for n in range(3):
        put(world.batcher, f"c-{n}")
    waited = []
    for _ in range(3):
        world.bench.advance(1_000)
        (c,) = world.claim()
        waited.append(world.waited(c))
    assert waited == [
        Waited(0, 1_000, 1_000, 0),
        Waited(0, 2_000, 2_000, 1_000),
        Waited(0, 3_000, 3_000, 2_000),
    ]


def test_a_second_step_of_a_batch_is_the_same_batch(given: Given) -> None:
    world = given(batch_size=500, destination_concurrency=0)
    for n in range(60):
        put(world.batcher, f"c-{n}")
    world.bench.advance(1_000)
    taken = world.claim()
    assert len(taken) == 60
    assert {world.waited(c) for c in taken} == {Waited(0, 1_000, 1_000, 0)}


def test_the_time_of_a_pause_counts_as_held(given: Given) -> None:
    world = given()
    put(world.batcher, "c-1")
    world.bench.advance(1_000)
    world.batcher.pause(HOST)
    world.bench.advance(4_000)
    world.batcher.pause(HOST)  # again: it goes on
    world.bench.advance(1_000)
    world.batcher.resume(HOST)
    world.bench.advance(500)
    (c,) = world.claim()
    assert world.waited(c) == Waited(0, 6_500, 6_500, 0, held_ms=5_000)


def test_the_time_of_a_pause_of_all_counts_once(given: Given) -> None:
    world = given()
    put(world.batcher, "c-1")
    world.bench.advance(1_000)
    world.batcher.pause()
    world.bench.advance(1_000)
    world.batcher.pause(HOST)
    world.bench.advance(1_000)
    world.batcher.resume()
    world.batcher.resume()  # again: it has ended
    world.bench.advance(1_000)
    world.batcher.resume(HOST)
    world.bench.advance(500)
    (c,) = world.claim()
    assert world.waited(c).held_ms == 3_000


def test_a_lane_is_held_while_its_host_is_paused(given: Given) -> None:
    world = given()
    put(world.batcher, "c-1", LANE)
    scopes.pause(world.batcher, Scope(HOST, lanes=True))
    world.bench.advance(3_000)
    scopes.resume(world.batcher, Scope(HOST, lanes=True))
    (c,) = world.claim()
    assert world.waited(c).held_ms == 3_000


def test_a_pause_before_it_was_due_is_no_wait(given: Given) -> None:
    world = given()
    world.batcher.pause(HOST)
    world.bench.advance(3_000)
    world.batcher.resume(HOST)
    put(world.batcher, "c-1")
    world.bench.advance(100)
    (c,) = world.claim()
    assert world.waited(c) == Waited(3_000, 3_100, 3_100)


def test_the_time_of_a_park_counts_as_held(given: Given) -> None:
    world = given()
    for id in ("c-1", "c-2"):
        put(world.batcher, id)
    (first, second) = world.claim()
    world.batcher.begin(first.id, first.token)
    settle(
        world.batcher, first, Outcome.RETRY, feedback=Feedback(Effect.ALIVE, hold_ms=10_000),
        delay_ms=60_000, throttled=True, status=429,
    )  # fmt: skip
    world.bench.advance(100)
    world.batcher.release(second.id, second.token, world.bench.now_ms, why=LaterWhy.ON_HOLD)
    world.bench.advance(10_400)
    (c,) = world.claim()
    # It was claimed at 0 and given back at 100, and is told to have waited since 0.
    assert world.waited(c) == Waited(0, 10_500, 10_500, passed_ms=100, held_ms=9_900)


def test_a_breaker_holds_from_its_first_opening_until_an_answer_closes_it(given: Given) -> None:
    world = given(breaker_failures=1)
    fault, fine = Feedback(Effect.FAULT, transport=True), Feedback(Effect.OK)
    for id in ("first", "probe", "another", "waits"):
        put(world.batcher, id)
        world.bench.advance(1)
    for hold_ms, feedback in ((0, fault), (30_000, fault), (60_000, fine)):  # opens, opens, closes
        world.bench.advance(hold_ms)
        (c,) = claim_first(world)
        world.batcher.begin(c.id, c.token)
        settle(world.batcher, c, Outcome.RETRY, feedback=feedback, delay_ms=3_600_000, park=True)
    world.bench.advance(700)
    (c,) = world.claim()
    assert c.id == "waits"
    assert world.waited(c) == Waited(3, 90_704, 90_704, passed_ms=1, held_ms=90_000)


def claim_first(world: World) -> tuple[Claimed, ...]:
    """Claim one, the oldest."""
    settings = world.batcher.settings
    world.batcher.settings = settings.model_copy(update={"batch_size": 1})
    try:
        return world.claim()
    finally:
        world.batcher.settings = settings


def test_a_retry_has_been_due_since_its_time(given: Given) -> None:
    world = given()
    put(world.batcher, "c-1")
    world.bench.advance(1_000)
    (c,) = world.claim()
    world.waited(c)
    settle(world.batcher, c, Outcome.RETRY, delay_ms=30_000)
    world.bench.advance(30_250)
    assert world.waited(c) == Waited(31_000, 31_000, 31_000)


def test_a_retry_that_is_given_back_has_waited_since_its_time(given: Given) -> None:
    world = given()
    put(world.batcher, "c-1")
    (c,) = world.claim()
    world.waited(c)
    settle(world.batcher, c, Outcome.RETRY, delay_ms=30_000)
    world.bench.advance(30_100)
    world.batcher.pause(HOST)
    world.batcher.release(c.id, c.token, world.bench.now_ms, why=LaterWhy.PAUSED)
    world.bench.advance(5_000)
    world.batcher.resume(HOST)
    (c,) = world.claim()
    assert world.waited(c) == Waited(30_000, 35_100, 35_100, passed_ms=100, held_ms=5_000)


def test_one_whose_claim_was_lost_has_waited_since_it_was_first_due(given: Given) -> None:
    world = given()
    put(world.batcher, "c-1", life_ms=3_600_000)
    world.bench.advance(500)
    world.claim()
    world.bench.advance(400_000)  # past the lease of the claim
    assert world.batcher.reclaim(10, chance=0).recovered == 1
    (c,) = world.claim()
    waited = world.waited(c)
    assert (waited.due_ms, waited.claimed_ms) == (0, 400_500)


def test_after_a_crash_it_is_due_anew(given: Given) -> None:
    world = given()
    put(world.batcher, "c-1")
    (c,) = world.claim()
    world.waited(c)
    world.bench.advance(20_000)
    assert world.batcher.reclaim(10, chance=0).recovered == 1
    world.bench.advance(40_000)
    (c,) = world.claim()
    assert world.waited(c).due_ms >= 25_000


def test_one_without_a_secret_has_waited_since_it_was_first_due(given: Given) -> None:
    world = given()
    put(world.batcher, "c-1")
    (c,) = world.claim()
    world.waited(c)
    world.batcher.withhold(c.id, c.token, 1, detail="none")
    world.bench.advance(1_500)
    (c,) = world.claim()
    assert world.waited(c) == Waited(0, 1_500, 1_500, passed_ms=1_000)


def test_a_record_that_is_final_keeps_nothing_of_its_claims(
    given: Given, client: redis.Redis
) -> None:
    world = given()
    put(world.batcher, "c-1")
    (c,) = world.claim()
    world.batcher.release(c.id, c.token, 0)
    (c,) = world.claim()
    world.waited(c)
    settle(world.batcher, c)
    assert {b"q", b"z"} & client.hgetall("{callbacks}:rec:c-1").keys() == set()
