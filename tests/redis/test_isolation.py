"""How answers affect their destination: breaker, hold, pace, concurrency, gone URLs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from callbacks.batcher.audit import audit
from callbacks.batcher.inspector import Inspector, find
from callbacks.batcher.store import Batcher
from callbacks.model import Effect, Feedback, Go, Item, Later, LaterWhy, Outcome, Reason, State
from callbacks.request.urls import digest
from tests.redis.support import (
    HOST,
    HOUR_MS,
    backdate,
    begin,
    claim,
    claim_one,
    counted,
    key,
    now_ms,
    packed,
    put,
    settle,
    settlement,
    to_head,
)

Make = Callable[..., Batcher]
FAST = {"send_interval": 0, "min_interval": 0, "destination_interval": 0}
FAULT = Feedback(Effect.FAULT, transport=True)
FINE = Feedback(Effect.OK)


def dest(client: redis.Redis, destination: str = HOST) -> dict[str, str]:
    raw = client.hgetall(key(f"dest:{destination}"))
    return {name.decode(): value.decode() for name, value in raw.items()}


def fail(batcher: Batcher, times: int, feedback: Feedback = FAULT, **more: object) -> None:
    """Let `times` callbacks of HOST fail once each; they wait for a retry in PROCESSING."""
    for _ in range(times):
        put(batcher, f"f-{fail.counter}", proven=False)  # type: ignore[attr-defined]
        fail.counter += 1  # type: ignore[attr-defined]
    for c in claim(batcher).callbacks:
        begin(batcher, c)
        settle(batcher, c, Outcome.RETRY, feedback=feedback, delay_ms=60_000, **more)


fail.counter = 0  # type: ignore[attr-defined]


def end_hold(client: redis.Redis, destination: str = HOST) -> None:
    """End the hold of a destination without waiting."""
    client.hset(key(f"dest:{destination}"), "hold", 1)
    to_head(client, destination)


def test_consecutive_faults_open_the_breaker_and_nothing_is_claimed_or_begun(
    make_batcher: Make, client: redis.Redis, inspector: Inspector
) -> None:
    batcher = make_batcher(**FAST, destination_concurrency=0)
    put(batcher, "early")
    (early,) = claim(batcher).callbacks
    fail(batcher, 4)
    assert "broken" not in dest(client)
    fail(batcher, 1)
    state = dest(client)
    assert (state["broken"], state["why"], state["opens"]) == ("1", "breaker", "1")
    assert 29_000 < int(state["hold"]) - now_ms(client) <= 30_000

    put(batcher, "waits")
    assert claim(batcher).callbacks == ()
    gate = batcher.begin(early.id, early.token)
    assert isinstance(gate, Later)
    assert (gate.why, gate.due_ms) == (LaterWhy.ON_HOLD, int(state["hold"]))
    batcher.release(early.id, early.token, gate.due_ms)
    assert list(audit(inspector)) == []


def test_a_success_or_any_answer_in_between_starts_the_count_anew(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(**FAST, destination_concurrency=0)
    for feedback in (FINE, Feedback(Effect.ALIVE)):
        fail(batcher, 4)
        fail(batcher, 1, feedback)
    fail(batcher, 4)
    assert "broken" not in dest(client)


def test_half_open_sends_the_one_oldest_callback(make_batcher: Make, client: redis.Redis) -> None:
    batcher = make_batcher(**FAST, destination_concurrency=0)
    fail(batcher, 5)
    for n in range(5):
        put(batcher, f"c-{n}")
    end_hold(client)
    (probe,) = claim(batcher).callbacks
    assert probe.id == "c-0"
    assert claim(batcher).callbacks == ()
    assert begin(batcher, probe).probe


def test_a_failed_trial_doubles_the_open_time_up_to_its_bound(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(**FAST, destination_concurrency=0)
    fail(batcher, 5)
    put(batcher, "c-1")
    opened = []
    for attempt in range(1, 8):
        end_hold(client)
        (probe,) = claim(batcher).callbacks
        begin(batcher, probe)
        settle(batcher, probe, Outcome.RETRY, attempt, feedback=FAULT, park=True, throttled=True)
        opened.append(round((int(dest(client)["hold"]) - now_ms(client)) / 1000))
    assert opened == [60, 120, 240, 480, 600, 600, 600]
    status = find(batcher.scripts, "c-1")
    assert status is not None
    assert (status.state, status.retries, status.attempts) == (State.QUEUED, 0, 7)


def test_a_success_of_the_trial_closes_the_breaker_and_resets_the_interval(
    make_batcher: Make, client: redis.Redis, inspector: Inspector
) -> None:
    batcher = make_batcher(send_interval=0, min_interval=0, destination_concurrency=0)
    client.hset(key(f"dest:{HOST}"), mapping={"interval": 9_000_000, "fails": 4})
    fail(batcher, 1)
    assert dest(client)["broken"] == "1"
    for n in range(3):
        put(batcher, f"c-{n}")
    end_hold(client)
    client.hset(key(f"dest:{HOST}"), mapping={"slot": 0, "send": 0})
    (probe,) = claim(batcher).callbacks
    begin(batcher, probe)
    done = settlement(batcher, probe, Outcome.SENT, 1, feedback=FINE)
    assert done.arm_ms is not None  # something has to trigger the others
    state = dest(client)
    assert not {"broken", "hold", "why", "opens", "interval", "fails"} & set(state)
    end_hold(client)
    client.hset(key(f"dest:{HOST}"), mapping={"slot": 0, "send": 0})
    assert len(claim(batcher).callbacks) == 2
    assert list(audit(inspector)) == []


def test_what_fails_late_does_not_open_it_again(make_batcher: Make, client: redis.Redis) -> None:
    batcher = make_batcher(**FAST, destination_concurrency=0)
    for n in range(8):
        put(batcher, f"c-{n}")
    flight = claim(batcher).callbacks
    for c in flight:
        begin(batcher, c)
    for c in flight:
        settle(batcher, c, Outcome.RETRY, feedback=FAULT, delay_ms=60_000)
    assert dest(client)["opens"] == "1"


def test_without_a_breaker_faults_open_nothing(make_batcher: Make, client: redis.Redis) -> None:
    batcher = make_batcher(**FAST, destination_concurrency=0, breaker_failures=0)
    fail(batcher, 20)
    assert "broken" not in dest(client)


def test_a_dead_trial_is_tried_with_another_callback_after_its_lease(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(**FAST, destination_concurrency=0)
    fail(batcher, 5)
    put(batcher, "c-1"), put(batcher, "c-2")
    end_hold(client)
    assert [c.id for c in claim(batcher).callbacks] == ["c-1"]
    end_hold(client)  # its worker died; the hold for the probe has passed
    assert [c.id for c in claim(batcher).callbacks] == ["c-2"]


def test_a_destination_that_asks_to_be_left_alone_is(
    make_batcher: Make, client: redis.Redis, inspector: Inspector
) -> None:
    batcher = make_batcher(**FAST)
    for n in range(4):
        put(batcher, f"c-{n}")
    put(batcher, "other", "https://b:443")
    asking, claimed, *_ = [c for c in claim(batcher).callbacks if c.id != "other"]
    begin(batcher, asking)
    park = Feedback(Effect.ALIVE, hold_ms=7000)
    done = settlement(
        batcher, asking, Outcome.RETRY, 1, feedback=park, delay_ms=7000, park=True,
        throttled=True,
    )  # fmt: skip
    assert done.arm_ms is None  # too far ahead to be armed: left to the ticker
    assert dest(client)["why"] == "park"
    gate = batcher.begin(claimed.id, claimed.token)
    assert isinstance(gate, Later)
    assert 6000 < gate.due_ms - now_ms(client) <= 7000
    assert counted(client, "throttled") == 1
    assert dest(client, "https://b:443").get("why") is None
    assert list(audit(inspector)) == []


def test_who_asks_to_be_left_alone_at_its_first_request_is_left_alone(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(**FAST)
    put(batcher, "c-1", proven=False), put(batcher, "c-2", proven=False)
    (first,) = claim(batcher).callbacks
    begin(batcher, first)
    park = Feedback(Effect.ALIVE, hold_ms=3000)
    settle(batcher, first, Outcome.RETRY, feedback=park, delay_ms=3000, park=True)
    state = dest(client)
    assert state["why"] == "park"
    assert 2900 < int(state["hold"]) - now_ms(client) <= 3000
    assert claim(batcher).callbacks == ()


def test_a_short_park_arms_the_next_batch(make_batcher: Make) -> None:
    batcher = make_batcher(**FAST)
    put(batcher, "c-1")
    (asking,) = claim(batcher).callbacks
    begin(batcher, asking)
    park = Feedback(Effect.ALIVE, hold_ms=1000)
    done = settlement(batcher, asking, Outcome.RETRY, 1, feedback=park, delay_ms=1000, park=True)
    assert done.arm_ms is not None
    assert 990 <= done.arm_ms <= 1000


@pytest.mark.parametrize(
    ("factor", "start_us", "expected_us"),
    [
        (990, 200_000, 198_000),
        (1500, 200_000, 300_000),
        (990, 20_100, 20_000),
        (1500, 29_000_000, 30_000_000),
        (1000, 200_000, None),
    ],
)
def test_answers_move_the_interval_within_its_bounds(
    make_batcher: Make, client: redis.Redis, factor: int, start_us: int, expected_us: int | None
) -> None:
    batcher = make_batcher(min_interval=0, send_interval=0)
    if start_us != 200_000:
        client.hset(key(f"dest:{HOST}"), "interval", start_us)
    put(batcher, "c-1")
    (c,) = claim(batcher).callbacks
    begin(batcher, c)
    settle(batcher, c, feedback=Feedback(Effect.OK, factor=factor))
    found = dest(client).get("interval")
    assert found == (str(expected_us) if expected_us else None)


def test_a_burst_of_refusals_grows_the_interval_once(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(min_interval=0, send_interval=0, destination_interval=0.001)
    for n in range(4):
        put(batcher, f"c-{n}")
    flight = claim(batcher).callbacks
    for c in flight:
        begin(batcher, c)
    slow = Feedback(Effect.ALIVE, factor=1500)
    client.hset(key(f"dest:{HOST}"), "interval", 40_000)
    for c in flight:
        client.hset(key(f"rec:{c.id}"), "at", now_ms(client) - 1000)
    for c in flight:
        settle(batcher, c, Outcome.RETRY, feedback=slow, delay_ms=60_000)
    assert dest(client)["interval"] == "60000"


def answers(make_batcher: Make, client: redis.Redis, pattern: str) -> list[int]:
    """The interval in us after each answer: `.` a prompt 2xx, `x` a 503, `r` a 429."""
    batcher = make_batcher(
        send_interval=0, destination_interval=0.2, min_interval=0, breaker_failures=0
    )
    kinds = {
        ".": Feedback(Effect.OK, factor=990),
        "x": Feedback(Effect.FAULT, factor=1500),
        "r": Feedback(Effect.ALIVE, factor=1500),
    }
    seen = []
    for n, kind in enumerate(pattern):
        client.hdel(key(f"dest:{HOST}"), "send", "slot", "grown")
        c = claim_one(batcher, f"c-{n}")
        begin(batcher, c)
        settle(batcher, c, feedback=kinds[kind])
        seen.append(int(dest(client).get("interval", 200_000)))
    return seen


def test_a_fault_now_and_then_does_not_slow_a_destination(
    make_batcher: Make, client: redis.Redis
) -> None:
    assert answers(make_batcher, client, ("." * 19 + "x") * 5)[-1] < 100_000


def test_faults_among_its_answers_slow_a_destination(
    make_batcher: Make, client: redis.Redis
) -> None:
    # The share of faults: 0, 100, 190 thousandths; only 150 and more counts.
    assert answers(make_batcher, client, "xxx") == [200_000, 200_000, 300_000]


def test_one_in_four_slows_it_although_none_follows_another(
    make_batcher: Make, client: redis.Redis
) -> None:
    assert answers(make_batcher, client, "...x" * 10)[-1] > 400_000


def test_a_429_slows_it_at_once(make_batcher: Make, client: redis.Redis) -> None:
    assert answers(make_batcher, client, "r") == [300_000]


def test_an_interval_that_has_adapted_spaces_slots_and_sends(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(min_interval=0.2, send_interval=0)
    client.hset(key(f"dest:{HOST}"), "interval", 500_000)
    for n in range(4):
        put(batcher, f"c-{n}")
    batch = claim(batcher)
    assert [c.slot_ms - batch.now_ms for c in batch.callbacks] == [0, 500]
    fixed = make_batcher(min_interval=0.2, send_interval=0, adaptive="false")
    client.hset(key(f"dest:{HOST}"), "slot", 0)
    client.hset(key("state"), "last_batch", 0)
    to_head(client)
    batch = claim(fixed)
    assert [c.slot_ms - batch.now_ms for c in batch.callbacks] == [0, 200]


def test_who_has_not_answered_yet_gets_one_request_first(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(send_interval=0, min_interval=0, destination_interval=0.03)
    for n in range(9):
        put(batcher, f"c-{n}", proven=False)
    (first,) = claim(batcher).callbacks
    assert claim(batcher).callbacks == ()
    begin(batcher, first)
    done = settlement(batcher, first, Outcome.SENT, 1, feedback=FINE)
    assert done.arm_ms is not None
    client.hset(key(f"dest:{HOST}"), mapping={"slot": 0, "send": 0})
    assert len(claim(batcher).callbacks) == 8


def test_after_a_timeout_a_destination_has_one_request_until_a_success(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(**FAST)
    put(batcher, "c-1")
    (c,) = claim(batcher).callbacks
    begin(batcher, c)
    settle(batcher, c, Outcome.RETRY, feedback=FAULT, reason=Reason.TIMEOUT, delay_ms=60_000)
    for n in range(2, 6):
        put(batcher, f"c-{n}", proven=False)
    assert len(claim(batcher).callbacks) == 1


def test_slots_are_no_closer_than_latency_and_concurrency_allow(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(min_interval=1.7, send_interval=0, destination_interval=0.02)
    for n in range(9):
        put(batcher, f"c-{n}")
    client.hset(key(f"dest:{HOST}"), "latency", 2000)  # 4 at once, 2 s each: one in 500 ms
    batch = claim(batcher)
    assert [c.slot_ms - batch.now_ms for c in batch.callbacks] == [0, 500, 1000, 1500, 2000]


def test_what_is_queued_for_a_gone_url_dies_when_its_turn_comes(
    make_batcher: Make, client: redis.Redis, inspector: Inspector
) -> None:
    batcher = make_batcher(**FAST, batch_size=4)
    url = "https://a.example/x"
    for n in range(3):
        put(batcher, f"gone-{n}")
    first, *_ = claim(batcher).callbacks
    for n in range(700):
        put(batcher, f"later-{n:03}")
    other = packed().replace(b"/x", b"/y")
    batcher.enqueue(Item("alive", HOST, other, 0, 1_000_000))
    begin(batcher, first)
    gone = Feedback(Effect.ALIVE, gone=True)
    settle(batcher, first, Outcome.DEAD, feedback=gone, reason=Reason.GONE, callback_url=url)
    assert client.zscore(key("gone"), digest(url)) is not None
    claimed: list[str] = []
    passes = 0
    while "alive" not in claimed:
        claimed += [c.id for c in claim(batcher).callbacks]
        passes += 1
        assert passes < 9
    dead = client.zcard(key("dead"))
    assert dead == 701  # all 700 and the first: none was claimed
    status = find(batcher.scripts, "later-000")
    assert status is not None
    assert (status.state, status.reason, status.attempts) == (State.DEAD, "gone", 0)
    assert list(audit(inspector)) == []
    assert batcher.forgive(url)
    assert not batcher.forgive(url)


def gone_and_live(batcher: Batcher, client: redis.Redis, lane: str) -> tuple[set[str], set[str]]:
    """Queue callbacks for a URL that is gone (g) and for one that is not (l), in this order."""
    client.zadd(key("gone"), {digest("https://a.example/x"): now_ms(client)})
    dead, live = set(), set()
    for n, kind in enumerate(lane):
        request = packed() if kind == "g" else packed().replace(b"/x", b"/y")
        batcher.enqueue(Item(f"{kind}-{n:03}", HOST, request, 0, 1_000_000))
        (dead if kind == "g" else live).add(f"{kind}-{n:03}")
    client.hset(key(f"dest:{HOST}"), "ok", 1)
    return dead, live


@pytest.mark.parametrize("batch_size", [1, 2, 3])
@pytest.mark.parametrize("concurrency", [0, 1])
@pytest.mark.parametrize("lane", ["lgg", "glg", "ggl", "lglg", "gggglgggg", "lggggl", "ggg"])
def test_gone_and_live_ones_of_one_destination_all_come_to_their_end(
    make_batcher: Make,
    client: redis.Redis,
    inspector: Inspector,
    *,
    lane: str,
    concurrency: int,
    batch_size: int,
) -> None:
    batcher = make_batcher(**FAST, batch_size=batch_size, destination_concurrency=concurrency)
    dead, live = gone_and_live(batcher, client, lane)
    claimed: set[str] = set()
    for _ in range(2 * len(lane) + 2):
        under_way = list(claim(batcher).callbacks)
        for c in under_way:
            claimed.add(c.id)
            begin(batcher, c)
            assert list(audit(inspector)) == []
            under_way += claim(batcher).callbacks  # none while the destination is full
            settle(batcher, c, Outcome.SENT, feedback=FINE)
        assert list(audit(inspector)) == []
    assert claimed == live
    assert {id.decode() for id in client.zrange(key("dead"), 0, -1)} == dead


@pytest.mark.parametrize("lane", ["g" * 250 + "l", "l" + "g" * 250 + "l", "g" * 101])
def test_more_gone_callbacks_than_one_claim_ends_strand_no_other(
    make_batcher: Make, client: redis.Redis, inspector: Inspector, lane: str
) -> None:
    batcher = make_batcher(**FAST, batch_size=100)
    dead, live = gone_and_live(batcher, client, lane)
    other = packed("https://other.example").replace(b"/x", b"/y")
    batcher.enqueue(Item("other", "https://other.example", other, 0, 1_000_000))
    claimed: set[str] = set()
    for _ in range(4):
        claimed |= {c.id for c in claim(batcher).callbacks}
        assert list(audit(inspector)) == []
    assert claimed == live | {"other"}
    assert client.zcard(key("dead")) == len(dead)


def test_resuming_a_destination_clears_its_hold_breaker_and_interval(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(**FAST, destination_concurrency=0)
    fail(batcher, 5)
    client.hset(key(f"dest:{HOST}"), "interval", 9_000_000)
    put(batcher, "c-1"), put(batcher, "c-2")
    assert batcher.resume(HOST)
    assert not batcher.resume(HOST)
    assert not {"broken", "hold", "why", "opens", "interval"} & set(dest(client))
    assert len(claim(batcher).callbacks) == 2


#: Two that answered within the hour fail now, one never answered, the others do.
SEEN_MS = {f"c-{n}": 1_000 for n in range(6)} | {"c-2": HOUR_MS + 1}


def test_destinations_that_had_answered_and_fail_in_transport_are_counted_for_a_minute(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(**FAST)
    for n in range(6):
        put(batcher, f"c-{n}", f"https://h{n}:443")
    for c in claim(batcher).callbacks:
        begin(batcher, c)
        client.hset(key(f"dest:https://h{c.id[2:]}:443"), "seen", now_ms(client) - SEEN_MS[c.id])
        failed = c.id in ("c-0", "c-1", "c-2")
        outcome = Outcome.RETRY if failed else Outcome.SENT
        settle(batcher, c, outcome, feedback=FAULT if failed else FINE, delay_ms=60_000)
    demand = batcher.demand()
    assert (demand.tried, demand.failing) == (5, 2)
    client.zincrby(key("tried"), -61_000, "https://h0:443")
    client.zincrby(key("failing"), -61_000, "https://h0:443")
    demand = batcher.demand()
    assert (demand.tried, demand.failing) == (4, 1)


def test_demand_counts_what_is_ready_and_what_arrived(make_batcher: Make) -> None:
    batcher = make_batcher()
    for n in range(30):
        put(batcher, f"c-{n}")
    batcher.pause("https://p:443")
    put(batcher, "paused", "https://p:443")
    demand = batcher.demand()
    assert demand.ready == 30
    assert 2 <= demand.accepted_per_s <= 3.1
    assert demand.rate_per_s is None


def test_a_process_that_slept_past_its_instant_gets_a_new_one(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(min_interval=0, send_interval=0.1, destination_interval=0)
    for n in range(3):
        put(batcher, f"c-{n}", f"https://h{n}:443")
    gates = []
    for c in claim(batcher).callbacks:
        client.hset(key(f"rec:{c.id}"), "due", 0)
        gate = batcher.begin(c.id, c.token, nonce=f"n-{c.id}")
        assert isinstance(gate, Go)
        gates.append((c, gate))
    for c, _ in gates:  # all were stopped for five seconds
        client.hincrby(key(f"rec:{c.id}"), "at", -5000)
    client.hincrby(key("state"), "send", -5000)
    again = [batcher.begin(c.id, c.token, nonce=f"n-{c.id}") for c, _ in gates]
    instants = [g.now_ms + g.wait_ms for g in again if isinstance(g, Go)]
    assert len(instants) == 3
    assert instants[1] - instants[0] >= 100
    assert instants[2] - instants[1] >= 100
    assert [g.attempt for g in again if isinstance(g, Go)] == [1, 1, 1]
    assert counted(client, "attempts") == 3


def test_destinations_that_cannot_send_yet_do_not_take_the_others_places(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(min_interval=0)
    now = now_ms(client)
    for n in range(12):  # as many as a claim looks at; retries have used up their next send
        name = f"https://slow{n}:443"
        put(batcher, f"slow-{n}", name)
        client.hset(key(f"dest:{name}"), mapping={"interval": 20_000_000, "send": now + 20_000})
        client.zadd(key("ring"), {name: now - 100})
    put(batcher, "new", "https://new:443")
    claimed: list[str] = []
    for _ in range(3):
        claimed += [c.id for c in claim(batcher).callbacks]
    assert claimed == ["new"]
    assert claim(batcher).arm_ms is None


def test_settling_does_not_trigger_a_batch_before_its_time(
    make_batcher: Make,
) -> None:
    batcher = make_batcher(min_interval=2, send_interval=0, destination_interval=0, batch_size=5)
    for n in range(20):
        put(batcher, f"c-{n:02}")
    batch = claim(batcher)
    assert batch.arm_ms == 2000
    arms = []
    for c in batch.callbacks:
        begin(batcher, c)
        arms.append(settlement(batcher, c, Outcome.SENT, 1, feedback=FINE).arm_ms)
    assert arms == [None] * 5  # the one already armed suffices


def test_a_slow_receiver_is_not_claimed_for_in_whole_batches(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(min_interval=0.2, send_interval=0, destination_interval=0)
    for n in range(100):
        put(batcher, f"c-{n:03}")
    client.hset(key(f"dest:{HOST}"), "latency", 2000)  # 4 at once: one in 500 ms
    assert len(claim(batcher).callbacks) <= 3


def test_a_trial_that_fails_after_a_resume_counts_like_any_other(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(**FAST, destination_concurrency=0)
    fail(batcher, 5)
    put(batcher, "c-1")
    end_hold(client)
    (probe,) = claim(batcher).callbacks
    begin(batcher, probe)
    batcher.resume(HOST)
    settle(batcher, probe, Outcome.RETRY, feedback=FAULT, delay_ms=60_000)
    assert "broken" not in dest(client)


@pytest.mark.parametrize("broken", [False, True], ids=["asked", "broken"])
def test_a_hold_of_days_outlives_the_day_for_which_a_destination_is_known(
    make_batcher: Make, client: redis.Redis, broken: bool
) -> None:
    day = 86_400_000
    if broken:
        batcher = make_batcher(breaker_failures=1, breaker_open_min=86_400, breaker_open_max=86_400)
        feedback, hold_ms = FAULT, day
    else:
        batcher = make_batcher(retry_after_max=7 * 86_400)
        feedback, hold_ms = Feedback(Effect.ALIVE, hold_ms=5 * day), 5 * day
    claimed = claim_one(batcher)
    begin(batcher, claimed)
    settle(batcher, claimed, Outcome.DEAD, feedback=feedback)
    least = hold_ms + day - 10_000
    assert client.pttl(key(f"dest:{HOST}")) > least
    backdate(client, "destinations", HOST, 2 * day)
    assert batcher.trim(10).destinations == 0  # it is still held
    batcher.resume(HOST)
    assert client.pttl(key(f"dest:{HOST}")) <= day
    backdate(client, "destinations", HOST, 2 * day)
    assert batcher.trim(10).destinations == 1
