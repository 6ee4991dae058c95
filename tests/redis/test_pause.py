"""cancel, pause, resume, replay, purge, and the balance."""

from __future__ import annotations

from collections.abc import Callable

import redis

from callbacks.batcher import inspector
from callbacks.batcher.audit import audit
from callbacks.batcher.inspector import Inspector, find, overview
from callbacks.batcher.listing import Filter, statuses
from callbacks.batcher.scopes import PAGE, pause, resume
from callbacks.batcher.scripts import VERBS
from callbacks.batcher.store import STEER_STEP, Batcher
from callbacks.model import Cancelled, Go, Item, Later, LaterWhy, Outcome, Reason, Refused, State
from callbacks.request.urls import Scope, digest
from callbacks.settings import Settings
from tests.redis.support import (
    HOST,
    begin,
    claim,
    claim_one,
    counted,
    everything,
    key,
    packed,
    put,
    settle,
)
from tests.support.proxy import Proxy
from tests.support.server import Server

Make = Callable[..., Batcher]


def test_cancel_takes_a_callback_out_wherever_it_waits(
    make_batcher: Make, client: redis.Redis, inspector: Inspector
) -> None:
    batcher = make_batcher(send_interval=0, destination_interval=0, batch_size=2)
    for n in range(3):
        put(batcher, f"c-{n}")
    claimed, retrying = claim(batcher).callbacks
    begin(batcher, retrying)
    settle(batcher, retrying, Outcome.RETRY, delay_ms=1000)
    for n in range(3):
        assert batcher.cancel(f"c-{n}") is Cancelled.CANCELLED
    assert batcher.begin(claimed.id, claimed.token) is Refused.STALE
    assert batcher.begin(retrying.id, retrying.token) is Refused.STALE
    assert counted(client, "cancelled") == 3
    assert not client.exists(key("cb:c-0"), key("cb:c-1"), key("cb:c-2"))
    assert list(audit(inspector)) == []


def test_cancel_says_where_it_comes_too_late(batcher: Batcher, client: redis.Redis) -> None:
    claimed = claim_one(batcher)
    begin(batcher, claimed)
    assert batcher.cancel("c-1") is Cancelled.IN_FLIGHT
    settle(batcher, claimed)
    before = everything(client)
    assert batcher.cancel("c-1") is Cancelled.FINAL
    assert batcher.cancel("nobody") is Cancelled.UNKNOWN
    assert everything(client) == before


def test_a_cancel_is_idempotent(batcher: Batcher, client: redis.Redis) -> None:
    put(batcher, "c-1")
    assert batcher.cancel("c-1") is Cancelled.CANCELLED
    before = everything(client)
    assert batcher.cancel("c-1") is Cancelled.CANCELLED
    assert everything(client) == before


def test_a_cancel_stops_a_sender_that_was_stopped_before_its_request(
    make_batcher: Make, client: redis.Redis, inspector: Inspector
) -> None:
    batcher = make_batcher(send_interval=0, destination_interval=0)
    claimed = claim_one(batcher)
    assert isinstance(batcher.begin(claimed.id, claimed.token, nonce="n"), Go)
    assert batcher.cancel("c-1") is Cancelled.IN_FLIGHT
    client.hincrby(key("rec:c-1"), "at", -1_000)  # the process was stopped for a second
    assert batcher.begin(claimed.id, claimed.token, nonce="n") is Refused.STALE
    assert find(batcher.scripts, "c-1").state is State.CANCELLED  # type: ignore[union-attr]
    assert list(audit(inspector)) == []


def test_an_attempt_that_is_given_up_and_then_cancelled_stays_counted(
    make_batcher: Make, client: redis.Redis
) -> None:
    """Totals never fall, and the attempt is not made any more."""
    batcher = make_batcher(send_interval=0, destination_interval=30, adaptive=False)
    claimed = claim_one(batcher)
    assert isinstance(batcher.begin(claimed.id, claimed.token, nonce="n"), Go)
    client.hincrby(key("rec:c-1"), "at", -1_000)  # the process was stopped for a second
    gate = batcher.begin(claimed.id, claimed.token, nonce="n")
    assert isinstance(gate, Later)
    assert batcher.release(claimed.id, claimed.token, gate.due_ms).released
    assert batcher.cancel("c-1") is Cancelled.CANCELLED
    assert counted(client, "attempts") == 1
    assert find(batcher.scripts, "c-1").attempts == 0  # type: ignore[union-attr]


