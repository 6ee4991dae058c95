"""Several shards on one Redis: where things are, ids, and what speaks of the whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from callbacks.batcher import scopes
from callbacks.batcher.audit import audit, repair
from callbacks.batcher.inspector import Inspector, find, overview, survey
from callbacks.batcher.journal import read_journal
from callbacks.batcher.listing import Bounds, Filter, statuses, walk
from callbacks.batcher.routes import own_shard, shard_of
from callbacks.batcher.shards import Shards
from callbacks.batcher.store import RESERVED, TRANSFER_MS, UNRESERVE_MS, Batcher
from callbacks.model import (
    Cancelled,
    Claimed,
    ClaimResult,
    Effect,
    Feedback,
    Item,
    Outcome,
    QueueFull,
    Reason,
    SettingsError,
    Settled,
    State,
    Stored,
)
from callbacks.request.freeze import mint_id
from callbacks.request.urls import Scope, digest
from callbacks.testing.clock import Clock
from callbacks.testing.workers import Wakeups
from callbacks.worker.duties import dispatch_all, dispatch_once
from tests.redis.support import HOUR_MS, begin, claim, now_ms, packed

Make = Callable[..., Shards]
COUNT = 4


def host(shard: int, n: int = 0) -> str:
    """The n-th destination of a shard."""
    names = (f"https://h{i}.example:443" for i in range(1_000))
    return [name for name in names if shard_of(name, COUNT) == shard][n]


def id_of(shard: int, n: int = 0) -> str:
    """The n-th id of a caller's own whose own shard this is."""
    return [id for id in (f"t-{i}" for i in range(1_000)) if own_shard(id, COUNT) == shard][n]


def item(id: str, destination: str) -> Item:
    return Item(id, destination, packed(destination), 0, HOUR_MS)


def put(shards: Shards, id: str, destination: str) -> bool:
    return shards.enqueue(item(id, destination)).accepted


def minted(shards: Shards, destination: str) -> str:
    return shards.name(mint_id(), destination)


def dead_letter(shards: Shards, id: str, destination: str) -> None:
    """Enqueue a callback and let it die."""
    put(shards, id, destination)
    one = shards.of(destination)
    (claimed,) = [each for each in claim(one).callbacks if each.id == id]
    settle(one, claimed, Outcome.DEAD)


def settle(one: Batcher, claimed: Claimed, outcome: Outcome) -> Settled:
    go = begin(one, claimed)
    reason = None if outcome is Outcome.SENT else Reason.SERVER_ERROR
    done = one.settle(
        claimed.id,
        claimed.token,
        go.attempt,
        outcome,
        reason=reason,
        feedback=Feedback(Effect.NONE),
        entry="[1,1,null,null,null,5]",
    )
    return done.settled


def where(client: redis.Redis, id: str) -> list[int]:
    """The shards that have a callback's request or record."""
    roots = [key.decode() for key in client.keys("*") if key.decode().endswith((f"cb:{id}",))]
    return sorted(int(root.partition("}")[0].partition(":")[2].partition(".")[0]) for root in roots)


def reservations(client: redis.Redis) -> set[str]:
    return {key.decode().partition("}:at:")[2] for key in client.keys("*}:at:*")}


# Where things are


def test_with_one_shard_all_keys_are_those_of_the_namespace(
    make_shards: Make, client: redis.Redis
) -> None:
    shards = make_shards(shards=1)
    put(shards, "t-1", host(0))
    assert shards.shards == (shards.home,)
    assert all(key.startswith(b"{callbacks}:") for key in client.keys("*"))
    assert not reservations(client)


def test_a_destination_with_all_of_its_state_is_in_one_shard(
    shards: Shards, client: redis.Redis
) -> None:
    for n in range(20):
        put(shards, minted(shards, f"https://h{n}.example:443"), f"https://h{n}.example:443")
    for shard, one in enumerate(shards.shards):
        for name in Inspector(one.scripts).waiting():
            assert shard_of(name, COUNT) == shard
    assert overview(shards.scripts).queued == 20
    assert list(audit(Inspector(shards.scripts))) == []


