"""The word for the overall condition, its reason, and what to do."""

from __future__ import annotations

import pytest

from callbacks.batcher.inspector import TOTALS, Overview, Survey
from callbacks.model import Look, Memory
from callbacks.monitor.health import (
    NO_REDIS,
    RESTART_WORKERS,
    START_SCHEDULER,
    START_WORKERS,
    WELL,
    WORDS,
    Health,
    health,
)
from callbacks.settings import load_settings
from tests.support.overviews import NOW, books


def judge(
    overview: Overview,
    *,
    ready_since_ms: int | None = None,
    holds: dict[str, int] | None = None,
    memory: Memory | None = None,
    in_trouble: int = 0,
    environ: dict[str, str] | None = None,
) -> Health:
    """What is ready can be claimed, unless a test says otherwise."""
    ready = int(ready_since_ms is not None)
    look = Look(NOW, False, ready, ready_since_ms, None, ready, 0)
    survey = Survey(ready, ready_since_ms, None, holds or {})
    return health(
        overview,
        look,
        survey,
        memory,
        in_trouble=in_trouble,
        settings=load_settings(environ or {}),
    )


@pytest.mark.parametrize(
    ("overview", "since", "expected"),
    [
        (books(), None, "ok"),
        (books(ticked_ms=NOW - 3_600_000), None, "ok"),
        # Ready for 30 s without a batch: that can be a large backlog.
        (books(queued=1), NOW - 30_000, "ok"),
        # 5 s of max_delay, 0.5 s of min_interval and 60 s of drain target are over.
        (books(queued=1, last_batch_ms=NOW - 100), NOW - 65_500, "ok"),
        (
            books(queued=1, last_batch_ms=NOW - 100),
            NOW - 340_000,
            "behind: the oldest of 1 ready waits 6 min",
        ),
        (
            books(queued=1),
            NOW - 65_501,
            "no worker: none claims: callbacks are ready, no batch for 66 s",
        ),
        (
            books(queued=1, last_batch_ms=NOW - 3_600_000),
            NOW - 90_000,
            "no worker: none claims: callbacks are ready, no batch for 90 s",
        ),
        # All unsent callbacks count: those processing, and those held and not ready.
        (books(processing=1, ticked_ms=NOW - 20_000), None, "ok"),
        (
            books(processing=1, ticked_ms=NOW - 20_001),
            None,
            "no worker: the last was seen 20 s ago; 1 callback not sent yet",
        ),
        (
            books(queued=48, ticked_ms=NOW - 75_000, last_batch_ms=NOW - 100),
            None,
            "no worker: the last was seen 75 s ago; 48 callbacks not sent yet",
        ),
        (books(ticked_ms=None), None, "ok"),
        # Its batch was due after 5.5 s.
        (books(queued=2, ticked_ms=None, oldest_due_ms=NOW - 5_500), None, "ok"),
        (
            books(queued=2, ticked_ms=None, oldest_due_ms=NOW - 5_501),
            None,
            "no worker: none was ever seen; 2 callbacks not sent yet",
        ),
        # Redis' clock has been set back.
        (books(queued=2, ticked_ms=NOW + 3_600_000), None, "ok"),
        (books(queued=1, paused_since_ms=NOW - 3_000), NOW - 900_000, "paused: for 3.0 s"),
        (
            books(queued=1, paused_since_ms=NOW - 3_000, ticked_ms=NOW - 61_000),
            None,
            "no worker: the last was seen 61 s ago; 1 callback not sent yet",
        ),
        (
            books(paused_since_ms=NOW, totals={**books().totals, "accepted": 3}),
            None,
            "unbalanced: the totals do not balance by 2",
        ),
    ],
)
def test_health_names_the_worst(overview: Overview, since: int | None, expected: str) -> None:
    assert str(judge(overview, ready_since_ms=since)) == expected


@pytest.mark.parametrize(
    ("memory", "word"),
    [
        (None, "ok"),
        (Memory(89, 100), "ok"),
        (Memory(90, 100), "redis full"),
        (Memory(90, 0), "ok"),
    ],
)
def test_a_redis_that_has_no_room_for_another_callback_is_full(
    memory: Memory | None, word: str
) -> None:
    found = judge(books(), memory=memory)
    assert found.word == word
    why = "90% of maxmemory is used: enqueue raises QueueFull"
    assert found.reason == (why if word == "redis full" else "")


def test_a_redis_that_refuses_enqueues_is_full_also_where_its_memory_must_not_be_read() -> None:
    assert judge(books(refusing=True)).word == "redis full"


def test_as_many_as_may_be_queued_are_full_and_no_worker_is_worse() -> None:
    environ = {"CALLBACKS_MAX_QUEUED": "2"}
    found = judge(books(queued=2), environ=environ)
    full = "queue full: 2 queued, CALLBACKS_MAX_QUEUED is 2: enqueue raises QueueFull"
    assert str(found) == full
    gone = books(queued=2, ticked_ms=NOW - 600_000)
    assert judge(gone, memory=Memory(100, 100), environ=environ).word == "no worker"