def test_what_people_do_is_answered_alike_when_it_is_repeated(
    batcher: Batcher, client: redis.Redis
) -> None:
    """Its reply may be lost; then our wrapper calls it again."""
    for id in ("c-1", "c-2"):
        claimed = claim_one(batcher, id)
        begin(batcher, claimed)
        settle(batcher, claimed, Outcome.DEAD)
        client.delete(key("state"), key(f"dest:{HOST}"))
    batcher.pause(HOST)
    client.zadd(key("gone"), {digest("https://a.example/x"): 1})
    calls: list[Callable[[], int]] = [
        lambda: batcher.replay(["c-1"], nonce="replay"),
        lambda: batcher.purge(["c-2"], nonce="purge"),
        lambda: batcher.resume(HOST, nonce="resume"),
        lambda: batcher.forgive("https://a.example/x", nonce="forgive"),
    ]
    for call in calls:
        assert call() == 1
        before = everything(client)
        assert call() == 1
        assert everything(client) == before


def test_a_lost_reply_is_asked_for_again_and_is_the_first_one(
    server: Server, make_settings: Callable[..., Settings], client: redis.Redis
) -> None:
    with Proxy(server.port) as proxy, redis.from_url(proxy.url, protocol=2) as lossy:
        batcher = Batcher(lossy, make_settings())
        for id in ("c-1", "c-2"):
            batcher.enqueue(Item(id, HOST, packed(), 0, 0))
        assert batcher.expire(2) == 2
        put(batcher, "c-3")
        batcher.pause()
        calls: dict[str, Callable[[], int]] = {
            "cancel": lambda: batcher.cancel("c-3").value,
            "replay": lambda: batcher.replay(["c-1"]),
            "purge": lambda: batcher.purge(["c-2"]),
            "resume": batcher.resume,
        }
        for verb, call in calls.items():
            client.script_load(VERBS[verb].text)
            proxy.swallow(verb)
            assert call() == 1
        assert proxy.swallowed == len(calls)
    assert counted(client, "replayed") == 1