def test_the_first_process_decides_how_many_shards_there_are(make_shards: Make) -> None:
    put(make_shards(shards=3), "t-1", host(0))
    with pytest.raises(SettingsError, match=r"CALLBACKS_SHARDS is 4, but .* in 3 shards.*=3"):
        put(make_shards(shards=4), "t-2", host(0))
    with pytest.raises(SettingsError, match="CALLBACKS_SHARDS is 1, but"):
        make_shards(shards=1).look()
    assert put(make_shards(shards=3), "t-2", host(0))


def test_data_of_an_older_release_are_in_one_shard(batcher: Batcher, make_shards: Make) -> None:
    batcher.enqueue(item("t-1", host(0)))
    with pytest.raises(SettingsError, match="are in 1 shard, which"):
        put(make_shards(), "t-2", host(0))
    assert not put(make_shards(shards=1), "t-1", host(0))


# Ids


def test_a_minted_id_names_its_shard_and_needs_no_reservation(
    shards: Shards, client: redis.Redis
) -> None:
    for shard in range(COUNT):
        id = minted(shards, host(shard))
        assert put(shards, id, host(shard))
        assert not put(shards, id, host(shard))
        assert where(client, id) == [shard]
        assert (found := find(shards.scripts, id))
        assert found.destination == host(shard)
    assert not reservations(client)
    assert overview(shards.scripts).totals["duplicates"] == COUNT


@pytest.mark.parametrize("own", range(COUNT))
def test_an_id_of_the_callers_own_is_unique_over_all_shards(
    shards: Shards, client: redis.Redis, own: int
) -> None:
    id = id_of(own)
    assert put(shards, id, host(2))
    for shard in range(COUNT):
        assert not put(shards, id, host(shard))
    assert where(client, id) == [2]
    assert reservations(client) == ({id} if own != 2 else set())
    assert (found := find(shards.scripts, id))
    assert found.state is State.QUEUED
    assert overview(shards.scripts).queued == 1
    assert list(audit(Inspector(shards.scripts))) == []


def test_a_repeat_completes_a_call_that_was_interrupted_after_the_reservation(
    shards: Shards, client: redis.Redis
) -> None:
    id = id_of(0)
    assert shards.shards[0].reserve([(id, 3)]) == [RESERVED]
    assert find(shards.scripts, id) is None
    assert put(shards, id, host(3))
    assert where(client, id) == [3]


@pytest.mark.parametrize("own", [0, 2])
def test_an_interrupted_call_keeps_its_id_for_a_minute(
    shards: Shards, client: redis.Redis, own: int
) -> None:
    id = id_of(own)
    shards.shards[own].reserve([(id, 3)])
    assert not put(shards, id, host(2))
    key = shards.shards[own].scripts.keys.of("at:", id)
    client.set(key, f"3 {now_ms(client) - TRANSFER_MS - 1}")
    assert put(shards, id, host(2))
    assert where(client, id) == [2]
    assert (found := find(shards.scripts, id))
    assert found.destination == host(2)


def test_many_are_stored_in_their_order_and_known_ones_are_told(
    shards: Shards, client: redis.Redis
) -> None:
    items = [item(f"t-{n}", host(n % COUNT, n % 3)) for n in range(300)]
    stored = shards.enqueue_many(items)
    assert [isinstance(one, Stored) and one.accepted for one in stored] == [True] * 300
    mixed = [item("new-1", host(0)), *items[:100], item("new-2", host(1))]
    again = shards.enqueue_many(mixed)
    assert [n for n, one in enumerate(again) if isinstance(one, Stored) and one.accepted] == [
        0,
        101,
    ]
    totals = overview(shards.scripts).totals
    assert (totals["accepted"], totals["duplicates"]) == (302, 100)
    assert list(audit(Inspector(shards.scripts))) == []


