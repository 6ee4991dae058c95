"""Enqueues callbacks, in one process and one thread, and reports how long it took.

Called with the name of a way and a count: `python -m scripts.benchmark.produce bulk 1000`.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from scripts.benchmark.request import BODY, DATA, headers

URL: Final = os.environ["BENCH_URL"]
#: Makes ids new each time, because ours refuses known ones.
PREFIX: Final = secrets.token_hex(6)
_told: dict[str, Any] = {}


@contextmanager
def _timed() -> Iterator[None]:
    started = time.perf_counter()
    yield
    _told["seconds"] = time.perf_counter() - started


def _item(n: int) -> dict[str, Any]:
    return {"callback_url": URL, "data": DATA, "event": "image.completed", "id": f"{PREFIX}-{n}"}


def single(count: int) -> None:
    """Ours, one call per callback."""
    from callbacks import enqueue

    enqueue(**_item(0))  # the first call also loads modules; 0 is enqueued twice
    with _timed():
        for n in range(count):
            enqueue(**_item(n))


def asynchronous(count: int) -> None:
    """Ours, one `aenqueue` per callback, by 50 tasks of one event loop."""
    import asyncio

    from callbacks import aenqueue

    async def some(numbers: Iterator[int]) -> None:
        for n in numbers:
            await aenqueue(**_item(n))

    async def main() -> None:
        await aenqueue(**_item(0))
        numbers = iter(range(count))
        with _timed():
            await asyncio.gather(*(some(numbers) for _ in range(50)))

    asyncio.run(main())


def bulk(count: int) -> None:
    """Ours, all in one call."""
    from callbacks import enqueue_many

    enqueue_many([_item(0)])
    with _timed():
        enqueue_many(_item(n) for n in range(count))


def spread(count: int) -> None:
    """Ours, one now and then; reports the time of each."""
    from callbacks import enqueue

    moments = []
    for n in range(count):
        time.sleep(0.75 + random.random() * 0.3)
        moments.append(time.monotonic())
        enqueue(**_item(n))
    _told["moments"] = moments


def post(count: int) -> None:
    """No queue: a bare POST now and then; reports the time of each."""
    import requests

    moments = []
    with requests.Session() as session:
        for n in range(count):
            time.sleep(0.05 + random.random() * 0.1)
            moments.append(time.monotonic())
            session.post(URL, data=BODY, headers=headers(f"{PREFIX}-{n}"), timeout=(3, 7))
    _told["moments"] = moments


def celery(count: int) -> None:
    """Celery, one task per callback, with one connection and one producer."""
    from scripts.benchmark.celery_app import app, send

    body = BODY.decode()
    with app.producer_pool.acquire(block=True) as producer, _timed():
        for n in range(count):
            send.apply_async((f"{PREFIX}-{n}", body), producer=producer)


def celery_by_hand(count: int) -> None:
    """A list in Redis, filled in pipelines, and one trigger."""
    from scripts.benchmark.celery_app import QUEUE, books, trigger

    with _timed():
        for start in range(0, count, 500):
            some = range(start, min(start + 500, count))
            books.rpush(QUEUE, *(f"{PREFIX}-{n}\n".encode() + BODY for n in some))
        trigger.apply_async()


WAYS: Final[dict[str, Callable[[int], None]]] = {
    way.__name__: way for way in (single, asynchronous, bulk, spread, post, celery, celery_by_hand)
}

if __name__ == "__main__":
    WAYS[sys.argv[1]](int(sys.argv[2]))
    print(json.dumps(_told))
