"""A Redis with `maxmemory` and `noeviction` fills up: refused in time, and room made.

`test_redis_faults.py` tests that everything but an enqueue works while Redis itself refuses writes.
"""

from __future__ import annotations

import time
from itertools import count

import pytest
import redis

import callbacks
from callbacks.batcher.listing import Filter, statuses
from callbacks.batcher.memory import read_memory
from callbacks.model import State
from callbacks.policy.room import FULL_SHARE, SENT_RECORD_BYTES
from tests.process.conftest import System
from tests.process.faults import OPEN, Enqueue, Note
from tests.support.processes import until
from tests.support.target import Hit, Target

LIMIT = 24_000_000
BODY = "x" * 16_000
#: One burst and the pause after it: 2 MB a second, with 2.4 MB between our refusal and Redis'.
BURST, PAUSE_S = 12, 0.1


def third_is_refused(hit: Hit, nth: int) -> int:
    return 404 if int(hit.id[2:]) % 3 == 0 else 200


def fill(url: str, numbers: count[int]) -> None:
    """Enqueue one burst after another until one is refused."""
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        burst = [
            {"callback_url": url, "data": BODY, "id": f"c-{next(numbers)}"} for _ in range(BURST)
        ]
        try:
            callbacks.enqueue_many(burst)
        except callbacks.QueueFull:
            return
        time.sleep(PAUSE_S)
    pytest.fail("nobody was refused")


def refused_by_redis(client: redis.Redis) -> int:
    """How many commands Redis has refused because it lacked memory."""
    return int(client.info("errorstats").get("errorstat_OOM", {"count": 0})["count"])


def bytes_of(client: redis.Redis, ids: list[str], *kinds: str) -> int:
    with client.pipeline(transaction=False) as pipe:
        for id in ids:
            for kind in kinds:
                pipe.memory_usage(f"{{callbacks}}:{kind}:{id}", samples=0)
        return sum(size or 0 for size in pipe.execute())


@pytest.mark.timeout(200)
def test_bursts_are_refused_before_redis_refuses_them_and_old_records_make_room(
    system: System, enqueue: Enqueue, record_property: Note
) -> None:
    system.configure(**OPEN, breaker_failures=0)
    client = system.batcher.scripts.client
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", LIMIT)
    numbers = count()

    def forgotten() -> int:
        return system.overview().totals["purged"]

    def full() -> bool:
        return bool(client.hexists("{callbacks}:state", "full"))

    with Target(third_is_refused) as target:
        workers = system.groups.worker()
        enqueue(target.url, 0)  # sets the environment up
        system.batcher.pause()  # so that they pile up
        fill(target.url, numbers)
        used = read_memory(system.batcher.scripts).used
        record_property("share used when refused", round(used / LIMIT, 3))
        assert FULL_SHARE * LIMIT <= used < LIMIT
        assert refused_by_redis(client) == 0, "Redis was full before we said so"
        system.batcher.resume()
        until(system.settled, within=60)
        until(lambda: not full(), within=10)
        assert forgotten() == 0, "there was room for the dead letters"

        # Dead letters keep their bodies: a second flood finds a quarter of the memory taken.
        dead = system.overview().dead
        system.batcher.pause()
        fill(target.url, numbers)
        assert refused_by_redis(client) == 0
        until(lambda: not full(), within=20)
        record_property("dead letters before and after", (dead, system.overview().dead))
        dead_ids = [status.id for status in statuses(system.inspector, Filter(State.DEAD))]
        assert 0 < len(dead_ids) == dead - forgotten() < dead
        assert bytes_of(client, dead_ids, "cb", "rec") <= LIMIT / 5
        assert callbacks.enqueue(target.url, 1, id=f"c-{next(numbers)}").accepted
        system.batcher.resume()
        until(system.settled, within=60)
        assert "event=dead_letters_forgotten" in workers.output

        # Records are trimmed even if Redis itself refuses writes.
        sent = system.overview().sent_records
        limit = SENT_RECORD_BYTES * 5 * sent // 2
        client.config_set("maxmemory", limit)
        assert read_memory(system.batcher.scripts).used > limit
        until(lambda: system.overview().sent_records <= sent // 2, within=20)
        sent_ids = [status.id for status in statuses(system.inspector, Filter(State.SENT))]
        record_property("sent records before and after", (sent, len(sent_ids)))
        record_property("bytes a sent record", bytes_of(client, sent_ids, "rec") / len(sent_ids))
        assert len(sent_ids) >= sent // 2 - 1, "more were forgotten than had to"
        assert bytes_of(client, sent_ids, "rec") <= limit / 5
        client.config_set("maxmemory", 0)
        until(lambda: not full(), within=10)
    totals = system.overview().totals
    assert set(target.counts().values()) == {1}
    assert len(target.hits) == totals["accepted"] == totals["sent"] + totals["dead"]
    assert workers.process.poll() is None
    assert system.audit() == []