def test_each_shard_tells_what_wakes_it(make_shards: Make) -> None:
    shards = make_shards(max_delay=0)
    stored = shards.enqueue_many([item("t-1", host(1)), item("t-2", host(3)), item("t-3", host(1))])
    told = {one.shard for one in stored if isinstance(one, Stored) and one.signal}
    assert told == {1, 3}


def test_a_full_redis_refuses_reservations_too(shards: Shards, client: redis.Redis) -> None:
    put(shards, "t-1", host(0))
    client.config_set("maxmemory", 1)
    stored = shards.enqueue_many([item(id_of(0), host(1)), item(minted(shards, host(1)), host(1))])
    client.config_set("maxmemory", 0)
    assert [type(one) for one in stored] == [QueueFull, QueueFull]


def test_a_reservation_goes_with_the_record_of_its_callback(
    make_shards: Make, client: redis.Redis
) -> None:
    shards = make_shards(sent_ttl=0.05, dead_ttl=0.05)
    sent, dead, purged = id_of(0), id_of(0, 1), id_of(0, 2)
    put(shards, sent, host(1))
    settle(shards.shards[1], claim(shards.shards[1]).callbacks[0], Outcome.SENT)
    dead_letter(shards, dead, host(2))
    dead_letter(shards, purged, host(3))
    assert reservations(client) == {sent, dead, purged}
    make_old(client, shards)
    assert shards.purge([purged, sent, "unknown"]) == 1
    assert reservations(client) == {sent, dead}
    for one in shards.shards:
        for name in ("sent", "dead"):
            for id in client.zrange(one.scripts.keys.of(name), 0, -1):
                client.zincrby(one.scripts.keys.of(name), -1_000, id)
        one.trim(100)
    assert not reservations(client)
    assert list(audit(Inspector(shards.scripts))) == []


def make_old(client: redis.Redis, shards: Shards) -> None:
    """Let the reservations be older than those that stay in any case."""
    for one in shards.shards:
        for key in client.keys(one.scripts.keys.root.replace("[", "\\[") + "at:*"):
            shard = client.get(key).split()[0].decode()
            client.set(key, f"{shard} {now_ms(client) - UNRESERVE_MS}")


def test_the_audit_finds_and_mends_wrong_reservations(shards: Shards, client: redis.Redis) -> None:
    lost, empty = id_of(0), id_of(1)
    put(shards, lost, host(2))
    client.delete(shards.shards[0].scripts.keys.of("at:", lost))
    shards.shards[1].reserve([(empty, 3)])
    make_old(client, shards)
    assert {*audit(Inspector(shards.scripts))} == {
        f"{lost}: is in shard 2 and not reserved",
        f"{empty}: is reserved for shard 3, which has no such callback",
    }
    done = {finding.name: told for finding, told in repair(shards)}
    assert done == {
        lost: "it is reserved for shard 2 now",
        empty: "its reservation was deleted",
    }
    assert list(audit(Inspector(shards.scripts))) == []


# The whole


def test_totals_sizes_and_lists_are_those_of_all_shards(shards: Shards) -> None:
    for shard in range(COUNT):
        dead_letter(shards, f"dead-{shard}", host(shard))
        put(shards, f"queued-{shard}", host(shard))
    o = overview(shards.scripts)
    assert (o.queued, o.processing, o.dead, o.balance) == (COUNT, 0, COUNT, 0)
    assert (o.totals["accepted"], o.destinations_waiting) == (2 * COUNT, COUNT)
    inspector = Inspector(shards.scripts)
    dead = [status.id for status in statuses(inspector, Filter(State.DEAD))]
    assert dead == [f"dead-{shard}" for shard in reversed(range(COUNT))]  # by time of death
    queued = {status.id for status in statuses(inspector, Filter(State.QUEUED))}
    assert queued == {f"queued-{shard}" for shard in range(COUNT)}
    names = [one.name for one in inspector.destinations()]
    assert names == sorted(host(shard) for shard in range(COUNT))
    assert [one.waiting for one in inspector.destinations()] == [1] * COUNT
    assert inspector.count_dead() == COUNT
    assert [s.id for s in inspector.find_many(["queued-3", "none", "dead-0"])] == [
        "queued-3",
        "dead-0",
    ]
    assert shards.look().queued == COUNT
    assert survey(shards.scripts).ready == COUNT


