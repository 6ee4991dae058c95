"""The duties against a real Redis, with messages and HTTP replaced by recorders."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import redis

from callbacks.batcher.audit import audit
from callbacks.batcher.inspector import Inspector, find, overview
from callbacks.batcher.memory import read_memory
from callbacks.batcher.store import Batcher
from callbacks.delivery.callback import AICallback
from callbacks.model import (
    Answer,
    ClaimResult,
    Effect,
    Feedback,
    Gate,
    Item,
    Later,
    LaterWhy,
    Outcome,
    QueueFull,
    Reason,
    Refused,
    Settled,
    Settlement,
    State,
    Steps,
)
from callbacks.monitor.probes import read_work
from callbacks.policy.flush import FlushReason
from callbacks.policy.retry import Decision
from callbacks.request.freeze import mint_id, pack
from callbacks.units import ms
from callbacks.worker import attempt, duties
from callbacks.worker.places import Places
from tests.redis.support import (
    HOST,
    HOUR_MS,
    begin,
    claim,
    claim_one,
    key,
    now_ms,
    packed,
    put,
    settle,
    to_head,
)

Make = Callable[..., Batcher]


class Recorder:
    """Keeps the messages instead of sending them."""

    def __init__(self) -> None:
        self.callbacks: list[tuple[str, str, int]] = []
        self.triggers: list[int] = []
        self.checks: list[int] = []

    def batch(self, claimed: Sequence[tuple[str, str, int]]) -> None:
        self.callbacks.extend(claimed)

    def trigger(self, delay_ms: int) -> None:
        self.triggers.append(delay_ms)

    def check(self, delay_ms: int) -> None:
        self.checks.append(delay_ms)


class Receiver:
    """Gives scripted answers and records what was posted."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.posts: list[tuple[str, Mapping[str, str], bytes]] = []

    def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        spent_s: float = 0,
        proven: bool = False,
    ) -> Answer:
        self.posts.append((url, headers, body))
        return self.answers.pop(0)


OK = Answer(200, None, duration=0.007)
BUSY = Answer(503, None, "HTTP 503", duration=0.009)


def store(batcher: Batcher, id: str = "c-1", url: str = "https://a.example/x") -> None:
    callback = AICallback(url, {"n": 1}, id=id, settings=batcher.settings)
    request = callback.request
    batcher.enqueue(Item(id, request.destination, pack(request), 0, ms(3600)))


