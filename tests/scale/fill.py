"""What is stored before anything is measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from redis import Redis

from callbacks.batcher.paging import pages
from callbacks.batcher.scripts import VERBS
from callbacks.batcher.store import Batcher
from callbacks.model import Item

_STEP: Final = 5_000
_DAY_MS: Final = 86_400_000
_BODY: Final = b'{"type":"image.completed","data":{"task_id":"t-1","status":"succeeded"}}'


def destination(n: int) -> str:
    return f"https://customer-{n:06d}.example:443"


def name(n: int) -> str:
    return f"scale-{n:07d}"


def items(numbers: Iterable[int], destinations: int, *, life_ms: int) -> Iterator[Item]:
    """Callbacks spread evenly."""
    for n in numbers:
        where = destination(n % destinations)
        packed = f'{where}\n["{where}/hooks","production",[]]\n'.encode() + _BODY
        yield Item(name(n), where, packed, 0, life_ms)


def put(batcher: Batcher, numbers: range, destinations: int, *, life_ms: int = _DAY_MS) -> None:
    for page in pages(items(numbers, destinations, life_ms=life_ms), _STEP):
        failed = [each for each in batcher.enqueue_many(page) if isinstance(each, Exception)]
        assert not failed, failed[:1]


def prove(client: Redis, destinations: int) -> None:
    """Make every destination recently used, as `begin`, `settle` and `claim` leave it."""
    seconds, micros = client.time()
    now = seconds * 1000 + micros // 1000
    for page in pages(range(destinations), _STEP):
        with client.pipeline(transaction=False) as pipe:
            for n in page:
                known = {"ok": 1, "used": now, "latency": 40, "last": f"{now} 200", "interval": 9e4}
                pipe.hset("{callbacks}:dest:" + destination(n), mapping=known)
            pipe.zadd("{callbacks}:destinations", {destination(n): now for n in page})
            pipe.execute()


def load_scripts(client: Redis) -> None:
    """Compile every verb, so that no measured call pays for it."""
    for verb in VERBS.values():
        client.script_load(verb.text)