def test_dead_letters_of_all_shards_are_replayed_and_paged_by_time(make_shards: Make) -> None:
    shards = make_shards(min_interval=0)
    for n in range(8):
        dead_letter(shards, f"t-{n}", host(n % COUNT, n // COUNT))
    inspector = Inspector(shards.scripts)
    places = [place for page in walk(inspector, "dead", Bounds(), size=3) for place in page]
    assert [place.id for place in places] == [f"t-{n}" for n in range(8)]
    rest = [place for page in walk(inspector, "dead", Bounds(), after=places[2]) for place in page]
    assert rest == places[3:]
    back = walk(inspector, "dead", Bounds(newest_first=True), after=places[6], size=2)
    assert [place for page in back for place in page] == places[5::-1]
    assert shards.replay([f"t-{n}" for n in range(3)] + ["none"]) == 3
    assert overview(shards.scripts).dead == 5
    assert list(audit(inspector)) == []


def test_cancel_finds_a_callback_whatever_its_id(shards: Shards) -> None:
    ids = [minted(shards, host(1)), id_of(0), id_of(2)]
    for id in ids:
        put(shards, id, host(1))
        assert shards.cancel(id, entry='{"act":"cancel"}') is Cancelled.CANCELLED
    assert shards.cancel("none") is Cancelled.UNKNOWN
    assert len(read_journal(shards.scripts)) == 3


def test_a_pause_of_all_reaches_every_shard(shards: Shards) -> None:
    for shard in range(COUNT):
        put(shards, f"t-{shard}", host(shard))
    shards.pause(entry='{"act":"pause","who":"me"}')
    o = overview(shards.scripts)
    assert o.paused_since_ms
    assert o.paused_by
    assert o.paused_by.who == "me"
    assert {claim(one).result for one in shards.shards} == {ClaimResult.PAUSED}
    assert len(read_journal(shards.scripts)) == 1
    assert shards.resume()
    assert not shards.resume()
    assert overview(shards.scripts).paused_since_ms is None


def test_a_host_is_paused_with_its_lanes_in_whichever_shards_they_are(shards: Shards) -> None:
    lanes = [f"{host(0)}#{n}" for n in range(12)]
    assert {shard_of(lane, COUNT) for lane in lanes} == set(range(COUNT))
    for n, lane in enumerate([host(0), *lanes]):
        put(shards, f"t-{n}", lane)
    scope = Scope(host(0), lanes=True)
    done = scopes.pause(shards, scope, entry='{"act":"pause"}')
    assert (set(done.lanes), done.seen) == (set(lanes), True)
    late = f"{host(0)}#late"
    put(shards, "late", late)
    inspector = Inspector(shards.scripts)
    assert all(inspector.destination(name).paused for name in [host(0), *lanes, late])
    assert all(not claim(one).callbacks for one in shards.shards)
    assert scopes.resume(shards, scope).changed
    assert not any(inspector.destination(name).paused for name in [host(0), *lanes, late])
    assert list(audit(inspector)) == []


def test_a_url_that_was_gone_is_forgiven_for_every_lane(
    shards: Shards, client: redis.Redis
) -> None:
    for one in shards.shards:
        client.zadd(one.scripts.keys.of("gone"), {digest("https://a.example/x"): 1})
    assert shards.forgive("https://a.example/x")
    assert not shards.forgive("https://a.example/x")


def test_a_token_leads_to_its_shard(shards: Shards) -> None:
    for shard in range(COUNT):
        put(shards, f"t-{shard}", host(shard))
    for one in shards.shards:
        (claimed,) = claim(one).callbacks
        assert shards.of_token(claimed.token) is one
    assert shards.of_token("of an older release") is shards.shards[0]


def test_only_shards_with_callbacks_are_busy(shards: Shards) -> None:
    assert shards.busy() == ()
    put(shards, minted(shards, host(2)), host(2))
    assert [one.shard for one in shards.busy()] == [2]
    assert [word.live for word in shards.words()] == [False, False, True, False]


def test_a_flush_reaches_the_other_shards_where_one_is_away(
    shards: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_args: object, **_given: object) -> int:
        raise redis.ConnectionError("refused")

    for shard in range(COUNT):
        put(shards, minted(shards, host(shard)), host(shard))
    monkeypatch.setattr(shards.shards[1].scripts, "run", away)
    batch = dispatch_all(shards.shards, Wakeups(Clock(shards.client)))
    assert batch is not None
    assert {shards.of_token(one.token).shard for one in batch.callbacks} == {0, 2, 3}
    with pytest.raises(redis.ConnectionError):
        dispatch_all(shards.shards[1:2], Wakeups(Clock(shards.client)))


def test_an_act_for_all_reaches_the_other_shards_and_names_the_one_that_is_away(
    shards: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_args: object, **_given: object) -> int:
        raise redis.ConnectionError("refused")

    monkeypatch.setattr(shards.shards[1].scripts, "run", away)
    with pytest.raises(redis.ConnectionError, match=r"^shard 1 of 4: refused"):
        shards.pause()
    assert [one.look().paused for one in shards.shards[2:]] == [True, True]


def test_work_is_due_whichever_shard_that_can_be_reached_has_it(
    shards: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not shards.is_due()
    put(shards, minted(shards, host(2)), host(2))
    home = shards.shards[0].scripts
    across = type(home).run_across

    def without_one(*args: Any, **given: Any) -> list[Any]:
        answers = across(*args, **given)
        answers[1] = redis.ConnectionError("refused")
        return answers

    monkeypatch.setattr(type(home), "run_across", without_one)
    assert shards.is_due()
    with pytest.raises(redis.ConnectionError, match=r"^shard 1 of 4: refused"):
        shards.look()
    shards.of(host(2)).pause()
    assert not shards.is_due()


def test_a_shard_follows_a_pause_and_a_resume_that_it_has_missed(
    make_shards: Callable[..., Shards],
) -> None:
    shards = make_shards()
    for paused in (True, False):
        shards.home.pause() if paused else shards.home.resume()
        before = shards.words()
        assert [word.paused for word in before if word] == [not paused] * 4
        assert [word.all_paused for word in before if word] == [paused] * 4
        shards.follow(before)
        after = shards.words()
        assert [word.paused for word in after if word] == [paused] * 4
        shards.follow(after)  # nothing to do
        assert shards.words() == after
    shards.home.pause()
    shards.follow([*shards.words()[:3], None])
    assert [word.paused for word in shards.words() if word] == [True, True, True, False]


def test_a_shard_that_has_missed_a_pause_claims_nothing(shards: Shards) -> None:
    put(shards, minted(shards, host(2)), host(2))
    shards.home.pause()
    batch = dispatch_once(shards.shards[2], Wakeups(Clock(shards.client)))
    assert batch is not None
    assert (batch.result, batch.callbacks) == (ClaimResult.PAUSED, ())
    assert shards.look().paused is False  # the others have not been asked
    shards.resume()
    again = dispatch_once(shards.shards[2], Wakeups(Clock(shards.client)))
    assert again is not None
    assert len(again.callbacks) == 1