def test_many_dead_letters_are_replayed_and_purged_a_few_at_a_time(batcher: Batcher) -> None:
    client = batcher.scripts.client
    ids = [f"c-{n}" for n in range(2 * STEER_STEP + 1)]
    for id in ids:
        batcher.enqueue(Item(id, HOST, packed(), 0, 0))
    assert batcher.expire(len(ids)) == len(ids)
    client.config_resetstat()
    assert batcher.replay(ids) == len(ids)
    assert batcher.purge(ids) == 0
    calls = client.info("commandstats")
    scripts = sum(calls.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval"))
    assert scripts >= 6


def test_pause_says_how_many_requests_are_still_in_flight(make_batcher: Make) -> None:
    batcher = make_batcher(send_interval=0, destination_interval=0)
    for n in range(3):
        put(batcher, f"c-{n}")
    a, b, _ = claim(batcher).callbacks
    begin(batcher, a), begin(batcher, b)
    assert batcher.pause() == 2
    assert batcher.pause(HOST) == 2
    assert batcher.pause("https://other:443") == 0


WHOLE = Scope(HOST, lanes=True)
LANES = [HOST, f"{HOST}#a", f"{HOST}#b"]


def unpaced(make_batcher: Make) -> Batcher:
    return make_batcher(send_interval=0, destination_interval=0, min_interval=0)


def claimed_from(batcher: Batcher, client: redis.Redis) -> set[str]:
    """The destinations that a claim takes something from."""
    ids = [claimed.id for claimed in claim(batcher).callbacks]
    return {client.hget(key(f"rec:{id}"), "d").decode() for id in ids}


def test_a_paused_host_holds_its_lanes_known_or_not_and_no_other_host(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = unpaced(make_batcher)
    for name in (*LANES, "https://a.example:4430#a", "https://b.example:443#a"):
        put(batcher, f"c-{name}", name)
    done = pause(batcher, WHOLE)
    assert (done.lanes, done.seen) == ((f"{HOST}#a", f"{HOST}#b"), True)
    put(batcher, "late", f"{HOST}#late")
    put(batcher, "late path", f"{HOST}/late")
    assert claimed_from(batcher, client) == {"https://a.example:4430#a", "https://b.example:443#a"}
    assert {one.name for one in Inspector(batcher.scripts).destinations() if one.paused} == {
        *LANES, f"{HOST}#late", f"{HOST}/late",
    }  # fmt: skip
    done = resume(batcher, WHOLE)
    assert (len(done.lanes), done.changed) == (4, True)
    assert claimed_from(batcher, client) == {*LANES, f"{HOST}#late", f"{HOST}/late"}
    assert not resume(batcher, WHOLE).changed


def test_what_a_lane_has_claimed_or_tries_again_waits_for_its_host(make_batcher: Make) -> None:
    batcher = unpaced(make_batcher)
    claimed = claim_one(batcher, destination=f"{HOST}#a")
    retrying = claim_one(batcher, "c-2", destination=f"{HOST}#b")
    begin(batcher, retrying)
    assert pause(batcher, WHOLE).in_flight == 1
    settle(batcher, retrying, Outcome.RETRY, delay_ms=0)
    for one in (claimed, retrying):
        gate = batcher.begin(one.id, one.token)
        assert gate == Later(gate.due_ms, LaterWhy.PAUSED)  # type: ignore[union-attr]
        assert batcher.release(one.id, one.token, gate.due_ms).arm_ms is None  # type: ignore[union-attr]
    assert claim(batcher).callbacks == ()
    resume(batcher, WHOLE)
    assert len(claim(batcher).callbacks) == 2


def test_the_host_alone_and_one_lane_alone_are_paused_and_resumed(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = unpaced(make_batcher)
    for name in LANES:
        put(batcher, f"c-{name}", name)
    pause(batcher, Scope(HOST))
    pause(batcher, Scope(f"{HOST}#a"))
    assert claimed_from(batcher, client) == {f"{HOST}#b"}
    pause(batcher, WHOLE)
    assert resume(batcher, Scope(f"{HOST}#a")).changed  # resumed although its host is not
    put(batcher, "c-b", f"{HOST}#b")
    assert claimed_from(batcher, client) == {f"{HOST}#a"}
    put(batcher, "c-a", f"{HOST}#a")
    pause(batcher, WHOLE)  # again, for all
    assert claimed_from(batcher, client) == set()
    assert resume(batcher, Scope(HOST)).changed
    assert claimed_from(batcher, client) == {HOST}
    assert resume(batcher, WHOLE).changed
    assert claimed_from(batcher, client) == {f"{HOST}#a", f"{HOST}#b"}


def test_a_pause_of_lanes_lasts_and_is_shown_however_long_nothing_is_sent(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = unpaced(make_batcher)
    pause(batcher, WHOLE)
    resume(batcher, Scope(HOST))
    assert client.ttl(key(f"dest:{WHOLE.mark}")) == -1
    client.zadd(key("destinations"), {WHOLE.mark: 1, HOST: 1})
    batcher.trim(100)
    shown = Inspector(batcher.scripts).destinations()
    assert [(one.name, one.paused) for one in shown] == [(WHOLE.mark, True)]
    resume(batcher, WHOLE)
    assert not any(one.paused for one in Inspector(batcher.scripts).destinations())


def test_steering_a_host_of_many_lanes_never_holds_redis_for_long(
    server: Server, make_batcher: Make, client: redis.Redis
) -> None:
    batcher, many = unpaced(make_batcher), 20_000
    with client.pipeline(transaction=False) as pipe:
        for n in range(many):
            pipe.zadd(key(f"lane:{HOST}#{n}"), {f"c-{n}": 1})
            pipe.zadd(key("unproven"), {f"{HOST}#{n}": 1})
        pipe.execute()
    client.config_resetstat()
    assert len(pause(batcher, WHOLE).lanes) == many
    assert client.zcount(key("unproven"), "-inf", "(+inf") == 0
    assert len(resume(batcher, WHOLE).lanes) == many
    assert client.zcount(key("unproven"), "-inf", "(+inf") == many
    stats = client.info("commandstats")
    # The average of each, because a busy machine may stall any single one.
    assert stats["cmdstat_evalsha"]["usec_per_call"] < 2_000
    assert stats["cmdstat_zscan"]["usec_per_call"] < 2_000
    assert stats["cmdstat_evalsha"]["calls"] >= many / PAGE


def test_replay_gives_a_dead_letter_new_budgets_under_its_id(
    make_batcher: Make, client: redis.Redis, inspector: Inspector
) -> None:
    batcher = make_batcher(min_interval=0)
    claimed = claim_one(batcher)
    begin(batcher, claimed)
    settle(batcher, claimed, Outcome.RETRY, delay_ms=0)
    client.hset(key("state"), "send", 0)
    client.hset(key(f"dest:{HOST}"), mapping={"send": 0, "slot": 0})
    begin(batcher, claimed)
    settle(batcher, claimed, Outcome.DEAD, 2)

    assert batcher.replay(["c-1", "nobody", "c-1"]) == 1
    assert batcher.replay(["c-1"]) == 0
    assert list(audit(inspector)) == []
    client.hset(key("state"), mapping={"send": 0, "slot": 0})
    client.hset(key(f"dest:{HOST}"), mapping={"send": 0, "slot": 0})
    (again,) = claim(batcher).callbacks
    go = begin(batcher, again)
    assert (go.attempt, go.retries, go.crashes) == (3, 0, 0)
    totals = overview(batcher.scripts).totals
    assert (totals["accepted"], totals["replayed"], totals["dead"]) == (1, 1, 1)


def test_purge_forgets_a_dead_letter_and_its_id(batcher: Batcher, inspector: Inspector) -> None:
    claimed = claim_one(batcher)
    begin(batcher, claimed)
    settle(batcher, claimed, Outcome.DEAD)
    assert batcher.purge(["c-1", "nobody"]) == 1
    assert batcher.purge(["c-1"]) == 0
    assert find(batcher.scripts, "c-1") is None
    assert list(audit(inspector)) == []
    assert put(batcher, "c-1").accepted


def test_lists_are_filtered_by_destination_and_reason(make_batcher: Make) -> None:
    batcher = make_batcher(send_interval=0, destination_interval=0)
    for n in range(4):
        put(batcher, f"c-{n}", f"https://h{n % 2}:443")
    for c in claim(batcher).callbacks:
        begin(batcher, c)
        reason = Reason.GONE if c.id in ("c-0", "c-1") else Reason.TIMEOUT
        settle(batcher, c, Outcome.DEAD, reason=reason)
    inspector = Inspector(batcher.scripts)

    def ids(**filters: object) -> set[str]:
        wanted = Filter(State.DEAD, **filters)  # type: ignore[arg-type]
        return {s.id for s in statuses(inspector, wanted)}

    assert ids() == {"c-0", "c-1", "c-2", "c-3"}
    assert ids(scope=Scope("https://h0:443")) == {"c-0", "c-2"}
    assert ids(reason=Reason.GONE) == {"c-0", "c-1"}


def test_destinations_are_read_page_by_page(batcher: Batcher, client: redis.Redis) -> None:
    names = {f"https://h{n}.example:443": 1 for n in range(3 * inspector.PAGE)}
    client.zadd(key("destinations"), names)
    client.config_resetstat()
    found = Inspector(batcher.scripts).destinations()
    assert next(found).name == min(names)
    assert client.info("commandstats")["cmdstat_hgetall"]["calls"] == 3 * inspector.PAGE
    assert len(list(found)) == len(names) - 1


def test_the_audit_finds_every_kind_of_disagreement(
    make_batcher: Make, client: redis.Redis, inspector: Inspector
) -> None:
    batcher = make_batcher(send_interval=0, destination_interval=0, batch_size=3)
    for n in range(6):
        put(batcher, f"c-{n}")
    sent, claimed, _ = claim(batcher).callbacks
    begin(batcher, sent)
    settle(batcher, sent)
    assert list(audit(inspector)) == []

    def findings(*command: object) -> list[str]:
        dump = {raw: client.dump(raw) for raw in client.keys("*")}
        client.execute_command(*command)
        found = list(audit(inspector))
        client.flushall()
        for name, content in dump.items():
            client.restore(name, 0, content)
        assert list(audit(inspector)) == []
        return found

    assert findings("ZADD", key("processing"), 9e15, "c-5") == ["c-5: is in lane and processing"]
    assert findings("ZREM", key("processing"), claimed.id)[0] == f"{claimed.id}: is in no structure"
    assert "has lost its request" in findings("DEL", key("cb:c-5"))[0]
    assert "has no end of life" in findings("ZREM", key("expiry"), "c-5")[0]
    assert "waits and is not in the ring" in findings("DEL", key("ring"))[0]
    assert "is empty and in the ring" in findings("ZADD", key("ring"), 1, "https://x:443")[0]
    assert "record says" in findings("HSET", key(f"rec:{claimed.id}"), "s", "sent")[0]
    assert "exceed what they became by 5" in findings("HINCRBY", key("counters"), "accepted", 5)[0]
    assert (
        "in flight and is not sending"
        in findings("ZADD", key(f"inflight:{HOST}"), 9e15, claimed.id)[0]
    )
