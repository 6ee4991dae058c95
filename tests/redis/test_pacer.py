"""The stagger over all shards: who gets which slot, and when a send may go."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import pytest
import redis

from callbacks.batcher.pacer import AWAY_S, Pacer
from callbacks.batcher.routes import shard_of
from callbacks.batcher.shards import Shards
from callbacks.batcher.store import HORIZON_MS, Batcher
from callbacks.model import Go, Item, Later, LaterWhy, Slots
from callbacks.settings import load_settings
from callbacks.worker.attempt import _Attempt
from callbacks.worker.duties import dispatch_once
from callbacks.worker.places import Places
from tests.redis.bench import Bench
from tests.redis.support import HOUR_MS, packed

COUNT = 4
STAGGER_MS = 20


class Messages:
    """Keeps the messages instead of sending them."""

    def __init__(self) -> None:
        self.triggers: list[int] = []

    def batch(self, claimed: Any) -> None:
        pass

    def trigger(self, delay_ms: int) -> None:
        self.triggers.append(delay_ms)

    check = trigger

    def of(self, shard: int | None) -> Messages:
        return self


class World:
    """Several shards on a clock that the test moves."""

    def __init__(self, client: redis.Redis, **given: object) -> None:
        fixed = {"shards": COUNT, "send_interval": STAGGER_MS / 1_000, "adaptive": "false"}
        environ = {f"CALLBACKS_{k.upper()}": str(v) for k, v in (fixed | given).items()}
        settings = load_settings({"REDIS_URL": "redis://127.0.0.1:1/0"} | environ)
        self.bench = Bench(client)
        self.bench.begin_anew(settings)
        self.shards = Shards(client, settings, verbs=self.bench.verbs)
        assert self.shards.pacer
        self.pacer: Pacer = self.shards.pacer
        self.ids = itertools.count()

    def fill(self, shard: int, destinations: int, each: int = 1) -> None:
        one = self.shards.shards[shard]
        names = (f"https://h{i}.example:443" for i in itertools.count())
        ours = (name for name in names if shard_of(name, COUNT) == shard)
        for name in itertools.islice(ours, destinations):
            self.shards.client.hset(one.scripts.keys.of("dest:", name), "ok", 1)
            for _ in range(each):
                id = self.shards.name(f"cb_{next(self.ids):024x}", name)
                assert self.shards.enqueue(Item(id, name, packed(name), 0, HOUR_MS)).accepted

    def claim(self, shard: int) -> list[int]:
        """The slots of a claim, in ms from the start."""
        batch = dispatch_once(self.shards.shards[shard], Messages())
        assert batch
        return [each.slot_ms - self.bench.now_ms for each in batch.callbacks]

    def slots(self, shard: int, want: int) -> Slots:
        one = self.shards.shards[shard]
        self.pacer.demand(one, want)
        return self.pacer.slots(one)


@pytest.fixture
def world(client: redis.Redis) -> World:
    return World(client)


def test_one_busy_shard_gets_all_slots_up_to_the_horizon(world: World) -> None:
    world.fill(2, 100)
    assert world.claim(2) == list(range(0, HORIZON_MS, STAGGER_MS))


def test_no_two_shards_get_the_same_slot_and_none_lies_closer_than_the_stagger(
    world: World,
) -> None:
    for shard in range(COUNT):
        world.fill(shard, 30)
    slots: list[int] = []
    start = world.bench.now_ms
    for _ in range(6):
        for shard in range(COUNT):
            passed = world.bench.now_ms - start
            slots += [passed + slot for slot in world.claim(shard)]
        world.bench.advance(500)
    assert len(slots) == 120
    assert all(y - x >= STAGGER_MS for x, y in itertools.pairwise(sorted(slots)))
    assert max(slots) <= 120 * STAGGER_MS  # and hardly any is lost


def test_busy_shards_share_a_window_evenly(world: World) -> None:
    window = 800  # min_interval and 300 ms
    counts = Counter[int]()
    for _ in range(20):
        for shard in range(COUNT):
            counts[shard] += world.slots(shard, 1_000).count
        world.bench.advance(500)
    assert sum(counts.values()) * STAGGER_MS <= 20 * 500 + HORIZON_MS + window
    assert sum(counts.values()) * STAGGER_MS >= 20 * 500
    assert max(counts[n] for n in range(1, COUNT)) <= 1.2 * min(counts[n] for n in range(1, COUNT))


def test_who_wants_little_gets_that_and_waits_no_longer_than_a_window(world: World) -> None:
    for _ in range(5):
        world.slots(0, 1_000)
        world.bench.advance(500)
    assert world.slots(1, 3).count == 0  # all are given out up to the horizon
    waited = 0
    while world.slots(1, 3).count < 3:
        world.slots(0, 1_000)
        world.bench.advance(100)
        waited += 100
    assert waited <= HORIZON_MS


def test_with_fewer_slots_than_shards_each_has_its_turn(client: redis.Redis) -> None:
    world = World(client, send_interval=1)
    got: list[int] = []
    for _ in range(200):
        for shard in range(COUNT):  # always in the same order: the first one has no advantage
            got += [shard] * world.slots(shard, 50).count
        world.bench.advance(100)
    assert 18 <= len(got) <= 22
    counts = Counter(got)
    assert max(counts.values()) - min(counts.values()) <= 2


def test_what_a_claim_cannot_use_is_given_back(world: World) -> None:
    world.fill(0, 3)
    world.fill(1, 3)
    assert world.claim(0) == [0, 20, 40]
    assert world.claim(1) == [60, 80, 100]


def test_a_shard_that_is_quiet_has_no_part(world: World) -> None:
    world.slots(0, 50)
    world.slots(1, 50)
    world.bench.advance(HORIZON_MS)
    assert world.slots(1, 100).count > 90


def test_the_stagger_adapts_to_the_demand_of_all_shards(client: redis.Redis) -> None:
    world = World(client, adaptive="true", send_interval=0.2, drain_target=10)
    for shard in range(COUNT):
        world.fill(shard, 50)
        world.claim(shard)
    home = world.shards.home
    rate = int(client.hget(home.scripts.keys.of("state"), "rate") or 0) / 1_000
    assert rate == pytest.approx(20 + 200 / 10, rel=0.05)  # accepted in 10 s, and the backlog


# The last word before a send


def test_sends_of_all_shards_are_one_stagger_apart(world: World) -> None:
    shards = world.shards.shards
    waits = [world.pacer.take(shards[n % COUNT], 0) for n in range(5)]
    assert waits == [(n * STAGGER_MS, True) for n in range(5)]
    assert world.pacer.take(shards[0], 200) == (200, True)
    assert world.pacer.take(shards[1], 0) == (220, True)
    assert world.pacer.take(shards[2], 0) == (240, True)
    assert world.pacer.take(shards[3], 0) == (260, False)  # too far ahead: nothing is taken
    assert world.pacer.take(shards[3], 0, must=True) == (260, True)
    assert world.pacer.take(shards[3], 0) == (280, False)


def test_a_gate_that_is_open_puts_the_attempt_off(world: World) -> None:
    world.fill(1, 1)
    one, claimed = claimed_of(world)
    assert isinstance(one.begin(claimed.id, claimed.token, nonce="n"), Go)
    again = one.begin(claimed.id, claimed.token, nonce="n", ahead_ms=130)
    assert isinstance(again, Go)
    assert (again.wait_ms, again.attempt) == (130, 1)
    assert next_send(world, one) == world.bench.now_ms + 130 + 200  # its interval counts from there


def test_an_attempt_that_is_put_off_too_far_goes_back_but_only_once(world: World) -> None:
    world.fill(1, 1)
    one, claimed = claimed_of(world)
    one.begin(claimed.id, claimed.token, nonce="n")
    later = one.begin(claimed.id, claimed.token, nonce="n", ahead_ms=400)
    assert later == Later(world.bench.now_ms + 400, LaterWhy.PACE)
    world.bench.advance(200)  # its destination's interval
    assert isinstance(one.begin(claimed.id, claimed.token, nonce="m"), Go)
    gate = one.begin(claimed.id, claimed.token, nonce="m", ahead_ms=400)
    assert isinstance(gate, Go)
    assert gate.wait_ms == 400


def test_two_sends_to_one_destination_keep_its_interval_when_one_is_put_off(
    client: redis.Redis,
) -> None:
    world = World(client, send_interval=0.01, destination_interval=0.05)
    world.fill(1, 1, each=2)
    one = world.shards.shards[1]
    batch = dispatch_once(one, Messages())
    assert batch
    first, second = batch.callbacks
    one.begin(first.id, first.token, nonce="1")
    world.bench.advance(50)
    gate = one.begin(second.id, second.token, nonce="2")
    assert isinstance(gate, Go)
    second_at = world.bench.now_ms + gate.wait_ms
    put_off = one.begin(first.id, first.token, nonce="1", ahead_ms=gate.wait_ms + 10)
    assert not isinstance(put_off, Go) or (world.bench.now_ms + put_off.wait_ms >= second_at + 50)


class Still:
    """A clock that stands still."""

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        raise AssertionError(seconds)


@pytest.mark.parametrize("later_ms", [0, 1, 4])
def test_the_interval_counts_from_where_a_send_goes_however_little_it_is_put_off(
    world: World, monkeypatch: pytest.MonkeyPatch, later_ms: int
) -> None:
    def take(_one: Batcher, wait_ms: int, *, must: bool) -> tuple[int, bool]:
        return wait_ms + later_ms, True

    monkeypatch.setattr(world.pacer, "take", take)
    world.fill(1, 1)
    one, claimed = claimed_of(world)
    id, token = claimed.id, claimed.token
    attempt = _Attempt(one, Messages(), Places(), id, token, False, "n", Still())
    since, go = attempt.begin()
    assert isinstance(go, Go)
    _, gate = attempt.at_the_pace_of_all(since, go)
    assert isinstance(gate, Go)
    assert gate.wait_ms == go.wait_ms + later_ms
    assert next_send(world, one) == gate.now_ms + gate.wait_ms + 200


def claimed_of(world: World) -> tuple[Batcher, Any]:
    one = world.shards.shards[1]
    batch = dispatch_once(one, Messages())
    assert batch
    (claimed,) = batch.callbacks
    return one, claimed


def next_send(world: World, one: Batcher) -> int:
    """When the only destination of a shard may be sent to next."""
    (name,) = world.shards.client.keys(one.scripts.keys.of("dest:") + "*")
    return int(world.shards.client.hget(name, "send"))


# Away


class Gone:
    """A home whose Redis is away."""

    def __init__(self, home: Batcher) -> None:
        self.settings = home.settings
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        def fail(*_args: object, **_given: object) -> Any:
            self.asked += 1
            raise redis.ConnectionError("away")

        return fail


def test_while_nobody_can_be_asked_each_shard_keeps_to_its_even_part(world: World) -> None:
    time = [0.0]
    gone: Any = Gone(world.shards.home)
    pacer = Pacer(gone, lambda: time[0])
    shards = world.shards.shards
    assert [pacer.take(shards[0], 0)[0] for _ in range(3)] == [0, 80, 160]
    assert pacer.take(shards[1], 0) == (0, True)
    assert pacer.slots(shards[2]) == Slots(0, 25, 80)
    assert gone.asked == 1
    time[0] += AWAY_S
    pacer.take(shards[0], 0)
    assert gone.asked == 2
