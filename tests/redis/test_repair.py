"""audit --repair: each kind of damage is found and repaired, and everything is delivered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
import redis
from click.testing import CliRunner

from callbacks.batcher.audit import audit, repair
from callbacks.batcher.inspector import Inspector, find, overview
from callbacks.batcher.store import Batcher
from callbacks.cli.main import main
from callbacks.model import Go, Outcome
from tests.redis.support import HOST, begin, claim, key, put, settle

Make = Callable[..., Batcher]
Break = tuple[Any, ...]
LANE, RING, DEST = key(f"lane:{HOST}"), key("ring"), key(f"dest:{HOST}")
P, EXPIRY, SENT, DEAD = (key(name) for name in ("processing", "expiry", "sent", "dead"))

#: By name: the commands that break something, the affected callback, its state afterwards.
BREAKS: Final[dict[str, tuple[list[Break], str, str]]] = {
    "queued, in no structure": ([("ZREM", LANE, "queued")], "queued", "queued"),
    "queued, lane and end lost": (
        [("ZREM", LANE, "queued"), ("ZREM", EXPIRY, "queued")], "queued", "queued",
    ),
    "queued, no end of life": ([("ZREM", EXPIRY, "queued")], "queued", "queued"),
    "queued, processing too": ([("ZADD", P, 5, "queued")], "queued", "queued"),
    "queued, sent too": ([("ZADD", SENT, 5, "queued")], "queued", "queued"),
    "queued, dead too": ([("ZADD", DEAD, 5, "queued")], "queued", "queued"),
    "queued, in a lane of others": (
        [("ZADD", key("lane:https://b:443"), 5, "queued")], "queued", "queued",
    ),
    "queued, request lost": ([("DEL", key("cb:queued"))], "queued", "dead"),
    "claimed, in no structure": ([("ZREM", P, "claimed")], "claimed", "queued"),
    "claimed, in its lane too": ([("ZADD", LANE, 5, "claimed")], "claimed", "processing"),
    "claimed, record lost": ([("DEL", key("rec:claimed"))], "claimed", "queued"),
    "claimed, record and request lost": (
        [("DEL", key("rec:claimed"), key("cb:claimed"))], "claimed", "dead",
    ),
    "claimed, record says sent": ([("HSET", key("rec:claimed"), "s", "sent")], "claimed", "queued"),
    "claimed, with the lease of one that is sent": (
        [("ZADD", P, -5, "claimed")], "claimed", "processing",
    ),
    "claimed, holds a place in flight": (
        [("ZADD", key(f"inflight:{HOST}"), 9e15, "claimed")], "claimed", "processing",
    ),
    "sending, in no structure": ([("ZREM", P, "sending")], "sending", "queued"),
    "sending, with the lease of one that is claimed": (
        [("ZADD", P, 5, "sending")], "sending", "processing",
    ),
    "dead, not among them": ([("ZREM", DEAD, "dead")], "dead", "dead"),
    "dead, sent too": ([("ZADD", SENT, 5, "dead")], "dead", "dead"),
    "dead, queued too": ([("ZADD", LANE, 5, "dead")], "dead", "dead"),
    "dead, with an end of life": ([("ZADD", EXPIRY, 9e15, "dead")], "dead", "dead"),
    "dead, request lost": ([("DEL", key("cb:dead"))], "dead", "dead"),
    "sent, not among them": ([("ZREM", SENT, "sent")], "sent", "sent"),
    "sent, with its request": ([("SET", key("cb:sent"), "x")], "sent", "sent"),
    "sent, dead too": ([("ZADD", DEAD, 5, "sent")], "sent", "sent"),
    "sent, record lost": ([("DEL", key("rec:sent"))], "sent", ""),
    "an end of life of nobody": ([("ZADD", EXPIRY, 9e15, "nobody")], "nobody", "dead"),
    "in both rings": ([("ZADD", key("unproven"), 1, HOST)], "", ""),
    "ring lost": ([("DEL", RING)], "", ""),
    "ring without a lane": ([("ZADD", RING, 1, "https://x:443")], "", ""),
    "ring as if paused": ([("ZADD", RING, "+inf", HOST)], "", ""),
    "ring an hour too far": ([("ZADD", RING, 9e15, HOST)], "", ""),
    "counters too high": ([("HINCRBY", key("counters"), "accepted", 5)], "", ""),
    "counters lost": ([("DEL", key("counters"))], "", ""),
    "everything of one lost": (
        [("ZREM", LANE, "queued"), ("ZREM", EXPIRY, "queued"), ("DEL", key("cb:queued"))], "", "",
    ),
}  # fmt: skip


@pytest.fixture
def batcher(make_batcher: Make) -> Batcher:
    """One callback in each state, with that state as its id."""
    made = make_batcher(
        send_interval=0, destination_interval=0, min_interval=0, batch_size=4,
        destination_concurrency=0, breaker_failures=0,
    )  # fmt: skip
    for id in ("dead", "sent", "sending", "claimed"):
        put(made, id)
    by_id = {c.id: c for c in claim(made).callbacks}
    for id in ("dead", "sent", "sending"):
        begin(made, by_id[id])
    settle(made, by_id["dead"], Outcome.DEAD)
    settle(made, by_id["sent"])
    put(made, "queued")
    return made


def test_a_claimed_callback_without_its_record_is_one_finding(
    batcher: Batcher, client: redis.Redis
) -> None:
    client.delete(key("rec:claimed"))
    assert list(audit(Inspector(batcher.scripts))) == ["claimed: has lost its record"]


def deliver_all(batcher: Batcher, client: redis.Redis) -> None:
    """Reclaim what is in flight, and send everything."""
    for id in client.zrange(P, 0, -1):
        client.zadd(P, {id: 1})
    batcher.reclaim(100, chance=0)
    for lane in client.keys(key("lane:*")):
        client.zadd(lane, dict.fromkeys(client.zrange(lane, 0, -1), 1))
        name = lane.decode().partition("lane:")[2]
        batcher.repair_ring(name)
    for _ in range(5):
        for claimed in claim(batcher).callbacks:
            gate = batcher.begin(claimed.id, claimed.token)
            assert isinstance(gate, Go)
            settle(batcher, claimed, attempt=gate.attempt)


@pytest.mark.parametrize("name", BREAKS)
def test_what_is_broken_is_named_and_put_right(
    batcher: Batcher, client: redis.Redis, inspector: Inspector, name: str
) -> None:
    commands, id, state = BREAKS[name]
    assert list(audit(inspector)) == []
    for command in commands:
        client.execute_command(*command)
    named = list(audit(inspector))
    assert named
    done = [str(finding) for finding, _ in repair(batcher)]
    assert set(named) & set(done)
    assert list(audit(inspector)) == []
    assert list(repair(batcher)) == []
    if id:
        found = find(batcher.scripts, id)
        assert (found.state if found else "") == state
    deliver_all(batcher, client)
    assert list(audit(inspector)) == []
    left = overview(batcher.scripts)
    assert (left.queued, left.processing, left.balance) == (0, 0, 0)


def test_a_missing_callback_is_counted_as_lost_and_health_is_ok_again(
    batcher: Batcher, client: redis.Redis, environment: Callable[..., None]
) -> None:
    environment()
    client.zrem(LANE, "queued")
    client.zrem(EXPIRY, "queued")
    client.delete(key("cb:queued"))
    run = CliRunner()
    assert run.invoke(main, ["audit"]).exit_code == 1
    mended = run.invoke(main, ["audit", "--repair"])
    assert mended.exit_code == 0
    assert "counters: accepted + replayed exceed what they became by 1; 1 counted as lost" in (
        mended.stdout
    )
    assert run.invoke(main, ["audit"]).exit_code == 0
    totals = overview(batcher.scripts).totals
    assert (totals["accepted"], totals["lost"], totals["found"]) == (5, 1, 0)


def test_a_request_under_way_with_a_lease_as_an_earlier_build_wrote_it_keeps_its_time(
    batcher: Batcher, client: redis.Redis, inspector: Inspector
) -> None:
    lease = -client.zscore(P, "sending")
    client.zadd(P, {"sending": lease})
    assert [done for _, done in repair(batcher)] == ["processing now"]
    assert client.zscore(P, "sending") == -lease
    assert batcher.reclaim(100, chance=0).recovered == 0
    assert list(audit(inspector)) == []


def test_a_mended_id_that_has_moved_on_meanwhile_is_left_alone(
    batcher: Batcher, client: redis.Redis, inspector: Inspector
) -> None:
    for id, state in (("queued", "queued"), ("sent", "sent"), ("dead", "dead")):
        assert batcher.repair(id) == state
    for id in ("sending", "claimed"):
        assert batcher.repair(id) == "processing"
    assert batcher.repair("nobody") == "forgotten"
    assert list(audit(inspector)) == []