def test_what_waits_on_purpose_is_no_worker_and_no_backlog() -> None:
    """A batch every ten minutes, ticks every minute: no fault."""
    environ = {
        "CALLBACKS_MIN_INTERVAL": "300",
        "CALLBACKS_MAX_DELAY": "300",
        "CALLBACKS_CHECK_INTERVAL": "60",
    }
    waiting = books(queued=1, ticked_ms=NOW - 170_000, last_batch_ms=NOW - 600_000)
    assert judge(waiting, ready_since_ms=NOW - 600_000, environ=environ).word == "ok"


@pytest.mark.parametrize(
    ("scheduled", "data_since", "expected"),
    [
        (NOW - 150_000, None, "ok"),
        (NOW - 150_001, None, "scheduler away: last seen 3 min ago"),
        # Never seen: it counts from when the first worker was, if one ever was.
        (None, None, "ok"),
        (None, NOW - 150_000, "ok"),
        (None, NOW - 7_200_000, "scheduler away: never seen, for 2 h"),
    ],
)
def test_a_scheduler_that_is_away_is_told(
    scheduled: int | None, data_since: int | None, expected: str
) -> None:
    found = judge(books(scheduled_ms=scheduled, data_since_ms=data_since))
    delays_nothing = "; this delays nothing, because each worker checks by itself"
    assert str(found) == expected + (delays_nothing if expected != "ok" else "")
    assert found.todo == (START_SCHEDULER if expected != "ok" else "")


def test_a_scheduler_that_is_away_is_worse_than_nothing_only() -> None:
    away = {"scheduled_ms": NOW - 900_000}
    assert judge(books(paused_since_ms=NOW, **away)).word == "paused"
    late = books(queued=1, last_batch_ms=NOW, **away)
    assert judge(late, ready_since_ms=NOW - 600_000).word == "behind"


def test_what_needs_a_look_is_told_beside_the_word() -> None:
    found = judge(books(dead_last_hour=97), in_trouble=2)
    assert str(found) == "ok: 2 destinations in trouble, 97 died within the hour"
    assert "callbacks destinations" in found.todo
    paused = judge(books(paused_since_ms=NOW - 3_000, dead_last_hour=1))
    assert paused.reason == "for 3.0 s; 1 died within the hour"
    assert judge(books(), holds={"paused": 5}) == Health("ok")
    alarm = judge(books(queued=1, ticked_ms=NOW - 61_000, dead_last_hour=97))
    assert alarm.reason == "the last was seen 61 s ago; 1 callback not sent yet"


def test_a_namespace_that_never_had_a_callback_is_named() -> None:
    unused = books(totals=dict.fromkeys(TOTALS, 0))
    found = judge(unused, environ={"CALLBACKS_NAMESPACE": "calbacks"})
    assert str(found) == "ok: nothing was ever enqueued in the namespace calbacks"
    assert "doctor" in found.todo
    assert judge(books(), environ={"CALLBACKS_NAMESPACE": "calbacks"}) == Health("ok")


def test_what_is_held_makes_nothing_late() -> None:
    """A breaker may be open for hours: that is one receiver's trouble, and is told as such."""
    held = books(queued=400, oldest_due_ms=NOW - 7_200_000, last_batch_ms=NOW - 3_600_000)
    assert str(judge(held, holds={"breaker": 1}, in_trouble=1)) == "ok: 1 destination in trouble"


def test_every_word_but_a_plain_ok_says_what_to_do() -> None:
    assert judge(books(queued=1, ticked_ms=NOW - 61_000)).todo == START_WORKERS
    assert judge(books(queued=1), ready_since_ms=NOW - 66_000).todo == RESTART_WORKERS
    assert "audit" in judge(books(totals=dict.fromkeys(TOTALS, 0) | {"sent": 1})).todo
    assert (
        "start more workers"
        in judge(books(queued=1, last_batch_ms=NOW), ready_since_ms=NOW - 300_000).todo
    )
    assert judge(books(paused_since_ms=NOW)).todo == "callbacks resume"
    assert "maxmemory" in judge(books(), memory=Memory(99, 100)).todo
    full = judge(books(queued=2), environ={"CALLBACKS_MAX_QUEUED": "2"})
    assert "CALLBACKS_MAX_QUEUED" in full.todo
    assert NO_REDIS.todo
    assert judge(books()).todo == ""


def test_words_are_known_and_those_that_alarm_are_the_worse_ones() -> None:
    assert NO_REDIS.word == WORDS[-1]
    assert {word for word in WORDS if word in WELL} == set(WORDS[: len(WELL)])
