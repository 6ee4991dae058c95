"""Short ways to seed the batcher and to read all its structures."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import redis

from callbacks.batcher.store import CLAIM_STEP, Batcher
from callbacks.model import (
    Again,
    Batch,
    Claimed,
    Effect,
    Feedback,
    Go,
    Item,
    Outcome,
    Reason,
    Settled,
    Settlement,
    Stored,
)

HOST = "https://a.example:443"
HOUR_MS = 3_600_000

_owners = itertools.count()


def packed(destination: str = HOST) -> bytes:
    return destination.encode() + b'\n["https://a.example/x","production",[]]\n{}'


def put(
    batcher: Batcher,
    id: str,
    destination: str = HOST,
    *,
    delay_ms: int = 0,
    life_ms: int = HOUR_MS,
    proven: bool = True,
) -> Stored:
    """Enqueue one; `proven`: its destination is proven, so it need not go alone."""
    client = batcher.scripts.client
    if proven and not client.hexists(key(f"dest:{destination}"), "ok"):
        client.hset(key(f"dest:{destination}"), "ok", 1)
    return batcher.enqueue(Item(id, destination, packed(destination), delay_ms, life_ms))


def claim(batcher: Batcher) -> Batch:
    owner = f"owner{next(_owners)}"
    fence = batcher.lock(owner)
    assert fence, "another dispatcher holds the lock"
    step = batcher.claim(owner, fence)
    claimed = step.callbacks
    while len(step.callbacks) == CLAIM_STEP and len(claimed) < batcher.settings.batch_size:
        step = batcher.claim(owner, fence, taken=len(claimed))
        claimed += step.callbacks
    batcher.unlock(owner, fence)
    return replace(step, callbacks=claimed)


def to_head(client: redis.Redis, destination: str = HOST) -> None:
    """Make a waiting destination the next one in its ring."""
    for ring in ("ring", "unproven"):
        client.zadd(key(ring), {destination: 1}, xx=True)


def claim_one(batcher: Batcher, id: str = "c-1", destination: str = HOST) -> Claimed:
    """Enqueue one callback and claim it."""
    put(batcher, id, destination)
    (claimed,) = claim(batcher).callbacks
    assert claimed.id == id
    return claimed


def begin(batcher: Batcher, claimed: Claimed) -> Go:
    gate = batcher.begin(claimed.id, claimed.token)
    assert isinstance(gate, Go), gate
    return gate


def begin_when_due(batcher: Batcher, claimed: Claimed) -> Go:
    """Ask until its instant, which is some ms ahead on a fast machine."""
    while isinstance(gate := batcher.begin(claimed.id, claimed.token), Again):
        pass
    assert isinstance(gate, Go), gate
    return gate


def settle(
    batcher: Batcher,
    claimed: Claimed,
    outcome: Outcome = Outcome.SENT,
    attempt: int = 1,
    *,
    effect: Effect = Effect.NONE,
    feedback: Feedback | None = None,
    **more: Any,
) -> Settled:
    """Settle without an effect on the destination, unless the test gives one."""
    return settlement(
        batcher, claimed, outcome, attempt, feedback=feedback or Feedback(effect), **more
    ).settled


def settlement(
    batcher: Batcher,
    claimed: Claimed,
    outcome: Outcome,
    attempt: int,
    *,
    feedback: Feedback,
    **more: Any,
) -> Settlement:
    reason = None if outcome is Outcome.SENT else Reason.SERVER_ERROR
    tail = "200,null" if outcome is Outcome.SENT else '503,"server_error"'
    entry = f'[{attempt},1,"{outcome.value}",{tail},5]'
    given = {"reason": reason, "entry": entry, "feedback": feedback} | more
    return batcher.settle(claimed.id, claimed.token, attempt, outcome, **given)


def now_ms(client: redis.Redis) -> int:
    seconds, micros = client.time()
    return int(seconds) * 1000 + int(micros) // 1000


def key(name: str) -> str:
    return "{callbacks}:" + name


def backdate(client: redis.Redis, name: str, member: str, ms: int) -> None:
    """Move a time in a sorted set into the past: time passes without a sleep."""
    client.zincrby(key(name), -ms, member)


def everything(client: redis.Redis) -> dict[str, Any]:
    """All keys with their contents, to check that nothing has changed."""
    read = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"zset": lambda k: client.zrange(k, 0, -1, withscores=True),
        b"set": client.smembers,
        b"list": lambda k: client.lrange(k, 0, -1),
    }
    return {k.decode(): read[client.type(k)](k) for k in sorted(client.keys("*"))}


def counted(client: redis.Redis, name: str) -> int:
    return int(client.hget(key("counters"), name) or 0)
