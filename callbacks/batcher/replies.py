"""Turns the answers of the Lua verbs into values. An unknown code raises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import redis

from callbacks.batcher.errors import NotDurable
from callbacks.model import (
    Again,
    Batch,
    Breaker,
    Claimed,
    ClaimResult,
    Early,
    Gate,
    Go,
    Later,
    LaterWhy,
    Look,
    QueueFull,
    Refused,
    Settled,
    Settlement,
    Signal,
    Stored,
    Waited,
)

#: The answer for a callback whose id is reserved for another shard.
ELSEWHERE: Final = Stored(accepted=False)


def stored(code: int, signal: int, wait_ms: int) -> Stored:
    """Read the result for one callback of an enqueue; raises `QueueFull`."""
    if code == -2:
        raise no_room()
    if code == -3:
        return ELSEWHERE
    if code == -1:
        raise QueueFull(f"{signal} callbacks wait, as many as CALLBACKS_MAX_QUEUED allows")
    return Stored(code == 1, Signal(signal), wait_ms, conflict=code == 2)


def results(reply: Any, count: int) -> list[Stored | Exception]:
    """Read the results of one enqueue; if it failed, none of its callbacks was stored.

    If it was executed and did not become durable, those that were stored have that error.
    """
    if isinstance(reply, NotDurable):
        each = results(reply.reply, count)
        return [one if isinstance(one, Exception) or one is ELSEWHERE else reply for one in each]
    if isinstance(reply, Exception):
        return [as_room(reply)] * count
    return [_result(*reply[start : start + 3]) for start in range(0, 3 * count, 3)]


def as_room(error: Exception) -> Exception:
    """What an error of Redis means for callbacks that were not stored."""
    return no_room() if isinstance(error, redis.OutOfMemoryError) else error


def _result(code: int, signal: int, wait_ms: int) -> Stored | Exception:
    try:
        return stored(code, signal, wait_ms)
    except QueueFull as error:
        return error


def no_room() -> QueueFull:
    """Make the error for an enqueue for which Redis has no memory."""
    return QueueFull("Redis is at its memory limit (maxmemory)")


def batch(answer: Sequence[Any]) -> Batch:
    """Read one step of a claim."""
    code, now, arm, *rest = answer
    claimed = (
        Claimed(text(id), text(token), int(slot))
        for id, token, slot in zip(rest[::3], rest[1::3], rest[2::3], strict=True)
    )
    return Batch(ClaimResult(code), now, time_ms(arm), tuple(claimed))


def gate(answer: Sequence[Any]) -> Gate:
    """Read the answer of `begin`."""
    match answer:
        case [
            1, wait, attempt, retries, throttled, crashes, probe, now, packed, overdue, due, waited,
            since,
        ]:  # fmt: skip
            spent = (retries, throttled, crashes)
            came = _waited(due, waited, since)
            return Go(wait, attempt, *spent, bool(probe), now, packed, overdue, probe == 2, came)
        case [2, due, why]:
            return Later(due, LaterWhy(why))
        case [3, wait]:
            return Early(wait)
        case [6, wait]:
            return Again(wait)
        case [code]:
            return Refused(code)
    raise ValueError(f"the gate answered {answer!r}")


def _waited(slot_ms: int, claim: bytes, since: bytes) -> Waited:
    """Read how a callback came to the gate: `q` and `z` in `keys`, both empty for a retry."""
    if not claim:
        return Waited(slot_ms, slot_ms, slot_ms)
    due_ms, claimed_ms, before_ms, *held = map(int, claim.split())
    held_ms = held[0] if held else 0
    passed_ms = max(0, before_ms - due_ms - held_ms)
    if since:  # it was claimed before, and given back
        passed_ms += max(0, due_ms - int(since))
        due_ms = min(due_ms, int(since))
    return Waited(due_ms, claimed_ms, slot_ms, passed_ms, held_ms)


def settlement(code: int, arm: int, interval: int, breaker: int, *opened: int) -> Settlement:
    """Read what a settle did to the callback and its destination."""
    moved = Breaker(breaker) if breaker else None
    return Settlement(Settled(code), time_ms(arm), time_ms(interval), moved, *opened)


def time_ms(value: int) -> int | None:
    """Read a time; -1 means none."""
    return None if value < 0 else int(value)


def pairs(words: Sequence[bytes | str]) -> list[tuple[str, str]]:
    """Read a flat list of pairs."""
    texts = [text(word) for word in words]
    return list(zip(texts[::2], texts[1::2], strict=True))


def text(value: bytes | str) -> str:
    """Return a word as str."""
    return value.decode() if isinstance(value, bytes) else value


def look(answer: Sequence[Any]) -> Look:
    """Read what waits in a shard."""
    now, paused, ready, oldest, soon, queued, processing, lost = answer
    return Look(
        now_ms=now,
        paused=bool(paused),
        ready=ready,
        oldest_due_ms=time_ms(oldest),
        next_ready_ms=time_ms(soon),
        queued=queued,
        processing=processing,
        trigger_lost=bool(lost),
    )
