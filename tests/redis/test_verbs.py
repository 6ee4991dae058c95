"""The verbs that the machine does not call: each check in them, on a clock that the test moves.

Every one has a scenario here, which passes, and notices each of the verb's defects in `DIRECT`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from callbacks.batcher.store import (
    BID_MS,
    HERE,
    RESERVED,
    TRANSFER_MS,
    UNRESERVE_MS,
    Batcher,
)
from callbacks.model import Demand
from callbacks.settings import Settings
from tests.redis.bench import Bench, Mutant
from tests.redis.mutants import DIRECT
from tests.redis.support import HOST, begin, claim_one, key, put, settle

OTHER, THIRD = "https://b.example:443", "https://c.example:443"
PACE = 20

Make = Callable[..., Settings]


class World:
    """Some scripts, perhaps with a defect, on an empty server."""

    def __init__(self, client: redis.Redis, make_settings: Make, mutant: Mutant | None) -> None:
        self.client = client
        self.bench = Bench(client, mutant)
        self._settings = make_settings()
        self.batcher = self.anew()

    def anew(self) -> Batcher:
        return self.bench.begin_anew(self._settings)

    @property
    def now(self) -> int:
        return self.bench.now_ms

    def bid(self, shard: int, want: int, *, ready: int = 0) -> int:
        """Say what a shard wants, and return how many are ready in all shards."""
        return self.batcher.bid(shard, want, Demand(ready, 0.0, None, 0, 0)).ready

    def grant(self, shard: int) -> tuple[int, int, int]:
        """Get slots: ms until the first, how many, and when to ask again."""
        ahead, count, _, again = self.batcher.grant(shard, PACE)
        return ahead, count, again

    def wants(self, *fields: str) -> list[str | None]:
        found = self.client.hmget(key("wants"), fields)
        return [word and word.decode() for word in found]

    def set(self, **fields: int) -> None:
        """Write fields of `state`."""
        self.client.hset(key("state"), mapping=fields)


def bid(w: World) -> None:
    assert w.bid(0, 10, ready=1) == 1
    assert w.bid(1, 10, ready=2) == 3
    w.bench.advance(BID_MS)
    assert w.bid(1, 10, ready=2) == 2  # the other word is too old
    w.bench.advance(-5_000)
    assert w.bid(0, 10, ready=4) == 4  # that word is of a time to come: the clock was set back
    w.client.hset(key("wants"), mapping={"v": 500, "g4": "700 0"})
    w.bid(3, 0)
    w.bid(4, 5)
    assert w.wants("g3", "g4") == ["500 0", "700 0"]  # no arrears for who comes only now
    w.client.hset(key("wants"), "v", 900)
    w.bid(3, 5)
    assert w.wants("g3") == ["900 0"]  # it wanted nothing meanwhile
    w.client.hset(key("wants"), "v", 950)
    w.bid(3, 5)
    assert w.wants("g3") == ["900 0"]  # it did


def grant(w: World) -> None:
    assert w.grant(0) == (0, 0, 50)  # it has not said that it wants some
    w.bid(0, 3)
    assert w.grant(0) == (0, 3, 0)
    w.bid(1, 1_000)  # alone now: up to the horizon
    assert w.grant(1) == (60, 98, 0)
    w.bid(2, 1_000)  # no longer alone: up to a window, which is over
    assert w.grant(2) == (0, 0, 2_020 - 800)
    w.anew()
    w.bid(0, 1_000)
    w.bid(1, 1_000)
    assert w.grant(0) == (0, 21, 0)  # half a window
    assert w.grant(0) == (0, 0, 50)
    assert w.grant(1) == (420, 20, 0)
    w.anew()
    for had in range(2):
        w.bid(0, 1)
        assert w.grant(0) == (had * PACE, 1, 0)
    assert w.wants("g0", "v") == [f"2 {w.now + 40}", "1"]
    w.anew()
    w.bid(0, 2)
    w.set(slot=w.now + 40_000)  # from before the clock was set back
    assert w.grant(0) == (0, 2, 0)
    w.anew()
    w.bid(0, 2)
    w.set(send=w.now + 100)  # the gate has been taken up to there
    assert w.grant(0) == (100, 2, 0)


def hand_back(w: World) -> None:
    w.bid(0, 5)
    w.grant(0)
    assert w.batcher.hand_back(0, PACE, 2)
    assert w.wants("g0") == ["3 0"]
    assert not w.batcher.hand_back(0, PACE, 2)
    w.bid(0, 1)
    assert w.grant(0) == (60, 1, 0)
    w.bid(1, 1)
    w.grant(1)
    assert not w.batcher.hand_back(0, PACE, 1)  # the other one got what comes after it


def reserve(w: World) -> None:
    ended = claim_one(w.batcher, "sent")
    begin(w.batcher, ended)
    settle(w.batcher, ended)
    put(w.batcher, "queued")
    ids = [("sent", 1), ("queued", 1), ("new", 1), ("new", 2)]
    assert w.batcher.reserve(ids) == [HERE, HERE, RESERVED, 1]
    assert w.client.hget(key("counters"), "duplicates") == b"2"
    w.bench.advance(1_000)
    assert w.batcher.reserve([("new", 1)]) == [RESERVED]
    assert w.client.get(key("at:new")) == f"1 {w.now}".encode()


def transfer(w: World) -> None:
    w.batcher.reserve([("a", 1)])
    assert not w.batcher.transfer("a", 1, 2)  # too young
    w.bench.advance(TRANSFER_MS)
    assert not w.batcher.transfer("a", 3, 2)  # for another one than that
    assert w.batcher.transfer("a", 1, 2)
    assert w.client.get(key("at:a")) == f"2 {w.now}".encode()
    assert w.batcher.transfer("b", 1, 2)  # not reserved at all


def unreserve(w: World) -> None:
    w.batcher.reserve([("a", 1), ("b", 2)])
    assert w.batcher.unreserve(["a"], 1) == 0  # too young
    w.bench.advance(UNRESERVE_MS)
    assert w.batcher.unreserve(["a", "b", "c"], 1) == 1
    assert w.client.keys(key("at:*")) == [key("at:b").encode()]


def agree(w: World) -> None:
    assert w.batcher.agree(4, keep=False) == 4
    assert w.batcher.agree(8, keep=True) == 8
    assert w.batcher.agree(4, keep=True) == 8
    put(w.anew(), "c-1")  # as an older release would have
    assert w.batcher.agree(8, keep=True) == 1


def want(w: World) -> None:
    for n in range(20):
        put(w.batcher, f"a-{n}")
    assert w.batcher.want() == 11  # one each 200 ms within the horizon
    w.client.hset(key(f"dest:{HOST}"), "interval", 400_000)
    assert w.batcher.want() == 6
    put(w.batcher, "b-1", OTHER)
    put(w.batcher, "b-2", OTHER, delay_ms=60_000)
    assert w.batcher.want() == 7  # what is due
    for n in range(3):
        put(w.batcher, f"c-{n}", THIRD, proven=False)
    assert w.batcher.want() == 8  # it sends one at a time
    put(w.batcher, "d-1", "https://d.example:443", proven=False)
    w.set(unproven_most=1)
    assert w.batcher.want() == 8  # there is one place
    w.batcher.pause(OTHER)
    assert w.batcher.want() == 7
    for host in range(10):
        for n in range(11):
            put(w.batcher, f"e-{host}-{n}", f"https://e{host}.example:443")
    assert w.batcher.want() == 100  # a batch


def load(w: World) -> None:
    for n in range(3):
        put(w.batcher, f"a-{n}")
    put(w.batcher, "b-1", OTHER, proven=False)
    put(w.batcher, "c-1", THIRD, proven=False)
    w.batcher.pause(THIRD)
    w.client.zadd(key("places"), {"x": w.now - 1, "y": w.now + 5_000})
    w.client.zadd(key("processing"), {"x": w.now})
    places, threads = w.batcher.load()
    assert places == 2  # x and OTHER
    assert threads == 1 + 4 + 1


def take(w: World) -> None:
    def instant(wait: int = 0, *, must: bool = False, adapts: bool = False) -> tuple[int, bool]:
        return w.batcher.take(wait, PACE, must=must, adapts=adapts)

    assert [instant(), instant(), instant(100), instant()] == [
        (0, True), (PACE, True), (100, True), (120, True),
    ]  # fmt: skip
    assert instant(240) == (240, True)
    assert instant() == (260, False)  # too far ahead
    assert instant() == (260, False)
    assert instant(must=True) == (260, True)
    w.set(send=w.now + 40_000)  # from before the clock was set back
    assert instant() == (0, True)
    w.anew()
    w.set(stagger=50_000)
    assert [instant(adapts=True), instant()] == [(0, True), (50, True)]
    assert instant() == (70, True)


def turn(w: World) -> None:
    assert w.batcher.turn("x", 10_000)
    assert w.batcher.turn("y", 10_000)
    assert not w.batcher.turn("x", 10_000)
    assert w.batcher.turn("x", 5_000)  # the clock was set back: that turn would last too long
    w.bench.advance(5_000, unseen=["turn:x", "turn:y"])
    assert w.batcher.turn("x", 5_000)
    assert not w.batcher.turn("y", 10_000)


SCENARIOS = {
    each.__name__: each
    for each in (
        bid, grant, hand_back, reserve, transfer, unreserve, agree, want, load, take, turn,
    )
}  # fmt: skip


@pytest.mark.parametrize("verb", SCENARIOS)
def test_it_does_what_its_header_says(verb: str, client: redis.Redis, make_settings: Make) -> None:
    SCENARIOS[verb](World(client, make_settings, None))


@pytest.mark.parametrize("name", DIRECT)
def test_its_scenario_notices(name: str, client: redis.Redis, make_settings: Make) -> None:
    mutant = DIRECT[name]
    world = World(client, make_settings, mutant)
    with pytest.raises(AssertionError):
        SCENARIOS[mutant.verb](world)