class Waits:
    """A timer whose time passes only in waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float, /) -> None:
        self.now += seconds


def sent(
    batcher: Batcher,
    receiver: Receiver,
    id: str,
    token: str,
    *,
    messages: Recorder | None = None,
    timer: Waits | None = None,
) -> attempt.Sent:
    return attempt.send_once(
        batcher,
        messages or Recorder(),
        receiver,
        id,
        token,
        places=Places(),
        timer=timer or Waits(),
    )


def test_a_dispatch_sends_each_message_a_little_before_its_slot(make_batcher: Make) -> None:
    batcher, messages = make_batcher(destination_interval=0), Recorder()
    for n in range(3):
        put(batcher, f"c-{n}")
    batch = duties.dispatch_once(batcher, messages)
    assert batch is not None
    assert messages.callbacks == [
        ("c-0", batch.callbacks[0].token, 0),
        ("c-1", batch.callbacks[1].token, 100),
        ("c-2", batch.callbacks[2].token, 300),
    ]
    assert messages.triggers == []


def test_a_dispatch_gives_its_lock_back_even_when_messages_fail(
    batcher: Batcher, client: redis.Redis
) -> None:
    class Broken(Recorder):
        def batch(self, claimed: Sequence[tuple[str, str, int]]) -> None:
            raise RuntimeError("no messages today")

    put(batcher, "c-1")
    with pytest.raises(RuntimeError):
        duties.dispatch_once(batcher, Broken())
    assert not client.exists(key("lock"))


def test_while_another_holds_the_lock_a_dispatch_does_nothing(
    batcher: Batcher, client: redis.Redis
) -> None:
    put(batcher, "c-1")
    batcher.lock("another")
    assert duties.dispatch_once(batcher, Recorder()) is None
    assert client.zcard(key("processing")) == 0
    assert client.get(key("lock")).startswith(b"another:")


def test_a_check_flushes_what_waited_long_enough_and_says_why(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher, messages = make_batcher(), Recorder()
    put(batcher, "c-1")
    assert duties.flush_once(batcher, messages).flush is None
    client.zincrby(key(f"lane:{HOST}"), -6000, "c-1")
    client.zincrby(key("ring"), -6000, HOST)
    checked = duties.flush_once(batcher, messages)
    assert checked.flush is not None
    assert checked.flush.reason is FlushReason.MAX_DELAY
    assert checked.flush.waited_ms >= 6000
    assert len(messages.callbacks) == 1


def test_a_check_that_comes_too_early_arms_the_next_one_once(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher, messages = make_batcher(), Recorder()
    put(batcher, "c-1")
    client.hset(key("state"), "check_at", 0)  # the message that enqueue requested was lost
    duties.flush_once(batcher, messages)
    duties.flush_once(batcher, messages)
    (wait,) = messages.checks
    assert 4500 <= wait <= 5000


def test_a_check_makes_up_for_a_trigger_that_is_lost(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher, messages = make_batcher(), Recorder()
    put(batcher, "c-1")
    client.hset(key("state"), "next_batch", now_ms(client) - 500)
    assert duties.flush_once(batcher, messages).flush is None  # it may wait for a thread
    client.hset(key("state"), "next_batch", now_ms(client) - 1_500)
    checked = duties.flush_once(batcher, messages)
    assert checked.flush is not None
    assert checked.flush.reason is FlushReason.TRIGGER_LOST
    assert len(messages.callbacks) == 1
    assert duties.flush_once(batcher, messages).flush is None


def test_a_paused_system_is_neither_flushed_nor_armed(batcher: Batcher) -> None:
    messages = Recorder()
    put(batcher, "c-1")
    batcher.pause()
    duties.flush_once(batcher, messages)
    assert (messages.callbacks, messages.triggers, messages.checks) == ([], [], [])


def test_a_send_posts_the_frozen_bytes_and_settles(batcher: Batcher, inspector: Inspector) -> None:
    store(batcher)
    (claimed,) = claim(batcher).callbacks
    receiver = Receiver(OK)
    result = sent(batcher, receiver, claimed.id, claimed.token)
    assert (result.settled, result.retry_ms) == (Settled.SENT, None)
    ((url, headers, body),) = receiver.posts
    assert url == "https://a.example/x"
    assert body.startswith(b'{"type":"callback"')
    assert headers["webhook-id"] == "c-1"
    assert headers["webhook-attempt"] == "1"
    status = find(batcher.scripts, "c-1")
    assert status is not None
    assert (status.state, status.status, status.history[0].duration) == (State.SENT, 200, 0.007)
    assert list(audit(inspector)) == []


def test_where_the_time_of_an_attempt_went_is_kept_and_adds_up(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher()
    store(batcher)
    due_ms = int(client.zincrby(key("lane:https://a.example:443"), -6_000, "c-1"))
    (claimed,) = claim(batcher).callbacks
    steps = Steps(connect=0.002, answer=0.004, reused=False)
    sent(batcher, Receiver(replace(OK, steps=steps)), claimed.id, claimed.token)
    status = find(batcher.scripts, "c-1")
    assert status is not None
    (one,) = status.history
    assert one.timing
    assert 6 <= one.timing.batch < 36  # a busy machine
    assert (one.timing.connect, one.timing.answer, one.timing.rest) == (0.002, 0.004, 0.001)
    assert one.timing.reused is False
    assert one.timing.waited + one.duration == pytest.approx(one.timing.total)
    assert one.at - one.timing.waited == pytest.approx(due_ms / 1_000)


def test_what_the_receiver_said_is_kept_with_its_attempt_without_what_is_ours(
    make_batcher: Make, client: redis.Redis
) -> None:
    secret = "whsec_" + "c2VjcmV0" * 4
    batcher = make_batcher(secret=secret)
    store(batcher)
    (claimed,) = claim(batcher).callbacks
    said = f"no: [é], {secret}" + " more" * 100
    sent(batcher, Receiver(Answer(503, None, said=said)), claimed.id, claimed.token)
    status = find(batcher.scripts, "c-1")
    assert status is not None
    assert status.said == status.history[0].said
    assert status.said.startswith("no: [é], [redacted] more more")
    assert len(status.said) == 200


def test_a_long_history_loses_its_oldest_attempts_whatever_was_said(
    make_batcher: Make,
) -> None:
    batcher = make_batcher(min_interval=0, send_interval=0, destination_interval=0)
    no = Answer(503, None, said="],[" * 100)
    decision = Decision(Outcome.RETRY, Reason.SERVER_ERROR)
    put(batcher, "c-1")
    for _ in range(29):
        (claimed,) = claim(batcher).callbacks
        go = begin(batcher, claimed)
        entry = attempt.history_entry(go.attempt, 1, no, decision, (0, 0, 0, 0, 0))
        settle(batcher, claimed, Outcome.RETRY, go.attempt, entry=entry, park=True, throttled=True)
    status = find(batcher.scripts, "c-1")
    assert status is not None
    assert 5 < len(status.history) < 29
    assert {one.said for one in status.history} == {no.said}
    assert status.history[-1].attempt == 29


def test_a_failure_asks_for_thirty_and_then_sixty_seconds_and_then_dies(
    batcher: Batcher, client: redis.Redis
) -> None:
    store(batcher)
    (claimed,) = claim(batcher).callbacks
    waits = []
    for _ in range(3):
        client.hset(key("state"), "send", 0)
        client.hset(key("dest:https://a.example:443"), "send", 0)
        client.hset(key("rec:c-1"), "due", 0)
        waits.append(sent(batcher, Receiver(BUSY), claimed.id, claimed.token).retry_ms)
    assert waits == [30_000, 60_000, None]
    status = find(batcher.scripts, "c-1")
    assert status is not None
    assert (status.state, status.reason) == (State.DEAD, "server_error")


def test_every_attempt_sends_the_same_bytes(make_batcher: Make, client: redis.Redis) -> None:
    batcher = make_batcher(retry_increment=0, send_interval=0, destination_interval=0)
    store(batcher)
    (claimed,) = claim(batcher).callbacks
    receiver = Receiver(BUSY, BUSY, OK)
    for _ in range(3):
        sent(batcher, receiver, claimed.id, claimed.token)
    assert len({body for _, _, body in receiver.posts}) == 1
    assert [h["webhook-attempt"] for _, h, _ in receiver.posts] == ["1", "2", "3"]
    assert len({h["webhook-id"] for _, h, _ in receiver.posts}) == 1


def test_a_process_that_slept_past_its_lease_sends_nothing_that_was_taken_back(
    batcher: Batcher, client: redis.Redis
) -> None:
    store(batcher)
    (claimed,) = claim(batcher).callbacks

    class Stopped(Waits):
        """Stopped for a minute before its instant; meanwhile the callback is reclaimed."""

        def sleep(self, seconds: float, /) -> None:
            client.zadd(key("processing"), {"c-1": 1})
            assert batcher.reclaim(10, chance=0).recovered == 1
            super().sleep(seconds + 60)

    client.hset(key("state"), "send", now_ms(client) + 200)  # so that it has to wait
    receiver = Receiver()
    result = sent(batcher, receiver, claimed.id, claimed.token, timer=Stopped())
    assert result.gate is Refused.STALE
    assert receiver.posts == []


@pytest.mark.parametrize(("took_s", "begins"), [(0.3, 1), (1.5, 4)], ids=["slow", "stopped"])
def test_a_slow_way_to_redis_is_no_missed_instant_and_a_stopped_call_is_one(
    make_batcher: Make, monkeypatch: pytest.MonkeyPatch, took_s: float, begins: int
) -> None:
    batcher, timer, asked = make_batcher(), Waits(), []
    store(batcher)
    (claimed,) = claim(batcher).callbacks
    begin = batcher.begin

    def slow(*args: Any, **more: Any) -> Gate:
        asked.append(args)
        timer.sleep(took_s)
        return begin(*args, **more)

    monkeypatch.setattr(batcher, "begin", slow)
    receiver = Receiver(OK)
    assert sent(batcher, receiver, "c-1", claimed.token, timer=timer).settled is Settled.SENT
    assert len(asked) == begins


def test_a_stale_message_posts_nothing(batcher: Batcher) -> None:
    store(batcher)
    claim(batcher)
    receiver = Receiver()
    assert sent(batcher, receiver, "c-1", "old token").gate is Refused.STALE
    assert receiver.posts == []


def test_a_shut_gate_gives_the_callback_back(batcher: Batcher) -> None:
    store(batcher)
    (claimed,) = claim(batcher).callbacks
    batcher.pause()
    assert isinstance(sent(batcher, Receiver(), claimed.id, claimed.token).gate, Later)
    status = find(batcher.scripts, "c-1")
    assert status is not None
    assert (status.state, status.attempts) == (State.QUEUED, 0)


def test_an_expired_callback_is_ended_at_its_gate(batcher: Batcher, client: redis.Redis) -> None:
    store(batcher)
    (claimed,) = claim(batcher).callbacks
    client.zadd(key("expiry"), {"c-1": 1})
    sent(batcher, Receiver(), claimed.id, claimed.token)
    status = find(batcher.scripts, "c-1")
    assert status is not None
    assert (status.state, status.reason) == (State.DEAD, "expired")


def test_a_result_waits_for_redis_to_come_back(
    batcher: Batcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(batcher)
    (claimed,) = claim(batcher).callbacks
    settle, calls = batcher.settle, []

    def away_twice(*args: object, **kwargs: object) -> Settlement:
        calls.append(args)
        if len(calls) <= 2:
            raise redis.ConnectionError("away")
        return settle(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(batcher, "settle", away_twice)
    assert sent(batcher, Receiver(OK), claimed.id, claimed.token).settled is Settled.SENT
    assert len(calls) == 3


def test_a_begin_whose_answers_are_lost_is_one_attempt_and_no_crash(
    batcher: Batcher, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(batcher)
    (claimed,) = claim(batcher).callbacks
    begin, calls = batcher.begin, []

    def unheard_five_times(*args: object, **kwargs: object) -> Gate:
        calls.append(args)
        gate = begin(*args, **kwargs)  # type: ignore[arg-type]
        if len(calls) <= 5:
            raise redis.TimeoutError("the answer is lost")
        return gate

    monkeypatch.setattr(batcher, "begin", unheard_five_times)
    receiver = Receiver(OK)
    assert sent(batcher, receiver, claimed.id, claimed.token).settled is Settled.SENT
    assert len(receiver.posts) == 1
    status = find(batcher.scripts, "c-1")
    assert status is not None
    assert (status.attempts, status.crashes) == (1, 0)
    assert client.zcard(key("processing")) == 0


def test_late_callbacks_get_a_new_message_with_the_same_token(
    batcher: Batcher, client: redis.Redis
) -> None:
    messages = Recorder()
    put(batcher, "c-1")
    (claimed,) = claim(batcher).callbacks
    assert duties.wake_once(batcher, messages) == 0
    client.zincrby(key("processing"), -1500, "c-1")
    assert duties.wake_once(batcher, messages) == 1
    assert messages.callbacks == [("c-1", claimed.token, 0)]


def test_all_whose_message_is_lost_are_woken_in_one_pass(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(
        min_interval=0, send_interval=0, destination_interval=0, batch_size=1_000
    )
    for _ in range(2):
        batcher.enqueue_many(Item(mint_id(), HOST, packed(), 0, HOUR_MS) for _ in range(1_000))
        client.hset(key(f"dest:{HOST}"), "ok", 1)
        assert len(claim(batcher).callbacks) == 1_000
    late = client.zrange(key("processing"), 0, -1)
    client.zadd(key("processing"), dict.fromkeys(late, now_ms(client) - 2_000))
    assert claim(batcher).result is ClaimResult.SATURATED
    messages = Recorder()
    assert duties.wake_once(batcher, messages) == 2_000
    assert len({id for id, _, _ in messages.callbacks}) == 2_000
    assert duties.wake_once(batcher, messages) == 0


def test_a_duty_that_fails_keeps_none_of_the_others_from_its_turn(
    batcher: Batcher, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(batcher, "c-1")
    client.zadd(key("expiry"), {"c-1": 1})

    def broken(limit: int, **more: int) -> None:
        raise RuntimeError("no waking today")

    batcher.journal('{"act": "pause"}')
    monkeypatch.setattr(batcher, "wake", broken)
    with pytest.raises(RuntimeError, match="no waking today"):
        duties.tick_once(batcher, Recorder(), chance=0)
    status = find(batcher.scripts, "c-1")
    assert status is not None
    assert status.state is State.DEAD
    assert batcher.report(10) == []  # which the last of them has done


def test_near_the_memory_limit_enqueues_are_refused_until_there_is_room_again(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher()
    memory = read_memory(batcher.scripts)
    assert memory is not None
    used = memory.used
    client.config_set("maxmemory", int(used * 1.05))
    duties.trim_once(batcher)
    with pytest.raises(QueueFull, match="maxmemory"):
        put(batcher, "c-1", proven=False)
    client.config_set("maxmemory", used * 10)
    duties.trim_once(batcher)
    assert put(batcher, "c-1").accepted


def test_a_full_redis_still_dispatches_sends_and_keeps_ticking(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher, messages = make_batcher(), Recorder()
    store(batcher)
    client.config_set("maxmemory", 1)
    assert batcher.tick("a", 1000).elected
    batch = duties.dispatch_once(batcher, messages)
    assert batch is not None
    ((id, token, _),) = messages.callbacks
    assert sent(batcher, Receiver(OK), id, token).settled is Settled.SENT
    duties.tick_once(batcher, messages, chance=0)


OPEN: list[str] = []
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def vault() -> Iterator[list[str]]:
    """What `vault_resolver` returns; it fails if empty."""
    OPEN.clear()
    yield OPEN
    OPEN.clear()


def vault_resolver(callback_url: str, environment: str) -> list[str]:
    if not OPEN:
        raise LookupError("the vault is closed")
    return OPEN


def end_waits(batcher: Batcher) -> None:
    """End all waits of the one destination: its hold, its pace, and those in its lane."""
    client, name = batcher.scripts.client, "https://a.example:443"
    client.hset(key(f"dest:{name}"), mapping={"hold": 0, "slot": 0, "send": 0})
    client.hset(key("state"), mapping={"slot": 0, "send": 0})
    for id in client.zrange(key(f"lane:{name}"), 0, -1):
        client.zincrby(key(f"lane:{name}"), -60_000, id)
    to_head(client, name)


def test_without_a_secret_a_callback_waits_at_no_cost_however_long_it_takes(
    make_batcher: Make, inspector: Inspector, client: redis.Redis, vault: list[str]
) -> None:
    resolver = "tests.redis.test_duties:vault_resolver"
    batcher = make_batcher(secret_resolver=resolver, min_interval=0)
    store(batcher)
    receiver, waits = Receiver(OK), []
    for _ in range(30):
        (claimed,) = claim(batcher).callbacks
        result = sent(batcher, receiver, claimed.id, claimed.token)
        assert (result.settled, result.retry_ms) == (Settled.QUEUED, None)
        assert result.answer is not None
        assert result.answer.fault is Reason.NO_SECRET
        waits.append(int(client.hget(key("rec:c-1"), "due")) - now_ms(client))
        end_waits(batcher)
    expected = [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, *[60_000] * 24]
    assert waits == pytest.approx(expected, abs=900)
    status = find(batcher.scripts, "c-1")
    assert status is not None
    assert (status.state, status.reason, status.retries, status.crashes) == (
        State.QUEUED, "no_secret", 0, 0,
    )  # fmt: skip
    assert (status.attempts, status.history) == (0, ())
    totals = overview(batcher.scripts).totals
    assert (totals["attempts"], totals["retried"], totals["throttled"]) == (1, 0, 0)
    assert list(audit(inspector)) == []

    vault.append(SECRET)
    (claimed,) = claim(batcher).callbacks
    assert sent(batcher, receiver, claimed.id, claimed.token).settled is Settled.SENT
    assert [headers["webhook-attempt"] for _, headers, _ in receiver.posts] == ["1"]
    assert overview(batcher.scripts).totals["attempts"] == 1
    assert list(audit(inspector)) == []


def unpaced_vault(make_batcher: Make) -> Batcher:
    """A batcher with a closed vault, whose only destination is proven."""
    resolver = "tests.redis.test_duties:vault_resolver"
    pace = {"send_interval": 0, "destination_interval": 0, "min_interval": 0}
    batcher = make_batcher(secret_resolver=resolver, **pace)
    batcher.scripts.client.hset(key("dest:https://a.example:443"), "ok", 1)
    return batcher


def test_one_callback_without_a_secret_holds_up_no_other_and_several_in_a_row_hold_all(
    make_batcher: Make, client: redis.Redis, vault: list[str]
) -> None:
    batcher, dest = unpaced_vault(make_batcher), key("dest:https://a.example:443")
    for n in range(4):
        store(batcher, f"c-{n}")
    first, second, third, fourth = claim(batcher).callbacks
    for one in (first, second, third):
        begin(batcher, one)
    assert batcher.withhold(first.id, first.token, 1, detail="x").settled is Settled.QUEUED
    assert client.hget(dest, "why") is None
    for one in (second, third):  # one by one, and together
        assert batcher.withhold(one.id, one.token, 1, detail="x").settled is Settled.QUEUED
        assert batcher.withhold(one.id, one.token, 1, detail="x").settled is Settled.STALE
        assert (client.hget(dest, "why"), client.hget(dest, "unsigned")) == (b"secret", b"2")
        assert 0 < int(client.hget(dest, "hold")) - now_ms(client) <= 1_000
    gate = batcher.begin(fourth.id, fourth.token)
    assert isinstance(gate, Later)
    assert gate.why is LaterWhy.ON_HOLD
    batcher.release(fourth.id, fourth.token, gate.due_ms, why=gate.why)
    seen = read_work(batcher.scripts, "callbacks", "callbacks")
    assert (seen.unsigned, seen.unsigned_why) == (1, "x")
    end_waits(batcher)
    vault.append(SECRET)
    (*_, one) = claim(batcher).callbacks
    sent(batcher, Receiver(OK), one.id, one.token)
    assert client.hget(dest, "unsigned") is None


def test_an_outcome_ends_what_was_counted_without_a_secret(
    make_batcher: Make, client: redis.Redis, vault: list[str]
) -> None:
    batcher = unpaced_vault(make_batcher)
    dest, rec = key("dest:https://a.example:443"), key("rec:c-1")

    def withhold() -> None:
        (claimed,) = claim(batcher).callbacks
        begin(batcher, claimed)
        batcher.withhold(claimed.id, claimed.token, 1, detail="x")
        assert (client.hexists(dest, "unsigned"), client.hexists(rec, "ns")) == (True, True)

    store(batcher, "c-1")
    withhold()
    end_waits(batcher)
    (claimed,) = claim(batcher).callbacks
    begin(batcher, claimed)
    settle(batcher, claimed, Outcome.RETRY, feedback=Feedback(Effect.FAULT), park=True)
    assert (client.hexists(dest, "unsigned"), client.hexists(rec, "ns")) == (False, False)


@pytest.mark.parametrize("how", ["expires", "repaired"])
def test_the_next_life_of_a_callback_begins_with_the_shortest_wait_for_a_secret(
    make_batcher: Make, client: redis.Redis, vault: list[str], how: str
) -> None:
    batcher, rec = unpaced_vault(make_batcher), key("rec:c-1")
    store(batcher, "c-1")
    (claimed,) = claim(batcher).callbacks
    begin(batcher, claimed)
    batcher.withhold(claimed.id, claimed.token, 1, detail="x")
    if how == "expires":
        client.zadd(key("expiry"), {"c-1": 1})
        assert batcher.expire(1) == 1
        assert batcher.replay(["c-1"]) == 1
    else:
        batcher.repair("c-1")
    assert not client.hexists(rec, "ns")


def test_a_callback_cancelled_while_its_secret_is_looked_for_is_cancelled(
    make_batcher: Make, inspector: Inspector
) -> None:
    batcher = make_batcher()
    claimed = claim_one(batcher)
    begin(batcher, claimed)
    batcher.cancel("c-1")
    held = batcher.withhold("c-1", claimed.token, 1, detail="x")
    assert held.settled is Settled.CANCELLED
    assert list(audit(inspector)) == []


def test_a_callback_that_is_to_be_signed_never_goes_out_unsigned(make_batcher: Make) -> None:
    batcher = make_batcher(secret_resolver="tests.redis.test_duties:empty_resolver")
    store(batcher)
    (claimed,) = claim(batcher).callbacks
    receiver = Receiver()
    sent(batcher, receiver, claimed.id, claimed.token)
    assert receiver.posts == []
    status = find(batcher.scripts, "c-1")
    assert status is not None
    assert (status.state, status.reason) == (State.QUEUED, "no_secret")


def empty_resolver(callback_url: str, environment: str) -> list[str]:
    return []


def broken_resolver(callback_url: str, environment: str) -> list[str]:
    raise LookupError("the vault is closed")


def test_each_death_is_reported_once_and_again_only_if_that_failed(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(send_interval=0, destination_interval=0)
    told: list[tuple[str, str]] = []

    def tell(id: str, reason: str) -> None:
        told.append((id, reason))

    assert duties.notify_once(batcher, tell) == 0  # begins here
    for n in range(150):
        put(batcher, f"c-{n:03}")
        client.zadd(key("expiry"), {f"c-{n:03}": 1})
    assert batcher.expire(200) == 150
    assert duties.notify_once(batcher, tell) == 0  # a moment later
    for n in range(150):  # most of them in the same millisecond
        client.zadd(key("dead"), {f"c-{n:03}": client.zscore(key("dead"), f"c-{n:03}") - 2000})
    client.hset(key("state"), "told", 1)
    with pytest.raises(RuntimeError):
        duties.notify_once(batcher, broken_tell)
    assert duties.notify_once(batcher, tell) + duties.notify_once(batcher, tell) == 150
    assert duties.notify_once(batcher, tell) == 0
    assert sorted(told) == [(f"c-{n:03}", "expired") for n in range(150)]


def broken_tell(id: str, reason: str) -> None:
    raise RuntimeError("nobody listens")


def test_a_tick_is_busy_until_some_seconds_and_a_tick_after_everything_has_ended(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(send_interval=0, destination_interval=0)

    def busy() -> bool:
        client.delete(key("tick"))
        return batcher.tick("w-0", 1_000).busy

    def wait(seconds: float) -> None:
        for field in ("busy", "last_batch"):
            client.hincrby(key("state"), field, -round(seconds * 1_000))

    assert not busy()
    put(batcher, "c-1")
    assert busy()
    wait(60)
    assert busy()
    claimed = claim(batcher).callbacks[0]
    begin(batcher, claimed)
    settle(batcher, claimed)
    assert busy()
    wait(6.5)
    assert busy()
    wait(1)
    assert not busy()
    quick = claim_one(batcher, "c-2")  # it comes and goes between two ticks
    begin(batcher, quick)
    settle(batcher, quick)
    assert busy()
    wait(8)
    assert not busy()
    client.zadd(key("gone"), {hashlib.sha1(b"https://a.example/x").hexdigest(): 1})
    client.hdel(key("state"), "last_batch")
    put(batcher, "c-4")  # it dies in its claim
    assert claim(batcher).callbacks == ()
    assert client.zscore(key("dead"), "c-4")
    assert busy()
    wait(8)
    assert not busy()
    batcher.admit(full=True)
    assert busy()


def test_what_people_did_is_logged_once_by_a_worker(
    batcher: Batcher, client: redis.Redis, capfd: pytest.CaptureFixture[str]
) -> None:
    batcher.journal('{"act":"purge","target":"all","who":"kim@host","count":3}')
    client.lset(key("journal"), 0, f"{now_ms(client) - 61_000} {{}}")  # long before any worker
    batcher.pause(entry='{"act":"pause","target":"all","who":"kim@host","reason":"deploy"}')
    assert duties.report_once(batcher) == 1
    assert duties.report_once(batcher) == 0
    batcher.resume(entry='{"act":"resume","target":"all"}')
    batcher.resume()
    assert duties.report_once(batcher) == 1
